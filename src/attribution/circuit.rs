//! Circuits: the edges that are kept, by score, and what is left when what leads nowhere is dropped.

use std::collections::BinaryHeap;

use super::graph::{Edge, Graph};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::stat::generator;
use rand::Rng;

/// Some of a graph's edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    /// For each edge of the graph, whether it is kept
    pub kept: Vec<bool>,
}

/// How edges are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The largest scores
    Top,
    /// From the logits upwards, always the largest score among edges into components reached so far
    Greedy,
}

/// A number that sorts as numbers do.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank(f64);

impl Eq for Rank {}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Circuit {
    /// No edges.
    pub fn empty(graph: &Graph) -> Self {
        Self { kept: vec![false; graph.edges.len()] }
    }

    /// All edges.
    pub fn full(graph: &Graph) -> Self {
        Self { kept: vec![true; graph.edges.len()] }
    }

    /// The `count` edges with the largest ranks.
    ///
    /// # Errors
    /// More edges than there are.
    pub fn select(graph: &Graph, ranks: &[f64], count: usize, selection: Selection) -> Result<Self> {
        if count > graph.edges.len() {
            return Err(Error::new(format!("{count} edges cannot be kept: the graph has {}", graph.edges.len())));
        }
        match selection {
            Selection::Top => {
                let mut order: Vec<usize> = (0..ranks.len()).collect();
                order.sort_by(|one, other| ranks[*other].total_cmp(&ranks[*one]));
                let mut circuit = Self::empty(graph);
                order[..count].iter().for_each(|edge| circuit.kept[*edge] = true);
                Ok(circuit)
            }
            Selection::Greedy => Ok(Self::greedy(graph, ranks, count)),
        }
    }

    fn greedy(graph: &Graph, ranks: &[f64], count: usize) -> Self {
        let mut into: Vec<Vec<usize>> = vec![Vec::new(); graph.destinations.len()];
        for (number, edge) in graph.edges.iter().enumerate() {
            into[edge.destination].push(number);
        }
        let mut reads: Vec<Vec<usize>> = vec![Vec::new(); graph.sources.len()];
        for destination in 0..graph.destinations.len() {
            graph.owners(destination).into_iter().for_each(|source| reads[source].push(destination));
        }
        let mut circuit = Self::empty(graph);
        let mut is_open = vec![false; graph.destinations.len()];
        let mut candidates = BinaryHeap::new();
        let mut open = |destination: usize, candidates: &mut BinaryHeap<_>| {
            if !std::mem::replace(&mut is_open[destination], true) {
                // Of equal ranks, the first edge is taken.
                candidates.extend(into[destination].iter().map(|edge| (Rank(ranks[*edge]), std::cmp::Reverse(*edge))));
            }
        };
        open(graph.logits(), &mut candidates);
        for _ in 0..count {
            let Some((_, std::cmp::Reverse(edge))) = candidates.pop() else { break };
            circuit.kept[edge] = true;
            reads[graph.edges[edge].source].iter().for_each(|destination| open(*destination, &mut candidates));
        }
        circuit
    }

    /// The number of edges kept.
    pub fn len(&self) -> usize {
        self.kept.iter().filter(|kept| **kept).count()
    }

    /// Whether no edge is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kept edges, in the graph's order.
    pub fn edges(&self, graph: &Graph) -> Vec<Edge> {
        graph.edges.iter().zip(&self.kept).filter(|(_, kept)| **kept).map(|(edge, _)| *edge).collect()
    }

    /// For each source, whether it has an edge in (embedded tokens need none) and one out.
    pub fn nodes(&self, graph: &Graph) -> Vec<bool> {
        let mut has_out = vec![false; graph.sources.len()];
        let mut has_in = vec![false; graph.sources.len()];
        has_in[0] = true;
        for edge in self.edges(graph) {
            has_out[edge.source] = true;
            graph.owners(edge.destination).into_iter().for_each(|source| has_in[source] = true);
        }
        has_out.iter().zip(&has_in).map(|(out, into)| *out && *into).collect()
    }

    /// The circuit without components that nothing in it reaches or that reach nothing, as in the MIB track.
    #[must_use]
    pub fn pruned(&self, graph: &Graph) -> Self {
        let mut circuit = self.clone();
        loop {
            let nodes = circuit.nodes(graph);
            let before = circuit.len();
            for (kept, edge) in circuit.kept.iter_mut().zip(&graph.edges) {
                let owners = graph.owners(edge.destination);
                *kept &= nodes[edge.source] && (owners.is_empty() || owners.iter().any(|source| nodes[*source]));
            }
            if circuit.len() == before {
                return circuit;
            }
        }
    }
}

/// For each edge, how often it is among the `count` largest of the mean scores of samples drawn with replacement.
///
/// # Errors
/// Ctrl-C.
pub fn stability(
    scores: &[Vec<f64>],
    rank: impl Fn(f64) -> f64,
    count: usize,
    draws: usize,
    seed: u64,
) -> Result<Vec<f64>> {
    let (samples, edges) = (scores.len(), scores.first().map_or(0, Vec::len));
    let mut generator = generator(seed);
    let mut found = vec![0_u32; edges];
    for _ in 0..draws {
        interrupt::check()?;
        let mut sums = vec![0.0; edges];
        for _ in 0..samples {
            let sample = &scores[generator.gen_range(0..samples)];
            sums.iter_mut().zip(sample).for_each(|(sum, score)| *sum += score);
        }
        let mut order: Vec<usize> = (0..edges).collect();
        order.sort_by(|one, other| rank(sums[*other]).total_cmp(&rank(sums[*one])));
        order[..count.min(edges)].iter().for_each(|edge| found[*edge] += 1);
    }
    Ok(found.into_iter().map(|count| f64::from(count) / draws as f64).collect())
}
