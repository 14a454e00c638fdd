//! Estimates the cost of computing paths before it starts: their number, the work, the memory, the time.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration};
use tch::{Device, Tensor};

use super::method::Method;
use super::score::{Scorer, TOGETHER};
use super::table::TableOptions;
use crate::device::check_memory;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;

/// Upper bound, usually met, on the share of high-ranking paths.
const HIGH_RANKING: f64 = 0.1;

/// The cost of computing a selection of paths.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    /// Paths in the graph
    pub paths: f64,
    /// Paths to compute; for a search, halves of paths
    pub computed: f64,
    /// Products of halves, in a search
    pub products: f64,
    /// Floating-point operations
    pub operations: f64,
    /// Bytes held at once, with the paths that the table holds
    pub bytes: f64,
    /// Seconds at the rate measured for matrix products of these sizes
    pub seconds: f64,
    /// Paths that the table will count: the number asked for, or all if the graph has fewer
    pub asked: f64,
    /// What `computed` counts
    unit: &'static str,
}

impl Estimate {
    /// Estimates the work of a method.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn new(scorer: &Scorer, options: &TableOptions, method: &Method) -> Result<Self> {
        let decoder = scorer.map.decoder();
        let config = &decoder.config;
        let model = config.d_model as f64;
        let width = (config.n_heads * config.d_head) as f64;
        let element = decoder.kind.elt_size_in_bytes() as f64;
        let depth = scorer.graph.depth() as f64;
        let (values, rest) = scorer.layer_operations();
        let layer = values + rest;
        let read_out = 2.0 * model * tokens_compared(config.d_vocab_out as f64, scorer.max_rank);
        let paths = scorer.graph.count();
        let share_held = match (options.hold, options.keep_low) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => HIGH_RANKING,
        };
        let rows = |count: f64| share_held * count * (8.0 * (depth + 4.0));
        let block = TOGETHER as f64 * element * (3.0 * config.d_mlp as f64 + 6.0 * model + 2.0 * width);
        let (unit, asked, computed, products, operations, bytes) = match method {
            Method::Compose(cuts) => {
                // While a segment's matrices are folded, those of the layer after it are held too.
                let bytes = block + rows(paths) + 2.0 * element * cuts.elements;
                ("paths", paths, paths, 0.0, cuts.operations + paths * read_out, bytes)
            }
            Method::Draw { count, .. } => {
                let count = *count as f64;
                // The prefixes of each length from 1 on are the vectors that are computed.
                let prefixes = scorer.graph.prefix_counts();
                let prefixes = prefixes.iter().skip(1).map(|row| row.iter().sum::<f64>());
                let steps: f64 = prefixes.map(|prefixes| prefixes.min(count)).sum();
                ("paths", count, count, 0.0, steps * layer + count * read_out, block + rows(count))
            }
            Method::Search { meeting, count } => {
                let (count, halves) = (*count as f64, meeting.halves);
                let operations = halves * 2.0 * layer + meeting.products * 2.0 * model + count * read_out;
                let bytes = block + halves * (3.0 * model * element + 8.0 * depth);
                ("halves of paths", count.min(paths), halves, meeting.products, operations, bytes)
            }
        };
        let seconds = operations / rate(decoder)?;
        Ok(Self { paths, computed, products, operations, bytes, seconds, asked, unit })
    }

    /// Refuses to compute more than `limit` paths (or halves of paths, or 10^6 times as many products).
    ///
    /// # Errors
    /// More would be computed.
    pub fn check_limit(&self, limit: i64) -> Result<()> {
        let limit = limit as f64;
        if self.computed <= limit && self.products <= limit * 1e6 {
            return Ok(());
        }
        Err(Error::new(format!(
            "there are {} paths; this would compute {} {} (about {}, {}), and the limit is {limit}",
            amount(self.paths),
            amount(self.computed),
            self.unit,
            HumanDuration(Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::MAX)),
            HumanBytes(self.bytes as u64),
        )))
    }

    /// Refuses work that does not fit in the free memory of `device`.
    ///
    /// # Errors
    /// More memory would be needed.
    pub fn check_memory(&self, device: Device) -> Result<()> {
        check_memory(self.unit, self.bytes, device)
    }
}

/// The tokens of a vocabulary that a path is compared with, on average. Where ranks are only wanted up to some rank, a
/// path with random ranks is abandoned after this many tokens.
fn tokens_compared(vocabulary: f64, max_rank: Option<i64>) -> f64 {
    let until_abandoned = |most: f64| most * (1.0 + (vocabulary / most).log2().max(0.0));
    max_rank.map_or(vocabulary, |most| until_abandoned(most as f64).min(vocabulary))
}

/// A count for display.
fn amount(count: f64) -> String {
    if count < 1e7 { format!("{count:.0}") } else { format!("{count:.2e}") }
}

/// Floating-point operations per second in a product like those of a layer.
fn rate(decoder: &Decoder) -> Result<f64> {
    let (rows, model, hidden) = (TOGETHER as i64 / 8, decoder.config.d_model, decoder.config.d_mlp);
    let left = Tensor::f_ones([rows, model], (decoder.kind, decoder.output_device()))?;
    let right = Tensor::f_ones([model, hidden], (decoder.kind, decoder.output_device()))?;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        // Reading a value waits for the device.
        let _sum = left.f_matmul(&right)?.f_sum(None)?.f_double_value(&[])?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (rows * model * hidden) as f64 / best.max(1e-9))
}
