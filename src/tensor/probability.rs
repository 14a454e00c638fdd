//! Probabilities: losses, divergences, quantiles, draws.

use tch::Kind;

use super::generator::Generator;
use super::raw::wide;
use super::{Tensor, named};
use crate::error::{Error, Result};

/// How far from 1 the probabilities of a distribution may sum.
const SUM_TOLERANCE: f64 = 1e-2;

/// The cross-entropy of the next tokens in nats, one number for each target: -log softmax(logits)[target].
///
/// `logits` are [.., class], `targets` integers [..].
///
/// # Errors
/// Shapes that do not fit, a class that does not exist.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (shape, wanted) = (logits.shape(), targets.shape());
    if shape.split_last().is_none_or(|(_, rest)| rest != wanted) {
        return Err(Error::new(format!(
            "`cross_entropy` needs logits [.., class] and targets [..], not {shape:?} and {wanted:?}"
        )));
    }
    let wide_logits = logits.to(Some(wide(logits.as_float()?.kind())), None)?;
    wide_logits.log_softmax(-1)?.gather(-1, &targets.unsqueeze(-1)?)?.squeeze(Some(-1))?.negate()
}

/// The Kullback-Leibler divergence KL(p ‖ q) = Σ p (log p - log q) in nats over dimension `dim`, of log-probabilities.
///
/// # Errors
/// Shapes that do not broadcast; numbers that are not log-probabilities.
pub fn kl_div(log_p: &Tensor, log_q: &Tensor, dim: i64) -> Result<Tensor> {
    for (what, log) in [("first", log_p), ("second", log_q)] {
        let sums = log.as_float()?.tch().f_to_kind(Kind::Double)?.f_logsumexp([log.resolve_dim(dim)?], false)?;
        let off = if sums.numel() == 0 { 0.0 } else { sums.f_abs()?.f_max()?.f_double_value(&[])? };
        // NaN is no distribution either.
        if off.is_nan() || off > SUM_TOLERANCE {
            return Err(Error::new(format!("the {what} argument of `kl_div` does not hold log-probabilities"))
                .hint("their exponentials sum to 1: `logits.log_softmax(-1)` makes them of logits"));
        }
    }
    let (log_p, log_q) = (log_p.as_float()?, log_q.as_float()?);
    let (log_p, log_q) = (log_p.tch(), log_q.tch().f_to_device(log_p.device())?);
    let terms = log_p.f_exp()?.f_mul(&log_p.f_sub(&log_q)?)?;
    // What has no probability adds nothing, whatever q is there.
    let terms = terms.f_where_self(&log_p.f_isneginf()?.f_logical_not()?, &terms.f_zeros_like()?)?;
    Ok(terms.f_sum_dim_intlist([dim].as_slice(), false, None::<Kind>)?.into())
}

impl Tensor {
    /// The quantiles `q`, from 0 to 1, along `dim`, or of all elements; interpolated linearly, as in NumPy. Several
    /// quantiles form the first dimension.
    ///
    /// # Errors
    /// A quantile beyond 0 and 1, no elements.
    pub fn quantile(&self, q: &Self, dim: Option<i64>) -> Result<Self> {
        let values = self.as_float()?;
        let values = values.to(Some(wide(values.kind())), None)?;
        let q = q.to(Some(values.kind()), Some(values.device()))?;
        let dim = dim.map(|dim| self.resolve_dim(dim)).transpose()?;
        if values.numel() == 0 {
            return Err(Error::new("`quantile` of no elements is not defined"));
        }
        named("quantile", &[self, &q], values.tch().f_quantile(q.tch(), dim, false, "linear"))
    }

    /// `count` positions along the last dimension, drawn with probabilities in proportion to the elements.
    ///
    /// # Errors
    /// Negative or no weights, more draws than elements without replacement.
    pub fn multinomial(&self, count: i64, replacement: bool, seed: Option<i64>) -> Result<Self> {
        let weights = self.as_float()?.to(None, Some(tch::Device::Cpu))?;
        let sums = if weights.ndim() == 0 { 0.0 } else { weights.tch().f_sum(Kind::Double)?.f_double_value(&[])? };
        let low = if weights.numel() == 0 { -1.0 } else { weights.tch().f_min()?.f_double_value(&[])? };
        if !(1..=2).contains(&weights.ndim()) || !sums.is_finite() || low < 0.0 {
            return Err(Error::new("`multinomial` draws from weights, or rows of weights, that are not negative"));
        }
        let draw = || named("multinomial", &[self], weights.tch().f_multinomial(count, replacement));
        let drawn = match seed {
            Some(seed) => Generator::new(seed).draw(draw)?,
            None => draw()?,
        };
        drawn.to(None, Some(self.device()))
    }
}
