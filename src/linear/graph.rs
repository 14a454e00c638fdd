//! The graph of nodes (layer, position) whose edges paths follow: which edges there are, and how many paths.

use tch::{Device, Tensor};

use super::edge::Crossing;
use super::frozen::{Frozen, numbers};
use crate::device::check_memory;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;

/// Which keys a head's edges lead from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Edges {
    /// The one that it attends to most (the paper's choice)
    Argmax,
    /// All that it can see
    All,
    /// The fewest that hold this share of its attention
    TopP(f64),
}

/// What a path's map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The paper's Eq. 3: heads weighted by their attention, the residual stream from a position to itself only
    Eq3,
    /// The paper's released code: on every edge all heads with weight 1, and the residual stream
    Released,
}

/// What one step of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// From token to token, along all of the edge's heads at once
    Token,
    /// Along one head, or the residual stream alone
    Head,
}

/// What a graph is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Positions that paths start from
    pub from: Vec<i64>,
    /// Position where they end
    pub to: i64,
    pub edges: Edges,
    pub mode: Mode,
    pub granularity: Granularity,
}

/// An edge from a node of one layer to a node of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub source: u32,
    pub target: u32,
    /// The heads that lead along it, one bit each
    pub heads: u128,
    /// Whether the residual stream does
    pub residual: bool,
}

impl Edge {
    /// The heads' numbers.
    pub fn heads(&self) -> impl Iterator<Item = i64> + use<> {
        let bits = self.heads;
        (0..128).filter(move |head| bits >> head & 1 == 1)
    }
}

/// A path: where it starts, and the number of its edge in each layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub source: u32,
    pub edges: Box<[u32]>,
}

/// A number of paths. Beyond what 64 bits hold it is rounded.
pub type Count = f64;

/// One layer's edges as tensors, one row per edge.
#[derive(Debug)]
struct Table {
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    residual: Tensor,
}

/// The edges of all layers, those that lead nowhere left out.
#[derive(Debug)]
pub struct Graph {
    pub request: Request,
    layers: Vec<Vec<Edge>>,
    tables: Vec<Table>,
    /// For every layer and position, the edges that leave
    outgoing: Vec<Vec<Vec<u32>>>,
    /// For every layer, the last node's included, and position, the number of ways to the end
    ways: Vec<Vec<Count>>,
}

impl Graph {
    /// Finds the edges of a map.
    ///
    /// # Errors
    /// A prompt of one token, no or a wrong position, a start after the end; released mode with grouped queries or single
    /// heads; more than 128 heads.
    pub fn new(decoder: &Decoder, frozen: &Frozen, request: &Request) -> Result<Self> {
        check(decoder, frozen, request)?;
        let config = &decoder.config;
        let (length, heads) = (frozen.length() as usize, config.n_heads as usize);
        if request.edges == Edges::All {
            let pairs = (length * (length + 1) / 2 * frozen.depth()) as f64;
            let edges = if request.granularity == Granularity::Head { pairs * (heads + 1) as f64 } else { pairs };
            check_memory("edges", edges * (64 + 16 * heads) as f64, Device::Cpu)?;
        }
        let mut layers = Vec::with_capacity(frozen.depth());
        let mut patterns = Vec::with_capacity(frozen.depth());
        for layer in &frozen.layers {
            let pattern = numbers(&layer.pattern)?;
            layers.push(layer_edges(&pattern, heads, length, request));
            patterns.push(pattern);
        }
        let ways = prune(&mut layers, length, request.to as usize);
        let outgoing = layers
            .iter()
            .map(|edges| {
                let mut outgoing = vec![Vec::new(); length];
                for (number, edge) in (0..).zip(edges) {
                    if let Some(list) = outgoing.get_mut(edge.source as usize) {
                        list.push(number);
                    }
                }
                outgoing
            })
            .collect();
        let tables = layers
            .iter()
            .zip(&patterns)
            .map(|(edges, pattern)| Table::new(decoder, edges, pattern, length, request.mode))
            .collect::<Result<_>>()?;
        Ok(Self { request: request.clone(), layers, tables, outgoing, ways })
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// One layer's edges.
    pub fn edges(&self, layer: usize) -> &[Edge] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    /// An edge of a path.
    pub fn edge(&self, layer: usize, number: u32) -> Result<&Edge> {
        self.edges(layer).get(number as usize).ok_or_else(|| Error::new("the path is not of this graph"))
    }

    /// The edges that leave a node.
    pub fn outgoing(&self, layer: usize, position: u32) -> &[u32] {
        self.outgoing.get(layer).and_then(|layer| layer.get(position as usize)).map_or(&[], Vec::as_slice)
    }

    /// The edges numbered in `numbers`, as they are crossed, and where they come from.
    pub fn crossing(&self, layer: usize, numbers: &[u32]) -> Result<(Crossing, Tensor)> {
        let table = self.tables.get(layer).ok_or_else(|| Error::new("the path is not of this graph"))?;
        let numbers: Vec<i64> = numbers.iter().map(|number| i64::from(*number)).collect();
        let index = Tensor::f_from_slice(&numbers)?.f_to(table.target.device())?;
        let pick = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.f_index_select(0, &index)?) };
        let crossing =
            Crossing { target: pick(&table.target)?, weight: pick(&table.weight)?, residual: pick(&table.residual)? };
        Ok((crossing, pick(&table.source)?))
    }

    /// The number of ways from a node to the end.
    pub fn ways(&self, layer: usize, position: u32) -> Count {
        self.ways.get(layer).and_then(|layer| layer.get(position as usize)).copied().unwrap_or(0.0)
    }

    /// The number of paths from each of the positions asked for.
    pub fn counts(&self) -> Vec<Count> {
        self.request.from.iter().map(|source| self.ways(0, *source as u32)).collect()
    }

    /// The number of all paths.
    pub fn count(&self) -> Count {
        self.counts().iter().sum()
    }

    /// For every layer and position, the number of beginnings of paths that reach it.
    pub fn beginnings(&self) -> Vec<Vec<Count>> {
        let length = self.ways.first().map_or(0, Vec::len);
        let mut reached = vec![vec![0.0; length]];
        for source in &self.request.from {
            if self.ways(0, *source as u32) > 0.0
                && let Some(count) = reached.first_mut().and_then(|layer| layer.get_mut(*source as usize))
            {
                *count += 1.0;
            }
        }
        for edges in &self.layers {
            let before = reached.last().cloned().unwrap_or_default();
            let mut after = vec![0.0; length];
            for edge in edges {
                if let (Some(from), Some(to)) = (before.get(edge.source as usize), after.get_mut(edge.target as usize))
                {
                    *to += from;
                }
            }
            reached.push(after);
        }
        reached
    }

    /// The positions a path passes, n_layers + 1 of them.
    pub fn positions(&self, path: &Path) -> Result<Vec<u32>> {
        let mut positions = vec![path.source];
        for (layer, number) in path.edges.iter().enumerate() {
            positions.push(self.edge(layer, *number)?.target);
        }
        Ok(positions)
    }
}

fn check(decoder: &Decoder, frozen: &Frozen, request: &Request) -> Result<()> {
    let config = &decoder.config;
    if frozen.length() < 2 {
        return Err(
            Error::new("the prompt is one token, and has no paths between tokens").hint("give at least two tokens")
        );
    }
    if request.from.is_empty() {
        return Err(Error::new("there is no position for paths to start from"));
    }
    frozen.position(request.to)?;
    for source in &request.from {
        frozen.position(*source)?;
        if *source > request.to {
            return Err(Error::new(format!(
                "paths cannot lead from position {source} to {}, which is before it",
                request.to
            ))
            .hint("attention looks back only: `from` must not be after `to`"));
        }
    }
    if let Edges::TopP(share) = request.edges
        && !(share > 0.0 && share <= 1.0)
    {
        return Err(Error::new(format!("`top_p` is {share}")).hint("a share above 0 and up to 1"));
    }
    if config.n_heads > 128 {
        return Err(Error::new(format!("paths are traced for up to 128 heads, and this model has {}", config.n_heads)));
    }
    if request.mode == Mode::Released {
        if config.n_kv_heads != config.n_heads {
            return Err(Error::new(format!(
                "released mode needs one key-value head per head; this model has {} for {}",
                config.n_kv_heads, config.n_heads
            ))
            .hint("the released code stops with a shape error here; use `mode: \"eq3\"`"));
        }
        if request.granularity == Granularity::Head {
            return Err(Error::new(
                "released mode sums all heads on every edge, so there are no paths of single heads",
            )
            .hint("use `granularity: \"token\"`, or `mode: \"eq3\"`"));
        }
    }
    Ok(())
}

/// The edges of one layer, by target, then source.
fn layer_edges(pattern: &[f64], heads: usize, length: usize, request: &Request) -> Vec<Edge> {
    let mut edges = Vec::new();
    for target in 0..length {
        let mut to_target = vec![0u128; target + 1];
        for head in 0..heads {
            let start = (head * length + target) * length;
            let row = pattern.get(start..start + target + 1).unwrap_or(&[]);
            for source in chosen(row, request.edges) {
                if let Some(bits) = to_target.get_mut(source) {
                    *bits |= 1 << head;
                }
            }
        }
        for (source, bits) in to_target.into_iter().enumerate() {
            let edge = |heads, residual| Edge { source: source as u32, target: target as u32, heads, residual };
            let is_self = source == target;
            match (request.mode, request.granularity) {
                (Mode::Released, _) if bits != 0 || is_self => edges.push(edge(bits, true)),
                (Mode::Eq3, Granularity::Token) if bits != 0 || is_self => edges.push(edge(bits, is_self)),
                (Mode::Eq3, Granularity::Head) => {
                    edges.extend((0..heads).filter(|head| bits >> head & 1 == 1).map(|head| edge(1 << head, false)));
                    edges.extend(is_self.then(|| edge(0, true)));
                }
                _ => {}
            }
        }
    }
    edges
}

/// The keys that a head's edges lead from.
fn chosen(row: &[f64], edges: Edges) -> Vec<usize> {
    match edges {
        Edges::All => (0..row.len()).filter(|key| row.get(*key).is_some_and(|share| *share > 0.0)).collect(),
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

/// Leaves out the edges that do not lead to the end, and counts the ways there.
fn prune(layers: &mut [Vec<Edge>], length: usize, to: usize) -> Vec<Vec<Count>> {
    let mut after = vec![0.0; length];
    if let Some(end) = after.get_mut(to) {
        *end = 1.0;
    }
    let mut ways = vec![after.clone()];
    for edges in layers.iter_mut().rev() {
        edges.retain(|edge| after.get(edge.target as usize).is_some_and(|count| *count > 0.0));
        let mut before = vec![0.0; length];
        for edge in edges.iter() {
            if let (Some(count), Some(more)) = (before.get_mut(edge.source as usize), after.get(edge.target as usize)) {
                *count += more;
            }
        }
        ways.push(before.clone());
        after = before;
    }
    ways.reverse();
    ways
}

impl Table {
    fn new(decoder: &Decoder, edges: &[Edge], pattern: &[f64], length: usize, mode: Mode) -> Result<Self> {
        let heads = decoder.config.n_heads as usize;
        let position = |pick: fn(&Edge) -> u32| -> Result<Tensor> {
            let positions: Vec<i64> = edges.iter().map(|edge| i64::from(pick(edge))).collect();
            Ok(Tensor::f_from_slice(&positions)?.f_to(decoder.device)?)
        };
        let floats = |values: &[f64], shape: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device_(decoder.device, decoder.kind, false, false)?.f_view(shape)?)
        };
        let mut weight = Vec::with_capacity(edges.len() * heads);
        for edge in edges {
            for head in 0..heads {
                let place = (head * length + edge.target as usize) * length + edge.source as usize;
                weight.push(match mode {
                    Mode::Released => 1.0,
                    Mode::Eq3 if edge.heads >> head & 1 == 1 => pattern.get(place).copied().unwrap_or(0.0),
                    Mode::Eq3 => 0.0,
                });
            }
        }
        let residual: Vec<f64> = edges.iter().map(|edge| f64::from(u8::from(edge.residual))).collect();
        let count = edges.len() as i64;
        Ok(Self {
            source: position(|edge| edge.source)?,
            target: position(|edge| edge.target)?,
            weight: floats(&weight, &[count, heads as i64, 1])?,
            residual: floats(&residual, &[count, 1])?,
        })
    }
}
