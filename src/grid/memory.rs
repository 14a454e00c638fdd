//! The activations that a grid of a model holds at once: told from the model's config, before it is loaded.

use tch::Device;

use super::plan::{TOKENS_AT_ONCE_CPU, TOKENS_AT_ONCE_GPU, seen_by_suffix};
use super::set::{self, Set};
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::hook::Site;

/// The most sets that are counted.
const SETS: f64 = 1e7;

/// The size of a grid.
#[derive(Debug, Clone)]
pub struct Size {
    /// Activation to patch
    pub site: Site,
    /// Sizes of the sets of places
    pub sizes: Vec<usize>,
    /// Samples that are computed together
    pub samples: i64,
    /// Positions of a prompt after the patched one
    pub suffix: i64,
}

impl Size {
    /// Tokens that the grid holds a residual stream for: one for each node, sample and position of the suffix.
    ///
    /// # Errors
    /// A model without the site; more sets than can be counted.
    pub fn tokens(&self, config: &Config) -> Result<f64> {
        let elements = set::elements(config, self.site)?;
        let possible = || self.sizes.iter().filter(|size| **size <= elements.len());
        let sets: f64 = possible().map(|size| set::binomial(elements.len(), *size)).sum();
        if sets > SETS {
            return Err(Error::new(format!("there are {sets:.1e} sets of these sizes")).hint("take smaller ones"));
        }
        let seen = |set: &Set| seen_by_suffix(set, self.site, config.n_layers);
        let sets: Vec<Set> = set::all(&elements, &possible().copied().collect::<Vec<_>>()).iter().map(seen).collect();
        Ok(Tree::new(&sets, config.n_layers).size() as f64 * self.samples as f64 * self.suffix.max(1) as f64)
    }
}

/// Of these tokens, those that pass through a layer together on a device.
pub fn tokens_at_once(tokens: f64, device: Device) -> f64 {
    tokens.min(if device == Device::Cpu { TOKENS_AT_ONCE_CPU } else { TOKENS_AT_ONCE_GPU } as f64)
}
