//! Circuits in scripts: edges that are kept, and what is left of a metric when the rest is ablated.

use std::path::Path;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::edges::{Edges, SELECTIONS, Scores};
use super::request::{Request, names};
use crate::attribution::alternative::Ablation;
use crate::attribution::circuit::{Circuit, Selection, stability};
use crate::attribution::circuit_run::Evaluator;
use crate::attribution::drawing;
use crate::attribution::faithfulness::{Ends, mean};
use crate::attribution::mib::Scored;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::model::Model;
use crate::bind::model::hooks::with_hooks;
use crate::bind::option::Options;
use crate::data::table::{Cell, Column, Table};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::Progress;
use crate::stat::generator;
use crate::stat::summary::mean_and_variance;
use crate::tensor::Tensor;
use rand::seq::SliceRandom;

/// The script's handle of a circuit.
#[derive(Debug, Clone)]
pub struct CircuitHandle {
    edges: Edges,
    circuit: Rc<Circuit>,
}

impl Handle for CircuitHandle {
    const NAME: &'static str = "circuit";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        let graph = &self.edges.get().request.graph;
        let nodes = self.circuit.nodes(graph).iter().filter(|is_in| **is_in).count();
        format!("circuit of {} of {} edges, {nodes} components", self.circuit.len(), graph.edges.len())
    }
}

/// Reads the options `select`, `rank` and `stability`: the ranks of the edges, and how they are chosen by them.
///
/// # Errors
/// Another value; standard errors of a single sample; edges without a score.
pub fn select(options: &mut Options, scores: &Scores) -> Result<(Vec<f64>, Selection)> {
    let selection = options.choice("select", SELECTIONS)?.unwrap_or(Selection::Top);
    let is_absolute = options.choice("rank", &[("absolute", true), ("helpful", false)])?.unwrap_or(true);
    let penalty = options.number("stability")?.unwrap_or(0.0);
    if penalty < 0.0 {
        return Err(Error::new(format!("option `stability` is a number of standard errors, not {penalty}")));
    }
    if penalty > 0.0 && scores.scores.len() < 2 {
        return Err(Error::new("option `stability` needs scores of several samples"));
    }
    if scores.means.iter().any(|score| score.is_nan()) {
        return Err(Error::new("some edges have no score").hint("score all of them, without the option `edges`"));
    }
    let rank = |edge: usize| {
        let size = size(is_absolute, scores.means[edge]);
        if penalty == 0.0 {
            return size;
        }
        let own: Vec<f64> = scores.scores.iter().map(|sample| sample[edge]).collect();
        size - penalty * (mean_and_variance(&own).1 / own.len() as f64).sqrt()
    };
    Ok(((0..scores.means.len()).map(rank).collect(), selection))
}

fn size(is_absolute: bool, score: f64) -> f64 {
    if is_absolute { score.abs() } else { -score }
}

/// The option `keep`: a share of the edges, a number of them, their names, or the file's own circuit.
fn kept(options: &mut Options, scores: &Scores) -> Result<Circuit> {
    let graph = &scores.request.graph;
    let keep = options.needed("keep", "keep: 0.05 (a share), 200 (a number), names, or \"file\"")?;
    if let Some(chosen) = keep.read_lock::<Array>() {
        let mut circuit = Circuit::empty(graph);
        for name in names("keep", &chosen)? {
            let edge = graph.edge(&name)?;
            let place = graph.edges.binary_search(&edge);
            circuit.kept[place.unwrap_or_else(|_| unreachable!("edges are in order"))] = true;
        }
        return Ok(circuit);
    }
    if keep.is_string() {
        return match (keep.into_string().as_deref(), &scores.read) {
            (Ok("file"), Some(circuit)) => Ok(circuit.clone()),
            (Ok("file"), None) => Err(Error::new("the scores were not read from a file, so there is no circuit in it")),
            _ => Err(Error::new("option `keep` as a text is \"file\"")),
        };
    }
    let count = match (keep.as_int(), keep.as_float()) {
        (Ok(count), _) if count >= 0 => count as usize,
        (_, Ok(share)) if (0.0..=1.0).contains(&share) => (share * graph.edges.len() as f64) as usize,
        _ => {
            return Err(Error::new(format!("option `keep` cannot be {keep}"))
                .hint("a share from 0.0 to 1.0, or a whole number of edges"));
        }
    };
    let (ranks, selection) = select(options, scores)?;
    Circuit::select(graph, &ranks, count, selection)
}

impl CircuitHandle {
    fn scores(&self) -> &Scores {
        self.edges.get()
    }

    /// Does `work` with what runs circuits.
    fn evaluated<T>(
        &self,
        context: &NativeCallContext,
        ablation: Ablation,
        work: impl FnOnce(&Evaluator<'_>) -> Result<T>,
    ) -> ScriptResult<T> {
        evaluated(context, &self.scores().request, ablation, work)
    }

    /// The faithfulness of circuits without some of this one's edges.
    fn without(&self, dropped: &[usize]) -> Circuit {
        let mut circuit = (*self.circuit).clone();
        dropped.iter().for_each(|edge| circuit.kept[*edge] = false);
        circuit
    }

    fn numbers(&self) -> Vec<usize> {
        (0..self.circuit.kept.len()).filter(|edge| self.circuit.kept[*edge]).collect()
    }
}

fn evaluated<T>(
    context: &NativeCallContext,
    request: &Request,
    ablation: Ablation,
    work: impl FnOnce(&Evaluator<'_>) -> Result<T>,
) -> ScriptResult<T> {
    with_hooks(context, |caller| {
        request.measured(caller, |objective| {
            let decoder = &request.model.get().decoder;
            work(&Evaluator::new(decoder, &request.graph, &request.pairs, objective, ablation)?)
        })
    })
}

fn tensor(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(tch::Tensor::f_from_slice(values)?))
}

fn columns(names: &[(&str, Option<&str>)]) -> Vec<Column> {
    let column = |(name, format): &(&str, Option<&str>)| Column {
        name: (*name).to_owned(),
        header: (*name).to_owned(),
        format: format.map(str::to_owned),
    };
    names.iter().map(column).collect()
}

/// What a set of ablated edges does, in the clean or the corrupted run.
fn ablated(
    context: &NativeCallContext,
    model: &Model,
    (function, what): (&'static str, &'static str),
    options: Map,
    outside: impl Fn(&Request, &[String]) -> Result<Circuit>,
) -> ScriptResult<Map> {
    let (request, ablation, circuit) = Options::read(function, options, |options| {
        let mut request = Request::read(model, options)?;
        let ablation = request.ablation(options)?;
        let chosen = options.needed(what, "an array of names")?;
        let chosen = chosen
            .read_lock::<Array>()
            .map(|chosen| names(what, &chosen))
            .ok_or_else(|| crate::bind::convert::expected(what, "an array of names", &chosen))??;
        let is_noise = options.choice("direction", &[("noise", true), ("denoise", false)])?.unwrap_or(true);
        if !is_noise {
            if ablation != Ablation::Corrupted {
                return Err(Error::new("direction \"denoise\" puts the clean run's values into the corrupted run")
                    .hint("it goes with `ablation: \"corrupted\"`"));
            }
            request = request.exchanged()?;
        }
        let circuit = outside(&request, &chosen)?;
        Ok((request, ablation, circuit))
    })?;
    let (metric, baseline) = evaluated(context, &request, ablation, |evaluator| {
        Ok((evaluator.whole(&circuit)?, evaluator.whole(&Circuit::full(&request.graph))?))
    })?;
    let effect: Vec<f64> = metric.iter().zip(&baseline).map(|(metric, baseline)| metric - baseline).collect();
    Ok(map! {
        "metric" => tensor(&metric)?,
        "baseline" => tensor(&baseline)?,
        "effect" => tensor(&effect)?,
        "mean" => mean(&effect),
    })
}

#[export_module(manifest)]
pub mod functions {
    /// The circuit of the edges that are kept; all others are ablated in its runs.
    ///
    /// Needed: `keep`: a share of the edges (0.05), a number of them (200), an array of their names, or "file" (the circuit
    /// of a file that the scores were read from).
    ///
    /// Options: `select` ("top": the largest ranks; "greedy": from the logits upwards, always the largest among edges into
    /// components reached so far), `rank` ("absolute": by |score|; "helpful": edges whose corruption lowers the metric most),
    /// `stability` (0: so many standard errors over the samples are subtracted from an edge's rank, which prefers edges
    /// that all samples agree on).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let edges = model.edges(#{
    ///     clean: "The capital of France is", corrupted: "The capital of Japan is",
    ///     answer: " Paris", metric: #{ kind: "logit_difference", against: " Tokyo" },
    /// });
    /// let found = circuit(edges, #{ keep: 0.05, select: "greedy" });
    /// print(found);
    /// print(found.faithfulness());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn circuit(edges: Edges, options: Map) -> ScriptResult<CircuitHandle> {
        let circuit = Options::read("circuit", options, |options| kept(options, edges.get()))?;
        Ok(CircuitHandle { edges, circuit: Rc::new(circuit) })
    }

    /// The names of the edges that a circuit keeps.
    #[rhai_fn(get = "edges", pure)]
    pub fn circuit_edges(circuit: &mut CircuitHandle) -> Array {
        let graph = &circuit.scores().request.graph;
        circuit.circuit.edges(graph).into_iter().map(|edge| Dynamic::from(graph.name(edge))).collect()
    }

    /// The names of the components that have an edge in and one out.
    #[rhai_fn(get = "nodes", pure)]
    pub fn circuit_nodes(circuit: &mut CircuitHandle) -> Array {
        let graph = &circuit.scores().request.graph;
        let nodes = circuit.circuit.nodes(graph);
        let named = graph.sources.iter().zip(nodes).filter(|(_, is_in)| *is_in);
        named.map(|(source, _)| Dynamic::from(source.to_string())).collect()
    }

    /// The number of edges that a circuit keeps.
    #[rhai_fn(name = "len", pure)]
    pub fn circuit_len(circuit: &mut CircuitHandle) -> i64 {
        circuit.circuit.len() as i64
    }

    /// The circuit without components that nothing in it reaches or that reach nothing.
    #[rhai_fn(name = "pruned", pure)]
    pub fn circuit_pruned(circuit: &mut CircuitHandle) -> CircuitHandle {
        let pruned = circuit.circuit.pruned(&circuit.scores().request.graph);
        CircuitHandle { edges: circuit.edges.clone(), circuit: Rc::new(pruned) }
    }

    /// The metric of a circuit's runs, f64 [sample]; components that lead nowhere are dropped first.
    ///
    /// Options: `ablation`, `seed` as for `edges`.
    #[rhai_fn(name = "metric", return_raw, pure)]
    pub fn circuit_metric(
        context: NativeCallContext,
        circuit: &mut CircuitHandle,
        options: Map,
    ) -> ScriptResult<Tensor> {
        let ablation = Options::read("metric", options, |options| circuit.scores().request.ablation(options))?;
        let values = circuit.evaluated(&context, ablation, |evaluator| evaluator.metrics(&circuit.circuit))?;
        Ok(tensor(&values)?)
    }

    /// The share of the way from no edge to all edges that a circuit keeps: (m(circuit) - m(none)) / (m(all) - m(none)), of
    /// means over the samples.
    ///
    /// Options: `ablation`, `seed` as for `edges`.
    #[rhai_fn(name = "faithfulness", return_raw, pure)]
    pub fn circuit_faithfulness(
        context: NativeCallContext,
        circuit: &mut CircuitHandle,
        options: Map,
    ) -> ScriptResult<f64> {
        let ablation = Options::read("faithfulness", options, |options| circuit.scores().request.ablation(options))?;
        circuit.evaluated(&context, ablation, |evaluator| {
            let ends = Ends::new(evaluator, &circuit.scores().request.graph)?;
            Ok(ends.faithfulness(mean(&evaluator.metrics(&circuit.circuit)?)))
        })
    }

    /// What each edge of a circuit is needed for: the faithfulness that is lost without it, `lost`, largest first; an edge
    /// that loses nothing makes the circuit larger than it must be (minimality, arXiv 2211.00593, with single edges).
    ///
    /// Options: `ablation`, `seed` as for `edges`.
    #[rhai_fn(name = "minimality", return_raw, pure)]
    pub fn circuit_minimality(
        context: NativeCallContext,
        circuit: &mut CircuitHandle,
        options: Map,
    ) -> ScriptResult<Table> {
        let ablation = Options::read("minimality", options, |options| circuit.scores().request.ablation(options))?;
        let graph = &circuit.scores().request.graph;
        let rows = circuit.evaluated(&context, ablation, |evaluator| {
            let ends = Ends::new(evaluator, graph)?;
            let whole = ends.faithfulness(mean(&evaluator.metrics(&circuit.circuit)?));
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
        let mut table = Table::new(String::new(), columns(&names))?;
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
    /// Options: `sets` (10), `share` (0.5: an edge is in K by this chance), `draw_seed` (0), `ablation`, `seed` as for
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
                return Err(Error::new(format!("option `share` is a chance from 0 to 1, not {share}")));
            }
            let sets = options.integer("sets")?.unwrap_or(10);
            let seed = options.integer("draw_seed")?.unwrap_or(0);
            Ok((circuit.scores().request.ablation(options)?, sets, share, seed))
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
        let mut table = Table::new(String::new(), columns(&names))?;
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
        let count = circuit.circuit.len();
        if scores.scores.len() < 2 {
            return Err(Error::new("stability over samples needs scores of several samples").into());
        }
        let shares = stability(&scores.scores, |score| size(is_absolute, score), count, draws, seed);
        let mut table = Table::new(String::new(), columns(&[("edge", None), ("share", Some(".2"))]))?;
        let graph = &scores.request.graph;
        for edge in circuit.numbers() {
            table.push(vec![
                ("edge".to_owned(), Cell::Text(graph.name(graph.edges[edge]))),
                ("share".to_owned(), Cell::Float(shares[edge])),
            ])?;
        }
        Ok(table.sorted_by("share", true)?)
    }

    /// Writes a circuit to a file, in the format that its name ends in:
    /// - `.svg`, `.png`: a drawing, layers from bottom to top, heads and MLP from left to right, edges as wide as their score
    /// - `.dot`: for Graphviz
    /// - `.json`: a circuit file of the MIB track, with the scores of all edges. Of a model whose query heads share keys and
    ///   values it names those `a3.kv1<k>` and says so in `cfg`
    #[rhai_fn(name = "save", return_raw, pure)]
    pub fn circuit_save(circuit: &mut CircuitHandle, path: &str) -> ScriptResult<()> {
        let scores = circuit.scores();
        let (graph, d_model) = (&scores.request.graph, scores.request.model.get().config().d_model);
        let scored = Scored { scores: scores.means.clone(), circuit: (*circuit.circuit).clone() };
        Ok(drawing::save(Path::new(path), graph, d_model, &scored)?)
    }

    /// What several edges do together: in the clean run each of them carries the corrupted run's value, and all else follows:
    /// `#{ metric, baseline, effect, mean }`, f64 [sample].
    ///
    /// Needed: `edges` (names), `clean`, `corrupted`, `answer`, as for `edges`.
    ///
    /// Options: `metric`, `ablation`, `seed` as for `edges`, `direction` ("noise"; "denoise": the clean run's values in the
    /// corrupted run).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let patched = model.path_patch(#{
    ///     clean: "The capital of France is", corrupted: "The capital of Japan is", answer: " Paris",
    ///     edges: ["input->m0", "a9.h3->logits"],
    /// });
    /// print(patched.effect);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn path_patch(context: NativeCallContext, model: &mut Model, options: Map) -> ScriptResult<Map> {
        ablated(&context, model, ("path_patch", "edges"), options, |request, chosen| {
            let graph = &request.graph;
            let mut circuit = Circuit::full(graph);
            for name in chosen {
                let place = graph.edges.binary_search(&graph.edge(name)?);
                circuit.kept[place.unwrap_or_else(|_| unreachable!("edges are in order"))] = false;
            }
            Ok(circuit)
        })
    }

    /// What components do: everything that they add to the residual stream is replaced where others read it:
    /// `#{ metric, baseline, effect, mean }`, f64 [sample].
    ///
    /// Needed: `nodes` (names such as "a3.h5", "m0", "input"), `clean`, `answer`, and `corrupted` for the ablation
    /// "corrupted".
    ///
    /// Options: as for `path_patch`.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let clean = ["The capital of France is", "The capital of Japan is"];
    /// print(model.ablate(#{ clean: clean, answer: [" Paris", " Tokyo"], nodes: ["m0"], ablation: "mean" }).effect);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn ablate(context: NativeCallContext, model: &mut Model, options: Map) -> ScriptResult<Map> {
        ablated(&context, model, ("ablate", "nodes"), options, |request, chosen| {
            let graph = &request.graph;
            let nodes = chosen.iter().map(|name| graph.node(name)).collect::<Result<Vec<_>>>()?;
            let mut circuit = Circuit::full(graph);
            for (kept, edge) in circuit.kept.iter_mut().zip(&graph.edges) {
                *kept = !nodes.contains(&edge.source);
            }
            Ok(circuit)
        })
    }
}
