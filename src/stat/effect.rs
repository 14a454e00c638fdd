//! Effect sizes: Cohen's d, Hedges's g and Cliff's delta.

use super::check_sample;
use super::special::ln_beta;
use super::summary::{divided, exponent, mean_and_variance, moments};
use crate::error::{Error, Result};

fn ratio(difference: f64, variance: f64) -> Result<f64> {
    if variance > 0.0 {
        return Ok(difference / variance.sqrt());
    }
    Err(Error::new("an effect size needs numbers that differ within a sample"))
}

/// Cohen's d: the mean over the standard deviation, or the difference of two means over the pooled standard deviation.
///
/// # Errors
/// Fewer than two numbers in a sample, one that is not finite, or no variance.
pub fn cohens_d(x: &[f64], y: Option<&[f64]>) -> Result<f64> {
    check_sample("the first sample", x, 2)?;
    // The ratio does not depend on the unit.
    let Some(y) = y else {
        let (mean, variance) = mean_and_variance(&divided(x, exponent(&[x])));
        return ratio(mean, variance);
    };
    check_sample("the second sample", y, 2)?;
    let exponent = exponent(&[x, y]);
    let ((mean_x, squares_x), (mean_y, squares_y)) = (moments(&divided(x, exponent)), moments(&divided(y, exponent)));
    ratio(mean_x - mean_y, (squares_x + squares_y) / (x.len() + y.len() - 2) as f64)
}

/// Hedges's g: Cohen's d without its bias in small samples, by the exact factor of gamma functions.
///
/// # Errors
/// As [`cohens_d`]; also one degree of freedom only, for which the factor does not exist.
pub fn hedges_g(x: &[f64], y: Option<&[f64]>) -> Result<f64> {
    let d = cohens_d(x, y)?;
    let df = match y {
        Some(y) => x.len() + y.len() - 2,
        None => x.len() - 1,
    };
    if df < 2 {
        return Err(Error::new("`hedges_g` needs at least 3 numbers"));
    }
    let half = df as f64 / 2.0;
    // gamma(half) / gamma(half - 1/2), by the beta function, whose other factor is gamma(1/2).
    let ln_ratio = 0.5 * std::f64::consts::PI.ln() - ln_beta(half - 0.5, 0.5);
    Ok(d * (ln_ratio - 0.5 * half.ln()).exp())
}

/// Cliff's delta: the probability that a number of the first sample is larger than one of the second, less the
/// probability that it is smaller.
///
/// # Errors
/// A sample without numbers, or one that is not finite.
pub fn cliffs_delta(x: &[f64], y: &[f64]) -> Result<f64> {
    check_sample("the first sample", x, 1)?;
    check_sample("the second sample", y, 1)?;
    let mut sorted = y.to_vec();
    sorted.sort_by(f64::total_cmp);
    let balance = |value: &f64| {
        let below = sorted.partition_point(|other| other < value);
        let up_to = sorted.partition_point(|other| other <= value);
        below as f64 - (sorted.len() - up_to) as f64
    };
    Ok(x.iter().map(balance).sum::<f64>() / (x.len() as f64 * y.len() as f64))
}
