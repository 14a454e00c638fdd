//! Locally linear maps in scripts: `model.linearize(tokens)` and what can be asked of the map.

mod grid;
mod map;
mod metric;
mod path;
mod path_graph;
mod path_request;
mod paths;
mod scores;

pub use path_graph::PathGraphHandle;
pub use paths::Paths;
pub use scores::ScoresHandle;

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map, NativeCallContext};
use tch::Kind;

use super::convert::{expected, integers};
use super::error::ScriptResult;
use super::handle::Handle;
use super::map::map;
use super::model::Model;
use super::model::hooks::{Caller, with_hooks};
use super::model::{answers, prompts};
use super::module;
use super::option::Options;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::linear::map::LinearMap;
use crate::model::run::Hooks;
use crate::tensor::Tensor;

/// What to do with a map that was frozen under interventions.
const WITHOUT_HOOKS: &str = "give the hooks to `predict` itself";

/// The script's handle of a model frozen at one prompt.
#[derive(Debug, Clone)]
pub struct Linear {
    model: Model,
    map: Rc<LinearMap>,
}

impl Handle for Linear {
    const NAME: &'static str = "linear_map";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        format!("linear map of {} at {} tokens", self.model.get().name, self.map.length())
    }
}

/// Registers everything about linear maps.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Linear, exported_manifest!(functions));
    module::register(engine, Topic::Linear, exported_manifest!(map::functions));
    module::register(engine, Topic::Linear, exported_manifest!(grid::functions));
    module::register(engine, Topic::Linear, exported_manifest!(paths::functions));
    module::register(engine, Topic::Linear, exported_manifest!(path_graph::functions));
    module::register(engine, Topic::Linear, exported_manifest!(scores::functions));
}

impl Linear {
    /// Option `to`, a position, the last by default.
    fn to(&self, options: &mut Options) -> Result<i64> {
        self.map.position(options.integer("to")?.unwrap_or(-1))
    }

    /// The options of a function that takes only `to`.
    fn only_to(&self, function: &'static str, options: Map) -> Result<i64> {
        Options::read(function, options, |options| self.to(options))
    }

    /// Option `answer`: a token id, or text, whose first token counts.
    fn answer(&self, options: &mut Options) -> Result<i64> {
        let given = options.needed("answer", "#{ answer: a token id, or text }")?;
        let ids = answers(self.model.get(), &given)?;
        let [id] = ids.as_slice() else { return Err(expected("option `answer`", "one token id or text", &given)) };
        self.check_id(*id)?;
        Ok(*id)
    }

    fn check_id(&self, id: i64) -> Result<()> {
        let size = self.model.get().config().d_vocab_out;
        if (0..size).contains(&id) {
            return Ok(());
        }
        Err(Error::new(format!("token id {id} is out of range"))
            .hint(format!("this model's ids are 0 to {}", size - 1)))
    }
}

fn tensor(value: Result<tch::Tensor>) -> ScriptResult<Tensor> {
    Ok(value.map(Tensor::new)?)
}

fn totals(linear: &Linear, options: &mut Options) -> Result<tch::Tensor> {
    let ids = options.array("ids")?;
    if ["answer", "metric", "root"].iter().any(|key| options.has(key)) {
        if ids.is_some() {
            return Err(Error::new("`totals` takes either `ids`, for logits, or `answer` and `metric`, or `root`"));
        }
        let readout = linear.readout(options)?;
        return linear.map.totals_through(&readout, path_request::through(options)?);
    }
    let to = linear.to(options)?;
    match ids {
        None => linear.map.totals(to),
        Some(ids) => {
            let ids = integers("option `ids`", &ids)?;
            if ids.is_empty() {
                return Err(Error::new("option `ids` is empty"));
            }
            ids.iter().try_for_each(|id| linear.check_id(*id))?;
            linear.map.totals_of(to, &ids)
        }
    }
}

fn flow(linear: &Linear, options: Map) -> Result<Map> {
    let readout = Options::read("flow", options, |options| linear.readout(options))?;
    let flow = linear.map.flow(&readout)?;
    let mut map = map! {
        "node" => Tensor::new(flow.node),
        "head" => Tensor::new(flow.head),
        "mlp" => Tensor::new(flow.mlp),
        "attention_bias" => Tensor::new(flow.attention_bias),
        "mlp_bias" => Tensor::new(flow.mlp_bias),
        "final_bias" => flow.final_bias,
        "intervention" => vector(&flow.intervention)?,
        "constant" => readout.constant,
        "value" => readout.value,
    };
    map.insert(readout.target.name().into(), readout.value.into());
    Ok(map)
}

fn freeze(caller: &Caller, model: &Model, tokens: &Dynamic, options: Map) -> Result<Linear> {
    let (entries, names) = Options::read("linearize", options, |options| {
        Ok((options.array("hooks")?.unwrap_or_default(), options.map("positions")?.unwrap_or_default()))
    })?;
    let decoder = &model.get().decoder;
    let rows = prompts(model.get(), tokens)?;
    let [row] = rows.as_slice() else {
        return Err(Error::new(format!("a map is frozen at one prompt, and {} were given", rows.len())));
    };
    let mut all = Hooks::none();
    caller.add(&mut all, &entries, &decoder.config, &names, None)?;
    let map = LinearMap::freeze_with(model.shared(), row, all)?;
    Ok(Linear { model: model.clone(), map: Rc::new(map) })
}

#[export_module(manifest)]
mod functions {
    /// Freezes a model at one prompt: every norm's divisor, every attention probability, every activation's slope
    /// (f(u)/u) and every soft cap's secant.
    ///
    /// What remains is linear in the embeddings, and exact: its parts add up to the model's logits. A node is a layer
    /// and a position. Layer 0 stands before the first block (embedding plus, in GPT-2, the learned position), layer
    /// n_layers after the last. See Elhage et al. 2021 for attention, and the paper's section 6 for the surrogates of
    /// MLPs and norms.
    ///
    /// Options: `hooks`, as in `run_with_hooks`, freezes the model under interventions; `positions` names positions
    /// that interventions may use. Norms, attention probabilities and slopes are then those of the changed run. So are
    /// `flow`'s logit and the map that ranks paths. Paths still start from the tokens, and pass through a patched node
    /// as through any other. What the interventions put into the residual stream there (the patched vector minus the
    /// value it replaces) is a source of its own, `intervention()`, which `check()` counts beside tokens and biases.
    /// Changed embeddings count as the tokens'. `predict`, `predict_grid` and `validity` need a map without hooks.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let lin = model.linearize("The capital of France is");
    /// print(lin.check());
    /// print(lin.totals(#{ ids: [model.to_single_token(" Paris")] }));
    /// let model = load_model("smollm2");
    /// let digest = model.run_with_cache("; short, shorter", ["blocks.12.hook_resid_post"]).cache["blocks.12.hook_resid_post"][0, -1];
    /// let lin = model.linearize("; big,", #{ hooks: [patch("blocks.12.hook_resid_post", 0, digest)] });
    /// assert(lin.check().relative < 1e-4);
    /// print(lin.intervention().shape);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn linearize(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Linear> {
        with_hooks(&context, |caller| freeze(caller, model, &tokens, options))
    }

    /// The prompt's token ids.
    #[rhai_fn(get = "tokens", pure)]
    pub fn linear_tokens(linear: &mut Linear) -> Array {
        linear.map.tokens().iter().copied().map(Dynamic::from).collect()
    }

    /// Compares the sum over source tokens, biases and interventions with the run's own logits at the last position.
    ///
    /// Returns `#{ relative, absolute }`: the largest difference, divided by the largest logit or not.
    ///
    /// Option: `to`, the position (-1).
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// print(lin.check().relative);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn check(linear: &mut Linear, options: Map) -> ScriptResult<Map> {
        let completeness = linear.map.check(linear.only_to("check", options)?)?;
        Ok(map! { "relative" => completeness.relative, "absolute" => completeness.absolute })
    }

    /// Each source token's contribution to the last position's logits, [source, d_vocab].
    ///
    /// Options: `to`, the position of the logits (-1); `ids`, the tokens to measure, which gives [source, id] for much
    /// less work; `answer` and `metric` (as in `flow`), which give what each token contributes to that metric,
    /// [source]. Tokens after `to` contribute nothing, unless attention is bidirectional. `root`, as in `paths`, gives
    /// what each token contributes to a head's score by way of its query or key. With `through: "qkv"`, as in `paths`, it
    /// is each token's part of the derivative of the metric or score by a common factor of all embeddings: what all
    /// paths through queries, keys and values sum to, without their number mattering.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// print(lin.totals().shape);
    /// print(lin.totals(#{ answer: " Paris", metric: #{ kind: "logit_difference", against: " Rome" } }));
    /// ```
    #[rhai_fn(name = "totals", return_raw, pure)]
    pub fn totals_with(linear: &mut Linear, options: Map) -> ScriptResult<Tensor> {
        tensor(Options::read("totals", options, |options| totals(linear, options)))
    }

    /// The contribution of all biases to the last position's logits, [d_vocab]; zeros for a model without biases.
    ///
    /// Option: `to`, the position (-1).
    #[rhai_fn(return_raw, pure)]
    pub fn bias(linear: &mut Linear, options: Map) -> ScriptResult<Tensor> {
        tensor(linear.only_to("bias", options).and_then(|to| linear.map.bias(to)))
    }

    /// The contribution of the interventions to the last position's logits, [d_vocab]; zeros without interventions.
    ///
    /// Counts what the interventions of `linearize` put into the residual stream minus the values they replace, carried
    /// on to the logits.
    ///
    /// Option: `to`, the position (-1).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let lin = model.linearize("The capital of France is", #{ hooks: [zero("blocks.3.hook_mlp_out", -1)] });
    /// let parts = lin.totals().sum(0) + lin.bias() + lin.intervention();
    /// let hooked = model.run_with_hooks(lin.tokens, [zero("blocks.3.hook_mlp_out", -1)])[0, -1];
    /// print((parts - hooked).abs().max());
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn intervention(linear: &mut Linear, options: Map) -> ScriptResult<Tensor> {
        tensor(linear.only_to("intervention", options).and_then(|to| linear.map.intervention(to)))
    }

    /// Splits one logit, or another metric of the answer, over the parts of the model, by one backward pass.
    ///
    /// Returns a map. At every layer the nodes, all later biases, all earlier interventions and the constant sum to the
    /// value.
    /// - `node` [n_layers + 1, pos]: through each node
    /// - `head` [layer, head, source, target]: through each head's edge
    /// - `mlp` [layer, pos]: through each MLP
    /// - `attention_bias`, `mlp_bias` [layer]: added by biases, those of norms included
    /// - `final_bias`: added by the last norm's and the unembedding's bias
    /// - `intervention` [n_layers + 1]: added by interventions at each layer
    /// - `value`: the run's own; by the metric's name too, such as `logit`
    /// - `constant`: 0, except for `log_probability`
    ///
    /// Options: `answer` (a token id, or text, whose first token counts), `to` (-1), `metric`: `"logit"` (default),
    /// `#{ kind: "logit_difference", against: tokens }` or `"centred_logit"` (minus the mean of the logits of these or
    /// all tokens), which do not count a shift that all tokens share; or `"log_probability"`, by its differential at
    /// this run: each logit counts with the weight 1 (the answer's) or 0 minus its probability, and `constant` is minus
    /// the entropy. A metric that is not linear in the logits (`probability`, `rr`, `rank`, `kl`) has no such parts.
    ///
    /// `root`, as in `paths`, splits a head's score in place of a metric, by way of its query or of its key: `node`
    /// [layer + 1, pos], `head`, `mlp` and the biases are those of the layers before it, `final_bias` that of the query
    /// or key itself, and `value`, also called `score`, is the score before soft cap and mask.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// let flow = lin.flow(#{ answer: " Paris" });
    /// print(flow.node[0]);
    /// print(flow.head.sum([2, 3]).shape);
    /// print(lin.flow(#{ answer: " Paris", metric: "log_probability" }).node[0]);
    /// print(lin.flow(#{ root: #{ layer: 3, head: 4, query: -1, key: 3, side: "key" } }).node[0]);
    /// ```
    #[rhai_fn(name = "flow", return_raw, pure)]
    pub fn flow_of(linear: &mut Linear, request: Map) -> ScriptResult<Map> {
        Ok(flow(linear, request)?)
    }
}

/// Floats of an array, integers among them.
fn floats(what: &str, array: &Array) -> Result<Vec<f64>> {
    array
        .iter()
        .map(|item| {
            super::convert::number(item).ok_or_else(|| expected(&format!("each item of {what}"), "a number", item))
        })
        .collect()
}

/// A float64 tensor of numbers.
fn vector(numbers: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(tch::Tensor::f_from_slice(numbers)?.f_to_kind(Kind::Double)?))
}
