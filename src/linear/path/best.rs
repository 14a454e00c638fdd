//! The paths of highest value in a graph too large to enumerate: prefixes and suffixes meet at a middle layer, where a
//! path's value is the product of the prefix's vector and the suffix's covector. The search skips only pairs
//! whose bound, the product of their lengths, is too low.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tch::{Device, Kind, Tensor};

use super::graph::Path;
use super::piece::Pieces;
use super::score::{Prefixes, Score, Scorer, TOGETHER, beyond_dtype};
use super::walk::Walk;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::parts::in_parts;
use crate::tensor::raw::numbers;

/// Vectors per side of a block of products.
const BLOCK: usize = 2048;

/// Where the halves of paths meet, and the work to match them.
#[derive(Debug, Clone, Copy)]
pub struct Meeting {
    /// They meet at the nodes before this layer
    pub middle: usize,
    /// Number of prefixes and suffixes
    pub halves: f64,
    /// Number of products of a prefix and a suffix: the number of paths
    pub products: f64,
}

impl Meeting {
    /// The meeting with the fewest halves.
    pub fn cheapest(scorer: &Scorer) -> Self {
        let graph = scorer.graph;
        let prefixes = graph.prefix_counts();
        let halves = |middle: usize| -> f64 {
            (0u32..)
                .zip(&prefixes[middle])
                .map(|(position, count)| if *count > 0.0 { count + graph.ways(middle, position) } else { 0.0 })
                .sum()
        };
        let mut cheapest = Self { middle: 0, halves: halves(0), products: graph.count() };
        for middle in 1..=graph.depth() {
            let halves = halves(middle);
            if halves < cheapest.halves {
                cheapest = Self { middle, halves, ..cheapest };
            }
        }
        cheapest
    }

    /// The `count` paths of highest value, highest first, with their scores.
    ///
    /// # Errors
    /// A graph without paths; a path that overflows the model's dtype; interruption.
    pub fn search(&self, scorer: &Scorer, count: usize) -> Result<Vec<(Path, Score)>> {
        if self.products == 0.0 {
            return Err(Error::new("no path leads from the given positions to the end"));
        }
        let graph = scorer.graph;
        let (prefixes, ends) = prefixes_to(scorer, self.middle)?;
        let suffixes = Pieces::pulled_back(scorer, self.middle..graph.depth(), &scorer.readout.covector)?;
        let mut best = Best { count, heap: BinaryHeap::new() };
        for position in 0..scorer.map.length() as u32 {
            let here = |positions: &[u32]| -> Vec<usize> {
                (0..positions.len()).filter(|row| positions[*row] == position).collect()
            };
            let left = Side::new(here(&ends.positions), &ends.vectors)?;
            let right = Side::new(here(&suffixes.starts), &suffixes.covectors)?;
            best.add_products(&left, &right, |left, right| {
                let (prefix, suffix) = (&prefixes[left], &suffixes.edges[right]);
                Path { source: prefix.source, edges: prefix.edges.iter().chain(suffix).copied().collect() }
            })?;
        }
        let mut paths: Vec<Path> = best.heap.into_iter().map(|candidate| candidate.path).collect();
        paths.sort_unstable();
        let scores = scorer.scores(&paths)?;
        let mut scored: Vec<(Path, Score)> = paths.into_iter().zip(scores).collect();
        scored.sort_by(|one, other| other.1.value.total_cmp(&one.1.value));
        Ok(scored)
    }
}

/// Every path prefix that ends before layer `middle`, with its end and vector.
fn prefixes_to(scorer: &Scorer, middle: usize) -> Result<(Vec<Path>, Prefixes)> {
    let prefixes: Vec<Path> = Walk::new(scorer.graph, middle).collect();
    let ends = in_parts(&prefixes, TOGETHER, |block| Ok(scorer.vectors(block, middle)?.0))?;
    let vectors: Vec<&Tensor> = ends.iter().map(|ends| &ends.vectors).collect();
    let vectors = Tensor::f_cat(&vectors, 0)?;
    Ok((prefixes, Prefixes { positions: ends.into_iter().flat_map(|ends| ends.positions).collect(), vectors }))
}

/// A path with its value, ordered so that the lowest value is the greatest.
struct Candidate {
    value: f64,
    path: Path,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.value.total_cmp(&self.value).then_with(|| self.path.cmp(&other.path))
    }
}

/// The best candidates so far, the lowest on top.
struct Best {
    count: usize,
    heap: BinaryHeap<Candidate>,
}

impl Best {
    /// The value that a path must exceed to be among the best; None as long as there is room for any path.
    fn bar(&self) -> Option<f64> {
        self.heap.peek().filter(|_| self.heap.len() >= self.count).map(|lowest| lowest.value)
    }

    /// Adds the best products of two sides; `path` makes the path of a prefix and a suffix.
    fn add_products(&mut self, left: &Side, right: &Side, path: impl Fn(usize, usize) -> Path) -> Result<()> {
        for (left_rows, left_vectors, left_length) in left.blocks()? {
            for (right_rows, right_vectors, right_length) in right.blocks()? {
                interrupt::check()?;
                // Blocks are sorted by length: no later one can do better.
                if self.bar().is_some_and(|bar| left_length * right_length < bar) {
                    break;
                }
                let products = left_vectors.f_matmul(&right_vectors.f_transpose(0, 1)?)?.f_view([-1])?;
                let most = (self.count as i64).min(products.numel() as i64);
                let (values, places) = products.f_topk(most, 0, true, true)?;
                let places = Vec::<i64>::try_from(&places.f_to(Device::Cpu)?)?;
                for (value, place) in numbers(&values)?.into_iter().zip(places) {
                    if !value.is_finite() {
                        return Err(beyond_dtype());
                    }
                    if self.bar().is_some_and(|bar| value <= bar) {
                        break;
                    }
                    let place = place as usize;
                    let (left, right) = (left_rows[place / right_rows.len()], right_rows[place % right_rows.len()]);
                    self.heap.push(Candidate { value, path: path(left, right) });
                    if self.heap.len() > self.count {
                        self.heap.pop();
                    }
                }
            }
        }
        Ok(())
    }
}

/// The halves that meet at one position, the longest vectors first.
struct Side {
    rows: Vec<usize>,
    lengths: Vec<f64>,
    vectors: Tensor,
}

impl Side {
    /// The vectors of `rows`.
    fn new(rows: Vec<usize>, vectors: &Tensor) -> Result<Self> {
        let select = |vectors: &Tensor, rows: &[usize]| -> Result<Tensor> {
            let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
            Ok(vectors.f_index_select(0, &Tensor::f_from_slice(&index)?.f_to(vectors.device())?)?)
        };
        let vectors = select(vectors, &rows)?;
        let lengths = numbers(&vectors.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?.f_sqrt()?)?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|one, other| lengths[*other].total_cmp(&lengths[*one]));
        Ok(Self {
            rows: order.iter().map(|place| rows[*place]).collect(),
            lengths: order.iter().map(|place| lengths[*place]).collect(),
            vectors: select(&vectors, &order)?,
        })
    }

    /// Rows, their vectors, and the length of the longest of them.
    fn blocks(&self) -> Result<Vec<(&[usize], Tensor, f64)>> {
        let starts = (0..self.rows.len()).step_by(BLOCK);
        self.rows
            .chunks(BLOCK)
            .zip(starts)
            .map(|(rows, start)| {
                let vectors = self.vectors.f_narrow(0, start as i64, rows.len() as i64)?;
                Ok((rows, vectors, self.lengths[start]))
            })
            .collect()
    }
}
