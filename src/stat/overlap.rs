//! The overlap of two sets.

use std::collections::BTreeSet;

use crate::error::{Error, Result};

/// Jaccard's index: the share of the items in either set that are in both.
///
/// # Errors
/// Two sets without items.
pub fn jaccard<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> Result<f64> {
    match a.union(b).count() {
        0 => Err(Error::new("`jaccard` needs an item in one of its sets, but both are empty")),
        either => Ok(a.intersection(b).count() as f64 / either as f64),
    }
}
