//! Gradients of a metric with respect to a run's activations, in scripts.

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};

use super::hooks::{Caller, with_hooks};
use super::intervention::Names;
use super::run::{padding, places};
use super::{Cache, Model, answer, metric, tokens};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::objective::Objective;
use crate::model::backward::Backward;
use crate::model::decoder::Logits;
use crate::model::forward::Start;
use crate::model::gradient::Gradients;
use crate::model::hook;
use crate::model::language_model::LanguageModel;
use crate::model::padding::Side;
use crate::model::run::Hooks;
use crate::tensor::Tensor;

/// The options of a call.
struct Call {
    answers: Option<Vec<Vec<i64>>>,
    hooks: Array,
    positions: Names,
    padding: Option<Side>,
    backward: Backward,
}

impl Call {
    fn read(function: &'static str, model: &LanguageModel, options: Map) -> Result<Self> {
        Options::read(function, options, |options| {
            Ok(Self {
                answers: options.any("answer").map(|value| answer::ids_by_sample(model, &value)).transpose()?,
                hooks: options.array("hooks")?.unwrap_or_default(),
                positions: options.map("positions")?.unwrap_or_default(),
                padding: padding(options)?,
                backward: options.choice("backward", BACKWARD)?.unwrap_or_default(),
            })
        })
    }
}

/// The names of the rules of a backward pass.
pub const BACKWARD: &[(&str, Backward)] =
    &[("exact", Backward::Exact), ("relp", Backward::Relp), ("frozen", Backward::Frozen)];

/// A named metric of `samples` samples.
fn objective(
    model: &LanguageModel,
    value: &Dynamic,
    answers: Option<&Vec<Vec<i64>>>,
    samples: usize,
) -> Result<Objective<'static>> {
    let asked = metric::metrics(model, Some(value.clone()), samples)?;
    let [one] = asked.asked.as_slice() else { return Err(Error::new("gradients are those of one metric")) };
    if one.normalised || asked.reference.is_some() {
        return Err(Error::new("a metric that compares runs has no gradient in one of them")
            .hint("a name such as \"log_probability\", or a function of the logits"));
    }
    let answers = answers.ok_or_else(|| {
        Error::new(format!("the metric `{}` needs the option `answer`", one.metric.name())).hint("answer: \" Paris\"")
    })?;
    let answers = asked.answers(model, answers.clone(), samples)?;
    Objective::new(one.metric, asked.target(&answers)?)
}

/// Runs the prompts and computes gradients; `names` are all activations where there are none.
fn gradients(
    caller: &Caller,
    model: &Model,
    (prompts, metric): (&Dynamic, &Dynamic),
    names: Option<&Dynamic>,
    call: &Call,
) -> Result<Gradients> {
    let language_model = model.get();
    let config = language_model.config();
    let decoder = &language_model.decoder;
    let batch = decoder.batch(&tokens::prompts(language_model, prompts)?, call.padding)?;
    let places = match names {
        Some(names) => places(caller, names, config)?,
        None => vec![("every activation".to_owned(), hook::usual(config))],
    };
    let mut hooks = Hooks::with_backward(call.backward);
    caller.add(&mut hooks, &call.hooks, config, &call.positions, None)?;
    let start = Start::Batch(&batch);
    if let Some(function) = metric.read_lock::<FnPtr>() {
        if call.answers.is_some() {
            return Err(Error::new("option `answer` goes with a metric's name; a function of the logits has its own"));
        }
        let measure = |logits: &tch::Tensor| -> Result<tch::Tensor> {
            let value = caller.call(&function, (Tensor::new(logits.shallow_clone()),))?;
            const HINT: &str = "|logits| logits[0, -1, 5] - logits[0, -1, 7], or a sum over samples";
            let Some(number) = value.read_lock::<Tensor>() else {
                return Err(
                    expected("what a metric of the logits returns", "a tensor of one number", &value).hint(HINT)
                );
            };
            if number.numel() != 1 {
                let what =
                    format!("a metric is one number, and this function gave a tensor of shape {:?}", number.shape());
                return Err(Error::new(what).hint(HINT));
            }
            Ok(number.share())
        };
        return decoder.gradients(start, Logits::All, &places, hooks, measure);
    }
    let samples = batch.tokens.size()[0] as usize;
    let objective = objective(language_model, metric, call.answers.as_ref(), samples)?;
    let all: Vec<usize> = (0..samples).collect();
    decoder.gradients(start, Logits::Last, &places, hooks, |logits| objective.of(&logits.f_squeeze_dim(1)?, &all))
}

fn grad(
    context: &NativeCallContext,
    model: &Model,
    inputs: (&Dynamic, &Dynamic),
    names: Option<&Dynamic>,
    options: Map,
) -> ScriptResult<Gradients> {
    let call = Call::read("grad", model.get(), options)?;
    with_hooks(context, |caller| gradients(caller, model, inputs, names, &call))
}

fn with_value(model: &Model, found: Gradients) -> Map {
    map! {
        "value" => Tensor::new(found.value),
        "cache" => Cache::new(Rc::new(found.activations), model.clone()),
        "grad" => Cache::new(Rc::new(found.gradients), model.clone()),
    }
}

#[export_module(manifest)]
pub mod functions {
    /// The gradients of a metric with respect to every activation but those of single heads in the residual stream's
    /// width: a cache.
    ///
    /// Options: as for `grad` with names.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let grad = model.grad("The capital of France is", "log_probability", #{ answer: " Paris" });
    /// print(grad["resid_post", 15].shape);
    /// ```
    #[rhai_fn(name = "grad", return_raw, pure)]
    pub fn grad_of_all(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        metric: Dynamic,
        options: Map,
    ) -> ScriptResult<Cache> {
        let found = grad(&context, model, (&tokens, &metric), None, options)?;
        Ok(Cache::new(Rc::new(found.gradients), model.clone()))
    }

    /// The gradients of a metric with respect to the activations named: a cache, in the activations' shapes.
    ///
    /// `metric` is a name or map as for `patch_grid` ("logit", "log_probability", ...), measured at the last position, or
    /// a function of the logits, [batch, pos, d_vocab], that returns a tensor of one number. Of several prompts, each
    /// sample's gradients are those of its own metric. `names` are as for `run_with_cache`. Activations are those that the
    /// run went on with, after all hooks. A metric that does not depend on an activation is an error.
    ///
    /// Options: `answer` (the answer's text or id, of each sample or of all: needed for a metric's name), `hooks` (as in
    /// `run_with_hooks`; they act before gradients are taken), `positions`, `padding` (see `forward`; gradients at filling
    /// are NaN), `backward` ("exact", "relp": norm scales, patterns and slopes held constant, and half of a product's
    /// gradient to each factor, arXiv 2508.21258, or "frozen": the same with the whole product on `up`).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let grad = model.grad("The capital of France is", |logits| logits[0, -1].max(), "blocks.*.attn.hook_z");
    /// assert_eq(grad["z", 3].shape, [1, 5, 9, 64]);
    /// ```
    #[rhai_fn(name = "grad", return_raw, pure)]
    pub fn grad_of(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        metric: Dynamic,
        names: Dynamic,
        options: Map,
    ) -> ScriptResult<Cache> {
        let found = grad(&context, model, (&tokens, &metric), Some(&names), options)?;
        Ok(Cache::new(Rc::new(found.gradients), model.clone()))
    }

    /// What a metric gives, the activations named and the metric's gradients with respect to them, from one run:
    /// `#{ value, cache, grad }`. `value` is a number, or one per sample for a metric's name.
    ///
    /// Options: as for `grad`.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let run = model.value_and_grad("The capital of France is", "logit", "embed", #{ answer: " Paris" });
    /// print((run.cache["embed"] * run.grad["embed"]).sum(-1)); // gradient times input, by token
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn value_and_grad(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        metric: Dynamic,
        names: Dynamic,
        options: Map,
    ) -> ScriptResult<Map> {
        let found = grad(&context, model, (&tokens, &metric), Some(&names), options)?;
        Ok(with_value(model, found))
    }
}
