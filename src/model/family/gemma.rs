//! Gemma 1, 2 and 3 (text): norms that multiply by one plus the weight, scaled embeddings; from Gemma 2 on also norms after
//! each sublayer and sliding windows, soft caps (Gemma 2), norms on each head's queries and keys (Gemma 3). Sources:
//! transformers' configuration_gemma.py, configuration_gemma2.py, configuration_gemma3.py, llama.cpp's
//! convert_hf_to_gguf.py.

use serde_json::{Value as Json, json};

use super::Family;
use super::fields::{Fields, unsupported};
use super::gguf::{Architecture, Conversion, Metadata, layer_types};
use super::llama::{NAMING as LLAMA, descendant, descendant_in_gguf, extent, full_attention, sliding};
use super::rotary::{self, LayerRopes};
use crate::error::Result;
use crate::model::config::{Activation, Config, NormKind, NormPlacement, QueryKeyNorm};
use crate::model::naming::{Naming, NormNaming};

pub(super) const GEMMA: Family = Family { model_type: "gemma", naming: LLAMA, config: gemma1 };
pub(super) const GEMMA2: Family = Family { model_type: "gemma2", naming: NAMING, config: gemma2 };
pub(super) const GEMMA3: Family = Family { model_type: "gemma3_text", naming: NAMING, config: gemma3 };

pub(super) const GGUF_GEMMA2: Architecture =
    Architecture { name: "gemma2", naming: NAMING, config: gemma2_in_gguf, conversion: CONVERSION };
pub(super) const GGUF_GEMMA3: Architecture =
    Architecture { name: "gemma3", naming: NAMING, config: gemma3_in_gguf, conversion: CONVERSION };

const CONVERSION: Conversion = Conversion { norm_plus_one: true, ..Conversion::NONE };

const NAMING: Naming = Naming {
    norms: NormNaming::Both {
        attention: "input_layernorm",
        attention_post: "post_attention_layernorm",
        mlp: "pre_feedforward_layernorm",
        mlp_post: "post_feedforward_layernorm",
    },
    ..LLAMA
};

/// A descendant of Llama, which later Gemmas are not.
fn gemma1(fields: &Fields) -> Result<Config> {
    let config = descendant("gemma", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    // The official files say `gelu`, and transformers computes the approximation for it.
    let activation = match config.activation {
        Activation::Gelu => Activation::GeluTanh,
        other => other,
    };
    // Later files have the name of Gemma 2, too, which transformers ignores here.
    if let Some(other) = fields.text("hidden_activation")?
        && fields.activation("hidden_activation")? != activation
    {
        let hint = "transformers takes `hidden_act`, which is another function";
        return Err(unsupported("hidden_activation", format!("\"{other}\""), hint));
    }
    Ok(Config {
        norm: NormKind::RmsPlusOne,
        activation,
        embedding_scale: Some((config.d_model as f64).sqrt()),
        layers: full_attention(&config, rope),
        ..config
    })
}

fn gemma(model_type: &str, fields: &Fields) -> Result<Config> {
    let config = descendant(model_type, fields, "hidden_activation")?;
    // Early files also have Gemma 1's name of the activation, which transformers ignores.
    let _ = fields.given("hidden_act");
    Ok(Config {
        norm: NormKind::RmsPlusOne,
        norm_placement: NormPlacement::Both,
        attention_scale: fields.number("query_pre_attn_scalar")?.powf(-0.5),
        logit_soft_cap: fields.optional_number("final_logit_softcapping")?,
        embedding_scale: Some((config.d_model as f64).sqrt()),
        ..config
    })
}

/// Every second layer attends to all positions.
fn gemma2(fields: &Fields) -> Result<Config> {
    let config = gemma("gemma2", fields)?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    let window = fields.optional_size("sliding_window")?;
    if let Some(window) = window {
        // A second name in early files, which transformers ignores.
        fields.agrees("sliding_window_size", window as f64)?;
    }
    let layers = sliding(fields, &config, window, |layer| (layer + 1) % 2 != 0, &LayerRopes::same(rope))?;
    Ok(Config { attention_soft_cap: fields.optional_number("attn_logit_softcapping")?, layers, ..config })
}

/// Every sixth layer, or the one of `sliding_window_pattern`, attends to all positions; the others have a rotary
/// embedding with its own base.
fn gemma3(fields: &Fields) -> Result<Config> {
    let config = gemma("gemma3_text", fields)?;
    let ropes = rotary::ropes_by_layer(fields, Some("rope_local_base_freq"), extent(&config))?;
    let window = fields.optional_size("sliding_window")?;
    let period = fields.optional_size("sliding_window_pattern")?.unwrap_or(6);
    // transformers writes this name but does not read it.
    if fields.array("layer_types")?.is_none() {
        fields.agrees("_sliding_window_pattern", period as f64)?;
    } else {
        let _ = fields.given("_sliding_window_pattern");
    }
    // The class has this cap, but the code does not use it.
    let _ = fields.optional_number("attn_logit_softcapping")?;
    let layers = sliding(fields, &config, window, |layer| (layer + 1) % period != 0, &ropes)?;
    Ok(Config { query_key_norm: QueryKeyNorm::Head, layers, ..config })
}

/// Early files omit the common values of all Gemma 2 models: both soft caps and the window.
fn gemma2_in_gguf(file: &Metadata) -> Result<Json> {
    let mut config = gemma_in_gguf(file, "gemma2", 46)?;
    let window = file.optional_integer("attention.sliding_window")?.unwrap_or(4096);
    config["attn_logit_softcapping"] = file.optional_float("attn_logit_softcapping")?.unwrap_or(50.0).into();
    config["final_logit_softcapping"] = file.optional_float("final_logit_softcapping")?.unwrap_or(30.0).into();
    config["sliding_window"] = window.into();
    config["layer_types"] = layer_types(file.slides(2)?);
    Ok(config)
}

fn gemma3_in_gguf(file: &Metadata) -> Result<Json> {
    let mut config = gemma_in_gguf(file, "gemma3_text", 62)?;
    let window = file.optional_integer("attention.sliding_window")?;
    config["attn_logit_softcapping"] = json!(file.optional_float("attn_logit_softcapping")?);
    config["final_logit_softcapping"] = json!(file.optional_float("final_logit_softcapping")?);
    config["rope_theta"] = file.optional_float("rope.freq_base")?.unwrap_or(1_000_000.0).into();
    config["rope_local_base_freq"] = file.optional_float("rope.freq_base_swa")?.unwrap_or(10_000.0).into();
    config["sliding_window"] = json!(window);
    config["layer_types"] = layer_types(file.slides(6)?.into_iter().map(|slides| window.is_some() && slides));
    Ok(config)
}

/// The scale of attention, which the file does not contain. By llama.cpp's rule it follows from the head's size, except
/// in the 27B model, recognized by its number of layers, `largest`.
fn gemma_in_gguf(file: &Metadata, model_type: &str, largest: i64) -> Result<Json> {
    let mut config = descendant_in_gguf(file, model_type)?;
    let head_dim = file.integer("attention.key_length")?;
    let scalar = match file.integer("block_count")? == largest {
        true => file.integer("embedding_length")? / file.heads()?,
        false => head_dim,
    };
    file.check_heads(head_dim, scalar)?;
    config["query_pre_attn_scalar"] = scalar.into();
    config["hidden_act"] = "gelu_pytorch_tanh".into();
    config["hidden_activation"] = "gelu_pytorch_tanh".into();
    Ok(config)
}
