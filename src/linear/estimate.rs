//! What computing paths would take, known before it begins: how many there are, the work, the memory, the time.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration};
use tch::{Device, Tensor};

use super::cuts::Cuts;
use super::evaluate::{Evaluator, TOGETHER};
use super::table::{Options, Selection};
use crate::device::check_memory;
use crate::error::{Error, Result};

/// A share of the paths that is rarely exceeded by those of high rank.
const HIGH_RANKING: f64 = 0.1;

/// What to do where memory is too small.
pub const LESS_MEMORY: &str =
    "choose fewer starts by `from`, fewer edges by `edges`, or `keep: \"high_ranking\"`, or `file`";

/// What a selection of paths would take.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    /// Paths in the graph
    pub paths: f64,
    /// Paths, or for a search their halves, that are computed
    pub computed: f64,
    /// Products of halves, in a search
    pub products: f64,
    /// Floating-point operations
    pub operations: f64,
    /// Bytes held at once, with the paths that the table holds
    pub bytes: f64,
    /// Seconds at the rate measured for matrix products of these sizes
    pub seconds: f64,
}

impl Estimate {
    /// Estimates what is asked for.
    pub fn new(evaluator: &Evaluator, options: &Options) -> Result<Self> {
        let config = &evaluator.decoder.config;
        let (model, vocabulary) = (config.d_model as f64, config.d_vocab as f64);
        let width = (config.n_heads * config.d_head) as f64;
        let (values, rest) = evaluator.step();
        let step = values + rest;
        // Where ranks are cut off at some rank, a path of chance ranks is given up after so many tokens on average.
        let until_given_up = |most: f64| most * (1.0 + (vocabulary / most).log2().max(0.0));
        let tokens = evaluator.max_rank.map_or(vocabulary, |most| until_given_up(most as f64).min(vocabulary));
        let read_out = 2.0 * model * tokens;
        let element = evaluator.decoder.kind.elt_size_in_bytes() as f64;
        let depth = evaluator.graph.depth() as f64;
        let paths = evaluator.graph.count();
        // How many beginnings of paths there are of each length from 1 on: the vectors that are computed.
        let beginnings = evaluator.graph.beginnings();
        let beginnings = beginnings.iter().skip(1).map(|row| row.iter().sum::<f64>());
        let share_held = match (options.hold, options.keep_low) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => HIGH_RANKING,
        };
        let row = |count: f64| share_held * count * (8.0 * (depth + 4.0));
        let block = TOGETHER as f64 * element * (3.0 * config.d_mlp as f64 + 6.0 * model + 2.0 * width);
        let (computed, products, operations, bytes) = match options.selection {
            Selection::All => {
                let cuts = Cuts::new(evaluator);
                // While a segment's maps are folded, those of the layer behind are held too.
                let bytes = block + row(paths) + 2.0 * element * cuts.maps;
                (paths, 0.0, cuts.operations + paths * read_out, bytes)
            }
            Selection::Sample { count, .. } => {
                let count = count as f64;
                let steps: f64 = beginnings.map(|beginnings| beginnings.min(count)).sum();
                (count, 0.0, steps * step + count * read_out, block + row(count))
            }
            Selection::Highest { count } => {
                let plan = evaluator.plan();
                let operations = plan.halves * 2.0 * step + plan.products * 2.0 * model + count as f64 * read_out;
                (plan.halves, plan.products, operations, block + plan.halves * (3.0 * model * element + 8.0 * depth))
            }
        };
        Ok(Self { paths, computed, products, operations, bytes, seconds: operations / rate(evaluator)? })
    }

    /// Fails if more would be computed than `limit` paths (or halves of paths, each 10^6 products), or than memory holds.
    pub fn check(&self, limit: i64, selection: Selection, device: Device) -> Result<()> {
        if limit < 1 {
            return Err(
                Error::new(format!("`limit` is {limit}")).hint("the largest number of paths to compute; at least 1")
            );
        }
        let limit = limit as f64;
        let what = match selection {
            Selection::Highest { .. } => "halves of paths",
            _ => "paths",
        };
        if self.computed <= limit && self.products <= limit * 1e6 {
            return check_memory(what, self.bytes, device).map_err(|error| error.hint(LESS_MEMORY));
        }
        let other = match selection {
            Selection::All => "; or take `sample: 1000` of them, or `highest: 100`",
            _ => "",
        };
        Err(Error::new(format!(
            "there are {} paths; this would compute {} {what} (about {}, {}), and the limit is {limit}",
            amount(self.paths),
            amount(self.computed),
            HumanDuration(Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::MAX)),
            HumanBytes(self.bytes as u64),
        ))
        .hint(format!("raise `limit`, choose fewer starts by `from`, fewer edges by `edges`{other}")))
    }
}

/// A count for people.
fn amount(count: f64) -> String {
    if count < 1e7 { format!("{count:.0}") } else { format!("{count:.2e}") }
}

/// Floating-point operations per second in a product like those of a layer.
fn rate(evaluator: &Evaluator) -> Result<f64> {
    let decoder = evaluator.decoder;
    let (rows, model, hidden) = (TOGETHER as i64 / 8, decoder.config.d_model, decoder.config.d_mlp);
    let left = Tensor::f_ones([rows, model], (decoder.kind, decoder.device))?;
    let right = Tensor::f_ones([model, hidden], (decoder.kind, decoder.device))?;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        // Reading a value waits for the device.
        let _sum = left.f_matmul(&right)?.f_sum(None)?.f_double_value(&[])?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (rows * model * hidden) as f64 / best.max(1e-9))
}
