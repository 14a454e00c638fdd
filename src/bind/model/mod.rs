//! Models in scripts: loading, tokens, running with caches and hooks, generating, weights.

mod answer;
mod cache;
mod chat;
mod concatenation;
mod generation;
mod gradient;
mod grid;
mod grid_request;
pub mod hooks;
mod interaction;
mod intervention;
mod loss;
pub mod metric;
mod prefix;
mod residual;
mod rotary;
mod run;
mod stacked;
mod sweep;
mod tokens;
mod weights;

use std::rc::Rc;

pub use answer::{ids as answers, ids_by_sample as answers_by_sample};
pub use cache::Cache;
pub use grid::GridHandle;
pub use grid_request::positions;
pub use intervention::Planned;
pub use prefix::Prefix;
pub use tokens::prompts;
pub use weights::Weights;

use rhai::plugin::*;
use rhai::{Dynamic, Engine, Map};

use super::error::ScriptResult;
use super::handle::Handle;
use super::map::map;
use super::module;
use super::option::Options;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::model::hook;
use crate::model::language_model::{LanguageModel, LoadOptions};
use crate::noted;
use crate::share::{self, Share};
use crate::tensor::{kind_name, parse_kind};

/// The script's handle of a loaded model.
#[derive(Debug, Clone)]
pub struct Model(Rc<LanguageModel>);

impl Model {
    /// The model itself.
    pub fn get(&self) -> &LanguageModel {
        &self.0
    }

    /// The model, to be owned together with this handle.
    pub fn shared(&self) -> Rc<LanguageModel> {
        self.0.clone()
    }
}

/// Registers everything about models.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Models, exported_manifest!(loading));
    module::register(engine, Topic::Hooks, exported_manifest!(hook_naming));
    module::register(engine, Topic::Models, exported_manifest!(tokens::functions));
    module::register(engine, Topic::Models, exported_manifest!(concatenation::functions));
    module::register(engine, Topic::Models, exported_manifest!(run::functions));
    module::register(engine, Topic::Models, exported_manifest!(generation::functions));
    module::register(engine, Topic::Models, exported_manifest!(loss::functions));
    module::register(engine, Topic::Models, exported_manifest!(prefix::functions));
    module::register(engine, Topic::Hooks, exported_manifest!(run::hook_functions));
    module::register(engine, Topic::Hooks, exported_manifest!(gradient::functions));
    module::register(engine, Topic::Hooks, exported_manifest!(cache::functions));
    module::register(engine, Topic::Hooks, exported_manifest!(residual::functions));
    engine.register_iterator::<Cache>();
    module::register(engine, Topic::Hooks, exported_manifest!(intervention::functions));
    module::register(engine, Topic::Grids, exported_manifest!(grid::functions));
    module::register(engine, Topic::Grids, exported_manifest!(interaction::functions));
    module::register(engine, Topic::Grids, exported_manifest!(sweep::functions));
    module::register(engine, Topic::Models, exported_manifest!(rotary::functions));
    module::register(engine, Topic::Models, exported_manifest!(weights::functions));
    module::register(engine, Topic::Models, exported_manifest!(stacked::functions));
}

impl Handle for Model {
    const NAME: &'static str = "model";
    const IS_IMMUTABLE: bool = true;

    fn instead_of_setting() -> &'static str {
        weights::INSTEAD
    }

    fn describe(&self) -> String {
        let model = self.get();
        let config = model.config();
        format!(
            "model {} ({}, {} layers, d_model {}, {} heads, {:.0}M parameters{}, {} on {})",
            model.name,
            config.model_type,
            config.n_layers,
            config.d_model,
            config.n_heads,
            model.parameter_count() as f64 / 1e6,
            if model.random { ", random weights" } else { "" },
            kind_name(model.decoder.kind),
            crate::device::device_name(model.decoder.device)
        )
    }
}

/// The hook names that a string in a call of `method` may hold, for completion at the prompt.
pub fn complete_hook(receiver: &Dynamic, method: &str) -> Vec<String> {
    match receiver.read_lock::<Model>() {
        Some(model)
            if matches!(method, "run_with_cache" | "run_with_hooks" | "grad" | "value_and_grad" | "hook_name") =>
        {
            hook::points(model.get().config()).iter().map(|point| point.name()).collect()
        }
        _ => Vec::new(),
    }
}

fn load(id: &str, options: Map) -> Result<Model> {
    let load = Options::read("load_model", options, load_options)?;
    if share::current() == Share::Nothing {
        LanguageModel::files(id, &load)?.iter().for_each(|path| noted::read(path));
        return Err(Error::Deferred);
    }
    Ok(Model(Rc::new(LanguageModel::load(id, &load)?)))
}

fn load_options(options: &mut Options) -> Result<LoadOptions> {
    let mut load = LoadOptions::default();
    if let Some(device) = options.string("device")? {
        load.device = device;
    }
    if let Some(dtype) = options.string("dtype")? {
        load.kind = parse_kind(&dtype)?;
    }
    load.revision = options.string("revision")?;
    load.offline = options.boolean("offline")?.unwrap_or(false);
    load.adapter = options.string("adapter")?;
    let seed = options.integer("seed")?;
    let is_random = options.choice("init", &[("pretrained", false), ("random", true)])?.unwrap_or(false);
    if seed.is_some() && !is_random {
        return Err(Error::new("option `seed` of `load_model` goes with `init: \"random\"`"));
    }
    load.random_seed = is_random.then_some(seed.unwrap_or(0));
    Ok(load)
}

fn configuration(model: &LanguageModel) -> Map {
    let config = model.config();
    let decoder = &model.decoder;
    let rope = config.layers.iter().find(|layer| layer.window.is_none()).or(config.layers.first());
    let rope = rope.and_then(|layer| layer.rope.as_ref());
    let windows = config.layers.iter().map(|layer| layer.window.map_or(Dynamic::UNIT, Dynamic::from));
    map! {
        "model_name" => model.name.clone(),
        "model_type" => config.model_type.clone(),
        "n_layers" => config.n_layers,
        "d_model" => config.d_model,
        "n_heads" => config.n_heads,
        "n_key_value_heads" => config.n_kv_heads,
        "d_head" => config.d_head,
        "d_mlp" => config.d_mlp,
        "d_vocab" => config.d_vocab,
        "d_vocab_out" => config.d_vocab_out,
        "outputs_are_tokens" => config.outputs_are_tokens,
        "n_ctx" => config.n_ctx,
        "act_fn" => config.activation_name(),
        "attn_only" => config.attention_only,
        "gated_mlp" => config.gated_mlp,
        "num_experts" => config.experts.map_or(Dynamic::UNIT, |experts| experts.count.into()),
        "experts_per_token" => config.experts.map_or(Dynamic::UNIT, |experts| experts.per_token.into()),
        "normalization_type" => config.normalization_type().map_or(Dynamic::UNIT, Dynamic::from),
        "norm_placement" => config.norm_placement_name(),
        "eps" => config.norm_eps,
        "use_qk_norm" => config.has_query_key_norm(),
        "parallel_attn_mlp" => config.parallel,
        "positional_embedding_type" => config.positional_embedding_type(),
        "attention_dir" => config.attention_dir(),
        "rotary_base" => rope.map_or(Dynamic::UNIT, |rope| rope.theta.into()),
        "rotary_dim" => rope.map_or(Dynamic::UNIT, |rope| rope.dim.into()),
        "window_size" => windows.collect::<rhai::Array>(),
        "attn_scale" => config.attention_scale,
        "attn_scores_soft_cap" => config.attention_soft_cap.map_or(Dynamic::UNIT, Dynamic::from),
        "embedding_scale" => config.embedding_scale.map_or(Dynamic::UNIT, Dynamic::from),
        "residual_scale" => config.residual_scale.map_or(Dynamic::UNIT, Dynamic::from),
        "logit_scale" => config.logit_scale.map_or(Dynamic::UNIT, Dynamic::from),
        "output_logits_soft_cap" => config.logit_soft_cap.map_or(Dynamic::UNIT, Dynamic::from),
        "tied_embeddings" => config.tied,
        "n_params" => model.parameter_count(),
        "init_weights" => model.random,
        "has_tokenizer" => model.has_tokenizer(),
        "dtype" => kind_name(decoder.kind),
        "device" => crate::device::device_name(decoder.device),
    }
}

#[export_module(manifest)]
mod loading {
    /// Loads a language model.
    ///
    /// `id` is a built-in name (`smollm2`, `olmo2-1b`, ...), one of TransformerLens's names (`gpt2-small`), a Hugging
    /// Face repository (`allenai/OLMo-2-0425-1B`; `owner/name@v1` for a revision), a folder with `config.json` and
    /// `model.safetensors`, or a `.gguf` file.
    ///
    /// Options: `device` ("auto", "cpu", "cuda:0"; "auto" takes a GPU if there is one), `dtype` ("f32", "bf16", "f16",
    /// "f64"), `revision` (of a repository), `init` ("random" draws the weights instead of reading them) with `seed`,
    /// `offline` (true: never use the network), `adapter` (a LoRA adapter of PEFT, which is merged into the
    /// weights: a folder, or a repository of the hub).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// print(model.cfg.n_layers);
    /// let model = load_model("smollm2", #{ device: "cpu", dtype: "f32", init: "random", seed: 1 });
    /// ```
    #[rhai_fn(return_raw)]
    pub fn load_model(id: &str, options: Map) -> ScriptResult<Model> {
        Ok(load(id, options)?)
    }

    /// The model's sizes and choices, by TransformerLens's names: `n_layers`, `d_model`, `n_heads`,
    /// `n_key_value_heads`, `d_head`, `d_mlp`, `d_vocab`, `d_vocab_out`, `outputs_are_tokens`, `n_ctx`, `act_fn`,
    /// `normalization_type` (() without norms), `attention_dir`, `dtype`, `device`, ...
    #[rhai_fn(get = "cfg", pure)]
    pub fn cfg(model: &mut Model) -> Map {
        configuration(model.get())
    }

    /// The id that the model was loaded by.
    #[rhai_fn(get = "name", pure)]
    pub fn name(model: &mut Model) -> String {
        model.get().name.clone()
    }

    /// A hash of the model's config and of every weight as it was loaded, in hexadecimal.
    #[rhai_fn(get = "hash", return_raw, pure)]
    pub fn hash(model: &mut Model) -> ScriptResult<String> {
        Ok(model.get().fingerprint().map(str::to_owned)?)
    }
}

#[export_module(manifest)]
mod hook_naming {
    /// The names of all hooks of the model, in order of execution.
    #[rhai_fn(get = "hook_names", pure)]
    pub fn hook_names(model: &mut Model) -> rhai::Array {
        hook::points(model.get().config()).iter().map(|point| point.name().into()).collect()
    }

    /// The full name of the hook that an alias names, such as `resid_post.3`, `layers_output[3]` or
    /// `model.layers.3.mlp.output`. A layer may be counted from the end: `resid_post.-1`.
    #[rhai_fn(return_raw, pure)]
    pub fn hook_name(model: &mut Model, name: &str) -> ScriptResult<String> {
        Ok(hook::parse(name, model.get().config()).map(|point| point.name())?)
    }

    /// The full name of the hook of a kind (`resid_post`, `attn_out`, `z`, ...) at a layer; -1 is the last.
    #[rhai_fn(name = "hook_name", return_raw, pure)]
    pub fn hook_name_at(model: &mut Model, kind: &str, layer: i64) -> ScriptResult<String> {
        Ok(hook::parse(&format!("{kind}.{layer}"), model.get().config()).map(|point| point.name())?)
    }

    /// The names of all heads, `L0H0`, `L0H1`, ..., in the order of `cache.stack_heads()`.
    #[rhai_fn(pure)]
    pub fn all_head_labels(model: &mut Model) -> rhai::Array {
        let config = model.get().config();
        let heads = |layer| (0..config.n_heads).map(move |head| format!("L{layer}H{head}").into());
        (0..config.n_layers).flat_map(heads).collect()
    }
}
