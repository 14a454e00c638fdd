//! Llama 2 and 3, and Mistral; and the fields that configs of their descendants (OLMo, Gemma, Qwen, Phi-3) share.
//! Sources: transformers' configuration_llama.py, configuration_mistral.py, and llama.cpp's convert_hf_to_gguf.py.

use serde_json::{Value as Json, json};

use super::Family;
use super::config_class::config_class;
use super::fields::{Fields, head_size, unsupported};
use super::gguf::{Architecture, Conversion, Metadata, ROTARY_DIVISORS, set};
use super::rotary::{self, Extent, LayerRopes};
use crate::error::{Error, Result};
use crate::model::config::{Config, LayerAttention, NormKind, Rope, Sizes};
use crate::model::naming::{AttentionNaming, MlpNaming, Naming, NormNaming};

pub(super) const LLAMA: Family = Family { model_type: "llama", naming: NAMING, config: llama };
pub(super) const MISTRAL: Family = Family { model_type: "mistral", naming: NAMING, config: mistral };

/// The converter writes Mistral's models as Llama's, too.
pub(super) const GGUF: Architecture = Architecture {
    name: "llama",
    naming: NAMING,
    config: |file| descendant_in_gguf(file, "llama"),
    conversion: Conversion { rotary_permuted: true, ..Conversion::NONE },
};

/// The names of Llama's weights, most of which its descendants share.
pub(super) const NAMING: Naming = Naming {
    root: "model.",
    embedding: "embed_tokens",
    position_embedding: None,
    position_offset: 0,
    final_norm: "norm",
    unembedding: "lm_head",
    layers: "layers.",
    attention: AttentionNaming::Separate {
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
    },
    attention_output: "self_attn.o_proj",
    query_norm: "self_attn.q_norm",
    key_norm: "self_attn.k_norm",
    mlp: MlpNaming::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj" },
    mlp_down: "mlp.down_proj",
    mlp_norm: "mlp.ln",
    sinks: "self_attn.sinks",
    norms: NormNaming::Pre { attention: "input_layernorm", mlp: "post_attention_layernorm" },
    transposed: false,
};

fn llama(fields: &Fields) -> Result<Config> {
    let config = descendant("llama", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    Ok(Config { mlp_bias: fields.flag("mlp_bias")?, layers: full_attention(&config, rope), ..config })
}

fn mistral(fields: &Fields) -> Result<Config> {
    let config = descendant("mistral", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    let layers = one_window(&config, fields.optional_size("sliding_window")?, rope);
    Ok(Config { layers, ..config })
}

/// Reads the fields that the configs of Llama's descendants share; the layers are not described yet.
pub(super) fn descendant(model_type: &str, fields: &Fields, activation: &str) -> Result<Config> {
    let config = descendant_without_eps(model_type, fields, activation)?;
    Ok(Config { norm_eps: fields.number("rms_norm_eps")?, ..config })
}

/// Those of a descendant with LayerNorms.
pub(super) fn descendant_with_layer_norm(model_type: &str, fields: &Fields) -> Result<Config> {
    let config = descendant_without_eps(model_type, fields, "hidden_act")?;
    Ok(Config { norm: NormKind::Layer, norm_eps: fields.number("layer_norm_eps")?, ..config })
}

/// Those that descendants with every kind of norm share.
pub(super) fn descendant_without_eps(model_type: &str, fields: &Fields, activation: &str) -> Result<Config> {
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_attention_heads")?;
    let d_head = match fields.optional_size("head_dim")? {
        Some(d_head) => d_head,
        None => head_size(("hidden_size", d_model), ("num_attention_heads", n_heads))
            .map_err(|error| error.hint("there is no `head_dim`"))?,
    };
    let sizes = Sizes {
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        n_kv_heads: fields.optional_size("num_key_value_heads")?.unwrap_or(n_heads),
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        d_vocab: fields.size("vocab_size")?,
        n_ctx: fields.size("max_position_embeddings")?,
    };
    let bias = fields.flag_of_class("attention_bias")?;
    Ok(Config {
        activation: fields.activation(activation)?,
        tied: fields.flag("tie_word_embeddings")?,
        query_key_value_bias: bias,
        attention_output_bias: bias,
        initializer_range: fields.number("initializer_range")?,
        eos_token_ids: fields.eos_token_ids()?,
        ..Config::new(model_type, sizes)
    })
}

/// The sizes that a rotary embedding has to cover.
pub(super) fn extent(config: &Config) -> Extent {
    Extent { d_head: config.d_head, n_ctx: config.n_ctx }
}

/// Layers that attend to all positions.
pub(super) fn full_attention(config: &Config, rope: Rope) -> Vec<LayerAttention> {
    one_window(config, None, rope)
}

/// Layers that all have the same window, if any.
pub(super) fn one_window(config: &Config, window: Option<i64>, rope: Rope) -> Vec<LayerAttention> {
    vec![LayerAttention { window, rope: Some(rope) }; config.n_layers as usize]
}

/// Layers of which some attend to `window` positions; `slides` selects them if `layer_types` is missing.
pub(super) fn sliding(
    fields: &Fields,
    config: &Config,
    window: Option<i64>,
    slides: impl Fn(i64) -> bool,
    ropes: &LayerRopes,
) -> Result<Vec<LayerAttention>> {
    let sliding = match layer_types(fields, config.n_layers)? {
        Some(types) => types,
        None => (0..config.n_layers).map(slides).collect(),
    };
    let layer = |slides: bool| match (slides, window) {
        (true, Some(_)) => Ok(LayerAttention { window, rope: Some(ropes.sliding.clone()) }),
        (true, None) => Err(Error::new("config: there are layers with a sliding window and no `sliding_window`")),
        (false, _) => Ok(LayerAttention { window: None, rope: Some(ropes.full.clone()) }),
    };
    sliding.into_iter().map(layer).collect()
}

/// For each layer, whether it has a sliding window by `layer_types`.
fn layer_types(fields: &Fields, n_layers: i64) -> Result<Option<Vec<bool>>> {
    let Some(types) = fields.array("layer_types")? else { return Ok(None) };
    if types.len() as i64 != n_layers {
        return Err(Error::new(format!(
            "config field `layer_types` has {} entries for {n_layers} layers",
            types.len()
        )));
    }
    let slides = types.iter().map(|name| match name.as_str() {
        Some("full_attention" | "attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(unsupported("layer_types", name, "supported: full_attention, sliding_attention")),
    });
    slides.collect::<Result<_>>().map(Some)
}

/// The config.json of one of Llama's descendants that rotates all dimensions of a head, from a GGUF file.
pub(super) fn descendant_in_gguf(file: &Metadata, model_type: &str) -> Result<Json> {
    let mut config = base_in_gguf(file, model_type)?;
    let head_dim = &config["head_dim"];
    if let Some(rotary) = file.optional_integer("rope.dimension_count")?.filter(|rotary| *head_dim != *rotary) {
        let key = file.key("rope.dimension_count");
        return Err(file.error(format!("metadata `{key}` is {rotary}, and heads have {head_dim}")));
    }
    config["rope_scaling"] = rope_scaling_in_gguf(file)?;
    Ok(config)
}

/// What the config.json of every descendant of Llama holds, from a GGUF file.
pub(super) fn base_in_gguf(file: &Metadata, model_type: &str) -> Result<Json> {
    let mut config = file.common(model_type)?;
    let (hidden, heads) = (file.integer("embedding_length")?, file.heads()?);
    let key_length = file.optional_integer("attention.key_length")?;
    let head_dim = match file.architecture {
        "llama" if key_length.is_none() => file.optional_integer("rope.dimension_count")?,
        _ => key_length,
    };
    let head_dim = head_dim.unwrap_or(hidden / heads);
    let context = file.integer("context_length")?;
    config["hidden_size"] = hidden.into();
    config["num_hidden_layers"] = file.integer("block_count")?.into();
    config["num_attention_heads"] = heads.into();
    config["num_key_value_heads"] = file.optional_integer("attention.head_count_kv")?.unwrap_or(heads).into();
    config["head_dim"] = head_dim.into();
    config["intermediate_size"] = file.integer("feed_forward_length")?.into();
    config["hidden_act"] = "silu".into();
    config["max_position_embeddings"] = context.into();
    config["rms_norm_eps"] = file.float("attention.layer_norm_rms_epsilon")?.into();
    config["rope_theta"] = file.optional_float("rope.freq_base")?.unwrap_or(10_000.0).into();
    // A family without such a field has these biases always or never.
    let class = config_class(model_type);
    for (field, tensor) in [("attention_bias", "blk.0.attn_q.bias"), ("mlp_bias", "blk.0.ffn_up.bias")] {
        if class.has(field) {
            config[field] = file.gguf.contains(tensor).into();
        }
    }
    // Gemma scales by another number and checks for itself.
    if config_class(model_type).default("query_pre_attn_scalar").is_none() {
        file.check_heads(head_dim, head_dim)?;
    }
    // llama.cpp has no window here, so one that hides anything is not what the file computes with.
    if matches!(file.architecture, "llama" | "qwen2" | "qwen3")
        && let Some(window) = file.optional_integer("attention.sliding_window")?
        && (1..context).contains(&window)
    {
        let key = file.key("attention.sliding_window");
        return Err(file.error(format!("metadata `{key}` is {window}, and this architecture has no sliding window")));
    }
    Ok(config)
}

/// The field `rope_scaling`. Without a type, a factor is that of linear scaling, as in llama.cpp.
fn rope_scaling_in_gguf(file: &Metadata) -> Result<Json> {
    let kind = file.string("rope.scaling.type")?;
    let factor = match file.optional_float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => file.optional_float("rope.scale_linear")?,
    };
    let factor = factor.filter(|factor| *factor != 0.0 && *factor != 1.0);
    let original = file.optional_integer("rope.scaling.original_context_length")?;
    let magnitude = file.optional_float("rope.scaling.attn_factor")?;
    if kind != Some("yarn")
        && let Some(magnitude) = magnitude.filter(|magnitude| *magnitude != 1.0)
    {
        let key = file.key("rope.scaling.attn_factor");
        return Err(file.error(format!("metadata `{key}` is {magnitude}, which only yarn has here")));
    }
    if file.gguf.contains(ROTARY_DIVISORS) {
        return match (kind, factor) {
            (Some("none"), _) | (None | Some("linear"), None) => Ok(json!({ "rope_type": "frequency_factors" })),
            _ => Err(file.error(format!("rotary frequencies are scaled by both `{ROTARY_DIVISORS}` and metadata"))),
        };
    }
    match (kind, factor) {
        (Some("none"), _) | (None | Some("linear"), None) => Ok(Json::Null),
        (None | Some("linear"), Some(factor)) => Ok(json!({ "rope_type": "linear", "factor": factor })),
        (Some("yarn"), _) => {
            let mut scaling = json!({ "rope_type": "yarn", "factor": factor.unwrap_or(1.0) });
            set(&mut scaling, "original_max_position_embeddings", original);
            set(&mut scaling, "attention_factor", magnitude);
            set(&mut scaling, "beta_fast", file.optional_float("rope.scaling.yarn_beta_fast")?);
            set(&mut scaling, "beta_slow", file.optional_float("rope.scaling.yarn_beta_slow")?);
            Ok(scaling)
        }
        (Some(other), _) => Err(file
            .error(format!("the rotary scaling `{other}` is not supported"))
            .hint("linear, yarn and frequency factors are")),
    }
}
