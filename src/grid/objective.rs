//! A metric that has gradients: a number per sample, computed from the last position's logits.

use tch::Tensor;

use super::measured::Measured;
use super::metric::Metric;
use super::target::Target;
use crate::error::{Error, Result};

/// A metric of samples with gradients.
pub struct Objective<'a> {
    metric: Metric,
    target: Target<'a>,
}

impl<'a> Objective<'a> {
    /// The metric of the samples of `target`.
    ///
    /// # Errors
    /// A metric that counts.
    pub fn new(metric: Metric, target: Target<'a>) -> Result<Self> {
        if matches!(metric, Metric::Rank | Metric::ReciprocalRank) {
            return Err(Error::new(format!("`{}` counts tokens, so it has no gradient", metric.name()))
                .hint("\"logit\", \"logit_difference\", \"centred_logit\", \"log_probability\" or \"probability\""));
        }
        Ok(Self { metric, target })
    }

    /// The metric of the logits, [row, d_vocab], of the samples of these numbers, float64 [row].
    ///
    /// # Errors
    /// Too little memory; an error of the caller's function.
    pub fn of(&self, logits: &Tensor, samples: &[usize]) -> Result<Tensor> {
        let target = self.target.select(samples, logits.device())?;
        Measured::of_logits(logits, &target)?.values(self.metric, None)
    }
}
