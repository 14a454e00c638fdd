//! What a grid draws at random.

use rand::Rng;
use rand::seq::SliceRandom;

use super::set::{Element, Set};
use crate::error::{Error, Result};
use crate::stat::generator;

/// Sets drawn independently of each other: each element is in or out by an even chance, so that one may come twice, and
/// the empty set too.
pub fn subsets(elements: &[Element], count: usize, seed: u64) -> Vec<Set> {
    let mut generator = generator(seed);
    (0..count).map(|_| elements.iter().copied().filter(|_| generator.r#gen()).collect()).collect()
}

/// For each of `count` samples another one, no two the same: a shuffled circle.
///
/// # Errors
/// Fewer than two samples.
pub fn others(count: usize, seed: u64) -> Result<Vec<usize>> {
    if count < 2 {
        return Err(Error::new("`resample` needs at least two samples, each the other's source"));
    }
    let mut circle: Vec<usize> = (0..count).collect();
    circle.shuffle(&mut generator(seed));
    let mut others = vec![0; count];
    for (place, sample) in circle.iter().enumerate() {
        others[*sample] = circle[(place + 1) % count];
    }
    Ok(others)
}
