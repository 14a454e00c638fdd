//! Path pieces between two layers, with covectors pulled back along each of them.

use std::iter::repeat_n;
use std::ops::Range;

use tch::Tensor;

use super::score::{Scorer, TOGETHER};
use crate::error::Result;
use crate::linear::norm::At;
use crate::parts::in_parts;

/// The pieces of all paths between two layers.
#[derive(Debug)]
pub struct Pieces {
    /// Position where each starts
    pub starts: Vec<u32>,
    /// The numbers of each one's edges, in order
    pub edges: Vec<Vec<u32>>,
    /// For each piece in turn, the given covectors pulled back to its start, [piece · each, d_model]
    pub covectors: Tensor,
}

impl Pieces {
    /// Finds the pieces through `layers`, and pulls each of `covectors`, [each, d_model], back from the end of every
    /// piece to its start.
    ///
    /// # Errors
    /// Interruption.
    pub fn pulled_back(scorer: &Scorer, layers: Range<usize>, covectors: &Tensor) -> Result<Self> {
        let graph = scorer.graph;
        let each = covectors.size()[0] as usize;
        let prefixes = graph.prefix_counts();
        let on_a_path =
            |layer: usize, position: u32| prefixes[layer][position as usize] > 0.0 && graph.ways(layer, position) > 0.0;
        let ends: Vec<u32> =
            (0..scorer.map.length() as u32).filter(|position| on_a_path(layers.end, *position)).collect();
        let mut pieces = Self {
            edges: vec![Vec::new(); ends.len()],
            covectors: covectors.f_repeat([ends.len() as i64, 1])?,
            starts: ends,
        };
        for layer in layers.rev() {
            pieces = pieces.one_longer(scorer, layer, each, |source| on_a_path(layer, source))?;
        }
        Ok(pieces)
    }

    /// The pieces that start one layer earlier, at the positions that `is_start` accepts.
    fn one_longer(&self, scorer: &Scorer, layer: usize, each: usize, is_start: impl Fn(u32) -> bool) -> Result<Self> {
        let part = scorer.map.layer(layer);
        let (mixed, with_mlp) = self.behind_mlp(scorer, layer, each)?;
        // (piece, edge, the edge's source)
        let mut steps: Vec<(usize, u32, u32)> = Vec::new();
        for (number, edge) in (0u32..).zip(scorer.graph.edges(layer)).filter(|(_, edge)| is_start(edge.source)) {
            let arriving = self.starts.iter().enumerate().filter(|(_, position)| **position == edge.target);
            steps.extend(arriving.map(|(piece, _)| (piece, number, edge.source)));
        }
        let covectors = in_parts(&steps, TOGETHER / each, |steps| {
            let rows = steps.iter().flat_map(|(piece, ..)| (piece * each..(piece + 1) * each).map(|row| row as u32));
            let rows = scorer.index(rows)?;
            let numbers: Vec<u32> = steps.iter().flat_map(|(_, number, _)| repeat_n(*number, each)).collect();
            let (crossing, source) = scorer.graph.crossing(layer, &numbers)?;
            let (mixed, with_mlp) = (mixed.f_index_select(0, &rows)?, with_mlp.f_index_select(0, &rows)?);
            part.cross_transposed((&mixed, &with_mlp), &crossing, &source)
        })?;
        let edges = |(piece, number, _): &(usize, u32, u32)| {
            [*number].into_iter().chain(self.edges[*piece].iter().copied()).collect()
        };
        Ok(Self {
            edges: steps.iter().map(edges).collect(),
            starts: steps.iter().map(|(_, _, source)| *source).collect(),
            covectors: Tensor::f_cat(&covectors, 0)?,
        })
    }

    /// The covectors pulled back through a layer's MLP, once for each piece: the work that all edges arriving there
    /// share.
    fn behind_mlp(&self, scorer: &Scorer, layer: usize, each: usize) -> Result<(Tensor, Tensor)> {
        let part = scorer.map.layer(layer);
        let here: Vec<(u32, u32)> =
            (0..).zip(self.starts.iter().flat_map(|position| repeat_n(*position, each))).collect();
        let back = in_parts(&here, TOGETHER, |here| {
            let covectors = self.covectors.f_narrow(0, i64::from(here[0].0), here.len() as i64)?;
            part.pull_back(&covectors, At::Rows(&scorer.index(here.iter().map(|(_, position)| *position))?))
        })?;
        let (mixed, with_mlp): (Vec<Tensor>, Vec<Tensor>) = back.into_iter().unzip();
        Ok((Tensor::f_cat(&mixed, 0)?, Tensor::f_cat(&with_mlp, 0)?))
    }
}
