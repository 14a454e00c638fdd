//! How well estimates agree with exact effects: correlations, how many of the largest are found, and misses.

use crate::error::Result;
use crate::stat::correlation::{pearson, spearman};
use crate::stat::probability::Alternative;

/// What is said of estimates beside exact effects.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Pearson's correlation; NaN where one side is constant
    pub pearson: f64,
    /// Spearman's correlation; NaN where one side is constant
    pub spearman: f64,
    /// The share of the ten largest exact effects that are among the ten largest estimates, by size
    pub found: f64,
    /// The places of misses: exact effects among the largest tenth, by size, with an estimate below the median size
    pub misses: Vec<usize>,
}

/// Compares estimates with exact effects, all finite. Sizes of effects are compared where the estimates are sizes.
///
/// # Errors
/// Fewer than three pairs.
pub fn agreement(estimates: &[f64], exact: &[f64], is_unsigned: bool) -> Result<Agreement> {
    let exact: Vec<f64> = exact.iter().map(|effect| if is_unsigned { effect.abs() } else { *effect }).collect();
    let sizes = |values: &[f64]| -> Vec<f64> { values.iter().map(|value| value.abs()).collect() };
    let (of_estimates, of_exact) = (sizes(estimates), sizes(&exact));
    let (by_estimate, by_exact) = (descending(&of_estimates), descending(&of_exact));
    let top = by_exact.len().min(10);
    let found = by_exact[..top].iter().filter(|place| by_estimate[..top].contains(place)).count();
    // The larger one of the two in the middle.
    let median = by_estimate.get((by_estimate.len().max(1) - 1) / 2).map_or(0.0, |place| of_estimates[*place]);
    let largest = by_exact.len().div_ceil(10);
    let misses = by_exact[..largest].iter().filter(|place| of_exact[**place] > 0.0 && of_estimates[**place] < median);
    Ok(Agreement {
        pearson: pearson(estimates, &exact, Alternative::TwoSided)?.r,
        spearman: spearman(estimates, &exact, Alternative::TwoSided)?.r,
        found: if top == 0 { f64::NAN } else { found as f64 / top as f64 },
        misses: misses.copied().collect(),
    })
}

/// The places of values, the largest first; of equal ones, the first first.
pub fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, other| values[*other].total_cmp(&values[*one]));
    order
}
