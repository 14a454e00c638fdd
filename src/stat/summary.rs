//! Mean, spread, order and shape of one sample.

use super::check_sample;
use crate::error::Result;

/// The exponent of 2 in the largest size among some samples; 0 where all numbers are 0. Divided by that power of 2,
/// neither the numbers' squares nor their sum leave the floats.
pub fn exponent(samples: &[&[f64]]) -> i32 {
    let largest = samples.iter().copied().flatten().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    if largest == 0.0 { 0 } else { libm::ilogb(largest) }
}

/// The sample divided by a power of 2, which rounds nothing.
pub fn divided(sample: &[f64], exponent: i32) -> Vec<f64> {
    sample.iter().map(|value| libm::scalbn(*value, -exponent)).collect()
}

/// The mean and the sum of squared deviations from it, which is exactly 0 for equal numbers.
pub fn moments(sample: &[f64]) -> (f64, f64) {
    let count = sample.len() as f64;
    match sample {
        [first, rest @ ..] if rest.iter().all(|value| value == first) => return (*first, 0.0),
        _ => {}
    }
    let rough = sample.iter().sum::<f64>() / count;
    let mean = rough + sample.iter().map(|value| value - rough).sum::<f64>() / count;
    (mean, sample.iter().map(|value| (value - mean).powi(2)).sum())
}

/// The mean and the unbiased variance.
pub fn mean_and_variance(sample: &[f64]) -> (f64, f64) {
    let (mean, squares) = moments(sample);
    (mean, squares / (sample.len() as f64 - 1.0))
}

/// The quantile `share` of a sorted, non-empty sample, with linear interpolation.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() as f64 - 1.0);
    let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    low + (high - low) * place.fract()
}

/// The median of a sample; sorts it.
pub fn median(sample: &mut [f64]) -> f64 {
    sample.sort_by(f64::total_cmp);
    quantile(sample, 0.5)
}

/// The ranks from 1, the mean rank for equal numbers, and the size of each group of equal numbers.
pub fn ranks(sample: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut order: Vec<usize> = (0..sample.len()).collect();
    order.sort_by(|a, b| sample[*a].total_cmp(&sample[*b]));
    let (mut ranks, mut ties) = (vec![0.0; sample.len()], Vec::new());
    let mut before = 0;
    for group in order.chunk_by(|a, b| sample[*a] == sample[*b]) {
        for index in group {
            ranks[*index] = before as f64 + (group.len() as f64 + 1.0) / 2.0;
        }
        before += group.len();
        ties.push(group.len());
    }
    (ranks, ties)
}

/// A sample in numbers.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The number of values.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// The unbiased standard deviation; NaN for one number.
    pub std: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// Minimum, lower quartile, median, upper quartile and maximum.
    pub quartiles: [f64; 5],
    /// The third standardised moment; NaN for equal numbers.
    pub skewness: f64,
    /// The fourth standardised moment less 3; NaN for equal numbers.
    pub kurtosis: f64,
}

/// Describes a sample. Moments are those of `scipy.stats.describe`, quartiles those of `numpy.quantile`.
///
/// # Errors
/// No numbers, or one that is not finite.
pub fn describe(sample: &[f64]) -> Result<Summary> {
    check_sample("`describe`", sample, 1)?;
    let count = sample.len() as f64;
    let exponent = exponent(&[sample]);
    let scaled = divided(sample, exponent);
    let (mean, squares) = moments(&scaled);
    let moment = |power: i32| scaled.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / count;
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let std = libm::scalbn((squares / (count - 1.0)).sqrt(), exponent);
    Ok(Summary {
        n: sample.len(),
        mean: libm::scalbn(mean, exponent),
        std,
        standard_error: std / count.sqrt(),
        quartiles: [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(&sorted, share)),
        skewness: moment(3) / (squares / count).powf(1.5),
        kurtosis: moment(4) / (squares / count).powi(2) - 3.0,
    })
}
