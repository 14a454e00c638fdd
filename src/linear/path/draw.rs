//! Paths drawn at random.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::graph::{Graph, Path};
use super::prune::Count;

/// `count` paths of a graph in order, drawn uniformly with replacement; none if the graph has no paths.
pub fn draw(graph: &Graph, count: usize, seed: u64) -> Vec<Path> {
    if graph.count() == 0.0 {
        return Vec::new();
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut paths: Vec<Path> = (0..count).map(|_| draw_one(graph, &mut random)).collect();
    paths.sort_unstable();
    paths
}

fn draw_one(graph: &Graph, random: &mut ChaCha8Rng) -> Path {
    let sources: Vec<(u32, Count)> = graph.sources().map(|source| (source, graph.ways(0, source))).collect();
    let source = pick(random, &sources);
    let mut position = source;
    let mut edges = Vec::with_capacity(graph.depth());
    for layer in 0..graph.depth() {
        let ahead = |number: &u32| (*number, graph.ways(layer + 1, graph.edge(layer, *number).target));
        let ahead: Vec<(u32, Count)> = graph.outgoing(layer, position).iter().map(ahead).collect();
        let number = pick(random, &ahead);
        position = graph.edge(layer, number).target;
        edges.push(number);
    }
    Path { source, edges: edges.into() }
}

/// One of the values, with a probability proportional to its weight; all weights are above 0.
fn pick(random: &mut ChaCha8Rng, weights: &[(u32, Count)]) -> u32 {
    let mut left = random.r#gen::<f64>() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
    for (value, weight) in weights {
        if left < *weight {
            return *value;
        }
        left -= weight;
    }
    // Rounding has left a little over.
    weights[weights.len() - 1].0
}
