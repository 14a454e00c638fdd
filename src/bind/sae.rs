//! Sparse autoencoders and transcoders in scripts.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Dynamic, Engine, Map};
use serde_json::Value;

use super::convert::expected;
use super::error::ScriptResult;
use super::file::from_json;
use super::handle::Handle;
use super::map::map;
use super::module;
use super::option::Options;
use super::tensor::convert;
use crate::access;
use crate::catalog::topic::Topic;
use crate::device::{device_name, parse_device};
use crate::error::{Error, Result};
use crate::sae::Sae;
use crate::sae::config::{Normalization, TopK};
use crate::sae::file::{LoadOptions, Parts, load};
use crate::tensor::{Tensor, kind_name, parse_kind};

/// The script's handle of an SAE.
#[derive(Debug, Clone)]
pub struct SaeHandle(Rc<Sae>);

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Hooks, exported_manifest!(functions));
}

impl Handle for SaeHandle {
    const NAME: &'static str = "sae";
    const IS_IMMUTABLE: bool = true;

    fn instead_of_setting() -> &'static str {
        "change its weights, and make another with `new_sae`"
    }

    fn describe(&self) -> String {
        let (sae, config) = (&self.0, self.0.config());
        let place = match (&config.hook_name, &config.hook_name_out) {
            (Some(input), Some(output)) => format!(" from {input} to {output}"),
            (Some(input), None) => format!(" at {input}"),
            (None, _) => String::new(),
        };
        format!(
            "sae ({}, {} latents{place}, {} on {})",
            config.architecture.name(),
            sae.d_sae(),
            kind_name(sae.kind()),
            device_name(sae.device())
        )
    }
}

impl SaeHandle {
    fn of(sae: Sae) -> Self {
        Self(Rc::new(sae))
    }

    fn weight(&self, name: &str) -> Dynamic {
        self.0.weights().get(name).map_or(Dynamic::UNIT, |weight| Dynamic::from(Tensor::new(weight.shallow_clone())))
    }
}

fn load_options(options: &mut Options) -> Result<LoadOptions> {
    let ignore = options.array("ignore")?.unwrap_or_default();
    let name = |item: &Dynamic| {
        item.clone().into_string().map_err(|_| expected("each item of option `ignore`", "a string", item))
    };
    Ok(LoadOptions {
        device: parse_device(options.string("device")?.as_deref().unwrap_or("auto"))?,
        kind: options.string("dtype")?.map(|name| parse_kind(&name)).transpose()?,
        hook_name: options.string("hook_name")?,
        hook_name_out: options.string("hook_name_out")?,
        norm_scaling_factor: options.number("norm_scaling_factor")?,
        ignore: ignore.iter().map(name).collect::<Result<_>>()?,
    })
}

fn parts(options: &mut Options) -> Result<Parts> {
    let by_decoder_norm = options.boolean("rescale_acts_by_decoder_norm")?;
    let k = options.integer("k")?;
    if by_decoder_norm.is_some() && k.is_none() {
        return Err(Error::new("`rescale_acts_by_decoder_norm` goes with `k`"));
    }
    Ok(Parts {
        k: k.map(|k| TopK { k, by_decoder_norm: by_decoder_norm.unwrap_or(false) }),
        apply_b_dec_to_input: options.boolean("apply_b_dec_to_input")?,
        normalization: options.choice("normalize_activations", &Normalization::NAMES)?.unwrap_or(Normalization::None),
        joins_heads: options.choice("reshape_activations", &[("none", false), ("hook_z", true)])?.unwrap_or(false),
        hook_name: options.string("hook_name")?,
        hook_name_out: options.string("hook_name_out")?,
        hook_head_index: options.integer("hook_head_index")?,
    })
}

fn configuration(sae: &Sae) -> Result<Map> {
    let config = sae.config();
    let top_k = config.architecture.top_k();
    Ok(map! {
        "architecture" => config.architecture.name(),
        "d_in" => sae.d_in(),
        "d_sae" => sae.d_sae(),
        "d_out" => sae.d_out(),
        "dtype" => kind_name(sae.kind()),
        "device" => device_name(sae.device()),
        "apply_b_dec_to_input" => config.apply_b_dec_to_input,
        "normalize_activations" => config.normalization.name(),
        "reshape_activations" => if config.joins_heads { "hook_z" } else { "none" },
        "k" => top_k.map_or(Dynamic::UNIT, |top_k| top_k.k.into()),
        "rescale_acts_by_decoder_norm" => top_k.is_some_and(|top_k| top_k.by_decoder_norm),
        "hook_name" => config.hook_name.clone().map_or(Dynamic::UNIT, Dynamic::from),
        "hook_name_out" => config.hook_name_out.clone().map_or(Dynamic::UNIT, Dynamic::from),
        "hook_head_index" => config.hook_head_index.map_or(Dynamic::UNIT, Dynamic::from),
        "metadata" => from_json(Value::Object(config.metadata.clone()))?,
    })
}

#[export_module(manifest)]
mod functions {
    /// Loads a sparse autoencoder or transcoder: a folder of SAELens (`cfg.json` and `sae_weights.safetensors`), or a
    /// `params.npz` of Gemma Scope (`params.safetensors` of Gemma Scope 2).
    ///
    /// Architectures: standard, gated, jumprelu, topk, abstopk, transcoder, skip_transcoder, jumprelu_transcoder,
    /// jumprelu_skip_transcoder. Every field of `cfg.json` counts or is refused. A single file says nothing of the
    /// model: give it `hook_name`, and a transcoder `hook_name_out` too. What to do with an SAE is in the module `sae`.
    ///
    /// Options: `hook_name` and `hook_name_out` (the hooks that it reads and, of a transcoder, predicts, in place of
    /// the file's), `device` ("auto"), `dtype` (the file's), `norm_scaling_factor` (by what inputs are multiplied, of
    /// an SAE trained with `expected_average_only_in`), `ignore` (an array of fields of `cfg.json` that you know to
    /// change nothing).
    ///
    /// # Errors
    /// A file that is missing or damaged; a field or a value that is not known.
    ///
    /// # Example
    /// ```rhai
    /// let weights = #{ W_enc: randn([8, 32]), b_enc: zeros([32]), W_dec: randn([32, 8]), b_dec: zeros([8]) };
    /// new_sae(weights, #{ apply_b_dec_to_input: true, hook_name: "blocks.1.hook_resid_post" }).save("my_sae");
    /// assert_eq(load_sae("my_sae").cfg.d_sae, 32);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn load_sae(path: &str, options: Map) -> ScriptResult<SaeHandle> {
        let options = Options::read("load_sae", options, load_options)?;
        access::check_read(Path::new(path))?;
        Ok(load(Path::new(path), &options).map(SaeHandle::of)?)
    }

    /// A sparse autoencoder or transcoder of your own weights, a map by SAELens's names: `W_enc` [d_in, d_sae],
    /// `b_enc`, `W_dec` [d_sae, d_out], `b_dec`; `threshold` makes it a jumprelu SAE, `b_gate`, `r_mag` and `b_mag` (in
    /// place of `b_enc`) a gated one; `W_skip` [d_out, d_in] is a transcoder's skip connection.
    ///
    /// Options: `apply_b_dec_to_input` (needed but for a transcoder: whether `b_dec` is subtracted from what is
    /// encoded), `hook_name`, `hook_name_out` (makes it a transcoder), `hook_head_index`, `k` (makes it a topk SAE),
    /// `rescale_acts_by_decoder_norm`, `normalize_activations` ("none", "constant_norm_rescale", "layer_norm"),
    /// `reshape_activations` ("hook_z": an activation's heads are encoded as one vector).
    ///
    /// # Errors
    /// A weight that is missing or too many, shapes that do not fit each other.
    ///
    /// # Example
    /// ```rhai
    /// let weights = #{ W_enc: eye(4), b_enc: zeros([4]), W_dec: eye(4), b_dec: zeros([4]) };
    /// let sae = new_sae(weights, #{ apply_b_dec_to_input: false });
    /// assert_eq(sae.forward(tensor([1.0, -2.0, 3.0, -4.0])), tensor([1.0, 0.0, 3.0, 0.0]));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn new_sae(weights: Map, options: Map) -> ScriptResult<SaeHandle> {
        let parts = Options::read("new_sae", options, parts)?;
        let weights = weights
            .iter()
            .map(|(name, value)| Ok((name.to_string(), convert::tensor(&format!("`{name}`"), value)?.share())))
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(parts.with_weights(weights).map(SaeHandle::of)?)
    }

    /// What an SAE computes, and where, by SAELens's names: `architecture`, `d_in`, `d_sae`, `d_out`, `hook_name`,
    /// `hook_name_out`, `hook_head_index`, `k`, ..., and `metadata`: what its file says of the model and the training.
    #[rhai_fn(get = "cfg", return_raw, pure)]
    pub fn sae_cfg(sae: &mut SaeHandle) -> ScriptResult<Map> {
        Ok(configuration(&sae.0)?)
    }

    /// The encoder of an SAE, [d_in, d_sae].
    #[rhai_fn(get = "W_enc", pure)]
    pub fn sae_w_enc(sae: &mut SaeHandle) -> Dynamic {
        sae.weight("W_enc")
    }

    /// The decoder of an SAE, [d_sae, d_out]: each row is a latent's direction.
    #[rhai_fn(get = "W_dec", pure)]
    pub fn sae_w_dec(sae: &mut SaeHandle) -> Dynamic {
        sae.weight("W_dec")
    }

    /// The bias of an SAE's encoder, [d_sae]; `()` of a gated SAE.
    #[rhai_fn(get = "b_enc", pure)]
    pub fn sae_b_enc(sae: &mut SaeHandle) -> Dynamic {
        sae.weight("b_enc")
    }

    /// The bias of an SAE's decoder, [d_out].
    #[rhai_fn(get = "b_dec", pure)]
    pub fn sae_b_dec(sae: &mut SaeHandle) -> Dynamic {
        sae.weight("b_dec")
    }

    /// The thresholds of a jumprelu SAE's latents, [d_sae]; `()` of others.
    #[rhai_fn(get = "threshold", pure)]
    pub fn sae_threshold(sae: &mut SaeHandle) -> Dynamic {
        sae.weight("threshold")
    }

    /// All weights of an SAE, a map by SAELens's names.
    #[rhai_fn(get = "weights", pure)]
    pub fn sae_weights(sae: &mut SaeHandle) -> Map {
        let weights = sae.0.weights().iter();
        weights.map(|(name, weight)| (name.into(), Dynamic::from(Tensor::new(weight.shallow_clone())))).collect()
    }

    /// The latents of activations, [.., d_sae], on the SAE's device and in its dtype.
    ///
    /// # Errors
    /// Activations that do not end with the SAE's d_in.
    #[rhai_fn(return_raw, pure)]
    pub fn encode(sae: &mut SaeHandle, x: Tensor) -> ScriptResult<Tensor> {
        Ok(sae.0.encode(x.tch()).map(Tensor::new)?)
    }

    /// The output of an SAE for latents [.., d_sae].
    ///
    /// # Errors
    /// An SAE whose output depends on its input: one that normalizes it, or has a skip connection.
    #[rhai_fn(return_raw, pure)]
    pub fn decode(sae: &mut SaeHandle, latents: Tensor) -> ScriptResult<Tensor> {
        Ok(sae.0.decode(latents.tch(), None).map(Tensor::new)?)
    }

    /// The output of an SAE for latents of the activations `x`, perhaps changed: normalized as `x` was, in the shape of
    /// `x`, and with the skip connection.
    #[rhai_fn(name = "decode", return_raw, pure)]
    pub fn decode_of(sae: &mut SaeHandle, latents: Tensor, x: Tensor) -> ScriptResult<Tensor> {
        Ok(sae.0.decode(latents.tch(), Some(x.tch())).map(Tensor::new)?)
    }

    /// The reconstruction of activations by an SAE, or what a transcoder predicts from them.
    #[rhai_fn(name = "forward", return_raw, pure)]
    pub fn sae_forward(sae: &mut SaeHandle, x: Tensor) -> ScriptResult<Tensor> {
        Ok(sae.0.forward(x.tch()).map(Tensor::new)?)
    }

    /// The SAE on another device, or in another dtype: `sae.to("cpu")`, `sae.to("f64")`.
    ///
    /// # Errors
    /// A dtype that is not of floats, a device that does not exist.
    #[rhai_fn(name = "to", return_raw, pure)]
    pub fn sae_to(sae: &mut SaeHandle, place: &str) -> ScriptResult<SaeHandle> {
        let place = convert::dtype_or_device(place)?;
        let (kind, device) = (place.kind.unwrap_or(sae.0.kind()), place.device.unwrap_or(sae.0.device()));
        Ok(sae.0.to(kind, device).map(SaeHandle::of)?)
    }

    /// Writes the SAE as a folder that `load_sae` and SAELens 6 read.
    ///
    /// # Errors
    /// An architecture that SAELens does not have, a failure to write.
    #[rhai_fn(name = "save", return_raw, pure)]
    pub fn sae_save(sae: &mut SaeHandle, folder: &str) -> ScriptResult<()> {
        Ok(sae.0.save(Path::new(folder))?)
    }
}
