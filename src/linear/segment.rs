//! Paths put together from pieces. Many paths have a piece in common; what it makes of any vector is computed once, as a map, and
//! every path that passes it then costs one product instead of all layers of the piece.

use std::collections::BTreeMap;
use std::mem::take;

use tch::Tensor;

use super::cuts::Cuts;
use super::evaluate::{Evaluator, Score, TOGETHER};
use super::graph::Path;
use super::walk::Walk;
use crate::error::Result;
use crate::interrupt;

/// Paths whose vectors are held at once for each segment.
const VECTORS: usize = 1 << 12;

/// Pieces that are applied at once.
const PIECES: usize = 128;

/// Paths that one block of beginnings may lead to.
const BLOCK: f64 = (1u64 << 18) as f64;

/// All pieces of paths behind the first cut.
#[derive(Debug)]
pub struct Segments {
    /// How many layers beginnings are followed
    first: usize,
    segments: Vec<Segment>,
}

/// The pieces between two cuts, by the position that they lead from.
type Segment = Vec<Pieces>;

/// Pieces that lead from one position.
#[derive(Debug, Default)]
struct Pieces {
    edges: Vec<Box<[u32]>>,
    targets: Vec<u32>,
    /// The maps of [`PIECES`] of them each, [piece · d_model, d_model]
    maps: Vec<Tensor>,
}

/// Paths, or beginnings of them, with their vectors.
#[derive(Debug, Default)]
struct Arrived {
    paths: Vec<Path>,
    positions: Vec<u32>,
    /// [row, d_model]; together as many rows as paths
    vectors: Vec<Tensor>,
}

/// What was found of some paths.
#[derive(Debug, Default)]
pub struct Found {
    /// Paths whose rank is known, in order
    pub ranked: Vec<(Path, Score)>,
    /// By source, the number of the other paths, which were given up, and the sum of their logits of the answer
    pub given_up: BTreeMap<u32, (u64, f64)>,
}

impl Found {
    /// Adds scored paths.
    pub fn add(&mut self, paths: impl IntoIterator<Item = (Path, Score)>) {
        for (path, score) in paths {
            if score.rank.is_some() {
                self.ranked.push((path, score));
            } else {
                let (count, sum) = self.given_up.entry(path.source).or_default();
                *count += 1;
                *sum += score.logit;
            }
        }
    }
}

impl Segments {
    /// Folds the pieces between `cuts`.
    pub fn new(evaluator: &Evaluator, cuts: &Cuts) -> Result<Self> {
        let bounds = cuts.layers.iter().zip(cuts.layers.iter().skip(1));
        let segments = bounds.map(|(from, until)| fold(evaluator, *from, *until)).collect::<Result<_>>()?;
        Ok(Self { first: cuts.layers.first().copied().unwrap_or_default(), segments })
    }

    /// All beginnings that the paths are put together from.
    pub fn walk<'a>(&self, evaluator: &Evaluator<'a>) -> Walk<'a> {
        evaluator.graph.walk_to(self.first)
    }

    /// Scores the paths that the next beginnings of a walk lead to; None at its end.
    pub fn next(&self, evaluator: &Evaluator, walk: &mut Walk) -> Result<Option<Found>> {
        let mut paths = Vec::new();
        let mut ahead = 0.0;
        while paths.len() < TOGETHER && ahead < BLOCK {
            let Some(path) = walk.next() else { break };
            let position = evaluator.graph.positions(&path)?.last().copied().unwrap_or(path.source);
            ahead += evaluator.graph.ways(self.first, position);
            paths.push(path);
        }
        if paths.is_empty() {
            return Ok(None);
        }
        // The beginnings of a walk are distinct, so that each has its own row.
        let (beginnings, _) = evaluator.vectors(&paths, self.first)?;
        let arrived = Arrived { paths, positions: beginnings.positions, vectors: vec![beginnings.vectors] };
        let mut found = Found::default();
        carry(evaluator, &self.segments, arrived, &mut found)?;
        found.ranked.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(Some(found))
    }
}

fn fold(evaluator: &Evaluator, from: usize, until: usize) -> Result<Segment> {
    let decoder = evaluator.decoder;
    let size = decoder.config.d_model;
    let basis = Tensor::f_eye(size, (decoder.kind, decoder.device))?;
    let ends = evaluator.ends(from, until, &basis)?;
    let pieces = (0..evaluator.frozen.length() as u32).map(|position| {
        let here: Vec<usize> =
            (0..ends.positions.len()).filter(|row| ends.positions.get(*row) == Some(&position)).collect();
        let mut pieces = Pieces::default();
        for here in here.chunks(PIECES) {
            let rows = here.iter().flat_map(|row| (0..size).map(move |each| (*row as i64 * size + each) as u32));
            pieces.maps.push(ends.covectors.f_index_select(0, &evaluator.index(rows)?)?);
            for edges in here.iter().filter_map(|row| ends.edges.get(*row)) {
                let target = edges.last().map(|last| evaluator.graph.edge(until - 1, *last)).transpose()?;
                pieces.targets.push(target.map_or(position, |edge| edge.target));
                pieces.edges.push(edges.as_slice().into());
            }
        }
        Ok(pieces)
    });
    pieces.collect()
}

/// Carries what has arrived before the first of `segments` through all of them, in every way, and scores what becomes of it.
fn carry(evaluator: &Evaluator, segments: &[Segment], arrived: Arrived, found: &mut Found) -> Result<()> {
    interrupt::check()?;
    if arrived.paths.is_empty() {
        return Ok(());
    }
    let vectors = Tensor::f_cat(&arrived.vectors, 0)?;
    let Some((segment, rest)) = segments.split_first() else {
        let scores = evaluator.read_out(&vectors)?;
        found.add(arrived.paths.into_iter().zip(scores));
        return Ok(());
    };
    let size = evaluator.decoder.config.d_model;
    let mut next = Arrived::default();
    for (position, pieces) in (0u32..).zip(segment) {
        let here: Vec<(u32, &Path)> = ((0u32..).zip(&arrived.paths).zip(&arrived.positions))
            .filter_map(|(row, at)| (*at == position).then_some(row))
            .collect();
        let parts = pieces.edges.chunks(PIECES).zip(pieces.targets.chunks(PIECES)).zip(&pieces.maps);
        for ((edges, targets), maps) in parts {
            let maps = maps.f_transpose(0, 1)?;
            for here in here.chunks((VECTORS / edges.len()).max(1)) {
                interrupt::check()?;
                let index = evaluator.index(here.iter().map(|(row, _)| *row))?;
                let products = vectors.f_index_select(0, &index)?.f_matmul(&maps)?;
                next.vectors.push(products.f_view([-1, size])?);
                for (_, path) in here {
                    next.positions.extend(targets);
                    next.paths.extend(edges.iter().map(|edges| Path {
                        source: path.source,
                        edges: path.edges.iter().chain(edges).copied().collect(),
                    }));
                }
                if next.paths.len() >= VECTORS {
                    carry(evaluator, rest, take(&mut next), found)?;
                }
            }
        }
    }
    carry(evaluator, rest, next, found)
}
