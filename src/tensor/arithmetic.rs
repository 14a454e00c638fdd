//! Operators between tensors and numbers, with PyTorch's broadcasting and type promotion, and what compares tensors.

use tch::{Kind, TchError};

use super::element::Number;
use super::shape::broadcast;
use super::{Tensor, named, refusal};
use crate::error::{Error, Result};

/// One side of an operator.
#[derive(Debug, Clone)]
pub enum Operand {
    /// A tensor.
    Tensor(Tensor),
    /// A number.
    Number(Number),
}

impl Operand {
    /// The operand as a tensor to be used beside `other`: a number takes its device and, where it can, its dtype.
    pub fn beside(&self, other: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Number(number) => number.to_tensor(number.kind_beside(other.kind()), other.device()),
        }
    }
}

impl From<Tensor> for Operand {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<Number> for Operand {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

/// The operators that scripts can put between a tensor and a tensor or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`, always true division
    Divide,
    /// `%`, with the sign of the divisor
    Remainder,
    /// `**`
    Power,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `&`, on bools and integers
    And,
    /// `|`, on bools and integers
    Or,
    /// `^`, exclusive or of bools and integers
    ExclusiveOr,
}

impl Operator {
    /// How a script writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Power => "**",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::And => "&",
            Self::Or => "|",
            Self::ExclusiveOr => "^",
        }
    }

    /// Applies the operator elementwise. Comparisons give bool tensors.
    ///
    /// # Errors
    /// Shapes that do not broadcast, and element types the operator isn't for.
    pub fn apply(self, left: &Operand, right: &Operand) -> Result<Tensor> {
        match (left, right) {
            (Operand::Tensor(left), Operand::Tensor(right)) => self.between(left, right),
            (Operand::Tensor(left), Operand::Number(right)) => self
                .number_second(left, *right)
                .unwrap_or_else(|| self.between(left, &Operand::from(*right).beside(left)?)),
            (Operand::Number(left), Operand::Tensor(right)) => self
                .number_first(*left, right)
                .unwrap_or_else(|| self.between(&Operand::from(*left).beside(right)?, right)),
            (Operand::Number(number), Operand::Number(_)) => {
                let left = number.to_tensor(number.default_kind(), tch::Device::Cpu)?;
                self.apply(&left.into(), right)
            }
        }
    }

    fn between(self, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        check_broadcast(self.symbol(), left, right)?;
        let (a, b) = (left.tch(), right.tch());
        let result = match self {
            Self::Add => a.f_add(b),
            Self::Subtract => a.f_sub(b),
            Self::Multiply => a.f_mul(b),
            Self::Divide => a.f_div(b),
            Self::Remainder => a.f_remainder_tensor(b),
            Self::Power => a.f_pow(b),
            Self::Less => a.f_lt_tensor(b),
            Self::LessEqual => a.f_le_tensor(b),
            Self::Greater => a.f_gt_tensor(b),
            Self::GreaterEqual => a.f_ge_tensor(b),
            Self::Equal => a.f_eq_tensor(b),
            Self::NotEqual => a.f_ne_tensor(b),
            Self::And | Self::Or | Self::ExclusiveOr => return self.logical(left, right),
        };
        named(self.symbol(), &[left, right], result)
    }

    fn logical(self, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        if let Some(float) = [left, right].into_iter().find(|operand| operand.is_float()) {
            return Err(Error::new(format!(
                "`{}` needs bool or integer tensors, not {}",
                self.symbol(),
                float.describe()
            ))
            .hint("compare first, as in `(x > 0) & (y > 0)`"));
        }
        let (a, b) = (left.tch(), right.tch());
        let result = match self {
            Self::And => a.f_bitwise_and_tensor(b),
            Self::Or => a.f_bitwise_or_tensor(b),
            _ => a.f_bitwise_xor_tensor(b),
        };
        named(self.symbol(), &[left, right], result)
    }

    /// A tensor and a number, computed at the number's full precision; `None` where libtorch has no such form.
    fn number_second(self, left: &Tensor, right: Number) -> Option<Result<Tensor>> {
        let (a, scalar) = (left.tch(), right.scalar());
        let result = match self {
            Self::Add => a.f_add_scalar(scalar),
            Self::Subtract => a.f_sub_scalar(scalar),
            Self::Multiply => a.f_mul_scalar(scalar),
            Self::Divide => a.f_div_scalar(scalar),
            Self::Remainder => a.f_remainder(scalar),
            Self::Power => a.f_pow_tensor_scalar(scalar),
            Self::Less => a.f_lt(scalar),
            Self::LessEqual => a.f_le(scalar),
            Self::Greater => a.f_gt(scalar),
            Self::GreaterEqual => a.f_ge(scalar),
            Self::Equal => a.f_eq(scalar),
            Self::NotEqual => a.f_ne(scalar),
            Self::And | Self::Or | Self::ExclusiveOr => return None,
        };
        Some(named(self.symbol(), &[left], result))
    }

    fn number_first(self, left: Number, right: &Tensor) -> Option<Result<Tensor>> {
        let (scalar, b) = (left.scalar(), right.tch());
        let result: std::result::Result<tch::Tensor, TchError> = match self {
            Self::Add | Self::Multiply | Self::Equal | Self::NotEqual => return self.number_second(right, left),
            Self::Less => return Self::Greater.number_second(right, left),
            Self::LessEqual => return Self::GreaterEqual.number_second(right, left),
            Self::Greater => return Self::Less.number_second(right, left),
            Self::GreaterEqual => return Self::LessEqual.number_second(right, left),
            Self::Subtract => b.f_rsub_scalar(scalar),
            Self::Divide => b.f_reciprocal().and_then(|inverse| inverse.f_mul_scalar(scalar)),
            Self::Remainder => tch::Tensor::f_remainder_scalar_tensor(scalar, b),
            Self::Power => tch::Tensor::f_pow_scalar(scalar, b),
            Self::And | Self::Or | Self::ExclusiveOr => return None,
        };
        Some(named(self.symbol(), &[right], result))
    }
}

fn check_broadcast(operation: &str, left: &Tensor, right: &Tensor) -> Result<()> {
    match broadcast(&left.shape(), &right.shape()) {
        Some(_) => Ok(()),
        None => {
            Err(Error::new(format!("`{operation}`: the shapes {:?} and {:?} do not fit", left.shape(), right.shape()))
                .hint("aligned from the last dimension, lengths must be equal or one of them 1"))
        }
    }
}

/// How close numbers have to be to count as equal: |a - b| <= absolute + relative |b|.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// The part relative to the second number.
    pub relative: f64,
    /// The absolute part.
    pub absolute: f64,
    /// Whether NaN equals NaN.
    pub equal_nan: bool,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { relative: 1e-5, absolute: 1e-8, equal_nan: false }
    }
}

impl Tensor {
    /// Changes the sign.
    pub fn negate(&self) -> Result<Self> {
        named("-", &[self], self.tch().f_neg())
    }

    /// Turns true into false and the other way round.
    ///
    /// # Errors
    /// A tensor that doesn't hold bools.
    pub fn logical_not(&self) -> Result<Self> {
        if self.kind() != Kind::Bool {
            return Err(Error::new(format!("`!` needs a bool tensor, not {}", self.describe()))
                .hint("compare first, as in `!(x > 0)`"));
        }
        named("!", &[self], self.tch().f_logical_not())
    }

    /// The larger of two elements each.
    pub fn maximum(&self, other: &Operand) -> Result<Self> {
        let other = other.beside(self)?;
        check_broadcast("maximum", self, &other)?;
        named("maximum", &[self, &other], self.tch().f_maximum(other.tch()))
    }

    /// The smaller of two elements each.
    pub fn minimum(&self, other: &Operand) -> Result<Self> {
        let other = other.beside(self)?;
        check_broadcast("minimum", self, &other)?;
        named("minimum", &[self, &other], self.tch().f_minimum(other.tch()))
    }

    /// Moves elements below `min` up to it and those above `max` down to it.
    ///
    /// # Errors
    /// Neither bound given.
    pub fn clamp(&self, min: Option<Number>, max: Option<Number>) -> Result<Self> {
        let result = match (min, max) {
            (Some(min), Some(max)) => {
                self.tch().f_clamp_min(min.scalar()).and_then(|raised| raised.f_clamp_max(max.scalar()))
            }
            (Some(min), None) => self.tch().f_clamp_min(min.scalar()),
            (None, Some(max)) => self.tch().f_clamp_max(max.scalar()),
            (None, None) => return Err(Error::new("`clamp` needs a lower or an upper bound")),
        };
        named("clamp", &[self], result)
    }

    /// `yes` where this bool tensor is true, `no` elsewhere.
    pub fn choose(&self, yes: &Operand, no: &Operand) -> Result<Self> {
        if self.kind() != Kind::Bool {
            return Err(Error::new(format!("the condition of `where` must be a bool tensor, not {}", self.describe())));
        }
        let (yes, no) = match (yes, no) {
            (Operand::Tensor(yes), _) => (yes.clone(), no.beside(yes)?),
            (_, Operand::Tensor(no)) => (yes.beside(no)?, no.clone()),
            (Operand::Number(yes), Operand::Number(no)) => {
                let kind = no.kind_beside(yes.default_kind());
                (yes.to_tensor(kind, self.device())?, no.to_tensor(kind, self.device())?)
            }
        };
        check_broadcast("where", self, &yes)?;
        check_broadcast("where", self, &no)?;
        named("where", &[self, &yes, &no], yes.tch().f_where_self(self.tch(), no.tch()))
    }

    /// Whether shape and elements are the same.
    pub fn equal(&self, other: &Self) -> Result<bool> {
        if self.shape() != other.shape() {
            return Ok(false);
        }
        Ok(!Operator::NotEqual.between(self, other)?.any_true()?)
    }

    /// Whether all elements are close.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub fn allclose(&self, other: &Self, tolerance: Tolerance) -> Result<bool> {
        check_broadcast("allclose", self, other)?;
        let kind = if self.kind() == other.kind() && self.kind() != Kind::Bool { None } else { Some(Kind::Double) };
        let (left, right) = (self.to(kind, None)?, other.to(kind, None)?);
        left.tch()
            .f_allclose(right.tch(), tolerance.relative, tolerance.absolute, tolerance.equal_nan)
            .map_err(|error| refusal("allclose", &[self, other], error))
    }

    /// Whether any element is true or not zero.
    pub fn any_true(&self) -> Result<bool> {
        Ok(named("any", &[self], self.tch().f_any())?.item()? == Number::Bool(true))
    }
}
