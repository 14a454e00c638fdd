//! Operators and elementwise functions.

use rhai::plugin::*;
use rhai::{Dynamic, Engine, FuncRegistration, Map};

use super::convert::{bound, operand};
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::tensor::arithmetic::{Operand, Operator, Tolerance};
use crate::tensor::elementwise::FUNCTIONS;

const OPERATORS: [(Operator, &str); 15] = [
    (Operator::Add, "The elementwise sum; shapes broadcast."),
    (Operator::Subtract, "The elementwise difference; shapes broadcast."),
    (Operator::Multiply, "The elementwise product; shapes broadcast. The matrix product is `matmul`."),
    (Operator::Divide, "The elementwise quotient, never rounded: integers give f32."),
    (Operator::Remainder, "The elementwise remainder, with the sign of the divisor."),
    (Operator::Power, "Each element to a power."),
    (Operator::Less, "Whether each element is smaller, as a bool tensor."),
    (Operator::LessEqual, "Whether each element is smaller or equal, as a bool tensor."),
    (Operator::Greater, "Whether each element is larger, as a bool tensor."),
    (Operator::GreaterEqual, "Whether each element is larger or equal, as a bool tensor."),
    (Operator::Equal, "Whether each element is equal, as a bool tensor; for one answer use `equal` or `allclose`."),
    (Operator::NotEqual, "Whether each element differs, as a bool tensor; for one answer use `equal`."),
    (Operator::And, "Elementwise and of bools (or of the bits of integers)."),
    (Operator::Or, "Elementwise or of bools (or of the bits of integers)."),
    (Operator::ExclusiveOr, "Elementwise exclusive or of bools (or of the bits of integers)."),
];

/// Registers operators and functions.
pub fn register(engine: &mut Engine) {
    for (operator, summary) in OPERATORS {
        let name = operator.symbol();
        let comment = format!("/// {summary}\n///\n/// Either side may be a number.");
        FuncRegistration::new(name)
            .with_params_info(["t: tensor", "other: tensor or number", "tensor"])
            .with_comments([&Topic::Tensors.comment(), &comment])
            .register_into_engine(engine, move |left: Tensor, right: Dynamic| tensor_first(operator, left, &right));
        FuncRegistration::new(name)
            .with_params_info(["other: number", "t: tensor", "tensor"])
            .with_comments([&Topic::Tensors.comment(), &comment])
            .register_into_engine(engine, move |left: Dynamic, right: Tensor| number_first(operator, &left, right));
    }
    for function in FUNCTIONS {
        FuncRegistration::new(function.name)
            .with_params_info(["t: tensor", "tensor"])
            .with_comments([Topic::Tensors.comment(), format!("/// {}", function.summary)])
            .with_purity(true)
            .register_into_engine(engine, |tensor: &mut Tensor| -> ScriptResult<Tensor> {
                Ok(function.apply(tensor)?)
            });
    }
    module::register(engine, Topic::Tensors, exported_manifest!(arithmetic_functions));
}

fn tensor_first(operator: Operator, left: Tensor, right: &Dynamic) -> ScriptResult<Dynamic> {
    match different(operator, right) {
        Some(answer) => Ok(answer.into()),
        None if operator == Operator::Add && right.is_string() => Ok(format!("{left}{right}").into()),
        None => apply(operator, || Ok((left.into(), side(operator, right)?))),
    }
}

fn number_first(operator: Operator, left: &Dynamic, right: Tensor) -> ScriptResult<Dynamic> {
    match different(operator, left) {
        Some(answer) => Ok(answer.into()),
        None => apply(operator, || Ok((side(operator, left)?, right.into()))),
    }
}

fn side(operator: Operator, value: &Dynamic) -> Result<Operand> {
    operand(&format!("the other side of `{}`", operator.symbol()), value)
}

fn apply(operator: Operator, sides: impl FnOnce() -> Result<(Operand, Operand)>) -> ScriptResult<Dynamic> {
    let tensor = sides().and_then(|(left, right)| operator.apply(&left, &right))?;
    Ok(Dynamic::from(tensor))
}

/// A tensor is never equal to something that isn't a number, as in `t == ()`.
fn different(operator: Operator, other: &Dynamic) -> Option<bool> {
    let comparable = other.is_int() || other.is_float() || other.is_bool() || other.is::<Tensor>();
    match operator {
        Operator::Equal if !comparable => Some(false),
        Operator::NotEqual if !comparable => Some(true),
        _ => None,
    }
}

fn tolerance(options: Map) -> Result<Tolerance> {
    let default = Tolerance::default();
    Options::read("allclose", options, |options| {
        Ok(Tolerance {
            relative: options.number("rtol")?.unwrap_or(default.relative),
            absolute: options.number("atol")?.unwrap_or(default.absolute),
            equal_nan: options.boolean("equal_nan")?.unwrap_or(default.equal_nan),
        })
    })
}

#[export_module(manifest)]
mod arithmetic_functions {
    /// Each element with its sign changed.
    #[rhai_fn(name = "-", return_raw)]
    pub fn minus(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.negate()?)
    }

    /// True where the bool tensor is false and the other way round.
    #[rhai_fn(name = "!", return_raw)]
    pub fn not(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.logical_not()?)
    }

    /// Whether any element equals a number; written `x in t` too.
    #[rhai_fn(name = "contains", return_raw)]
    pub fn contains(t: Tensor, value: Dynamic) -> ScriptResult<bool> {
        Ok(side(Operator::Equal, &value).and_then(|value| Operator::Equal.apply(&t.into(), &value)?.any_true())?)
    }

    /// The larger of two elements each; the other side is a tensor or a number.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1, 5]).maximum(3).to_array(), [3, 5]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn maximum(t: Tensor, other: Dynamic) -> ScriptResult<Tensor> {
        Ok(operand("the other side of `maximum`", &other).and_then(|other| t.maximum(&other))?)
    }

    /// The smaller of two elements each; the other side is a tensor or a number.
    #[rhai_fn(return_raw)]
    pub fn minimum(t: Tensor, other: Dynamic) -> ScriptResult<Tensor> {
        Ok(operand("the other side of `minimum`", &other).and_then(|other| t.minimum(&other))?)
    }

    /// Elements below `min` raised to it and those above `max` lowered to it; `()` leaves a side open.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([-2, 0, 2]).clamp(-1, ()).to_array(), [-1, 0, 2]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn clamp(t: Tensor, min: Dynamic, max: Dynamic) -> ScriptResult<Tensor> {
        Ok(bound("the lower bound", &min).and_then(|min| t.clamp(min, bound("the upper bound", &max)?))?)
    }

    /// Each element to a power, a tensor or a number; the same as `**`.
    #[rhai_fn(return_raw)]
    pub fn pow(t: Tensor, exponent: Dynamic) -> ScriptResult<Tensor> {
        Ok(side(Operator::Power, &exponent).and_then(|exponent| Operator::Power.apply(&t.into(), &exponent))?)
    }

    /// `yes` where the bool tensor is true, `no` elsewhere; both may be tensors or numbers.
    ///
    /// # Example
    /// ```rhai
    /// let t = tensor([1.0, -1.0]);
    /// assert_eq(where(t > 0, t, 0.0).to_array(), [1.0, 0.0]);
    /// ```
    #[rhai_fn(name = "where", return_raw)]
    pub fn choose(condition: Tensor, yes: Dynamic, no: Dynamic) -> ScriptResult<Tensor> {
        Ok(operand("the second argument of `where`", &yes)
            .and_then(|yes| condition.choose(&yes, &operand("the third argument of `where`", &no)?))?)
    }

    /// Whether two tensors have the same shape and the same elements: one bool, fit for `if`.
    ///
    /// # Example
    /// ```rhai
    /// assert(equal(tensor([1, 2]), tensor([1, 2])));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn equal(a: Tensor, b: Tensor) -> ScriptResult<bool> {
        Ok(a.equal(&b)?)
    }

    /// Whether all elements of two tensors are close: |a - b| <= atol + rtol * |b|, with rtol 1e-5 and atol 1e-8.
    ///
    /// Options: `rtol`, `atol`, `equal_nan` (true: NaN equals NaN).
    ///
    /// # Example
    /// ```rhai
    /// assert(allclose(tensor([1.0]), tensor([1.000001])));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn allclose(a: Tensor, b: Tensor, options: Map) -> ScriptResult<bool> {
        Ok(tolerance(options).and_then(|tolerance| a.allclose(&b, tolerance))?)
    }
}
