//! The activations captured in one run, in order of execution.

use tch::Tensor;

use super::config::Config;
use super::hook::{self, HookPoint};
use crate::error::{Error, Result};

/// Activations by hook point.
#[derive(Debug, Default)]
pub struct ActivationCache {
    entries: Vec<(HookPoint, Tensor)>,
}

impl ActivationCache {
    /// Stores an activation; a later one at the same point replaces it.
    pub fn insert(&mut self, point: HookPoint, value: Tensor) {
        match self.entries.iter_mut().find(|(found, _)| *found == point) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((point, value)),
        }
    }

    /// The activation at `point`, if it was captured.
    pub fn get(&self, point: HookPoint) -> Option<&Tensor> {
        self.entries.iter().find(|(found, _)| *found == point).map(|(_, value)| value)
    }

    /// The activation at `point`.
    ///
    /// # Errors
    /// It was not captured.
    pub fn at(&self, point: HookPoint) -> Result<&Tensor> {
        self.get(point).ok_or_else(|| Error::new(format!("`{}` was not cached", point.name())))
    }

    /// What a function makes of every activation.
    ///
    /// # Errors
    /// The function's own.
    pub fn map(&self, mut change: impl FnMut(HookPoint, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let changed = |(point, value): &(HookPoint, Tensor)| Ok((*point, change(*point, value)?));
        Ok(Self { entries: self.entries.iter().map(changed).collect::<Result<_>>()? })
    }

    /// The activation named `name` (or an alias).
    ///
    /// # Errors
    /// An unknown hook, or one that was not captured.
    pub fn named(&self, name: &str, config: &Config) -> Result<&Tensor> {
        self.at(hook::parse(name, config)?)
    }

    /// The same activations without the dimension of samples.
    ///
    /// # Errors
    /// There are several samples.
    pub fn without_samples(&self) -> Result<Self> {
        let one = |(point, value): &(HookPoint, Tensor)| match value.size()[0] {
            1 => Ok((*point, value.f_squeeze_dim(0)?)),
            count => {
                Err(Error::new(format!("the cache holds {count} samples")).hint("only one can go without a number"))
            }
        };
        Ok(Self { entries: self.entries.iter().map(one).collect::<Result<_>>()? })
    }

    /// Points and values in the order in which they were captured.
    pub fn iter(&self) -> impl Iterator<Item = (&HookPoint, &Tensor)> {
        self.entries.iter().map(|(point, value)| (point, value))
    }

    /// Number of activations.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was captured.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
