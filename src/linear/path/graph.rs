//! The graph of nodes (layer, position) whose edges paths follow.

use std::rc::Rc;

use tch::Tensor;

use super::edge::{Edge, Hop, layer_edges};
use super::prune::{Count, prune, ways_from};
use super::request::{GraphRequest, Mode};
use crate::error::Result;
use crate::linear::attention::Side;
use crate::linear::layer::Crossing;
use crate::linear::live::{Hops, LiveAttention, Through};
use crate::linear::map::LinearMap;
use crate::tensor::raw::numbers;

/// A path: where it starts, and the number of its edge in each layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Position where it starts
    pub source: u32,
    /// The number of its edge among its layer's, from the first layer on
    pub edges: Box<[u32]>,
}

/// The edges of all layers that lead to the end.
#[derive(Debug)]
pub struct Graph {
    /// The request for its paths
    pub request: GraphRequest,
    layers: Vec<Vec<Edge>>,
    tensors: Vec<EdgeTensors>,
    /// For every layer and position, the numbers of the edges that leave
    outgoing: Vec<Vec<Vec<u32>>>,
    /// For every layer, the last node's included, and position, the number of ways to the end
    ways: Vec<Vec<Count>>,
    /// By layer, where paths may pass queries and keys
    live: Option<Vec<Rc<LiveAttention>>>,
}

/// One layer's edges as tensors, one row per edge.
#[derive(Debug)]
struct EdgeTensors {
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    residual: Tensor,
}

impl Graph {
    /// Finds the edges of a map.
    ///
    /// # Errors
    /// What the checks of [`GraphRequest`] refuse.
    pub fn new(map: &LinearMap, request: GraphRequest) -> Result<Self> {
        request.check(map)?;
        request.check_mode(map.config())?;
        request.check_memory(map)?;
        let (length, heads) = (map.length() as usize, map.config().n_heads as usize);
        let depth = request.until.unwrap_or_else(|| map.depth());
        let patterns: Vec<Vec<f64>> =
            map.frozen().layers.iter().take(depth).map(|layer| numbers(&layer.pattern)).collect::<Result<_>>()?;
        let live = match request.through {
            Through::Values => None,
            Through::All => Some((0..depth).map(|layer| Ok(Rc::new(map.live(layer)?))).collect::<Result<_>>()?),
        };
        let mut layers: Vec<Vec<Edge>> =
            patterns.iter().map(|pattern| layer_edges(pattern, heads, length, &request)).collect();
        let ways = prune(&mut layers, length, request.to as usize);
        let outgoing = layers.iter().map(|edges| outgoing(edges, length)).collect();
        let tensors = layers
            .iter()
            .zip(&patterns)
            .map(|(edges, pattern)| EdgeTensors::new(map, edges, pattern, request.mode))
            .collect::<Result<_>>()?;
        Ok(Self { request, layers, tensors, outgoing, ways, live })
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// One layer's edges.
    pub fn edges(&self, layer: usize) -> &[Edge] {
        &self.layers[layer]
    }

    /// An edge of a path.
    pub fn edge(&self, layer: usize, number: u32) -> &Edge {
        &self.layers[layer][number as usize]
    }

    /// The edges that a path follows, in order.
    pub fn edges_of(&self, path: &Path) -> impl Iterator<Item = &Edge> {
        path.edges.iter().enumerate().map(|(layer, number)| self.edge(layer, *number))
    }

    /// The positions that a path passes, n_layers + 1 of them.
    pub fn positions(&self, path: &Path) -> Vec<u32> {
        std::iter::once(path.source).chain(self.edges_of(path).map(|edge| edge.target)).collect()
    }

    /// The numbers of the edges that leave a node.
    pub fn outgoing(&self, layer: usize, position: u32) -> &[u32] {
        &self.outgoing[layer][position as usize]
    }

    /// The edges numbered in `numbers` as tensors, and where they come from, int64 [row].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn crossing(&self, layer: usize, numbers: &[u32]) -> Result<(Crossing, Tensor)> {
        let tensors = &self.tensors[layer];
        let index: Vec<i64> = numbers.iter().map(|number| i64::from(*number)).collect();
        let index = Tensor::f_from_slice(&index)?.f_to(tensors.target.device())?;
        let pick = |tensor: &Tensor| tensor.f_index_select(0, &index);
        let crossing = Crossing {
            target: pick(&tensors.target)?,
            weight: pick(&tensors.weight)?,
            residual: pick(&tensors.residual)?,
            hops: self.hops(layer, numbers)?,
        };
        Ok((crossing, pick(&tensors.source)?))
    }

    /// The rows of edges that pass queries or keys.
    fn hops(&self, layer: usize, numbers: &[u32]) -> Result<Vec<Hops>> {
        let Some(live) = &self.live else { return Ok(Vec::new()) };
        let mut hops = Vec::new();
        for (hop, side) in [(Hop::Query, Side::Query), (Hop::Key, Side::Key)] {
            let edges = numbers.iter().map(|number| self.edge(layer, *number));
            let (rows, edges): (Vec<i64>, Vec<&Edge>) = (0..).zip(edges).filter(|(_, edge)| edge.hop == hop).unzip();
            if !edges.is_empty() {
                let places = edges.iter().map(|edge| (edge.heads.trailing_zeros(), edge.source, edge.target));
                let places: Vec<[i64; 3]> =
                    places.map(|(head, source, target)| [head, source, target].map(i64::from)).collect();
                hops.push(Hops::new(&live[layer], side, Some(&rows), &places)?);
            }
        }
        Ok(hops)
    }

    /// The positions where a path starts, in the request's order.
    pub fn sources(&self) -> impl Iterator<Item = u32> {
        let positions = self.request.from.iter().map(|source| *source as u32);
        positions.filter(|source| self.ways(0, *source) > 0.0)
    }

    /// The number of ways from a node to the end.
    pub fn ways(&self, layer: usize, position: u32) -> Count {
        self.ways[layer][position as usize]
    }

    /// The number of paths from each of the positions asked for.
    pub fn counts(&self) -> Vec<Count> {
        self.request.from.iter().map(|source| self.ways(0, *source as u32)).collect()
    }

    /// The number of all paths.
    pub fn count(&self) -> Count {
        self.counts().iter().sum()
    }

    /// For every layer, the last node's included, and position, the number of path prefixes that end there.
    pub fn prefix_counts(&self) -> Vec<Vec<Count>> {
        let mut starts = vec![0.0; self.ways[0].len()];
        for source in self.sources() {
            starts[source as usize] += 1.0;
        }
        ways_from(&self.layers, starts)
    }
}

/// For every position, the numbers of the edges that leave it.
fn outgoing(edges: &[Edge], length: usize) -> Vec<Vec<u32>> {
    let mut outgoing = vec![Vec::new(); length];
    for (number, edge) in (0..).zip(edges) {
        outgoing[edge.source as usize].push(number);
    }
    outgoing
}

impl EdgeTensors {
    fn new(map: &LinearMap, edges: &[Edge], pattern: &[f64], mode: Mode) -> Result<Self> {
        let decoder = map.decoder();
        let (length, heads) = (map.length() as usize, decoder.config.n_heads as usize);
        let positions = |pick: fn(&Edge) -> u32| -> Result<Tensor> {
            map.index(&edges.iter().map(|edge| i64::from(pick(edge))).collect::<Vec<_>>())
        };
        let floats = |values: &[f64], shape: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?
                .f_to_device_(decoder.output_device(), decoder.kind, false, false)?
                .f_view(shape)?)
        };
        let mut weight = Vec::with_capacity(edges.len() * heads);
        for edge in edges {
            for head in 0..heads {
                let place = (head * length + edge.target as usize) * length + edge.source as usize;
                weight.push(match mode {
                    Mode::Released => 1.0,
                    Mode::Eq3 if edge.hop == Hop::Value && edge.heads >> head & 1 == 1 => pattern[place],
                    Mode::Eq3 => 0.0,
                });
            }
        }
        let residual: Vec<f64> = edges.iter().map(|edge| f64::from(u8::from(edge.residual))).collect();
        let count = edges.len() as i64;
        Ok(Self {
            source: positions(|edge| edge.source)?,
            target: positions(|edge| edge.target)?,
            weight: floats(&weight, &[count, heads as i64, 1])?,
            residual: floats(&residual, &[count, 1])?,
        })
    }
}
