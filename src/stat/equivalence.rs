//! Equivalence of a mean to zero within a margin: two one-sided t-tests (Schuirmann, J. Pharmacokinet. Biopharm. 15,
//! 1987).

use super::distribution::t_quantile;
use super::probability::{Alternative, Probability};
use super::summary::describe;
use super::ttest::{self, TTest};
use crate::error::{Error, Result};

/// The result of two one-sided tests.
#[derive(Debug, Clone, Copy)]
pub struct Equivalence {
    /// The mean.
    pub mean: f64,
    /// The ends of the interval of level 1 - 2 alpha, which lies within the margin where the verdict is true.
    pub interval: [f64; 2],
    /// The test that the mean is above the margin's lower end.
    pub above: TTest,
    /// The test that the mean is below its upper end.
    pub below: TTest,
    /// The larger of both p-values.
    pub p: Probability,
    /// Whether that is at most alpha.
    pub equivalent: bool,
}

/// Tests whether the mean of the population lies between `-margin` and `margin`.
///
/// # Errors
/// Fewer than two numbers, or one that is not finite; a margin that is not positive; an `alpha` outside (0, 0.5).
pub fn tost(sample: &[f64], margin: f64, alpha: f64) -> Result<Equivalence> {
    if !(margin > 0.0 && margin.is_finite()) {
        return Err(Error::new(format!("the margin of `tost` is a positive number, {margin} is not one"))
            .hint("state the largest mean that would not matter, in the unit of the numbers"));
    }
    if !(alpha > 0.0 && alpha < 0.5) {
        return Err(Error::new(format!("`alpha` of `tost` lies between 0 and 0.5, {alpha} does not")));
    }
    let above = ttest::one_sample(sample, -margin, Alternative::Greater)?;
    let below = ttest::one_sample(sample, margin, Alternative::Less)?;
    let summary = describe(sample)?;
    let half = -t_quantile(alpha, above.df)? * summary.standard_error;
    // A mean without variance that is an end of the margin has no t.
    let p = if above.t.is_nan() || above.p.ln() > below.p.ln() { above.p } else { below.p };
    Ok(Equivalence {
        mean: summary.mean,
        interval: [summary.mean - half, summary.mean + half],
        above,
        below,
        p,
        equivalent: p.value() <= alpha,
    })
}
