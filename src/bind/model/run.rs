//! Running a model from a script: logits, caches, hooks.

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};

use super::cache::Cache;
use super::hooks::{Caller, with_hooks};
use super::intervention::Names;
use super::prefix::Prefix;
use super::{Model, tokens};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::cache::ActivationCache;
use crate::model::config::Config;
use crate::model::decoder::Logits;
use crate::model::forward::Start;
use crate::model::hook::{self, HookPoint};
use crate::model::padding::Side;
use crate::model::run::{Action, Hooks};
use crate::tensor::Tensor;

/// Options that every way of running shares.
struct RunOptions {
    logits: Option<Logits>,
    positions: Names,
    /// Of `run_with_cache` only; `run_with_hooks` takes them as an argument
    hooks: Array,
    first: Option<i64>,
    end: Option<i64>,
    prefix: Option<Prefix>,
    padding: Option<Side>,
}

impl RunOptions {
    fn read(function: &'static str, options: Map) -> Result<Self> {
        Options::read(function, options, |options| {
            let hooks = if function == "run_with_cache" { options.array("hooks")? } else { None };
            let read = Self {
                logits: options.choice("logits", &[("all", Logits::All), ("last", Logits::Last)])?,
                positions: options.map("positions")?.unwrap_or_default(),
                hooks: hooks.unwrap_or_default(),
                first: options.integer("start_at_layer")?,
                end: options.integer("stop_at_layer")?,
                prefix: Prefix::read(options)?,
                padding: padding(options)?,
            };
            if read.end.is_some() && read.logits.is_some() {
                return Err(Error::new("options `logits` and `stop_at_layer` exclude each other")
                    .hint("a run that stops at a layer gives the residual stream there"));
            }
            if read.padding.is_some() && (read.first.is_some() || read.prefix.is_some()) {
                return Err(Error::new(
                    "option `padding` goes with whole texts, without `start_at_layer` and `prefix`",
                ));
            }
            Ok(read)
        })
    }

    /// The layers that run.
    fn layers(&self, config: &Config) -> Result<std::ops::Range<i64>> {
        let first = self.first.map(|layer| hook::layer(layer, config)).transpose()?;
        let end = self.end.map(|layer| match layer {
            layer if layer == config.n_layers => Ok(layer),
            layer => hook::layer(layer, config),
        });
        Ok(first.unwrap_or(0)..end.transpose()?.unwrap_or(config.n_layers))
    }
}

/// The option `padding`: the side on which shorter prompts are filled up.
///
/// # Errors
/// Another value.
pub fn padding(options: &mut Options) -> Result<Option<Side>> {
    options.choice("padding", &[("left", Side::Left), ("right", Side::Right)])
}

/// What a run caches.
enum Cached {
    /// Everything but what is computed on request only
    Usual,
    /// The points under the user's names for them
    Places(Vec<(String, Vec<HookPoint>)>),
}

/// What a run gives.
struct Outcome {
    /// The logits, or the residual stream where the run stops early
    result: Tensor,
    cache: ActivationCache,
    /// True at the prompts' own tokens, [batch, pos], where there is the option `padding`
    mask: Option<Tensor>,
}

/// Runs a prompt, or a residual stream, and returns the logits, or the residual stream where the run stops early.
fn run(
    caller: &Caller,
    model: &Model,
    prompt: &Dynamic,
    (cached, entries): (Cached, &Array),
    options: &RunOptions,
) -> Result<Outcome> {
    let language_model = model.get();
    let config = language_model.config();
    let decoder = &language_model.decoder;
    let layers = options.layers(config)?;
    let residual = match options.first {
        Some(_) => Some(prompt.read_lock::<Tensor>().ok_or_else(|| {
            expected("what a run with `start_at_layer` begins with", "a residual stream, [batch, pos, d_model]", prompt)
        })?),
        None => None,
    };
    let input = match &residual {
        Some(residual) => residual.share().into(),
        None => decoder.batch(&tokens::prompts(language_model, prompt)?, options.padding)?,
    };
    let mut all = Hooks::none();
    caller.add(&mut all, entries, config, &options.positions, None)?;
    // After the script's own hooks, so that the cache holds what the run went on with.
    match cached {
        Cached::Usual => {
            let reached = |point: &HookPoint| match point.site.in_block() {
                true => layers.contains(&point.layer),
                false if point.site < hook::Site::ResidPre => options.first.is_none(),
                false => options.end.is_none(),
            };
            let points = hook::usual(config).into_iter().filter(reached).collect();
            all.add(config, points, "everything", Action::Capture);
        }
        Cached::Places(places) => {
            for (name, points) in places {
                all.add(config, points, name, Action::Capture);
            }
        }
    }
    let start = match &residual {
        Some(_) => Start::Residual(&input.tokens, layers.start as usize),
        None => Start::Batch(&input),
    };
    let mut past = options.prefix.as_ref().map(|prefix| prefix.continued(model, &input.tokens)).transpose()?;
    let x = decoder.run_layers(start, layers.end as usize, &mut all, past.as_mut())?;
    let result = match options.end {
        Some(_) => x,
        None => decoder.unembed(x, options.logits.unwrap_or(Logits::All), &mut all)?,
    };
    let result = match &input.padding {
        Some(padding) if options.logits != Some(Logits::Last) => padding.marked(&result, 1)?,
        _ => result,
    };
    let mask = match (&input.padding, options.padding) {
        (Some(padding), _) => Some(padding.mask()?),
        (None, Some(_)) => Some(input.tokens.f_ones_like()?.f_to_kind(tch::Kind::Bool)?),
        (None, None) => None,
    };
    Ok(Outcome { result: Tensor::new(result), cache: all.finish()?, mask: mask.map(Tensor::new) })
}

/// The places that a name, an array of names or a function of names means, each under the user's name for it.
///
/// # Errors
/// Another value, an unknown hook; a function that keeps no hook or fails.
pub fn places(caller: &Caller, names: &Dynamic, config: &Config) -> Result<Vec<(String, Vec<HookPoint>)>> {
    const WANTED: &str = "a name, an array of names, or a function of a name";
    let named = |name: String| -> Result<(String, Vec<HookPoint>)> {
        let points = hook::matching(&name, config)?;
        Ok((name, points))
    };
    if let Ok(name) = names.clone().into_string() {
        return Ok(vec![named(name)?]);
    }
    if let Some(filter) = names.read_lock::<FnPtr>() {
        let mut points = Vec::new();
        for point in hook::points(config) {
            let kept = caller.call(&filter, (point.name(),))?;
            if kept.as_bool().map_err(|_| expected("what a filter of names returns", "true or false", &kept))? {
                points.push(point);
            }
        }
        return if points.is_empty() {
            Err(Error::new("the filter keeps no hook"))
        } else {
            Ok(vec![("the filter's names".to_owned(), points)])
        };
    }
    let array = names.read_lock::<Array>().ok_or_else(|| expected("what is cached", WANTED, names))?;
    let name = |name: &Dynamic| match name.read_lock::<Array>() {
        Some(pair) => {
            short_name(&pair).ok_or_else(|| expected("a hook name", "a string or [kind, layer]", &names.clone()))
        }
        None => name.clone().into_string().map_err(|_| expected("a hook name", "a string", name)),
    };
    array.iter().map(|item| named(name(item)?)).collect()
}

/// `["resid_post", 3]` as a name.
fn short_name(pair: &Array) -> Option<String> {
    match pair.as_slice() {
        [kind, layer] => Some(format!("{}.{}", kind.clone().into_string().ok()?, layer.as_int().ok()?)),
        _ => None,
    }
}

fn cached_run(
    context: &NativeCallContext,
    model: &Model,
    prompt: &Dynamic,
    names: Option<&Dynamic>,
    options: Map,
) -> ScriptResult<Map> {
    let options = RunOptions::read("run_with_cache", options)?;
    let Outcome { result, cache, mask } = with_hooks(context, |caller| {
        let cached = match names {
            Some(names) => Cached::Places(places(caller, names, model.get().config())?),
            None => Cached::Usual,
        };
        run(caller, model, prompt, (cached, &options.hooks), &options)
    })?;
    let cache = Cache::new(Rc::new(cache), model.clone());
    let mut found = match options.end {
        Some(_) => map! { "residual" => result, "cache" => cache },
        None => map! { "logits" => result, "cache" => cache },
    };
    if let Some(mask) = mask {
        found.insert("mask".into(), Dynamic::from(mask));
    }
    Ok(found)
}

#[export_module(manifest)]
pub mod functions {
    /// The logits of a prompt, [batch, pos, d_vocab].
    ///
    /// `tokens` is text, an array of token ids, an array of several of either, or an integer tensor. Prompts of different
    /// lengths need the option `padding`.
    ///
    /// Options: `logits` ("all" positions or the "last" only, [batch, 1, d_vocab]), `stop_at_layer` (the run ends before
    /// that layer and returns the residual stream there, [batch, pos, d_model]), `start_at_layer` (the run begins at that
    /// layer; `tokens` is the residual stream before it), `prefix` (see `model.prefix`: positions that come before),
    /// `padding` ("left" or "right": the side on which shorter prompts are filled up. Each gives what it gives alone; at
    /// filling, logits and cached activations are NaN. With "left", -1 is the last token of every prompt, with "right" 0
    /// the first).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let logits = model.forward("The capital of France is");
    /// print(model.to_string(logits[0, -1].argmax()));
    /// let middle = model.forward("The capital of France is", #{ stop_at_layer: 15 });
    /// assert_eq(model.forward(middle, #{ start_at_layer: 15 }), logits);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn forward(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Tensor> {
        let options = RunOptions::read("forward", options)?;
        let nothing = (Cached::Places(Vec::new()), &Array::new());
        with_hooks(&context, |caller| run(caller, model, &tokens, nothing, &options)).map(|outcome| outcome.result)
    }
}

#[export_module(manifest)]
pub mod hook_functions {
    /// Runs a prompt and caches every activation but those of single heads in the residual stream's width
    /// (`attn.hook_result`, `hook_q_input` and their like, which are cached where they are named): `#{ logits, cache }`.
    ///
    /// Options: as for `run_with_cache` with names. With the option `padding` there is also `mask`, [batch, pos], true at
    /// the prompts' own tokens.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let run = model.run_with_cache("Hello world");
    /// print(run.cache["blocks.3.hook_resid_post"].shape);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn run_with_cache(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Map> {
        cached_run(&context, model, &tokens, None, options)
    }

    /// Runs a prompt and caches the activations named: `#{ logits, cache }`.
    ///
    /// `names` is a name, an alias, a pattern such as `blocks.*.hook_resid_post`, a kind that stands for all layers
    /// (`resid_post`), an array of these, or a function that takes every name and returns whether to cache it.
    ///
    /// Options: `hooks` (as in `run_with_hooks`; the cache then holds what the hooks left), `positions` (names of
    /// positions), `logits` ("all" or "last"), `start_at_layer`, `stop_at_layer`, `prefix`, `padding` (see `forward`; a run
    /// that stops at a layer returns `#{ residual, cache }`).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let run = model.run_with_cache("Hello world", |name| name.ends_with("hook_z"));
    /// assert_eq(run.cache.len(), model.cfg.n_layers);
    /// ```
    #[rhai_fn(name = "run_with_cache", return_raw, pure)]
    pub fn run_with_cache_of(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        names: Dynamic,
        options: Map,
    ) -> ScriptResult<Map> {
        cached_run(&context, model, &tokens, Some(&names), options)
    }

    /// Runs a prompt with hooks, and returns its logits, [batch, pos, d_vocab].
    ///
    /// `hooks` is an array of `[name, |value| ...]` pairs and interventions (`patch`, `zero`, `add`, `scale`), applied
    /// in order.
    ///
    /// A pair's function takes the activation and returns its replacement, of the same shape, or () to leave it. A
    /// function of two parameters also takes the hook's name. A name may be a pattern. Instead of a name there may be an
    /// array of names, in the order in which they run: the function takes all their activations, and what it returns
    /// replaces the last one's. A hook that never runs is an error.
    ///
    /// Options: `positions` (a map of names that interventions may use as positions, such as `#{ T_inst: 7 }`),
    /// `logits` ("all" or "last"), `start_at_layer`, `stop_at_layer`, `prefix`, `padding` (see `forward`; interventions
    /// count the positions of each prompt by itself, functions see the filling too).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let logits = model.run_with_hooks("Hello world", [
    ///     ["blocks.3.attn.hook_z", |z| z * 0.5],
    ///     zero("blocks.5.hook_mlp_out", -1),
    /// ]);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn run_with_hooks(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        hooks: Array,
        options: Map,
    ) -> ScriptResult<Tensor> {
        let options = RunOptions::read("run_with_hooks", options)?;
        let nothing = (Cached::Places(Vec::new()), &hooks);
        with_hooks(&context, |caller| run(caller, model, &tokens, nothing, &options)).map(|outcome| outcome.result)
    }
}
