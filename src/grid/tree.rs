//! The sets of a grid as a tree: a set grows layer by layer, and sets with a common beginning share its node.

use std::collections::HashMap;

use super::set::{self, Element, Set};

/// A node: its parent's set and the places that it adds in its layer.
#[derive(Debug, Clone)]
pub struct Node {
    /// The parent's number
    pub parent: usize,
    /// The places of the node's layer
    pub added: Vec<Element>,
}

/// The nodes of a grid. They are numbered layer by layer; node 0 is the unpatched run.
#[derive(Debug)]
pub struct Tree {
    /// For each layer, the nodes that add places in it
    pub layers: Vec<Vec<Node>>,
    /// The number of each node's set
    pub index: HashMap<Set, usize>,
}

impl Tree {
    /// All nodes on the way to the sets of `sizes`. Nodes that add places in the last layer are left out unless
    /// `at_last`.
    pub fn new(elements: &[Element], n_layers: i64, sizes: &[usize], at_last: bool) -> Self {
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let mut sets: Vec<Set> = vec![Set::new()];
        let mut layers = Vec::new();
        for layer in 0..n_layers {
            let last = layer + 1 == n_layers;
            let mut nodes = Vec::new();
            if !last || at_last {
                let here: Vec<Element> = elements.iter().copied().filter(|element| element.layer == layer).collect();
                let parents = sets.len();
                for added in set::all(&here, &(1..=largest).collect::<Vec<_>>()) {
                    for parent in 0..parents {
                        let size = sets[parent].len() + added.len();
                        // A set of a size outside the request matters only as a parent.
                        if size <= largest && (!last || sizes.contains(&size)) {
                            sets.push([sets[parent].as_slice(), &added].concat());
                            nodes.push(Node { parent, added: added.clone() });
                        }
                    }
                }
            }
            layers.push(nodes);
        }
        let index = sets.into_iter().enumerate().map(|(number, set)| (set, number)).collect();
        Self { layers, index }
    }

    /// The number of nodes before each layer.
    pub fn counts(&self) -> Vec<usize> {
        let mut count = 1;
        self.layers
            .iter()
            .map(|nodes| {
                let before = count;
                count += nodes.len();
                before
            })
            .collect()
    }

    /// The number of all nodes.
    pub fn size(&self) -> usize {
        self.index.len()
    }
}
