//! Operators between tensors and numbers, with PyTorch's broadcasting and type promotion, and comparisons of tensors.

use tch::Kind;

use super::element::Number;
use super::place::together;
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
    /// The operand as a tensor to be used beside `other`.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn beside(&self, other: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Number(number) => number.beside(other),
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
    /// Shapes that do not broadcast, and element types that the operator does not support.
    pub fn apply(self, left: &Operand, right: &Operand) -> Result<Tensor> {
        match (left, right) {
            (Operand::Tensor(left), Operand::Number(Number::Integer(exponent)))
                if self == Self::Power && *exponent < 0 && !left.is_float() =>
            {
                Err(Error::new(format!("`**`: {} to the power of {exponent} has no integer values", left.describe()))
                    .hint("convert the tensor first, as in `t.to(\"f32\")`"))
            }
            (Operand::Tensor(left), right) => self.between(left, &right.beside(left)?),
            (left, Operand::Tensor(right)) => self.between(&left.beside(right)?, right),
            (Operand::Number(left), right) => self.apply(&left.to_tensor(left.default_kind())?.into(), right),
        }
    }

    fn between(self, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        check_broadcast(self.symbol(), left, right)?;
        let [left, right] = &together([left, right])?;
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
    ///
    /// # Errors
    /// A tensor of bools.
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
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub fn maximum(&self, other: &Operand) -> Result<Self> {
        let other = other.beside(self)?;
        check_broadcast("maximum", self, &other)?;
        let [left, right] = &together([self, &other])?;
        named("maximum", &[left, right], left.tch().f_maximum(right.tch()))
    }

    /// The smaller of two elements each.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub fn minimum(&self, other: &Operand) -> Result<Self> {
        let other = other.beside(self)?;
        check_broadcast("minimum", self, &other)?;
        let [left, right] = &together([self, &other])?;
        named("minimum", &[left, right], left.tch().f_minimum(right.tch()))
    }

    /// Moves elements below `min` up to it and those above `max` down to it.
    ///
    /// # Errors
    /// Neither bound given.
    pub fn clamp(&self, min: Option<Number>, max: Option<Number>) -> Result<Self> {
        if min.is_none() && max.is_none() {
            return Err(Error::new("`clamp` needs a lower or an upper bound"));
        }
        let raised = min.map_or_else(|| Ok(self.clone()), |min| self.maximum(&min.into()))?;
        max.map_or_else(|| Ok(raised.clone()), |max| raised.minimum(&max.into()))
    }

    /// `yes` where this bool tensor is true, `no` elsewhere.
    ///
    /// # Errors
    /// A condition that is not a bool tensor, shapes that do not broadcast.
    pub fn choose(&self, yes: &Operand, no: &Operand) -> Result<Self> {
        if self.kind() != Kind::Bool {
            return Err(Error::new(format!("the condition of `where` must be a bool tensor, not {}", self.describe())));
        }
        let (yes, no) = match (yes, no) {
            (Operand::Tensor(yes), _) => (yes.clone(), no.beside(yes)?),
            (_, Operand::Tensor(no)) => (yes.beside(no)?, no.clone()),
            (Operand::Number(yes), Operand::Number(no)) => {
                let yes = yes.to_tensor(yes.default_kind())?.to(None, Some(self.device()))?;
                let no = no.beside(&yes)?;
                (yes, no)
            }
        };
        check_broadcast("where", self, &yes)?;
        check_broadcast("where", self, &no)?;
        let [condition, yes, no] = &together([self, &yes, &no])?;
        named("where", &[condition, yes, no], yes.tch().f_where_self(condition.tch(), no.tch()))
    }

    /// Whether shape and elements are the same.
    ///
    /// # Errors
    /// Tensors on different GPUs.
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
        let [left, right] = together([&self.to(kind, None)?, &other.to(kind, None)?])?;
        left.tch()
            .f_allclose(right.tch(), tolerance.relative, tolerance.absolute, tolerance.equal_nan)
            .map_err(|error| refusal("allclose", &[self, other], error))
    }

    /// Whether any element is true or not zero.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn any_true(&self) -> Result<bool> {
        Ok(named("any", &[self], self.tch().f_any())?.item()? == Number::Bool(true))
    }
}
