//! Running a model from a script: logits, caches, hooks, generation.

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::hooks::{Caller, with_hooks};
use super::intervention::Names;
use super::{Model, tokens};
use crate::bind::convert::{expected, integers};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::cache::ActivationCache;
use crate::model::decoder::Logits;
use crate::model::generate::Generation;
use crate::model::hook;
use crate::model::run::{Action, Hooks};
use crate::tensor::Tensor;

/// The script's handle of cached activations.
#[derive(Debug, Clone)]
pub struct Cache {
    activations: Rc<ActivationCache>,
    model: Model,
}

impl Cache {
    fn get(&self, name: &str) -> Result<Tensor> {
        let found = self.activations.named(name, self.model.get().config()).map_err(|error| {
            error.hint("name it in `run_with_cache(tokens, [names])`; patterns such as `blocks.*.hook_resid_post` work")
        })?;
        Ok(Tensor::new(found.shallow_clone()))
    }
}

impl Handle for Cache {
    const NAME: &'static str = "cache";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        format!("cache of {} activations", self.activations.len())
    }
}

/// Options that every way of running shares.
struct RunOptions {
    logits: Logits,
    positions: Names,
    /// Of `run_with_cache` only; `run_with_hooks` takes them as an argument
    hooks: Array,
}

impl RunOptions {
    fn read(function: &'static str, options: Map) -> Result<Self> {
        Options::read(function, options, |options| {
            let logits = options.choice("logits", &[("all", Logits::All), ("last", Logits::Last)])?;
            let hooks = if function == "run_with_cache" { options.array("hooks")? } else { None };
            Ok(Self {
                logits: logits.unwrap_or(Logits::All),
                positions: options.map("positions")?.unwrap_or_default(),
                hooks: hooks.unwrap_or_default(),
            })
        })
    }
}

fn run(
    caller: &Caller,
    model: &Model,
    prompt: &Dynamic,
    (cached, entries): (Vec<String>, &Array),
    options: &RunOptions,
) -> Result<(Tensor, ActivationCache)> {
    let language_model = model.get();
    let config = language_model.config();
    let decoder = &language_model.decoder;
    let rows = tokens::prompts(language_model, prompt)?;
    let input = decoder.tokens(&rows)?;
    let mut all = Hooks::none();
    caller.add(&mut all, entries, config, &options.positions, None)?;
    for name in cached {
        // After the script's own hooks, so that the cache holds what the run went on with.
        all.add(config, hook::matching(&name, config)?, name, Action::Capture);
    }
    let logits = decoder.forward(&input, options.logits, &mut all)?;
    Ok((Tensor::new(logits), all.finish()?))
}

fn names_of(value: &Array) -> Result<Vec<String>> {
    value
        .iter()
        .map(|name| match name.read_lock::<Array>() {
            Some(pair) => short_name(&pair).ok_or_else(|| expected("a hook name", "a string or [kind, layer]", name)),
            None => name.clone().into_string().map_err(|_| expected("a hook name", "a string", name)),
        })
        .collect()
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
    names: Vec<String>,
    options: Map,
) -> ScriptResult<Map> {
    let options = RunOptions::read("run_with_cache", options)?;
    let (logits, activations) =
        with_hooks(context, |caller| run(caller, model, prompt, (names, &options.hooks), &options))?;
    let cache = Cache { activations: Rc::new(activations), model: model.clone() };
    Ok(map! { "logits" => logits, "cache" => cache })
}

fn generation(model: &Model, options: &mut Options) -> Result<Generation> {
    let mut generation = Generation { stop_ids: model.get().eos_ids(), ..Generation::default() };
    if let Some(count) = options.integer("max_tokens")? {
        generation.max_tokens = count;
    }
    if let Some(temperature) = options.number("temperature")? {
        generation.temperature = temperature;
    }
    generation.top_k = options.integer("top_k")?;
    generation.top_p = options.number("top_p")?;
    generation.seed = options.integer("seed")?;
    if let Some(ids) = options.array("stop_ids")? {
        generation.stop_ids = integers("option `stop_ids`", &ids)?;
    }
    Ok(generation)
}

fn generated(caller: &Caller, model: &Model, prompt: &Dynamic, options: Map) -> Result<Dynamic> {
    let (generation, entries, positions) = Options::read("generate", options, |options| {
        let generation = generation(model, options)?;
        let entries = options.array("hooks")?.unwrap_or_default();
        Ok((generation, entries, options.map("positions")?.unwrap_or_default()))
    })?;
    let language_model = model.get();
    let decoder = &language_model.decoder;
    let input = decoder.tokens(&tokens::prompts(language_model, prompt)?)?;
    let mut all = Hooks::none();
    caller.add(&mut all, &entries, language_model.config(), &positions, None)?;
    let rows = decoder.generate(&input, &generation, &mut all)?;
    all.finish()?;
    let nested = prompt.read_lock::<Array>().is_some_and(|array| array.iter().any(|item| !item.is_int()))
        || prompt.read_lock::<Tensor>().is_some_and(|tensor| tensor.shape().len() == 2);
    let is_text = prompt.is_string()
        || prompt.read_lock::<Array>().is_some_and(|array| array.first().is_some_and(Dynamic::is_string));
    let mut results = rows
        .into_iter()
        .map(|ids| {
            if is_text {
                language_model.decode(&ids).map(Dynamic::from)
            } else {
                Ok(ids.into_iter().map(Dynamic::from).collect::<Array>().into())
            }
        })
        .collect::<Result<Array>>()?;
    Ok(if nested { results.into() } else { results.swap_remove(0) })
}

#[export_module(manifest)]
pub mod functions {
    /// The logits of a prompt, [batch, pos, d_vocab].
    ///
    /// `tokens` is text, an array of token ids, an array of such arrays of one length, or an integer tensor.
    ///
    /// Option: `logits`, "all" positions or the "last" only ([batch, 1, d_vocab]).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let logits = model.forward("The capital of France is");
    /// print(model.to_string(logits[0, -1].argmax()));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn forward(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Tensor> {
        let options = RunOptions::read("forward", options)?;
        with_hooks(&context, |caller| run(caller, model, &tokens, (Vec::new(), &Array::new()), &options))
            .map(|(logits, _)| logits)
    }

    /// Continues a prompt and returns the new part: text for text, ids for ids (arrays of them for several prompts).
    ///
    /// Options: `max_tokens` (32), `temperature` (0, greedy), `top_k`, `top_p`, `seed`, `stop_ids` (the model's own
    /// end-of-text tokens), `hooks` (as in `run_with_hooks`; a function is called at every step with the new positions
    /// only, an intervention at a position of the prompt acts once), `positions`.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// print(model.generate("The capital of France is", #{ max_tokens: 5 }));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn generate(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Dynamic> {
        with_hooks(&context, |caller| generated(caller, model, &tokens, options))
    }
}

#[export_module(manifest)]
pub mod hook_functions {
    /// Runs a prompt and caches every activation: `#{ logits, cache }`.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let run = model.run_with_cache("Hello world");
    /// print(run.cache["blocks.3.hook_resid_post"].shape);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn run_with_cache(context: NativeCallContext, model: &mut Model, tokens: Dynamic) -> ScriptResult<Map> {
        let names = hook::points(model.get().config()).iter().map(|point| point.name()).collect();
        cached_run(&context, model, &tokens, names, Map::new())
    }

    /// Runs a prompt and caches the activations of one name, alias or pattern: `#{ logits, cache }`.
    #[rhai_fn(name = "run_with_cache", return_raw, pure)]
    pub fn run_with_cache_one(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        name: &str,
    ) -> ScriptResult<Map> {
        cached_run(&context, model, &tokens, vec![name.to_owned()], Map::new())
    }

    /// Runs a prompt and caches the activations named, each by its name, an alias, or a pattern such as
    /// `blocks.*.hook_resid_post`: `#{ logits, cache }`.
    ///
    /// Options: `hooks` (as in `run_with_hooks`; the cache then holds what the hooks left), `positions` (names of
    /// positions), `logits` ("all" or "last").
    #[rhai_fn(name = "run_with_cache", return_raw, pure)]
    pub fn run_with_cache_with(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        names: Array,
        options: Map,
    ) -> ScriptResult<Map> {
        cached_run(&context, model, &tokens, names_of(&names)?, options)
    }

    /// Runs a prompt with hooks, and returns its logits, [batch, pos, d_vocab].
    ///
    /// `hooks` is an array of `[name, |value| ...]` pairs and interventions (`patch`, `zero`, `add`, `scale`), applied
    /// in order.
    ///
    /// A pair's function takes the activation and returns its replacement, of the same shape, or () to leave it. A
    /// function of two parameters also takes the hook's name. A name may be a pattern. A hook that never runs is an
    /// error.
    ///
    /// Options: `positions` (a map of names that interventions may use as positions, such as `#{ T_inst: 7 }`),
    /// `logits` ("all" or "last").
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
        with_hooks(&context, |caller| run(caller, model, &tokens, (Vec::new(), &hooks), &options))
            .map(|(logits, _)| logits)
    }

    /// The cached activation under a hook's name or alias.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn cache_get(cache: &mut Cache, name: &str) -> ScriptResult<Tensor> {
        Ok(cache.get(name)?)
    }

    /// The cached activation at `[kind, layer]`, as in `cache["resid_post", 3]`.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn cache_get_at(cache: &mut Cache, kind_and_layer: Array) -> ScriptResult<Tensor> {
        let name = short_name(&kind_and_layer)
            .ok_or_else(|| Error::new("an index of a cache must be a hook name or [kind, layer]"))?;
        Ok(cache.get(&name)?)
    }

    /// The activation of a kind (`resid_post`, `attn_out`, `z`, ...) at a layer.
    #[rhai_fn(name = "get", return_raw, pure)]
    pub fn cache_get_kind(cache: &mut Cache, kind: &str, layer: i64) -> ScriptResult<Tensor> {
        Ok(cache.get(&format!("{kind}.{layer}"))?)
    }

    /// The names of the activations in a cache, in order of execution.
    #[rhai_fn(name = "keys", pure)]
    pub fn cache_keys(cache: &mut Cache) -> Array {
        cache.activations.iter().map(|(point, _)| point.name().into()).collect()
    }

    /// The number of activations in a cache.
    #[rhai_fn(name = "len", pure)]
    pub fn cache_len(cache: &mut Cache) -> i64 {
        cache.activations.len() as i64
    }

    /// Whether a cache holds the activation of a hook; also `name in cache`.
    #[rhai_fn(name = "contains", pure)]
    pub fn cache_contains(cache: &mut Cache, name: &str) -> bool {
        cache.get(name).is_ok()
    }

    /// The activations of a cache as a map by name, for example for `save_safetensors`.
    #[rhai_fn(name = "to_map", pure)]
    pub fn cache_to_map(cache: &mut Cache) -> Map {
        cache
            .activations
            .iter()
            .map(|(point, value)| (point.name().into(), Dynamic::from(Tensor::new(value.shallow_clone()))))
            .collect()
    }
}
