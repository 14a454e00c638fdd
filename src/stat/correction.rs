//! Corrections of p-values for the number of tests: Holm's and Benjamini and Hochberg's.

use crate::error::{Error, Result};

/// Whether p-values are plain numbers or decimal logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Plain.
    Linear,
    /// Decimal logarithms, for p-values below the smallest float.
    Log10,
}

impl Scale {
    fn check(self, values: &[f64]) -> Result<()> {
        let (allowed, range) = match self {
            Self::Linear => (0.0..=1.0, "between 0 and 1"),
            Self::Log10 => (f64::NEG_INFINITY..=0.0, "at most 0"),
        };
        match values.iter().position(|value| !allowed.contains(value)) {
            Some(position) => {
                Err(Error::new(format!("p-value {} at position {position} is not {range}", values[position])))
            }
            None => Ok(()),
        }
    }

    fn times(self, value: f64, factor: f64) -> f64 {
        match self {
            Self::Linear => (value * factor).min(1.0),
            Self::Log10 => (value + factor.log10()).min(0.0),
        }
    }
}

fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order
}

/// Holm's adjusted p-values, which bound the probability of any false rejection, in the order given.
///
/// # Errors
/// A number that is not a p-value.
pub fn holm(values: &[f64], scale: Scale) -> Result<Vec<f64>> {
    scale.check(values)?;
    let mut adjusted = values.to_vec();
    let mut largest = f64::NEG_INFINITY;
    for (rank, index) in ascending(values).into_iter().enumerate() {
        largest = largest.max(scale.times(values[index], (values.len() - rank) as f64));
        adjusted[index] = largest;
    }
    Ok(adjusted)
}

/// Benjamini and Hochberg's adjusted p-values, which bound the share of false rejections, in the order given.
///
/// # Errors
/// A number that is not a p-value.
pub fn benjamini_hochberg(values: &[f64], scale: Scale) -> Result<Vec<f64>> {
    scale.check(values)?;
    let mut adjusted = values.to_vec();
    let mut smallest = f64::INFINITY;
    for (rank, index) in ascending(values).into_iter().enumerate().rev() {
        smallest = smallest.min(scale.times(values[index], values.len() as f64 / (rank as f64 + 1.0)));
        adjusted[index] = smallest;
    }
    Ok(adjusted)
}
