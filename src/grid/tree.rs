//! The states of a grid as a tree: which sets come into being after which layer, and from which parent.

use std::collections::HashMap;

use super::set::{self, Element, Set};

/// A state that comes into being at a layer: its parent, what is added, and the set that results.
#[derive(Debug, Clone)]
pub struct Birth {
    /// The parent's number
    pub parent: usize,
    /// The places patched beside the parent's
    pub added: Vec<Element>,
}

/// The states of a grid, in the order in which they come into being: first the unpatched one.
#[derive(Debug)]
pub struct Tree {
    /// For each layer, the states born after it
    pub births: Vec<Vec<Birth>>,
    /// The number of each state's set
    pub index: HashMap<Set, usize>,
}

impl Tree {
    /// All states that the sets of `sizes` pass through. States born at the last layer are left out unless `at_last`.
    pub fn new(elements: &[Element], n_layers: i64, sizes: &[usize], at_last: bool) -> Self {
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let mut states: Vec<Set> = vec![Set::new()];
        let mut births = Vec::new();
        for layer in 0..n_layers {
            let here: Vec<Element> = elements.iter().copied().filter(|element| element.layer == layer).collect();
            let additions = set::all(&here, &(1..=largest).collect::<Vec<_>>());
            let mut born = Vec::new();
            let last = layer + 1 == n_layers;
            if !last || at_last {
                for added in &additions {
                    for parent in 0..states.len() {
                        let Some(old) = states.get(parent) else { continue };
                        let size = old.len() + added.len();
                        // A set that is too small to be asked for matters only as a parent.
                        if old.iter().any(|element| element.layer == layer)
                            || size > largest
                            || (last && !sizes.contains(&size))
                        {
                            continue;
                        }
                        let mut grown = old.clone();
                        grown.extend(added);
                        states.push(grown);
                        born.push(Birth { parent, added: added.clone() });
                    }
                }
            }
            births.push(born);
        }
        let index = states.into_iter().enumerate().map(|(number, set)| (set, number)).collect();
        Self { births, index }
    }

    /// The number of states before each layer.
    pub fn counts(&self) -> Vec<usize> {
        let born = self.births.iter().map(Vec::len);
        born.scan(1, |count, born| {
            let before = *count;
            *count += born;
            Some(before)
        })
        .collect()
    }

    /// The number of states.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is only the unpatched state.
    pub fn is_empty(&self) -> bool {
        self.births.iter().all(Vec::is_empty)
    }
}
