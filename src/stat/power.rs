//! The power of the one-sample and the paired t-test, and the number of samples that a power takes, by the noncentral t
//! distribution (Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988).

use super::distribution::t_quantile;
use super::noncentral::noncentral_t_upper;
use super::probability::Alternative;
use crate::error::{Error, Result};

/// The settings of a test.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The p-value up to which the test rejects.
    pub alpha: f64,
    /// The alternative hypothesis.
    pub alternative: Alternative,
}

impl Default for Settings {
    fn default() -> Self {
        Self { alpha: 0.05, alternative: Alternative::default() }
    }
}

/// The largest number of samples that is searched.
const MOST_SAMPLES: u64 = 1_000_000_000_000;

/// The probability that a t-test of `n` samples rejects, where the mean is `effect` standard deviations.
///
/// # Errors
/// Fewer than two samples, an effect that is not finite, or an `alpha` outside (0, 1).
pub fn power(effect: f64, n: u64, settings: Settings) -> Result<f64> {
    let Settings { alpha, alternative } = settings;
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(Error::new(format!("`alpha` lies between 0 and 1, {alpha} does not")));
    }
    if !effect.is_finite() {
        return Err(Error::new(format!("the effect size must be finite, not {effect}")));
    }
    if n < 2 {
        return Err(Error::new(format!("a t-test needs at least 2 samples, not {n}")));
    }
    let (df, shift) = (n as f64 - 1.0, effect * (n as f64).sqrt());
    let beyond = |alpha: f64, shift: f64| Ok(noncentral_t_upper(-t_quantile(alpha, df)?, df, shift));
    match alternative {
        Alternative::Greater => beyond(alpha, shift),
        Alternative::Less => beyond(alpha, -shift),
        Alternative::TwoSided => Ok(beyond(alpha / 2.0, shift)? + beyond(alpha / 2.0, -shift)?),
    }
}

/// The smallest number of samples with which a t-test has at least the power `wanted`, where the mean is `effect`
/// standard deviations.
///
/// # Errors
/// A power outside (0, 1) or that no number up to 10^12 reaches; what [`power`] refuses.
pub fn samples(effect: f64, wanted: f64, settings: Settings) -> Result<u64> {
    if !(wanted > 0.0 && wanted < 1.0) {
        return Err(Error::new(format!("`power` lies between 0 and 1, {wanted} does not")));
    }
    let reached = |n: u64| -> Result<bool> { Ok(power(effect, n, settings)? >= wanted) };
    if reached(2)? {
        return Ok(2);
    }
    let (mut short, mut enough) = (2, 4);
    while !reached(enough)? {
        if enough > MOST_SAMPLES {
            let error = format!("no number of samples up to 1e12 finds an effect size of {effect} with power {wanted}");
            return Err(Error::new(error).hint("it is 0, too close to it, or not on the side of `alternative`"));
        }
        (short, enough) = (enough, 2 * enough);
    }
    while enough - short > 1 {
        let middle = short + (enough - short) / 2;
        if reached(middle)? { enough = middle } else { short = middle }
    }
    Ok(enough)
}
