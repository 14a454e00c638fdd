//! The sets of a grid as a tree: a set grows layer by layer, and sets with a common beginning share its node.

use std::collections::{BTreeSet, HashMap};

use super::set::{Element, Set};

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
    /// For each layer, the nodes that add places in it; those that add the same places stand together
    pub layers: Vec<Vec<Node>>,
    /// The number of each node's set
    pub index: HashMap<Set, usize>,
}

impl Tree {
    /// All nodes on the way to the sets.
    pub fn new(sets: &[Set], n_layers: i64) -> Self {
        let mut index = HashMap::from([(Set::new(), 0)]);
        let mut known = vec![Set::new()];
        let mut layers = Vec::new();
        for layer in 0..n_layers {
            let mut steps = BTreeSet::new();
            for set in sets {
                let start = set.partition_point(|element| element.layer < layer);
                let end = set.partition_point(|element| element.layer <= layer);
                if start < end {
                    steps.insert((set[start..end].to_vec(), index[&set[..start]]));
                }
            }
            let nodes = steps.into_iter().map(|(added, parent)| {
                let set = [known[parent].as_slice(), &added].concat();
                index.insert(set.clone(), known.len());
                known.push(set);
                Node { parent, added }
            });
            layers.push(nodes.collect());
        }
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
