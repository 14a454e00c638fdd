//! Circuits in scripts: edges that are kept, and what is left of a metric when the rest is ablated.

use std::path::Path;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::edges::{Edges, SELECTIONS, Scores};
use super::request::{Request, names};
use crate::attribution::alternative::Ablation;
use crate::attribution::circuit::{Circuit, Selection};
use crate::attribution::circuit_run::Evaluator;
use crate::attribution::drawing;
use crate::attribution::faithfulness::{Ends, mean};
use crate::attribution::mib::Scored;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::model::hooks::with_hooks;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::stat::summary::mean_and_variance;
use crate::tensor::Tensor;

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
    if !(penalty.is_finite() && penalty >= 0.0) {
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

/// The size of a score, or how much corrupting the edge lowers the metric.
pub fn size(is_absolute: bool, score: f64) -> f64 {
    if is_absolute { score.abs() } else { -score }
}

/// The option `keep`: a share of the edges, a number of them, their names, or the file's own circuit.
fn kept(options: &mut Options, scores: &Scores) -> Result<Circuit> {
    let graph = &scores.request.graph;
    let keep = options.needed("keep", "keep: 0.05 (a share), 200 (a number), names, or \"file\"")?;
    if let Some(chosen) = keep.read_lock::<Array>() {
        let mut circuit = Circuit::empty(graph);
        for name in names("keep", &chosen)? {
            circuit.kept[graph.number(graph.edge(&name)?)] = true;
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
    /// The scores that it was chosen by.
    pub fn scores(&self) -> &Scores {
        self.edges.get()
    }

    /// The edges.
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Does `work` with what runs circuits.
    ///
    /// # Errors
    /// As for [`evaluated`].
    pub fn evaluated<T>(
        &self,
        context: &NativeCallContext,
        ablation: Ablation,
        work: impl FnOnce(&Evaluator<'_>) -> Result<T>,
    ) -> ScriptResult<T> {
        evaluated(context, &self.scores().request, ablation, work)
    }
}

/// Does `work` with what runs circuits on a request's samples.
///
/// # Errors
/// What running the ablated values, or `work`, raises.
pub fn evaluated<T>(
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

/// Numbers as a tensor, f64.
///
/// # Errors
/// Too little memory.
pub fn tensor(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(tch::Tensor::f_from_slice(values)?))
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
    /// Options: `ablation` (that of the scores), `seed` as for `edges`.
    #[rhai_fn(name = "metric", return_raw, pure)]
    pub fn circuit_metric(
        context: NativeCallContext,
        circuit: &mut CircuitHandle,
        options: Map,
    ) -> ScriptResult<Tensor> {
        let ablation =
            Options::read("metric", options, |options| Request::ablation(options, circuit.scores().ablation))?;
        let values = circuit.evaluated(&context, ablation, |evaluator| evaluator.metrics(&circuit.circuit))?;
        Ok(tensor(&values)?)
    }

    /// The share of the way from no edge to all edges that a circuit keeps: (m(circuit) - m(none)) / (m(all) - m(none)), of
    /// means over the samples.
    ///
    /// Options: `ablation` (that of the scores), `seed` as for `edges`.
    #[rhai_fn(name = "faithfulness", return_raw, pure)]
    pub fn circuit_faithfulness(
        context: NativeCallContext,
        circuit: &mut CircuitHandle,
        options: Map,
    ) -> ScriptResult<f64> {
        let ablation =
            Options::read("faithfulness", options, |options| Request::ablation(options, circuit.scores().ablation))?;
        circuit.evaluated(&context, ablation, |evaluator| {
            let ends = Ends::new(evaluator, &circuit.scores().request.graph)?;
            Ok(ends.faithfulness(mean(&evaluator.metrics(&circuit.circuit)?)))
        })
    }

    /// Writes a circuit to a file, in the format that its name ends in:
    /// - `.svg`, `.png`, `.pdf`: a drawing, layers from bottom to top, heads and MLP from left to right, edges as wide as their score
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
}
