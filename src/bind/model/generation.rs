//! Continuing a prompt from a script.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::hooks::{Caller, with_hooks};
use super::intervention::Names;
use super::prefix::Prefix;
use super::{Model, tokens};
use crate::bind::convert::integers;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::Result;
use crate::model::generate::Generation;
use crate::model::run::Hooks;
use crate::tensor::Tensor;

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

/// The options of `generate`.
struct Request {
    generation: Generation,
    hooks: Array,
    positions: Names,
    prefix: Option<Prefix>,
    /// Whether the result says how often each hook acted
    fired: bool,
}

impl Request {
    fn read(model: &Model, options: &mut Options) -> Result<Self> {
        Ok(Self {
            generation: generation(model, options)?,
            hooks: options.array("hooks")?.unwrap_or_default(),
            positions: options.map("positions")?.unwrap_or_default(),
            prefix: Prefix::read(options)?,
            fired: options.boolean("fired")?.unwrap_or(false),
        })
    }
}

fn generated(caller: &Caller, model: &Model, prompt: &Dynamic, options: Map) -> Result<Dynamic> {
    let request = Options::read("generate", options, |options| Request::read(model, options))?;
    let language_model = model.get();
    let decoder = &language_model.decoder;
    let input = decoder.tokens(&tokens::prompts(language_model, prompt)?)?;
    let mut all = Hooks::none();
    caller.add(&mut all, &request.hooks, language_model.config(), &request.positions, None)?;
    let prefix = request.prefix.as_ref().map(|prefix| prefix.of(model)).transpose()?;
    let rows = decoder.generate_after(prefix, &input, &request.generation, &mut all)?;
    let fired: Array =
        all.fired().map(|(hook, times)| map! { "hook" => hook.to_owned(), "times" => times }.into()).collect();
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
    let output = if nested { results.into() } else { results.swap_remove(0) };
    Ok(if request.fired { map! { "output" => output, "fired" => fired }.into() } else { output })
}

#[export_module(manifest)]
pub mod functions {
    /// Continues a prompt and returns the new part: text for text, ids for ids (arrays of them for several prompts).
    ///
    /// Options: `max_tokens` (32), `temperature` (0, greedy), `top_k`, `top_p`, `seed`, `stop_ids` (the model's own
    /// end-of-text tokens), `hooks` (as in `run_with_hooks`; a function is called at every step with the new positions
    /// only, an intervention at a position of the prompt acts once), `positions`, `prefix` (see `model.prefix`), `fired`
    /// (true: returns `#{ output, fired }`, where `fired` has `#{ hook, times }` for each hook, in the order given).
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
