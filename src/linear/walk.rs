//! The paths of a graph: all of them in order, or some drawn at random.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::graph::{Count, Graph, Path};

impl Graph {
    /// The beginnings of all paths, up to layer `depth` (whole paths, up to the last), in order.
    pub fn walk_to(&self, depth: usize) -> Walk<'_> {
        let sources: Vec<u32> = (self.request.from.iter().map(|source| *source as u32))
            .filter(|source| self.ways(0, *source) > 0.0)
            .collect();
        Walk { graph: self, depth, sources: sources.into_iter(), source: None, choices: Vec::new() }
    }

    /// `count` paths, each drawn from all with equal chances (so that one may come up twice), in order.
    pub fn sample(&self, count: usize, seed: u64) -> Vec<Path> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut pick = |weights: &mut dyn Iterator<Item = (u32, Count)>| -> Option<u32> {
            let weights: Vec<(u32, Count)> = weights.collect();
            let mut left = random.r#gen::<f64>() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
            let last = weights.iter().rev().find(|(_, weight)| *weight > 0.0).map(|(value, _)| *value);
            for (value, weight) in weights {
                if left < weight {
                    return Some(value);
                }
                left -= weight;
            }
            last
        };
        let mut paths: Vec<Path> = (0..count)
            .filter_map(|_| {
                let sources =
                    &mut self.request.from.iter().map(|source| (*source as u32, self.ways(0, *source as u32)));
                let source = pick(sources)?;
                let mut position = source;
                let mut edges = Vec::with_capacity(self.depth());
                for layer in 0..self.depth() {
                    let ahead = |number: &u32| -> Option<(u32, Count)> {
                        let edge = self.edges(layer).get(*number as usize)?;
                        Some((*number, self.ways(layer + 1, edge.target)))
                    };
                    let number = pick(&mut self.outgoing(layer, position).iter().filter_map(ahead))?;
                    position = self.edges(layer).get(number as usize)?.target;
                    edges.push(number);
                }
                Some(Path { source, edges: edges.into() })
            })
            .collect();
        paths.sort_unstable();
        paths
    }
}

/// An iterator over all paths in order of source, then of the first layer's edge, and so on: neighbours share long
/// beginnings.
pub struct Walk<'a> {
    graph: &'a Graph,
    depth: usize,
    sources: std::vec::IntoIter<u32>,
    source: Option<u32>,
    /// For each layer, which of the edges that leave the path's node is taken
    choices: Vec<usize>,
}

impl Walk<'_> {
    /// The path of the present choices, completed with first choices; None if a choice does not exist.
    fn current(&mut self) -> Option<Path> {
        let source = self.source?;
        let mut position = source;
        let mut edges = Vec::with_capacity(self.depth);
        for layer in 0..self.depth {
            if layer == self.choices.len() {
                self.choices.push(0);
            }
            let number = *self.graph.outgoing(layer, position).get(*self.choices.get(layer)?)?;
            position = self.graph.edges(layer).get(number as usize)?.target;
            edges.push(number);
        }
        Some(Path { source, edges: edges.into() })
    }
}

impl Iterator for Walk<'_> {
    type Item = Path;

    fn next(&mut self) -> Option<Path> {
        loop {
            // The deepest choice that can be changed is; those below it begin anew.
            while let Some(last) = self.choices.last_mut() {
                *last += 1;
                match self.current() {
                    Some(path) => return Some(path),
                    None => {
                        self.choices.pop();
                    }
                }
            }
            self.source = Some(self.sources.next()?);
            if let Some(path) = self.current() {
                return Some(path);
            }
            self.choices.clear();
        }
    }
}
