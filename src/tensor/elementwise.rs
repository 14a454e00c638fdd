//! Functions of one tensor that act on each element by itself.

use tch::TchError;

use super::{Tensor, named};
use crate::error::Result;

/// A function of one tensor, as scripts name it.
pub struct Function {
    /// The script's name.
    pub name: &'static str,
    /// Its result, in one line.
    pub summary: &'static str,
    apply: fn(&tch::Tensor) -> std::result::Result<tch::Tensor, TchError>,
}

impl Function {
    /// The function of each element.
    ///
    /// # Errors
    /// An element type that the function does not support.
    pub fn apply(&self, tensor: &Tensor) -> Result<Tensor> {
        named(self.name, &[tensor], (self.apply)(tensor.tch()))
    }
}

/// Every such function.
pub const FUNCTIONS: &[Function] = &[
    Function { name: "abs", summary: "The absolute value of each element.", apply: tch::Tensor::f_abs },
    Function { name: "neg", summary: "Each element with its sign changed.", apply: tch::Tensor::f_neg },
    Function { name: "sign", summary: "-1, 0 or 1 by the sign of each element.", apply: tch::Tensor::f_sign },
    Function { name: "exp", summary: "e to the power of each element.", apply: tch::Tensor::f_exp },
    Function { name: "expm1", summary: "exp(x) - 1, exact near 0.", apply: tch::Tensor::f_expm1 },
    Function {
        name: "log",
        summary: "The natural logarithm of each element (on plain numbers `log` is base 10 and `ln` the natural one).",
        apply: tch::Tensor::f_log,
    },
    Function { name: "ln", summary: "The natural logarithm of each element.", apply: tch::Tensor::f_log },
    Function { name: "log1p", summary: "The natural logarithm of 1 + x, exact near 0.", apply: tch::Tensor::f_log1p },
    Function { name: "log2", summary: "The base-2 logarithm of each element.", apply: tch::Tensor::f_log2 },
    Function { name: "log10", summary: "The base-10 logarithm of each element.", apply: tch::Tensor::f_log10 },
    Function { name: "sqrt", summary: "The square root of each element; NaN below 0.", apply: tch::Tensor::f_sqrt },
    Function { name: "rsqrt", summary: "1 / sqrt(x).", apply: tch::Tensor::f_rsqrt },
    Function { name: "square", summary: "The square of each element.", apply: tch::Tensor::f_square },
    Function { name: "reciprocal", summary: "1 / x.", apply: tch::Tensor::f_reciprocal },
    Function { name: "sin", summary: "The sine of each element, in radians.", apply: tch::Tensor::f_sin },
    Function { name: "cos", summary: "The cosine of each element, in radians.", apply: tch::Tensor::f_cos },
    Function { name: "tan", summary: "The tangent of each element, in radians.", apply: tch::Tensor::f_tan },
    Function { name: "atan", summary: "The inverse tangent of each element, in radians.", apply: tch::Tensor::f_atan },
    Function { name: "tanh", summary: "The hyperbolic tangent of each element.", apply: tch::Tensor::f_tanh },
    Function { name: "erf", summary: "The error function of each element.", apply: tch::Tensor::f_erf },
    Function { name: "sigmoid", summary: "1 / (1 + exp(-x)).", apply: tch::Tensor::f_sigmoid },
    Function { name: "relu", summary: "Each element, or 0 where it is negative.", apply: tch::Tensor::f_relu },
    Function {
        name: "gelu",
        summary: "The Gaussian error linear unit, x times the normal distribution function of x (no approximation).",
        apply: |tensor| tensor.f_gelu("none"),
    },
    Function { name: "silu", summary: "x * sigmoid(x).", apply: tch::Tensor::f_silu },
    Function { name: "softplus", summary: "The logarithm of 1 + exp(x).", apply: tch::Tensor::f_softplus },
    Function {
        name: "round",
        summary: "Each element rounded to the nearest integer, halves to the even one.",
        apply: tch::Tensor::f_round,
    },
    Function { name: "floor", summary: "Each element rounded down.", apply: tch::Tensor::f_floor },
    Function { name: "ceil", summary: "Each element rounded up.", apply: tch::Tensor::f_ceil },
    Function { name: "isnan", summary: "Whether each element is NaN, as a bool tensor.", apply: tch::Tensor::f_isnan },
    Function {
        name: "isinf",
        summary: "Whether each element is infinite, as a bool tensor.",
        apply: tch::Tensor::f_isinf,
    },
    Function {
        name: "isfinite",
        summary: "Whether each element is neither infinite nor NaN, as a bool tensor.",
        apply: tch::Tensor::f_isfinite,
    },
    Function {
        name: "nan_to_num",
        summary: "NaN replaced by 0 and infinities by the largest finite numbers.",
        apply: |tensor| tensor.f_nan_to_num(None, None, None),
    },
];
