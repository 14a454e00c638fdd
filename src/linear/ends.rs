//! Pieces of paths that end at one layer, with covectors pulled back along each of them.

use tch::Tensor;

use super::evaluate::{Evaluator, TOGETHER};
use super::norm::At;
use crate::error::Result;
use crate::interrupt;

/// Pieces of paths that end at one layer, and where they lead to it from.
#[derive(Debug)]
pub struct Ends {
    /// Where each begins
    pub positions: Vec<u32>,
    /// Each one's edges, in order
    pub edges: Vec<Vec<u32>>,
    /// What each given covector becomes there, row after row: [end · each, d_model]
    pub covectors: Tensor,
}

impl Evaluator<'_> {
    /// Every piece of a path from layer `from` on that ends before layer `until`, with what each of `covectors`,
    /// [each, d_model], takes at its beginning of what arrives at its end.
    pub fn ends(&self, from: usize, until: usize, covectors: &Tensor) -> Result<Ends> {
        let each = covectors.size().first().map_or(1, |rows| *rows as usize);
        let reached = self.graph.beginnings();
        let is_reached = |layer: usize, position: u32| -> bool {
            let count = reached.get(layer).and_then(|reached| reached.get(position as usize));
            count.is_some_and(|count| *count > 0.0) && self.graph.ways(layer, position) > 0.0
        };
        let positions: Vec<u32> =
            (0..self.frozen.length() as u32).filter(|position| is_reached(until, *position)).collect();
        let mut ends = Ends {
            edges: vec![Vec::new(); positions.len()],
            covectors: covectors.f_repeat([positions.len() as i64, 1])?,
            positions,
        };
        for layer in (from..until).rev() {
            let part = self.frozen.at(self.decoder, layer)?;
            // Through the MLP once for each end, then along each edge that arrives at it.
            let here: Vec<u32> = repeated(&ends.positions, each);
            let (mut mixed, mut with_mlp) = (Vec::new(), Vec::new());
            for (number, here) in here.chunks(TOGETHER).enumerate() {
                interrupt::check()?;
                let covectors = ends.covectors.f_narrow(0, (number * TOGETHER) as i64, here.len() as i64)?;
                let back = part.pull_back(&covectors, At::Rows(&self.index(here.iter().copied())?))?;
                mixed.push(back.0);
                with_mlp.push(back.1);
            }
            let (mixed, with_mlp) = (Tensor::f_cat(&mixed, 0)?, Tensor::f_cat(&with_mlp, 0)?);
            let mut steps: Vec<(usize, u32, u32)> = Vec::new();
            let edges = (0u32..).zip(self.graph.edges(layer)).filter(|(_, edge)| is_reached(layer, edge.source));
            for (number, edge) in edges {
                let arriving = ends.positions.iter().enumerate().filter(|(_, position)| **position == edge.target);
                steps.extend(arriving.map(|(row, _)| (row, number, edge.source)));
            }
            let mut parts = Vec::new();
            for steps in steps.chunks((TOGETHER / each).max(1)) {
                interrupt::check()?;
                let rows = steps.iter().flat_map(|(row, ..)| (row * each..(row + 1) * each).map(|row| row as u32));
                let rows = self.index(rows)?;
                let numbers: Vec<u32> = steps.iter().map(|(_, number, _)| *number).collect();
                let (crossing, source) = self.graph.crossing(layer, &repeated(&numbers, each))?;
                let (mixed, with_mlp) = (mixed.f_index_select(0, &rows)?, with_mlp.f_index_select(0, &rows)?);
                parts.push(part.cross_transposed((&mixed, &with_mlp), &crossing, &source)?);
            }
            let edges = steps.iter().map(|(row, number, _)| {
                [*number].into_iter().chain(ends.edges.get(*row).into_iter().flatten().copied()).collect()
            });
            ends = Ends {
                edges: edges.collect(),
                positions: steps.iter().map(|(_, _, source)| *source).collect(),
                covectors: Tensor::f_cat(&parts, 0)?,
            };
        }
        Ok(ends)
    }
}

/// Every value `times` times.
fn repeated(values: &[u32], times: usize) -> Vec<u32> {
    values.iter().flat_map(|value| std::iter::repeat_n(*value, times)).collect()
}
