//! Statistics on plain numbers and matrices: tests, intervals, corrections, effect sizes and projections. Names and
//! results are those of SciPy and scikit-learn, as the tests check. Nothing here depends on scripts.

pub mod bootstrap;
pub mod cluster;
pub mod correction;
pub mod correlation;
pub mod discriminant;
pub mod distribution;
pub mod effect;
pub mod embedding;
pub mod equivalence;
pub mod matrix;
pub mod max_t;
pub mod noncentral;
pub mod overlap;
pub mod permutation;
pub mod power;
pub mod principal;
pub mod probability;
pub mod probe;
pub mod sign;
pub mod special;
pub mod summary;
pub mod superadditivity;
pub mod ttest;
pub mod wilcoxon;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// The random numbers for a seed, the same on every machine.
pub fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Fails unless there are at least `least` numbers, all of them finite.
///
/// # Errors
/// Too few numbers, or one that is not finite, with its position.
pub fn check_sample(what: &str, sample: &[f64], least: usize) -> Result<()> {
    if let Some(position) = sample.iter().position(|value| !value.is_finite()) {
        return Err(Error::new(format!("{what} holds {} at position {position}", sample[position]))
            .hint("leave out the numbers that are not finite first"));
    }
    if sample.len() < least {
        return Err(Error::new(format!("{what} needs at least {least} numbers, not {}", sample.len())));
    }
    Ok(())
}

/// Fails unless two samples have the same length.
///
/// # Errors
/// Different lengths.
pub fn check_pairs(function: &str, x: &[f64], y: &[f64]) -> Result<()> {
    if x.len() == y.len() {
        return Ok(());
    }
    Err(Error::new(format!("`{function}` pairs its samples, but they have {} and {} numbers", x.len(), y.len())))
}
