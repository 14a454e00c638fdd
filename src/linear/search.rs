//! The paths of highest answer logit in a graph too large to go through: beginnings and ends of paths meet at a middle
//! layer, where a path's logit is the product of the beginning's vector and the end's covector. Nothing is left out but
//! what a bound (the product of their lengths) shows to be too low.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tch::{Kind, Tensor};

use super::evaluate::{Beginnings, Evaluator, Score, TOGETHER};
use super::frozen::numbers;
use super::graph::Path;
use crate::error::{Error, Result};
use crate::interrupt;

/// Products computed at once, per side.
const BLOCK: usize = 2048;

/// How a search would go: where the halves meet, and what that takes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The nodes before this layer are where they meet
    pub middle: usize,
    /// Beginnings and ends to be computed
    pub halves: f64,
    /// Products of beginnings and ends: the number of paths
    pub products: f64,
}

/// A path found so far, the worst first.
struct Found {
    logit: f64,
    path: Path,
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then_with(|| self.path.cmp(&other.path))
    }
}

impl Evaluator<'_> {
    /// The cheapest place for the halves to meet.
    pub fn plan(&self) -> Plan {
        let beginnings = self.graph.beginnings();
        let halves = |middle: usize| -> f64 {
            let reached = beginnings.get(middle).map_or(&[][..], Vec::as_slice);
            (0u32..)
                .zip(reached)
                .map(|(position, count)| match *count {
                    0.0 => 0.0,
                    count => count + self.graph.ways(middle, position),
                })
                .sum()
        };
        let middle = (0..=self.graph.depth()).min_by(|one, other| halves(*one).total_cmp(&halves(*other))).unwrap_or(0);
        Plan { middle, halves: halves(middle), products: self.graph.count() }
    }

    /// Every beginning of a path that reaches layer `middle`, with its vector.
    fn beginnings_to(&self, middle: usize) -> Result<(Vec<Path>, Beginnings)> {
        let halves: Vec<Path> = self.graph.walk_to(middle).collect();
        let parts = halves
            .chunks(TOGETHER)
            .map(|halves| Ok(self.vectors(halves, middle)?.0))
            .collect::<Result<Vec<Beginnings>>>()?;
        if parts.is_empty() {
            return Err(Error::new("no path leads from there to the end"));
        }
        let vectors: Vec<&Tensor> = parts.iter().map(|part| &part.vectors).collect();
        let vectors = Tensor::f_cat(&vectors, 0)?;
        let positions = parts.iter().flat_map(|part| &part.positions).copied().collect();
        Ok((halves, Beginnings { positions, vectors }))
    }

    /// The `count` paths of highest answer logit, highest first, with their scores.
    pub fn search(&self, count: usize) -> Result<Vec<(Path, Score)>> {
        let middle = self.plan().middle;
        let (heads, vectors) = self.beginnings_to(middle)?;
        let readout = self.frozen.readout(self.decoder, self.graph.request.to, &[self.answer])?;
        let ends = self.ends(middle, self.graph.depth(), &readout)?;
        let mut best: BinaryHeap<Found> = BinaryHeap::new();
        for position in 0..self.frozen.length() as u32 {
            let here = |positions: &[u32]| -> Vec<usize> {
                (0..positions.len()).filter(|row| positions.get(*row) == Some(&position)).collect()
            };
            let left = Side::new(here(&vectors.positions), &vectors.vectors)?;
            let right = Side::new(here(&ends.positions), &ends.covectors)?;
            for (left_rows, left_vectors, left_length) in left.blocks()? {
                for (right_rows, right_vectors, right_length) in right.blocks()? {
                    interrupt::check()?;
                    let worst = if best.len() < count {
                        f64::NEG_INFINITY
                    } else {
                        best.peek().map_or(0.0, |found| found.logit)
                    };
                    // Blocks are sorted by length: no later one can do better.
                    if left_length * right_length < worst {
                        break;
                    }
                    let products = left_vectors.f_matmul(&right_vectors.f_transpose(0, 1)?)?.f_view([-1])?;
                    let take = (count as i64).min(products.numel() as i64);
                    let (values, places) = products.f_topk(take, 0, true, true)?;
                    let places = Vec::<i64>::try_from(&places.f_to(tch::Device::Cpu)?)?;
                    for (logit, place) in numbers(&values)?.into_iter().zip(places) {
                        if best.len() >= count && best.peek().is_some_and(|found| found.logit >= logit) {
                            break;
                        }
                        let place = place as usize;
                        let (Some(head), Some(tail)) = (
                            left_rows.get(place / right_rows.len()).and_then(|row| heads.get(*row)),
                            right_rows.get(place % right_rows.len()).and_then(|row| ends.edges.get(*row)),
                        ) else {
                            continue;
                        };
                        let edges = head.edges.iter().chain(tail).copied().collect();
                        best.push(Found { logit, path: Path { source: head.source, edges } });
                        if best.len() > count {
                            best.pop();
                        }
                    }
                }
            }
        }
        let mut paths: Vec<Path> = best.into_iter().map(|found| found.path).collect();
        paths.sort_unstable();
        let scores = self.scores(&paths)?;
        let mut found: Vec<(Path, Score)> = paths.into_iter().zip(scores).collect();
        found.sort_by(|one, other| other.1.logit.total_cmp(&one.1.logit));
        Ok(found)
    }
}

/// The halves that meet at one position, the longest vectors first.
struct Side {
    rows: Vec<usize>,
    lengths: Vec<f64>,
    vectors: Tensor,
}

impl Side {
    fn new(rows: Vec<usize>, vectors: &Tensor) -> Result<Self> {
        let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
        let vectors = vectors.f_index_select(0, &Tensor::f_from_slice(&index)?.f_to(vectors.device())?)?;
        let lengths = numbers(&vectors.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?.f_sqrt()?)?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let length = |place: &usize| lengths.get(*place).copied().unwrap_or(0.0);
        order.sort_by(|one, other| length(other).total_cmp(&length(one)));
        let places: Vec<i64> = order.iter().map(|place| *place as i64).collect();
        Ok(Self {
            rows: order.iter().filter_map(|place| rows.get(*place).copied()).collect(),
            lengths: order.iter().map(length).collect(),
            vectors: vectors.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to(vectors.device())?)?,
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
                Ok((rows, vectors, self.lengths.get(start).copied().unwrap_or(0.0)))
            })
            .collect()
    }
}
