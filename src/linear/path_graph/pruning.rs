//! Prunes a graph of paths: leaves out nodes and edges of little influence, and the parts they cut off.

use std::collections::{BTreeMap, HashSet};

use super::{EdgeKey, NodeKey, PathEdge, Share};
use crate::error::{Error, Result};
use crate::plot::short;

/// Which paths count, and the thresholds for leaving out nodes and edges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pruning {
    /// Only paths with a rank up to the table's `max_rank` count
    pub high_ranking_only: bool,
    /// Nodes of less influence are left out
    pub min_node: f64,
    /// Edges of less influence are left out
    pub min_edge: f64,
}

impl Pruning {
    /// Refuses thresholds outside 0 to 1.
    ///
    /// # Errors
    /// A threshold below 0 or above 1.
    pub fn check(&self) -> Result<()> {
        for (key, value) in [("min_node", self.min_node), ("min_edge", self.min_edge)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::new(format!("`{key}` is {value}"))
                    .hint("a share of the paths' influence, 0 (keep all) to 1"));
            }
        }
        Ok(())
    }

    /// Removes nodes and edges below the thresholds, then all that is no longer on a way from layer 0 to the end.
    ///
    /// # Errors
    /// Nothing is left.
    pub(super) fn prune(
        &self,
        nodes: &mut BTreeMap<NodeKey, Share>,
        edges: &mut BTreeMap<EdgeKey, PathEdge>,
        depth: usize,
    ) -> Result<()> {
        let (weakest, most) = weakest_layer(edges, depth);
        nodes.retain(|_, share| share.influence >= self.min_node);
        edges.retain(|_, edge| {
            edge.share.influence >= self.min_edge && nodes.contains_key(&edge.from()) && nodes.contains_key(&edge.to())
        });
        let mut reached: HashSet<NodeKey> = nodes.keys().filter(|(layer, _)| *layer == 0).copied().collect();
        // Keys are sorted by layer, so all edges into a node come before those out of it.
        for edge in edges.values() {
            if reached.contains(&edge.from()) {
                reached.insert(edge.to());
            }
        }
        let mut leading: HashSet<NodeKey> = nodes.keys().filter(|(layer, _)| *layer == depth).copied().collect();
        for edge in edges.values().rev() {
            if leading.contains(&edge.to()) {
                leading.insert(edge.from());
            }
        }
        let on_a_way = |node: &NodeKey| reached.contains(node) && leading.contains(node);
        nodes.retain(|node, _| on_a_way(node));
        edges.retain(|_, edge| on_a_way(&edge.from()) && on_a_way(&edge.to()));
        if edges.is_empty() {
            return Err(Error::new("nothing is left of the paths' graph").hint(format!(
                "lower `min_node` ({}) and `min_edge` ({}): in layer {weakest} no edge has more influence than {}",
                short(self.min_node),
                short(self.min_edge),
                short(most)
            )));
        }
        Ok(())
    }
}

/// The layer whose most influential edge has the least influence, and that influence: thresholds above it leave
/// nothing.
fn weakest_layer(edges: &BTreeMap<EdgeKey, PathEdge>, depth: usize) -> (usize, f64) {
    let mut most = vec![0.0f64; depth];
    for edge in edges.values() {
        most[edge.layer] = most[edge.layer].max(edge.share.influence);
    }
    let mut weakest = 0;
    for layer in 1..depth {
        if most[layer] < most[weakest] {
            weakest = layer;
        }
    }
    (weakest, most[weakest])
}
