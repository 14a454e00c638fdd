//! Student's and Welch's t-tests.

use super::probability::{Alternative, Probability};
use super::summary::{divided, exponent, mean_and_variance};
use super::{check_pairs, check_sample, distribution};
use crate::error::{Error, Result};

/// The result of a t-test.
#[derive(Debug, Clone, Copy)]
pub struct TTest {
    /// The statistic: infinite where the sample has no variance but another mean, NaN where it has the same mean.
    pub t: f64,
    /// The degrees of freedom.
    pub df: f64,
    /// The p-value.
    pub p: Probability,
}

impl TTest {
    fn new(difference: f64, error: f64, df: f64, alternative: Alternative) -> Self {
        let t = difference / error;
        let p = alternative.p_value(distribution::t_lower(t, df), distribution::t_upper(t, df));
        Self { t, df, p }
    }
}

/// Tests whether the mean of the population is `mean`.
///
/// # Errors
/// Fewer than two numbers, or one that is not finite.
pub fn one_sample(sample: &[f64], mean: f64, alternative: Alternative) -> Result<TTest> {
    check_sample("the sample of a t-test", sample, 2)?;
    // t does not depend on the unit.
    let exponent = exponent(&[sample, &[mean]]);
    let (sample, mean) = (divided(sample, exponent), libm::scalbn(mean, -exponent));
    let (found, variance) = mean_and_variance(&sample);
    let count = sample.len() as f64;
    Ok(TTest::new(found - mean, (variance / count).sqrt(), count - 1.0, alternative))
}

/// Tests whether paired samples have the same mean.
///
/// # Errors
/// Samples of different lengths, with fewer than two numbers, or one that is not finite.
pub fn related(a: &[f64], b: &[f64], alternative: Alternative) -> Result<TTest> {
    check_pairs("ttest_rel", a, b)?;
    check_sample("the first sample", a, 2)?;
    check_sample("the second sample", b, 2)?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    one_sample(&differences, 0.0, alternative)
}

/// Tests whether independent samples have the same mean: Student's test for equal variances, else Welch's.
///
/// # Errors
/// Fewer than two numbers in a sample, or one that is not finite.
pub fn independent(a: &[f64], b: &[f64], equal_var: bool, alternative: Alternative) -> Result<TTest> {
    check_sample("the first sample", a, 2)?;
    check_sample("the second sample", b, 2)?;
    let exponent = exponent(&[a, b]);
    let (a, b) = (divided(a, exponent), divided(b, exponent));
    let ((mean_a, variance_a), (mean_b, variance_b)) = (mean_and_variance(&a), mean_and_variance(&b));
    let (count_a, count_b) = (a.len() as f64, b.len() as f64);
    let (square, df) = if equal_var {
        let df = count_a + count_b - 2.0;
        let pooled = ((count_a - 1.0) * variance_a + (count_b - 1.0) * variance_b) / df;
        (pooled * (1.0 / count_a + 1.0 / count_b), df)
    } else {
        let (part_a, part_b) = (variance_a / count_a, variance_b / count_b);
        let spread = part_a.powi(2) / (count_a - 1.0) + part_b.powi(2) / (count_b - 1.0);
        // Without variance the degrees of freedom are undefined; any number is correct for an infinite t.
        (part_a + part_b, if spread == 0.0 { 1.0 } else { (part_a + part_b).powi(2) / spread })
    };
    Ok(TTest::new(mean_a - mean_b, square.sqrt(), df, alternative))
}

/// The population mean in the paper's t-tests of booleans: a percentage, although the booleans are 0 or 1.
pub const PAPER_MEAN: f64 = 50.0;

/// The published t-test of booleans against a mean of 50: t is near -1000 for any booleans.
///
/// # Errors
/// Fewer than two numbers, or one that is neither 0 nor 1.
pub fn paper(booleans: &[f64]) -> Result<TTest> {
    match booleans.iter().position(|value| *value != 0.0 && *value != 1.0) {
        Some(position) => Err(Error::new(format!(
            "`paper_ttest` takes true, false, 0 or 1, not {} at position {position}",
            booleans[position]
        ))),
        None => one_sample(booleans, PAPER_MEAN, Alternative::TwoSided),
    }
}
