//! Reductions over all elements or over some dimensions, and functions along one dimension.

use tch::Kind;

use super::arithmetic::Operator;
use super::element::Number;
use super::{Tensor, named};
use crate::error::{Error, Result};

/// The dimensions and options of a reduction.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The dimensions to reduce; all of them if `None`.
    pub dims: Option<Vec<i64>>,
    /// Whether reduced dimensions stay, with length 1.
    pub keepdim: bool,
    /// Whether a variance is divided by n - 1 instead of n.
    pub unbiased: bool,
    /// The order of a norm.
    pub order: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dims: None, keepdim: false, unbiased: true, order: 2.0 }
    }
}

impl Settings {
    /// The dimensions to reduce, counted from the front.
    fn axes(&self, operation: &str, tensor: &Tensor) -> Result<Vec<i64>> {
        let Some(dims) = &self.dims else { return Ok((0..tensor.ndim() as i64).collect()) };
        if dims.is_empty() {
            return Err(Error::new(format!("`{operation}` got no dimension to reduce"))
                .hint("leave the dimensions out, or give `()`, to reduce all of them"));
        }
        let axes = dims.iter().map(|&dim| tensor.resolve_dim(dim)).collect::<Result<Vec<i64>>>()?;
        // libtorch reduces some of these silently.
        match axes.iter().enumerate().find(|(place, axis)| axes[..*place].contains(axis)) {
            Some((_, axis)) => Err(Error::new(format!("`{operation}` got dimension {axis} twice, in {dims:?}"))),
            None => Ok(axes),
        }
    }

    /// The only dimension to reduce, or `None` for all.
    fn axis(&self, operation: &str, tensor: &Tensor) -> Result<Option<i64>> {
        match self.dims.as_deref() {
            None => Ok(None),
            Some([dim]) => tensor.resolve_dim(*dim).map(Some),
            Some(dims) => Err(Error::new(format!("`{operation}` reduces one dimension or all of them, not {dims:?}"))),
        }
    }
}

/// A reduction, as scripts name it.
pub struct Reduction {
    /// The script's name.
    pub name: &'static str,
    /// Its result, in one line.
    pub summary: &'static str,
    /// Further details; may be empty.
    pub detail: &'static str,
    /// The options it takes besides `keepdim`.
    pub options: &'static [&'static str],
    apply: fn(&Tensor, &Settings) -> Result<Tensor>,
}

impl Reduction {
    /// Reduces a tensor.
    ///
    /// # Errors
    /// A dimension that the tensor does not have; no elements for a reduction that needs some.
    pub fn apply(&self, tensor: &Tensor, settings: &Settings) -> Result<Tensor> {
        (self.apply)(tensor, settings)
    }
}

/// Fails for a variance of one number with n - 1 in the denominator, which would be 0 / 0.
fn check_unbiased(operation: &str, tensor: &Tensor, axes: &[i64], settings: &Settings) -> Result<()> {
    let shape = tensor.shape();
    let count: i64 = axes.iter().map(|&axis| shape[axis as usize]).product();
    if settings.unbiased && count < 2 && tensor.numel() > 0 {
        return Err(Error::new(format!("`{operation}` of one number is not defined"))
            .hint("`#{ unbiased: false }` divides by n instead of n - 1"));
    }
    Ok(())
}

/// Every reduction.
pub const REDUCTIONS: &[Reduction] = &[
    Reduction {
        name: "sum",
        summary: "The sum of the elements.",
        detail: "Integers and bools are summed as i64.",
        options: &[],
        apply: |tensor, settings| {
            let axes = settings.axes("sum", tensor)?;
            named("sum", &[tensor], tensor.tch().f_sum_dim_intlist(Some(axes), settings.keepdim, None))
        },
    },
    Reduction {
        name: "mean",
        summary: "The mean of the elements.",
        detail: "Integers and bools are averaged as f32, so the mean of a bool tensor is the share of true.",
        options: &[],
        apply: |tensor, settings| {
            let (axes, floats) = (settings.axes("mean", tensor)?, tensor.as_float()?);
            named("mean", &[tensor], floats.tch().f_mean_dim(Some(axes), settings.keepdim, None))
        },
    },
    Reduction {
        name: "std",
        summary: "The standard deviation of the elements.",
        detail: "Divides by n - 1; with `#{unbiased: false}`, by n.",
        options: &["unbiased"],
        apply: |tensor, settings| {
            let (axes, floats) = (settings.axes("std", tensor)?, tensor.as_float()?);
            check_unbiased("std", &floats, &axes, settings)?;
            let result = floats.tch().f_std_dim(Some(axes), settings.unbiased, settings.keepdim);
            named("std", &[tensor], result)
        },
    },
    Reduction {
        name: "variance",
        summary: "The variance of the elements.",
        detail: "Divides by n - 1; with `#{unbiased: false}`, by n.",
        options: &["unbiased"],
        apply: |tensor, settings| {
            let (axes, floats) = (settings.axes("variance", tensor)?, tensor.as_float()?);
            check_unbiased("variance", &floats, &axes, settings)?;
            let result = floats.tch().f_var_dim(Some(axes), settings.unbiased, settings.keepdim);
            named("variance", &[tensor], result)
        },
    },
    Reduction {
        name: "max",
        summary: "The largest element.",
        detail: "Gives the values only; `argmax` gives their positions, `maximum` compares two tensors.",
        options: &[],
        apply: |tensor, settings| {
            named("max", &[tensor], tensor.tch().f_amax(settings.axes("max", tensor)?, settings.keepdim))
        },
    },
    Reduction {
        name: "min",
        summary: "The smallest element.",
        detail: "Gives the values only; `argmin` gives their positions, `minimum` compares two tensors.",
        options: &[],
        apply: |tensor, settings| {
            named("min", &[tensor], tensor.tch().f_amin(settings.axes("min", tensor)?, settings.keepdim))
        },
    },
    Reduction {
        name: "argmax",
        summary: "The position of the largest element, as i64.",
        detail: "Over all elements it is the position in the flattened tensor. NaN is found first, as in PyTorch.",
        options: &[],
        apply: |tensor, settings| {
            let axis = settings.axis("argmax", tensor)?;
            named("argmax", &[tensor], tensor.tch().f_argmax(axis, settings.keepdim))
        },
    },
    Reduction {
        name: "argmin",
        summary: "The position of the smallest element, as i64.",
        detail: "Over all elements it is the position in the flattened tensor. NaN is found first, as in PyTorch.",
        options: &[],
        apply: |tensor, settings| {
            let axis = settings.axis("argmin", tensor)?;
            named("argmin", &[tensor], tensor.tch().f_argmin(axis, settings.keepdim))
        },
    },
    Reduction {
        name: "prod",
        summary: "The product of the elements.",
        detail: "Integers and bools are multiplied as i64.",
        options: &[],
        apply: |tensor, settings| {
            let mut axes = settings.axes("prod", tensor)?;
            axes.sort_unstable_by(|left, right| right.cmp(left));
            let whole = !tensor.is_float();
            axes.iter().try_fold(tensor.to(whole.then_some(Kind::Int64), None)?, |partial, &axis| {
                named("prod", &[tensor], partial.tch().f_prod_dim_int(axis, settings.keepdim, None))
            })
        },
    },
    Reduction {
        name: "median",
        summary: "The median of the elements; the lower of the two in the middle for an even count.",
        detail: "Reduces one dimension or all.",
        options: &[],
        apply: |tensor, settings| {
            let result = match settings.axis("median", tensor)? {
                Some(axis) => tensor.tch().f_median_dim(axis, settings.keepdim).map(|(values, _)| values),
                None => tensor.tch().f_median(),
            };
            named("median", &[tensor], result)
        },
    },
    Reduction {
        name: "norm",
        summary: "The Euclidean norm of the elements.",
        detail: "The option `p` asks for another order, as in `#{p: 1}`. Integers count as f32.",
        options: &["p"],
        apply: norm,
    },
    Reduction {
        name: "logsumexp",
        summary: "The logarithm of the sum of the exponentials, computed without overflow.",
        detail: "",
        options: &[],
        apply: |tensor, settings| {
            let (axes, floats) = (settings.axes("logsumexp", tensor)?, tensor.as_float()?);
            named("logsumexp", &[tensor], floats.tch().f_logsumexp(axes, settings.keepdim))
        },
    },
];

/// A norm, computed in f32 where the elements are narrower.
fn norm(tensor: &Tensor, settings: &Settings) -> Result<Tensor> {
    let (axes, floats) = (settings.axes("norm", tensor)?, tensor.as_float()?);
    let (order, keepdim) = (settings.order, settings.keepdim);
    if order.is_nan() || order <= 0.0 {
        return Err(Error::new(format!("the order `p` of a norm must be positive, not {order}")));
    }
    let narrow = matches!(floats.kind(), Kind::Half | Kind::BFloat16);
    let sizes = named("norm", &[tensor], floats.to(narrow.then_some(Kind::Float), None)?.tch().f_abs())?;
    let sum = |powers: Tensor| named("norm", &[tensor], powers.tch().f_sum_dim_intlist(Some(&axes), keepdim, None));
    let power = |tensor: Tensor, exponent: f64| Operator::Power.apply(&tensor.into(), &Number::Float(exponent).into());
    let norm = if order == f64::INFINITY {
        named("norm", &[tensor], sizes.tch().f_amax(&axes, keepdim))
    } else if order == 1.0 {
        sum(sizes)
    } else if order == 2.0 {
        let squares = named("norm", &[tensor], sizes.tch().f_square())?;
        named("norm", &[tensor], sum(squares)?.tch().f_sqrt())
    } else {
        power(sum(power(sizes, order)?)?, 1.0 / order)
    }?;
    norm.to(Some(floats.kind()), None)
}

/// Whether any element along the dimensions is not zero, as bools.
///
/// # Errors
/// A dimension that the tensor does not have.
pub fn any(tensor: &Tensor, settings: &Settings) -> Result<Tensor> {
    named("any", &[tensor], tensor.tch().f_any_dims(Some(settings.axes("any", tensor)?), settings.keepdim))
}

/// Whether all elements along the dimensions are not zero, as bools.
///
/// # Errors
/// A dimension that the tensor does not have.
pub fn all(tensor: &Tensor, settings: &Settings) -> Result<Tensor> {
    named("all", &[tensor], tensor.tch().f_all_dims(Some(settings.axes("all", tensor)?), settings.keepdim))
}

impl Tensor {
    /// Exponentials along `dim`, scaled to sum to 1.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn softmax(&self, dim: i64) -> Result<Self> {
        named("softmax", &[self], self.as_float()?.tch().f_softmax(self.resolve_dim(dim)?, None))
    }

    /// The logarithm of the softmax along `dim`.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn log_softmax(&self, dim: i64) -> Result<Self> {
        named("log_softmax", &[self], self.as_float()?.tch().f_log_softmax(self.resolve_dim(dim)?, None))
    }

    /// Running sums along `dim`.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn cumsum(&self, dim: i64) -> Result<Self> {
        named("cumsum", &[self], self.tch().f_cumsum(self.resolve_dim(dim)?, None))
    }
}
