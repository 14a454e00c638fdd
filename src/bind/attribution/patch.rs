//! Patched edges and ablated components in scripts.

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::circuit::{evaluated, tensor};
use super::request::{Request, names};
use crate::attribution::alternative::Ablation;
use crate::attribution::circuit::Circuit;
use crate::attribution::faithfulness::mean;
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::model::Model;
use crate::bind::option::Options;
use crate::error::{Error, Result};

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
        let ablation = Request::ablation(options, Ablation::Corrupted)?;
        let chosen = options.needed(what, "an array of names")?;
        let chosen = chosen
            .read_lock::<Array>()
            .map(|chosen| names(what, &chosen))
            .ok_or_else(|| expected(what, "an array of names", &chosen))??;
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
                circuit.kept[graph.number(graph.edge(name)?)] = false;
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
