//! What circuits' edges are needed for, in scripts: minimality, completeness, stability.

use rand::seq::SliceRandom;
use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::circuit::{CircuitHandle, size};
use super::request::Request;
use crate::attribution::circuit::{Circuit, stability};
use crate::attribution::faithfulness::{Ends, mean};
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::data::table::{Cell, Table};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::Progress;
use crate::stat::generator;

impl CircuitHandle {
    /// The circuit without some of its edges.
    fn without(&self, dropped: &[usize]) -> Circuit {
        let mut circuit = self.circuit().clone();
        dropped.iter().for_each(|edge| circuit.kept[*edge] = false);
        circuit
    }

    fn numbers(&self) -> Vec<usize> {
        (0..self.circuit().kept.len()).filter(|edge| self.circuit().kept[*edge]).collect()
    }
}

#[export_module(manifest)]
pub mod functions {
    /// What each edge of a circuit is needed for: the faithfulness that is lost without it, `lost`, largest first; an edge
    /// that loses nothing makes the circuit larger than it must be (minimality, arXiv 2211.00593, with single edges).
    ///
    /// Options: `ablation` (that of the scores), `seed` as for `edges`.
    #[rhai_fn(name = "minimality", return_raw, pure)]
    pub fn circuit_minimality(
        context: NativeCallContext,
        circuit: &mut CircuitHandle,
        options: Map,
    ) -> ScriptResult<Table> {
        let ablation =
            Options::read("minimality", options, |options| Request::ablation(options, circuit.scores().ablation))?;
        let graph = &circuit.scores().request.graph;
        let rows = circuit.evaluated(&context, ablation, |evaluator| {
            let ends = Ends::new(evaluator, graph)?;
            let whole = ends.faithfulness(mean(&evaluator.metrics(circuit.circuit())?));
            let numbers = circuit.numbers();
            let progress = Progress::new(numbers.len() as u64, "minimality");
            let mut rows = Vec::new();
            for edge in numbers {
                interrupt::check()?;
                let rest = ends.faithfulness(mean(&evaluator.metrics(&circuit.without(&[edge]))?));
                rows.push((edge, rest, whole - rest));
                progress.tick(1);
            }
            progress.finish();
            Ok(rows)
        })?;
        let names = [("edge", None), ("faithfulness_without", Some("+.3")), ("lost", Some("+.4"))];
        let mut table = Table::plain(&names)?;
        for (edge, rest, lost) in rows {
            table.push(vec![
                ("edge".to_owned(), Cell::Text(graph.name(graph.edges[edge]))),
                ("faithfulness_without".to_owned(), Cell::Float(rest)),
                ("lost".to_owned(), Cell::Float(lost)),
            ])?;
        }
        Ok(table.sorted_by("lost", true)?)
    }

    /// Whether a circuit holds all that matters: for random sets K of its edges, the faithfulness of the circuit without K
    /// and of the whole model without K, which a complete circuit has alike (completeness, arXiv 2211.00593). A row per
    /// set: `size`, `circuit_without`, `model_without`, `difference`.
    ///
    /// Options: `sets` (10), `share` (0.5: the share of the circuit's edges that is in K), `draw_seed` (0), `ablation`, `seed` as for
    /// `edges`.
    #[rhai_fn(name = "completeness", return_raw, pure)]
    pub fn circuit_completeness(
        context: NativeCallContext,
        circuit: &mut CircuitHandle,
        options: Map,
    ) -> ScriptResult<Table> {
        let (ablation, sets, share, seed) = Options::read("completeness", options, |options| {
            let share = options.number("share")?.unwrap_or(0.5);
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::new(format!("option `share` is a number from 0 to 1, not {share}")));
            }
            let sets = options.integer("sets")?.unwrap_or(10);
            if sets < 1 {
                return Err(Error::new(format!("completeness needs at least one set, not {sets}")));
            }
            let seed = options.integer("draw_seed")?.unwrap_or(0);
            Ok((Request::ablation(options, circuit.scores().ablation)?, sets, share, seed))
        })?;
        let graph = &circuit.scores().request.graph;
        let rows = circuit.evaluated(&context, ablation, |evaluator| {
            let ends = Ends::new(evaluator, graph)?;
            let mut generator = generator(seed as u64);
            let mut rows = Vec::new();
            for _ in 0..sets {
                interrupt::check()?;
                let mut dropped = circuit.numbers();
                dropped.shuffle(&mut generator);
                dropped.truncate((share * dropped.len() as f64).round() as usize);
                let mut model = Circuit::full(graph);
                dropped.iter().for_each(|edge| model.kept[*edge] = false);
                let of = |circuit: &Circuit| Ok(ends.faithfulness(mean(&evaluator.metrics(circuit)?)));
                let (own, whole): (Result<f64>, Result<f64>) = (of(&circuit.without(&dropped)), of(&model));
                rows.push((dropped.len(), own?, whole?));
            }
            Ok(rows)
        })?;
        let names = [
            ("size", None),
            ("circuit_without", Some("+.3")),
            ("model_without", Some("+.3")),
            ("difference", Some("+.3")),
        ];
        let mut table = Table::plain(&names)?;
        for (size, own, whole) in rows {
            table.push(vec![
                ("size".to_owned(), Cell::Integer(size as i64)),
                ("circuit_without".to_owned(), Cell::Float(own)),
                ("model_without".to_owned(), Cell::Float(whole)),
                ("difference".to_owned(), Cell::Float(own - whole)),
            ])?;
        }
        Ok(table)
    }

    /// How often each edge of a circuit is among as many of the largest scores when the samples are drawn again with
    /// replacement: a row per edge, `edge` and `share`, the least stable last.
    ///
    /// Options: `draws` (200), `rank` ("absolute" or "helpful"), `draw_seed` (0).
    #[rhai_fn(name = "stability", return_raw, pure)]
    pub fn circuit_stability(circuit: &mut CircuitHandle, options: Map) -> ScriptResult<Table> {
        let (draws, is_absolute, seed) = Options::read("stability", options, |options| {
            let draws = options.integer("draws")?.unwrap_or(200);
            if draws < 1 {
                return Err(Error::new("there must be at least one draw"));
            }
            let is_absolute = options.choice("rank", &[("absolute", true), ("helpful", false)])?.unwrap_or(true);
            Ok((draws as usize, is_absolute, options.integer("draw_seed")?.unwrap_or(0) as u64))
        })?;
        let scores = circuit.scores();
        let count = circuit.circuit().len();
        if scores.scores.len() < 2 {
            return Err(Error::new("stability over samples needs scores of several samples").into());
        }
        let shares = stability(&scores.scores, |score| size(is_absolute, score), count, draws, seed)?;
        let mut table = Table::plain(&[("edge", None), ("share", Some(".2"))])?;
        let graph = &scores.request.graph;
        for edge in circuit.numbers() {
            table.push(vec![
                ("edge".to_owned(), Cell::Text(graph.name(graph.edges[edge]))),
                ("share".to_owned(), Cell::Float(shares[edge])),
            ])?;
        }
        Ok(table.sorted_by("share", true)?)
    }
}
