//! Edges of one layer: which keys each head leads from.

use crate::linear::live::Through;

use super::request::{Edges, Granularity, GraphRequest, Mode};

/// An edge from a node of one layer to a node of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Position where it starts
    pub source: u32,
    /// Position where it arrives
    pub target: u32,
    /// The heads along it, one bit each
    pub heads: u128,
    /// Whether the residual stream goes along it
    pub residual: bool,
    /// What of its heads it passes
    pub hop: Hop,
}

/// The vector by which a path passes a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// The value, from the key's position to the query's
    Value,
    /// The query, at its own position: it moves the head's attention between all keys
    Query,
    /// The key, from its position to the query's: it moves the head's attention to or from the key
    Key,
}

impl Hop {
    /// V, Q or K.
    pub fn letter(self) -> char {
        match self {
            Self::Value => 'V',
            Self::Query => 'Q',
            Self::Key => 'K',
        }
    }

    /// A head with its letter, where paths may pass others than values.
    pub fn label(self, head: i64, through: Through) -> String {
        match through {
            Through::Values => head.to_string(),
            Through::All => format!("{head}{}", self.letter()),
        }
    }
}

impl Edge {
    /// The heads' numbers.
    pub fn heads(&self) -> impl Iterator<Item = i64> + use<> {
        let bits = self.heads;
        (0..128).filter(move |head| bits >> head & 1 == 1)
    }
}

/// The edges of one layer, by target, then source. `pattern` is its attention, [head, query, key], flat.
pub fn layer_edges(pattern: &[f64], heads: usize, length: usize, request: &GraphRequest) -> Vec<Edge> {
    let mut edges = Vec::new();
    for target in 0..length {
        let mut to_target = vec![0u128; target + 1];
        for head in 0..heads {
            let start = (head * length + target) * length;
            for source in chosen(&pattern[start..=start + target], request.edges) {
                to_target[source] |= 1 << head;
            }
        }
        for (source, bits) in to_target.into_iter().enumerate() {
            let edge = |heads, residual| Edge {
                source: source as u32,
                target: target as u32,
                heads,
                residual,
                hop: Hop::Value,
            };
            let is_self = source == target;
            match (request.mode, request.granularity) {
                (Mode::Released, _) if bits != 0 || is_self => edges.push(edge(bits, true)),
                (Mode::Eq3, Granularity::Token) if bits != 0 || is_self => edges.push(edge(bits, is_self)),
                (Mode::Eq3, Granularity::Head) => {
                    let chosen = || (0..heads).filter(|head| bits >> head & 1 == 1).map(|head| edge(1 << head, false));
                    edges.extend(chosen());
                    if request.through == Through::All {
                        edges.extend(chosen().map(|edge| Edge { hop: Hop::Key, ..edge }));
                        let all = (0..heads).filter(|_| is_self).map(|head| edge(1 << head, false));
                        edges.extend(all.map(|edge| Edge { hop: Hop::Query, ..edge }));
                    }
                    edges.extend(is_self.then(|| edge(0, true)));
                }
                _ => {}
            }
        }
    }
    edges
}

/// The keys that a head's edges lead from, given its attention to each.
fn chosen(row: &[f64], edges: Edges) -> Vec<usize> {
    match edges {
        Edges::All => (0..row.len()).filter(|key| row[*key] > 0.0).collect(),
        Edges::Argmax => {
            let mut best: Option<(usize, f64)> = None;
            for (key, share) in row.iter().enumerate() {
                if best.is_none_or(|(_, most)| *share > most) {
                    best = Some((key, *share));
                }
            }
            best.into_iter().map(|(key, _)| key).collect()
        }
        Edges::TopP(wanted) => {
            let mut order: Vec<(usize, f64)> =
                row.iter().copied().enumerate().filter(|(_, share)| *share > 0.0).collect();
            order.sort_by(|left, right| right.1.total_cmp(&left.1));
            let mut held = 0.0;
            order
                .into_iter()
                .take_while(|(_, share)| {
                    let more = held < wanted;
                    held += share;
                    more
                })
                .map(|(key, _)| key)
                .collect()
        }
    }
}
