//! How much of a metric circuits of growing size keep.

use super::circuit::{Circuit, Selection};
use super::circuit_run::Evaluator;
use super::graph::Graph;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The kept shares of the MIB track (arXiv 2504.13151).
pub const SHARES: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// The metric of the whole model and of no circuit at all, means over the samples.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// All edges
    pub full: f64,
    /// No edge
    pub empty: f64,
}

impl Ends {
    /// Measures both ends.
    ///
    /// # Errors
    /// As for [`Evaluator::metrics`]; two ends that are the same.
    pub fn new(evaluator: &Evaluator, graph: &Graph) -> Result<Self> {
        let full = mean(&evaluator.metrics(&Circuit::full(graph))?);
        let empty = mean(&evaluator.metrics(&Circuit::empty(graph))?);
        if full == empty || !(full - empty).is_finite() {
            return Err(Error::new(format!("the metric is {full} with all edges and {empty} with none")).hint(
                "faithfulness is a share of the way between them: choose prompts or a metric that tell them apart",
            ));
        }
        Ok(Self { full, empty })
    }

    /// The share of the way from no edge to all edges.
    pub fn faithfulness(self, metric: f64) -> f64 {
        (metric - self.empty) / (self.full - self.empty)
    }
}

/// Faithfulness by the share of edges kept.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Shares of the edges, ascending
    pub shares: Vec<f64>,
    /// How many edges each keeps, after what leads nowhere is dropped
    pub edges: Vec<usize>,
    /// The metric of each
    pub metrics: Vec<f64>,
    /// Faithfulness of each
    pub faithfulness: Vec<f64>,
    /// Both ends
    pub ends: Ends,
}

impl Curve {
    /// The curve of circuits that keep the largest ranks.
    ///
    /// # Errors
    /// As for [`Evaluator::metrics`]; shares that do not ascend between 0 and 1.
    pub fn new(
        evaluator: &Evaluator,
        graph: &Graph,
        ranks: &[f64],
        shares: &[f64],
        selection: Selection,
    ) -> Result<Self> {
        if shares.len() < 2
            || !shares.is_sorted_by(|one, other| one < other)
            || shares.iter().any(|share| !(0.0..=1.0).contains(share))
        {
            return Err(Error::new("shares of a curve must ascend between 0 and 1").hint("such as [0.01, 0.1, 1.0]"));
        }
        let ends = Ends::new(evaluator, graph)?;
        let mut curve =
            Self { shares: shares.to_vec(), edges: Vec::new(), metrics: Vec::new(), faithfulness: Vec::new(), ends };
        let progress = Progress::new(shares.len() as u64, "circuits");
        for share in shares {
            let count = (share * graph.edges.len() as f64) as usize;
            let circuit = Circuit::select(graph, ranks, count, selection)?;
            let metric = mean(&evaluator.metrics(&circuit)?);
            curve.edges.push(circuit.pruned(graph).len());
            curve.metrics.push(metric);
            curve.faithfulness.push(ends.faithfulness(metric));
            progress.tick(1);
        }
        progress.finish();
        Ok(curve)
    }

    /// CPR: the area under the curve, by trapezoids.
    pub fn area_under(&self) -> f64 {
        area(&self.shares, &self.faithfulness)
    }

    /// CMD: the area between the curve and 1, by trapezoids of the distances.
    pub fn area_from_one(&self) -> f64 {
        area(&self.shares, &self.faithfulness.iter().map(|f| (1.0 - f).abs()).collect::<Vec<_>>())
    }
}

fn area(x: &[f64], y: &[f64]) -> f64 {
    x.windows(2).zip(y.windows(2)).map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0).sum()
}

/// The mean of numbers.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
