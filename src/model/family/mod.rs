//! The families that can be loaded. The file of a family contains everything specific to it: the fields of its
//! config.json with its defaults, its tensors' names, its keys in a GGUF file. One decoder computes all of them.
//!
//! A new family is a file beside the others and an entry in [`FAMILIES`] (and in [`ARCHITECTURES`], if llama.cpp
//! supports it).

mod cohere;
mod config_class;
mod experts;
mod fields;
mod gemma;
pub mod gguf;
pub mod gguf_keys;
mod gpt2;
mod gpt_neo;
mod gptj;
mod granite;
mod harmless;
mod llama;
pub mod multimodal;
mod neox;
mod olmo;
mod opt;
mod phi;
mod phi2;
mod qwen;
mod rotary;
mod smollm3;
mod stablelm;
mod toy;
mod transformer_lens;

use serde_json::Value;

use self::config_class::config_class;
use self::fields::Fields;
use self::gguf::Architecture;
use super::config::Config;
use super::naming::Naming;
use crate::error::{Error, Result};

/// One value of `model_type`.
#[derive(Debug)]
pub struct Family {
    /// Hugging Face's `model_type`
    pub model_type: &'static str,
    /// The names of its weights in Hugging Face's checkpoints
    pub naming: Naming,
    /// Reads its config.json
    config: fn(&Fields) -> Result<Config>,
}

/// Every family, in the order in which users see them.
const FAMILIES: &[Family] = &[
    olmo::OLMO,
    olmo::OLMO2,
    olmo::OLMO3,
    llama::LLAMA,
    llama::MISTRAL,
    qwen::QWEN2,
    qwen::QWEN3,
    gpt2::GPT2,
    gpt_neo::GPT_NEO,
    gptj::GPTJ,
    opt::OPT,
    neox::GPT_NEOX,
    gemma::GEMMA,
    gemma::GEMMA2,
    gemma::GEMMA3,
    phi2::PHI,
    phi::PHI3,
    smollm3::SMOLLM3,
    granite::GRANITE,
    cohere::COHERE,
    cohere::COHERE2,
    stablelm::STABLELM,
    experts::OLMOE,
    experts::MIXTRAL,
    experts::QWEN3_MOE,
    experts::GPT_OSS,
];

/// Families whose config.json transformers does not write: the text part of a multimodal model, TransformerLens's, toys.
const OTHERS: &[Family] = &[qwen::QWEN3_VL_TEXT, transformer_lens::TRANSFORMER_LENS, toy::FAMILY];

/// The `model_type` of toys.
pub const TOY: &str = toy::FAMILY.model_type;

/// Every architecture of llama.cpp that can be read, in the order in which users see them.
const ARCHITECTURES: &[Architecture] = &[
    llama::GGUF,
    qwen::GGUF_QWEN2,
    qwen::GGUF_QWEN3,
    gemma::GGUF_GEMMA2,
    gemma::GGUF_GEMMA3,
    phi::GGUF,
    gpt2::GGUF,
    neox::GGUF,
    olmo::GGUF,
];

/// The `model_type`s of transformers that are supported, in the order in which users see them.
pub fn model_types() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.model_type).collect()
}

/// The family of a `model_type`.
///
/// # Errors
/// A `model_type` that is not supported; the hint lists those that are.
pub fn find(model_type: &str) -> Result<&'static Family> {
    FAMILIES.iter().chain(OTHERS).find(|family| family.model_type == model_type).ok_or_else(|| {
        let multimodal: Vec<&str> = multimodal::KINDS.iter().map(|kind| kind.model_type).collect();
        let hint =
            format!("supported: {}; of {} the text part; {TOY}", model_types().join(", "), multimodal.join(", "));
        fields::unsupported("model_type", format!("\"{model_type}\""), &hint)
    })
}

/// Whether a config's checkpoint has TransformerLens's names rather than Hugging Face's.
pub fn has_lens_names(config: &Config) -> bool {
    matches!(config.model_type.as_str(), TOY | "transformer_lens")
}

/// Whether a config.json is TransformerLens's own rather than Hugging Face's.
fn is_transformer_lens(value: &Value) -> bool {
    value.get("model_type").is_none() && value.as_object().is_some_and(transformer_lens::is_config)
}

/// Reads Hugging Face's config.json, TransformerLens's, or the equivalent made from a GGUF file. A field that would change the numbers in
/// an unsupported way is an error that names it.
///
/// # Errors
/// A `model_type` or a field that is not supported, is missing or has the wrong type; each is named.
pub fn parse(value: &Value) -> Result<Config> {
    let given = value.as_object().ok_or_else(|| Error::new("the config is not a JSON object"))?;
    if is_transformer_lens(value) {
        return (transformer_lens::TRANSFORMER_LENS.config)(&Fields::without_class(given.clone()));
    }
    let model_type = match given.get("model_type") {
        None | Some(Value::Null) => return Err(Error::new("config has no field `model_type`")),
        Some(name) => name.as_str().ok_or_else(|| Error::new("config field `model_type` is not a string"))?,
    };
    let family = find(model_type)?;
    let fields = match model_type {
        TOY => Fields::without_class(given.clone()),
        _ => Fields::of_class(given.clone(), config_class(model_type)),
    };
    let config = (family.config)(&fields)?;
    fields.refuse_unread()?;
    if config.n_heads % config.n_kv_heads != 0 {
        return Err(Error::new(format!(
            "config: `num_attention_heads` {} is not a multiple of `num_key_value_heads` {}",
            config.n_heads, config.n_kv_heads
        )));
    }
    Ok(config)
}
