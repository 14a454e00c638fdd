//! The edges on paths, and the number of paths through each node.

use super::edge::Edge;

/// A number of paths. Beyond 2^53 it is rounded.
pub type Count = f64;

/// Removes the edges of `layers` that do not lead to position `to` after the last layer. Returns, for every layer, the
/// last node's included, and each of `length` positions, the number of ways from there to the end.
pub fn prune(layers: &mut [Vec<Edge>], length: usize, to: usize) -> Vec<Vec<Count>> {
    let mut after = vec![0.0; length];
    after[to] = 1.0;
    let mut ways = vec![after.clone()];
    for edges in layers.iter_mut().rev() {
        edges.retain(|edge| after[edge.target as usize] > 0.0);
        let mut before = vec![0.0; length];
        for edge in edges.iter() {
            before[edge.source as usize] += after[edge.target as usize];
        }
        ways.push(before.clone());
        after = before;
    }
    ways.reverse();
    ways
}

/// For every layer, the last node's included, and position, the number of ways there from `starts`, the number of ways
/// that start at each position.
pub fn ways_from(layers: &[Vec<Edge>], starts: Vec<Count>) -> Vec<Vec<Count>> {
    let mut reached = vec![starts];
    for (layer, edges) in layers.iter().enumerate() {
        let mut after = vec![0.0; reached[layer].len()];
        for edge in edges {
            after[edge.target as usize] += reached[layer][edge.source as usize];
        }
        reached.push(after);
    }
    reached
}
