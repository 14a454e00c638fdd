//! Scores of nodes in scripts.

use std::cell::OnceCell;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::attribute_request::{Asked, Call};
use crate::attribution::agreement::{Agreement, descending};
use crate::attribution::replacement::Sample;
use crate::attribution::scored::{Place, Scored, Verified};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::model::Model;
use crate::bind::model::hooks::{Caller, with_hooks};
use crate::bind::option::Options;
use crate::data::table::{Cell, Column, Table};
use crate::error::{Error, Result};
use crate::model::hook::HookPoint;
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// The script's handle of scored nodes.
#[derive(Clone)]
pub struct Attribution(Rc<Computed>);

/// Scores, with the call that they are of.
struct Computed {
    scored: Scored,
    verified: Option<Verified>,
    method: String,
    call: Call,
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
            let scored = Scored::new(decoder, objective, &kinds, samples, method)?;
            let verified = verify.map(|(count, seed)| scored.verify(decoder, objective, count, seed)).transpose()?;
            Ok((scored, verified))
        })
    })?;
    Ok(Attribution(Rc::new(Computed { scored, verified, method: words, call, exact: OnceCell::new() })))
}

fn column(name: &str, format: Option<&str>) -> Column {
    Column { name: name.to_owned(), header: name.to_owned(), format: format.map(str::to_owned) }
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

    /// The cells that say which node a row is about.
    fn node(&self, node: usize) -> Vec<(String, Cell)> {
        let node = &self.scored.nodes[node];
        let HookPoint { layer, .. } = node.point();
        vec![
            ("node".to_owned(), Cell::Text(node.name(self.call.model.get().config()))),
            ("hook".to_owned(), Cell::Text(node.point().name())),
            ("layer".to_owned(), Cell::Integer(layer)),
            ("head".to_owned(), node.element.head.map_or(Cell::Empty, Cell::Integer)),
        ]
    }

    /// The position, and the token there, of a column in some samples; blank where they differ. Of several prompts of
    /// different lengths, positions count from the end.
    fn position(&self, samples: &[usize], column: usize) -> Result<Vec<(String, Cell)>> {
        let scored = &self.scored;
        let run = |sample: &usize| &scored.samples[*sample];
        let is_of_end = samples.windows(2).any(|pair| run(&pair[0]).run.len() != run(&pair[1]).run.len());
        let mut positions = Vec::new();
        let mut tokens = Vec::new();
        for sample in samples {
            let Some(position) = scored.position(*sample, column) else { continue };
            let Sample { run, position: given, .. } = run(sample);
            positions.push(if is_of_end && given.is_none() { position - run.len() as i64 } else { position });
            tokens.push(run[position as usize]);
        }
        let same = |values: &[i64]| match values {
            [first, rest @ ..] if rest.iter().all(|value| value == first) => Some(*first),
            _ => None,
        };
        let model = self.call.model.get();
        let token = match same(&tokens).filter(|_| model.has_tokenizer()) {
            Some(id) => model.tokens(&[id])?.into_iter().next().map_or(Cell::Empty, Cell::Text),
            None => Cell::Empty,
        };
        let position = same(&positions).map_or(Cell::Empty, Cell::Integer);
        Ok(vec![("position".to_owned(), position), ("token".to_owned(), token)])
    }

    /// The nodes and positions with the largest mean scores.
    fn top(&self, count: usize) -> Result<Table> {
        let columns = ["node", "hook", "layer", "head", "position", "token"].map(|name| column(name, None));
        let columns = columns.into_iter().chain([column("score", Some("+.4"))]).collect();
        let mut table = Table::new(String::new(), columns)?;
        let means = self.scored.means();
        let sizes: Vec<f64> = means.iter().map(|mean| if mean.is_nan() { -1.0 } else { mean.abs() }).collect();
        let samples: Vec<usize> = (0..self.scored.samples.len()).collect();
        for place in descending(&sizes).into_iter().filter(|place| !means[*place].is_nan()).take(count) {
            let (node, at) = (place / self.scored.columns, place % self.scored.columns);
            let score = [("score".to_owned(), Cell::Float(means[place]))];
            table.push([self.node(node), self.position(&samples, at)?, score.to_vec()].concat())?;
        }
        Ok(table)
    }

    /// Places with their scores and exact effects.
    fn compared(&self, chosen: &[(Place, f64)], (drawn, misses): (usize, &[usize])) -> Result<Table> {
        let columns = ["node", "hook", "layer", "head", "sample", "position", "token"].map(|name| column(name, None));
        let numbers = ["estimated", "exact"].map(|name| column(name, Some("+.4")));
        let columns = columns.into_iter().chain(numbers).chain(["drawn", "miss"].map(|name| column(name, None)));
        let mut table = Table::new(String::new(), columns.collect())?;
        for (number, (place, exact)) in chosen.iter().enumerate() {
            let values = vec![
                ("sample".to_owned(), Cell::Integer(place.sample as i64)),
                ("estimated".to_owned(), Cell::Float(self.scored.score(*place))),
                ("exact".to_owned(), Cell::Float(*exact)),
                ("drawn".to_owned(), Cell::Bool(number < drawn)),
                ("miss".to_owned(), Cell::Bool(misses.contains(&number))),
            ];
            table.push([self.node(place.node), self.position(&[place.sample], place.column)?, values].concat())?;
        }
        Ok(table)
    }

    fn verified(&self) -> Result<&Verified> {
        self.verified.as_ref().ok_or_else(|| {
            Error::new("the scores were not verified").hint("model.attribute(#{ .., verify: 20 }), or `agreement()`")
        })
    }

    /// Places that were verified, all or the misses.
    fn verified_table(&self, only_misses: bool) -> Result<Table> {
        let verified = self.verified()?;
        let misses = &verified.agreement.misses;
        let all: Vec<(Place, f64)> = verified.places.iter().copied().zip(verified.exact.iter().copied()).collect();
        if only_misses {
            let own: Vec<_> = misses.iter().map(|place| all[*place]).collect();
            let every: Vec<usize> = (0..own.len()).collect();
            let mut drawn: Vec<_> = misses.iter().filter(|place| **place < verified.drawn).collect();
            drawn.sort_unstable();
            return self.compared(&own, (drawn.len(), &every));
        }
        self.compared(&all, (verified.drawn, misses))
    }

    fn agreement_map(&self, exact: &[f64]) -> Result<Map> {
        let found: Agreement = self.scored.agreement(exact)?;
        let places = self.scored.places();
        let misses: Vec<(Place, f64)> = found.misses.iter().map(|miss| (places[*miss], exact[*miss])).collect();
        let every: Vec<usize> = (0..misses.len()).collect();
        Ok(map! {
            "pearson" => found.pearson,
            "spearman" => found.spearman,
            "top10" => found.found,
            "places" => exact.len() as i64,
            "misses" => self.compared(&misses, (0, &every))?,
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
    ///   backward pass); "ig" (times the mean of gradients in `steps` runs, 10 by default, at t = (i + 1/2) / steps);
    ///   "relp", "frozen" (as "atp", with the rules of `grad`'s option `backward`); "atp*" (arXiv 2403.00745: queries and keys
    ///   through a recomputed softmax, and the mean size of scores over backward passes that each miss the contributions of
    ///   one layer: its scores are magnitudes)
    /// - `path`: of "ig": "inputs" (the embeddings move from the run's to the other's, one run per step; the default for
    ///   `clean` and `corrupted`) or "activations" (a hook's own activations move, at all patched positions, one run per step
    ///   and hook; the default for `source` and `target`)
    /// - `verify`: the number of places, drawn by `seed`, and of others with the largest scores, whose effects are computed
    ///   exactly too
    ///
    /// The result has `scores`, `nodes`, `table`, `top(n)`; of `verify`, `verified`, `pearson`, `spearman` and `misses`; and
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
    #[rhai_fn(get = "table", return_raw, pure)]
    pub fn attribution_table(found: &mut Attribution) -> ScriptResult<Table> {
        Ok(found.0.top(usize::MAX)?)
    }

    /// The `n` nodes and positions with the largest mean scores, as `table`.
    #[rhai_fn(return_raw, pure)]
    pub fn top(found: &mut Attribution, n: i64) -> ScriptResult<Table> {
        Ok(found.0.top(n.max(0) as usize)?)
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
