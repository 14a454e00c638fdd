//! All paths of a graph in order, or all prefixes of one length.

use super::graph::{Graph, Path};

/// An iterator over all path prefixes of one length, in order of source, then of the first layer's edge, and so on:
/// neighbours share long prefixes.
#[derive(Debug)]
pub struct Walk<'a> {
    graph: &'a Graph,
    depth: usize,
    sources: std::vec::IntoIter<u32>,
    source: u32,
    /// For each layer, which of the edges that leave the path's node is taken; empty before the first path of a source
    choices: Vec<usize>,
}

impl<'a> Walk<'a> {
    /// Walks over the prefixes that end before layer `depth`; over whole paths where that is the graph's depth.
    pub fn new(graph: &'a Graph, depth: usize) -> Self {
        let sources: Vec<u32> = graph.sources().collect();
        Self { graph, depth, sources: sources.into_iter(), source: 0, choices: Vec::new() }
    }

    /// The path of the present choices, completed with first choices; None if a choice does not exist.
    fn current(&mut self) -> Option<Path> {
        let mut position = self.source;
        let mut edges = Vec::with_capacity(self.depth);
        for layer in 0..self.depth {
            if layer == self.choices.len() {
                self.choices.push(0);
            }
            let number = *self.graph.outgoing(layer, position).get(self.choices[layer])?;
            position = self.graph.edge(layer, number).target;
            edges.push(number);
        }
        Some(Path { source: self.source, edges: edges.into() })
    }
}

impl Iterator for Walk<'_> {
    type Item = Path;

    fn next(&mut self) -> Option<Path> {
        loop {
            // Advances the deepest choice that has a next one; the choices below it start again.
            while let Some(last) = self.choices.last_mut() {
                *last += 1;
                match self.current() {
                    Some(path) => return Some(path),
                    None => {
                        self.choices.pop();
                    }
                }
            }
            self.source = self.sources.next()?;
            if let Some(path) = self.current() {
                return Some(path);
            }
            self.choices.clear();
        }
    }
}
