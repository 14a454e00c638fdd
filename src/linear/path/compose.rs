//! All paths of a graph composed from prefixes and folded pieces. Many paths share a piece; its map is folded into one
//! matrix once, and every path through it then costs one product instead of all layers of the piece.

use std::mem::take;

use tch::Tensor;

use super::cuts::Cuts;
use super::graph::Path;
use super::piece::Pieces;
use super::score::{Scored, Scorer, TOGETHER};
use super::walk::Walk;
use crate::error::Result;
use crate::interrupt;
use crate::parts::for_parts;

/// Paths whose vectors are held at once for each segment.
const VECTORS: usize = 1 << 12;

/// Pieces applied at once.
const PIECES: usize = 128;

/// Paths ahead at which a block of prefixes is full.
const BLOCK: f64 = (1u64 << 18) as f64;

/// Composes and scores all paths of a graph, block by block.
#[derive(Debug)]
pub struct Composer<'a> {
    scorer: Scorer<'a>,
    /// The layer of the first cut, where prefixes end
    first: usize,
    segments: Vec<Segment>,
    prefixes: Walk<'a>,
}

/// The pieces between two cuts, by the position where they start.
type Segment = Vec<FoldedPieces>;

/// Pieces that start at one position.
#[derive(Debug, Default)]
struct FoldedPieces {
    edges: Vec<Box<[u32]>>,
    targets: Vec<u32>,
    /// The matrices of [`PIECES`] pieces each, [piece · d_model, d_model]
    matrices: Vec<Tensor>,
}

/// Paths, or prefixes of them, with their vectors.
#[derive(Debug, Default)]
struct Arrived {
    paths: Vec<Path>,
    positions: Vec<u32>,
    /// [row, d_model]; together as many rows as paths
    vectors: Vec<Tensor>,
}

impl<'a> Composer<'a> {
    /// Folds the pieces between `cuts`.
    ///
    /// # Errors
    /// Interruption.
    pub fn new(scorer: Scorer<'a>, cuts: &Cuts) -> Result<Self> {
        let segments = cuts.layers.windows(2).map(|cut| fold(&scorer, cut[0], cut[1])).collect::<Result<_>>()?;
        let first = cuts.layers[0];
        Ok(Self { scorer, first, segments, prefixes: Walk::new(scorer.graph, first) })
    }

    /// Scores the paths that the next prefixes lead to; None after the last.
    ///
    /// # Errors
    /// A path that overflows the model's dtype; interruption.
    pub fn next_block(&mut self) -> Result<Option<Scored>> {
        let graph = self.scorer.graph;
        let mut paths = Vec::new();
        let mut ahead = 0.0;
        while paths.len() < TOGETHER && ahead < BLOCK {
            let Some(path) = self.prefixes.next() else { break };
            let end = graph.edges_of(&path).last().map_or(path.source, |edge| edge.target);
            ahead += graph.ways(self.first, end);
            paths.push(path);
        }
        if paths.is_empty() {
            return Ok(None);
        }
        // The prefixes of a walk are distinct, so each has its own row.
        let (prefixes, _) = self.scorer.vectors(&paths, self.first)?;
        let arrived = Arrived { paths, positions: prefixes.positions, vectors: vec![prefixes.vectors] };
        let mut scored = Scored::default();
        carry(&self.scorer, &self.segments, arrived, &mut scored)?;
        scored.ranked.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(Some(scored))
    }
}

/// Folds the pieces between two layers.
fn fold(scorer: &Scorer, from: usize, until: usize) -> Result<Segment> {
    let decoder = scorer.map.decoder();
    let size = decoder.config.d_model;
    let basis = Tensor::f_eye(size, (decoder.kind, decoder.output_device()))?;
    let all = Pieces::pulled_back(scorer, from..until, &basis)?;
    let folded = (0..scorer.map.length() as u32).map(|position| {
        let here: Vec<usize> = (0..all.starts.len()).filter(|piece| all.starts[*piece] == position).collect();
        let mut folded = FoldedPieces::default();
        for here in here.chunks(PIECES) {
            let rows = here.iter().flat_map(|piece| (0..size).map(move |each| (*piece as i64 * size + each) as u32));
            folded.matrices.push(all.covectors.f_index_select(0, &scorer.index(rows)?)?);
            for piece in here {
                let edges = &all.edges[*piece];
                folded.targets.push(scorer.graph.edge(until - 1, edges[edges.len() - 1]).target);
                folded.edges.push(edges.as_slice().into());
            }
        }
        Ok(folded)
    });
    folded.collect()
}

/// Carries the paths that have arrived before `segments` through all of them, in every possible way, and scores the
/// complete paths.
fn carry(scorer: &Scorer, segments: &[Segment], arrived: Arrived, scored: &mut Scored) -> Result<()> {
    interrupt::check()?;
    if arrived.paths.is_empty() {
        return Ok(());
    }
    let vectors = Tensor::f_cat(&arrived.vectors, 0)?;
    let Some((segment, rest)) = segments.split_first() else {
        let scores = scorer.read_out(&vectors)?;
        scored.add(arrived.paths.into_iter().zip(scores), scorer.is_unranked());
        return Ok(());
    };
    let size = scorer.map.config().d_model;
    let mut next = Arrived::default();
    for (position, pieces) in (0u32..).zip(segment) {
        let here: Vec<(u32, &Path)> = ((0u32..).zip(&arrived.paths).zip(&arrived.positions))
            .filter_map(|(row, at)| (*at == position).then_some(row))
            .collect();
        let parts = pieces.edges.chunks(PIECES).zip(pieces.targets.chunks(PIECES)).zip(&pieces.matrices);
        for ((edges, targets), matrices) in parts {
            let matrices = matrices.f_transpose(0, 1)?;
            let work = |here: &[(u32, &Path)]| {
                let index = scorer.index(here.iter().map(|(row, _)| *row))?;
                Ok(vectors.f_index_select(0, &index)?.f_matmul(&matrices)?.f_view([-1, size])?)
            };
            for_parts(&here, VECTORS / edges.len(), work, |here, products| {
                next.vectors.push(products);
                for (_, path) in here {
                    next.positions.extend(targets);
                    next.paths.extend(edges.iter().map(|edges| Path {
                        source: path.source,
                        edges: path.edges.iter().chain(edges).copied().collect(),
                    }));
                }
                match next.paths.len() {
                    0..VECTORS => Ok(()),
                    _ => carry(scorer, rest, take(&mut next), scored),
                }
            })?;
        }
    }
    carry(scorer, rest, next, scored)
}
