//! SAEs in files: folders of SAELens, and the single files of Gemma Scope.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tch::{Device, Kind};

use super::config::{Activation, Architecture, Config, Normalization, TopK};
use super::{Sae, saelens};
use crate::data::{json, npz, safetensors};
use crate::error::{Error, Result};
use crate::file::write_atomic;
use crate::tensor::{Tensor, parse_kind};

/// A folder's description.
const CONFIG: &str = "cfg.json";
/// A folder's weights.
const WEIGHTS: &str = "sae_weights.safetensors";

/// How to read an SAE.
#[derive(Debug)]
pub struct LoadOptions {
    /// Where to put it
    pub device: Device,
    /// The dtype in which it computes; None for the file's
    pub kind: Option<Kind>,
    /// The hook that it reads, if the file does not say so or says it otherwise
    pub hook_name: Option<String>,
    /// The same of the hook that a transcoder predicts
    pub hook_name_out: Option<String>,
    /// By what inputs are multiplied first
    pub norm_scaling_factor: Option<f64>,
    /// Fields of `cfg.json` that count nothing
    pub ignore: Vec<String>,
}

/// Reads a folder of SAELens (`cfg.json` and `sae_weights.safetensors`), or a `.npz` or `.safetensors` file with the
/// weights of Gemma Scope.
///
/// # Errors
/// A file that is damaged or missing; what the file says and this module does not compute; the message names both.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Sae> {
    let sae = if path.is_dir() { from_folder(path, options) } else { from_file(path, options) };
    sae.map_err(|error| error.context(format!("`{}`", path.display())))
}

fn from_folder(folder: &Path, options: &LoadOptions) -> Result<Sae> {
    let Value::Object(fields) = json::read(&folder.join(CONFIG))? else {
        return Err(Error::new(format!("`{CONFIG}` is not an object")));
    };
    let mut file = saelens::read(fields, &options.ignore).map_err(|error| error.context(format!("`{CONFIG}`")))?;
    file.config.hook_name = options.hook_name.clone().or(file.config.hook_name);
    file.config.hook_name_out = options.hook_name_out.clone().or(file.config.hook_name_out);
    let mut weights = safetensors::read(&folder.join(WEIGHTS))?;
    match weights.remove("scaling_factor") {
        Some(factor) if !factor.holds_same_elements(&factor.tch().f_ones_like()?.into()) => {
            return Err(Error::new("its weights have a `scaling_factor` for each latent, which is not supported")
                .hint("multiply it into the rows of `W_dec`, and use `new_sae`"));
        }
        None if file.is_finetuned => {
            return Err(Error::new("`finetuning_scaling_factor` is true, and the weights have no `scaling_factor`"));
        }
        _ => {}
    }
    let kind = match (options.kind, &file.kind) {
        (Some(kind), _) => kind,
        (None, Some(name)) => parse_kind(name).map_err(|error| error.context("`dtype`"))?,
        (None, None) => Kind::Float,
    };
    let sae = Sae::new(file.config, placed(weights, kind, options.device)?)?;
    for ((name, said), found) in
        ["d_in", "d_sae", "d_out"].into_iter().zip(file.sizes).zip([sae.d_in(), sae.d_sae(), sae.d_out()])
    {
        if let Some(said) = said.filter(|said| *said != found) {
            return Err(Error::new(format!("`{name}` is {said} and the weights say {found}")));
        }
    }
    match (file.is_scaled, options.norm_scaling_factor) {
        (true, Some(factor)) => sae.with_input_scale(factor),
        (true, None) => Err(Error::new(
            "it was trained on activations scaled to the mean length √d_in (`expected_average_only_in`), by a factor \
             that the file does not have",
        )
        .hint("give √d_in over the mean length of the activations: load_sae(folder, #{ norm_scaling_factor: f })")),
        (false, Some(_)) => Err(Error::new("it was not trained on scaled activations, so it has no scaling factor")),
        (false, None) => Ok(sae),
    }
}

fn from_file(path: &Path, options: &LoadOptions) -> Result<Sae> {
    if options.norm_scaling_factor.is_some() || !options.ignore.is_empty() {
        return Err(Error::new("`norm_scaling_factor` and `ignore` are for folders with a `cfg.json`"));
    }
    let weights = match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("npz") => npz::read(path)?,
        Some("safetensors") => safetensors::read(path)?,
        _ => {
            return Err(Error::new("it is neither a folder nor a .npz or .safetensors file")
                .hint("a folder of SAELens has `cfg.json` and `sae_weights.safetensors`"));
        }
    };
    let hook_name = options.hook_name.clone().ok_or_else(|| {
        Error::new("the file does not say which hook the SAE reads")
            .hint("load_sae(file, #{ hook_name: \"blocks.20.hook_resid_post\" }), and `hook_name_out` for a transcoder")
    })?;
    if hook_name == "hook_embed" {
        return Err(Error::new("Gemma Scope's SAEs of embeddings read them without the model's scale of √d_model")
            .hint("scale the weights of the file yourself, and use `new_sae`"));
    }
    let parts = Parts {
        k: None,
        apply_b_dec_to_input: Some(false),
        normalization: Normalization::None,
        joins_heads: hook_name.split('.').any(|part| ["hook_z", "z"].contains(&part)),
        hook_name: Some(hook_name),
        hook_name_out: options.hook_name_out.clone(),
        hook_head_index: None,
    };
    parts.with_weights(placed(weights, options.kind.unwrap_or(Kind::Float), options.device)?)
}

fn placed(weights: BTreeMap<String, Tensor>, kind: Kind, device: Device) -> Result<BTreeMap<String, tch::Tensor>> {
    let moved = |(name, weight): (String, Tensor)| {
        if !weight.is_float() {
            return Err(Error::new(format!("`{name}` does not hold floats")));
        }
        Ok((name, weight.tch().f_to_device_(device, kind, false, false)?))
    };
    weights.into_iter().map(moved).collect()
}

/// What goes with weights to make an SAE.
#[derive(Debug)]
pub struct Parts {
    /// The latents that a top-k activation keeps
    pub k: Option<TopK>,
    /// Whether the decoder's bias is subtracted from what is encoded
    pub apply_b_dec_to_input: Option<bool>,
    /// What is done to activations first
    pub normalization: Normalization,
    /// Whether the heads of an activation are encoded as one vector
    pub joins_heads: bool,
    /// The hook that it reads
    pub hook_name: Option<String>,
    /// The hook that a transcoder predicts
    pub hook_name_out: Option<String>,
    /// The one head that it reads
    pub hook_head_index: Option<i64>,
}

impl Parts {
    /// The SAE of these weights, whose names tell the architecture.
    ///
    /// # Errors
    /// As for [`Sae::new`]; no word on whether the decoder's bias is subtracted from the input.
    pub fn with_weights(self, mut weights: BTreeMap<String, tch::Tensor>) -> Result<Sae> {
        for (theirs, ours) in [("w_enc", "W_enc"), ("w_dec", "W_dec"), ("affine_skip_connection", "W_skip")] {
            let Some(weight) = weights.remove(theirs) else { continue };
            let weight = if ours == "W_skip" { weight.f_transpose(-1, -2)?.f_contiguous()? } else { weight };
            if weights.insert(ours.into(), weight).is_some() {
                return Err(Error::new(format!("`{theirs}` and `{ours}` are the same weight")));
            }
        }
        let is_transcoder = self.hook_name_out.is_some();
        let has = |name: &str| weights.contains_key(name);
        let activation = match self.k {
            Some(top_k) => Activation::TopK(top_k),
            None if has("threshold") => Activation::JumpRelu,
            None if has("b_gate") => Activation::Gated,
            None => Activation::Relu,
        };
        let architecture = Architecture { activation, is_transcoder, has_skip: has("W_skip") };
        let apply_b_dec_to_input = match self.apply_b_dec_to_input {
            None if !is_transcoder => {
                return Err(Error::new("it is not said whether `b_dec` is subtracted from what is encoded")
                    .hint("apply_b_dec_to_input: true or false; SAELens's standard SAEs do, Gemma Scope's do not"));
            }
            given => given.unwrap_or(false),
        };
        let config = Config {
            architecture,
            apply_b_dec_to_input,
            normalization: self.normalization,
            joins_heads: self.joins_heads,
            hook_name: self.hook_name,
            hook_name_out: self.hook_name_out,
            hook_head_index: self.hook_head_index,
            metadata: serde_json::Map::new(),
        };
        Sae::new(config, weights)
    }
}

impl Sae {
    /// Writes it as a folder of SAELens 6.
    ///
    /// # Errors
    /// An architecture that SAELens does not have, a failure to write.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let config = saelens::write(self.config(), [self.d_in(), self.d_sae(), self.d_out()], self.kind())?;
        let weights = self.weights().iter().map(|(name, weight)| (name.clone(), weight.shallow_clone().into()));
        safetensors::write(&folder.join(WEIGHTS), &weights.collect(), &BTreeMap::new())?;
        write_atomic(&folder.join(CONFIG), |file| {
            serde_json::to_writer_pretty(&mut *file, &config)?;
            file.write_all(b"\n")
        })
    }
}
