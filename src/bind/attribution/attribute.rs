//! Scores of nodes in scripts.

use std::cell::OnceCell;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::attribute_request::{Asked, Call};
use super::attribute_table::Compared;
use crate::attribution::agreement::Agreement;
use crate::attribution::node_scores::{NodeScores, Verified};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::model::Model;
use crate::bind::model::hooks::{Caller, with_hooks};
use crate::bind::option::Options;
use crate::data::table::Table;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// The script's handle of scored nodes.
#[derive(Clone)]
pub struct Attribution(Rc<Computed>);

/// Scores, with the call that they are of.
pub struct Computed {
    /// The scores
    pub scored: NodeScores,
    /// Some of them beside exact effects
    pub verified: Option<Verified>,
    method: String,
    /// The model and the metric
    pub call: Call,
    /// The effects of all places
    exact: OnceCell<Vec<f64>>,
}

impl Handle for Attribution {
    const NAME: &'static str = "attribution";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        let Computed { scored, method, call, .. } = &*self.0;
        format!("{method} of {} nodes in {}, {} samples", scored.nodes.len(), call.measure.name(), scored.samples.len())
    }
}

fn make(context: &NativeCallContext, model: &Model, options: Map) -> ScriptResult<Attribution> {
    let Asked { call, samples, kinds, method, words, verify } =
        Options::read("attribute", options, |options| Asked::read(model, options))?;
    let decoder = &model.get().decoder;
    let (scored, verified) = with_hooks(context, |caller| {
        call.measure.with(caller, model, &call.clean, |objective| {
            let scored = NodeScores::new(decoder, objective, &kinds, samples, method)?;
            let verified = verify.map(|(count, seed)| scored.verify(decoder, objective, count, seed)).transpose()?;
            Ok((scored, verified))
        })
    })?;
    Ok(Attribution(Rc::new(Computed { scored, verified, method: words, call, exact: OnceCell::new() })))
}

impl Computed {
    /// The effects of all places, computed once.
    fn exact(&self, caller: &Caller<'_>) -> Result<&[f64]> {
        if let Some(exact) = self.exact.get() {
            return Ok(exact);
        }
        let Call { model, measure, clean } = &self.call;
        let found = measure.with(caller, model, clean, |objective| {
            self.scored.exact(&model.get().decoder, objective, &self.scored.places())
        })?;
        Ok(self.exact.get_or_init(|| found))
    }

    fn tensor(&self, values: &[f64]) -> Result<Tensor> {
        let scored = &self.scored;
        let shape = [scored.samples.len() as i64, scored.nodes.len() as i64, scored.columns as i64];
        Ok(Tensor::new(tch::Tensor::f_from_slice(values)?.f_view(shape)?))
    }

    fn agreement_map(&self, exact: &[f64]) -> Result<Map> {
        let found: Agreement = self.scored.agreement(exact)?;
        let places = self.scored.places();
        let miss =
            |miss: &usize| Compared { place: places[*miss], exact: exact[*miss], is_drawn: false, is_miss: true };
        Ok(map! {
            "pearson" => found.pearson,
            "spearman" => found.spearman,
            "top10" => found.found,
            "places" => exact.len() as i64,
            "misses" => self.compared(found.misses.iter().map(miss))?,
        })
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Scores nodes: by how much the metric would change if a node's activation were replaced at a position, estimated from
    /// gradients (attribution patching and its successors), for all nodes at once.
    ///
    /// Needed: `clean` and `corrupted`, prompts or arrays of them (each pair of one length), or `source`, `target` and
    /// `position`, as for `patch_grid`: the activations at the source's last token replace those at one position of the
    /// target's run. `answer` (of each sample or of all) goes with a metric's name. Options:
    /// - `metric`: "log_probability" by default; as for `patch_grid`, also a function
    /// - `direction`: "noise" (default: the clean run gets the corrupted run's activations, so that what helps has a negative
    ///   score) or "denoise" (the corrupted run gets the clean run's)
    /// - `nodes`: an array of "head" (what a head mixes, `z`), "mlp_out", "attn_out", "neuron", "q", "k", "v", "resid_pre",
    ///   "resid_mid", "resid_post", "embed"; heads and MLPs by default
    /// - `method`: "atp" (default: the difference times the gradient in the run that is patched; two forward passes and one
    ///   backward pass); "ig" (times the mean of gradients in `steps` runs, 10 by default and 10000 at most, at
    ///   t = (i + 1/2) / steps); "relp", "frozen" (as "atp", with the rules of `grad`'s option `backward`); "atp*"
    ///   (arXiv 2403.00745: queries and keys through a recomputed softmax, and the mean size of scores over backward passes that each miss the contributions of
    ///   one layer: its scores are magnitudes)
    /// - `path`: of "ig": "inputs" (the embeddings move from the run's to the other's, one run per step; the default for
    ///   `clean` and `corrupted`) or "activations" (a hook's own activations move, at all patched positions, one run per step
    ///   and hook; the default for `source` and `target`)
    /// - `verify`: the number of places, drawn by `seed`, and of others with the largest scores, whose effects are computed
    ///   exactly too
    ///
    /// The result has `scores`, `nodes`, `table()`, `top(n)`; of `verify`, `verified`, `pearson`, `spearman` and `misses`; and
    /// `exact()` and `agreement()`, which compute all effects exactly.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let found = model.attribute(#{
    ///     clean: "The capital of France is", corrupted: "The capital of Japan is", answer: " Paris", verify: 4,
    /// });
    /// print(found.top(5));
    /// print(`${found.pearson} with the exact effects of ${found.verified.len} nodes`);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn attribute(context: NativeCallContext, model: &mut Model, options: Map) -> ScriptResult<Attribution> {
        make(&context, model, options)
    }

    /// The scores, f64 [sample, node, position]. Where prompts have different lengths, the last position is the last of each,
    /// and a score is NaN where a prompt has no such position.
    #[rhai_fn(get = "scores", return_raw, pure)]
    pub fn attribution_scores(found: &mut Attribution) -> ScriptResult<Tensor> {
        Ok(found.0.tensor(&found.0.scored.values)?)
    }

    /// The names of the nodes: `a3.h5` for a head, `m3` for an MLP, `a3` for an attention layer, `m3.n17` for a neuron,
    /// `a3.h5<q>` for a query, `a3.kv1<k>` for a key that several query heads share, `r3.post` for the residual stream after a
    /// layer, `input` for the embeddings.
    #[rhai_fn(get = "nodes", pure)]
    pub fn attribution_nodes(found: &mut Attribution) -> Array {
        let config = found.0.call.model.get().config();
        found.0.scored.nodes.iter().map(|node| node.name(config).into()).collect()
    }

    /// The method, with its path and steps.
    #[rhai_fn(get = "method", pure)]
    pub fn attribution_method(found: &mut Attribution) -> String {
        found.0.method.clone()
    }

    /// All nodes and positions, the largest mean score over the samples first: `node`, `hook`, `layer`, `head`, `position`,
    /// `token`, `score`.
    #[rhai_fn(name = "table", return_raw, pure)]
    pub fn attribution_table(found: &mut Attribution) -> ScriptResult<Table> {
        Ok(found.0.top(usize::MAX)?)
    }

    /// The `n` nodes and positions with the largest mean scores, as `table()`.
    #[rhai_fn(return_raw, pure)]
    pub fn top(found: &mut Attribution, n: i64) -> ScriptResult<Table> {
        let count = usize::try_from(n);
        let count = count.map_err(|_| Error::new(format!("a table cannot have {n} rows")).hint("top(10)"))?;
        Ok(found.0.top(count)?)
    }

    /// The places of the option `verify`: which node, sample and position, `estimated`, `exact`, `drawn` (by chance, or for its
    /// size) and `miss`. A miss is among the tenth with the largest exact effects and has a score below the median size.
    #[rhai_fn(get = "verified", return_raw, pure)]
    pub fn attribution_verified(found: &mut Attribution) -> ScriptResult<Table> {
        Ok(found.0.verified_table(false)?)
    }

    /// The verified places that are misses.
    #[rhai_fn(get = "misses", return_raw, pure)]
    pub fn attribution_misses(found: &mut Attribution) -> ScriptResult<Table> {
        Ok(found.0.verified_table(true)?)
    }

    /// Pearson's correlation of scores and exact effects of the verified places (of their sizes for "atp*").
    #[rhai_fn(get = "pearson", return_raw, pure)]
    pub fn attribution_pearson(found: &mut Attribution) -> ScriptResult<f64> {
        Ok(found.0.verified()?.agreement.pearson)
    }

    /// Spearman's correlation of scores and exact effects of the verified places (of their sizes for "atp*").
    #[rhai_fn(get = "spearman", return_raw, pure)]
    pub fn attribution_spearman(found: &mut Attribution) -> ScriptResult<f64> {
        Ok(found.0.verified()?.agreement.spearman)
    }

    /// The exact effects of all nodes and positions, f64 in the shape of `scores`: a run with one activation replaced, from its
    /// layer on, for each. They are computed once.
    #[rhai_fn(return_raw, pure)]
    pub fn exact(context: NativeCallContext, found: &mut Attribution) -> ScriptResult<Tensor> {
        let computed = &found.0;
        let effects = with_hooks(&context, |caller| computed.exact(caller).map(<[f64]>::to_vec))?;
        let all = computed.scored.everywhere(&effects);
        Ok(computed.tensor(&all)?)
    }

    /// How well scores agree with the exact effects of all nodes and positions: `#{ pearson, spearman, top10, misses, places }`.
    /// Positions before the first token in which a sample's prompts differ are left out: nothing changes there.
    ///
    /// `top10` is the share of the ten largest exact effects that are among the ten largest scores, by size; `misses` is a
    /// table, as of `verify`; `places` is how many effects there are.
    #[rhai_fn(name = "agreement", return_raw, pure)]
    pub fn agreement(context: NativeCallContext, found: &mut Attribution) -> ScriptResult<Map> {
        let computed = &found.0;
        with_hooks(&context, |caller| computed.agreement_map(computed.exact(caller)?))
    }

    /// The same with the exact effects that another method's `exact()` gave for the same prompts and nodes.
    #[rhai_fn(name = "agreement", return_raw, pure)]
    pub fn agreement_with(found: &mut Attribution, exact: Tensor) -> ScriptResult<Map> {
        let computed = &found.0;
        let scores = &computed.scored;
        let shape = vec![scores.samples.len() as i64, scores.nodes.len() as i64, scores.columns as i64];
        if exact.shape() != shape {
            return Err(
                Error::new(format!("exact effects must be {shape:?} as the scores, not {:?}", exact.shape())).into()
            );
        }
        let all = numbers(&exact.tch().f_to_kind(tch::Kind::Double).map_err(Error::from)?)?;
        Ok(computed.agreement_map(&scores.of_places(&all))?)
    }
}
