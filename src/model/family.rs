//! Reads Hugging Face's config.json (or its equivalent made from a GGUF file) into a [`Config`]. A field that would change
//! the numbers in a way the decoder does not know is an error that names it.

use serde_json::Value;

use super::config::{
    Activation, Config, LayerAttention, NormKind, NormPlacement, PositionEmbedding, QueryKeyNorm, Rope, RopeScaling,
};
use crate::error::{Error, Result};

/// The `model_type`s that are supported, in the order in which they are listed to users.
pub const MODEL_TYPES: &[&str] =
    &["olmo2", "olmo3", "llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "gemma2", "gemma3_text", "phi3"];

/// Typed access to a config's fields; a missing or wrong one is an error that names it.
struct Fields<'a> {
    value: &'a Value,
}

impl Fields<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn integer(&self, key: &str) -> Result<i64> {
        self.optional_integer(key)?.ok_or_else(|| Error::new(format!("config has no field `{key}`")))
    }

    fn optional_integer(&self, key: &str) -> Result<Option<i64>> {
        self.get(key)
            .map(|value| value.as_i64().ok_or_else(|| Error::new(format!("config field `{key}` is not an integer"))))
            .transpose()
    }

    fn size(&self, key: &str) -> Result<i64> {
        positive(key, self.integer(key)?)
    }

    fn size_or(&self, key: &str, default: i64) -> Result<i64> {
        positive(key, self.optional_integer(key)?.unwrap_or(default))
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key)
            .map(|value| value.as_f64().ok_or_else(|| Error::new(format!("config field `{key}` is not a number"))))
            .transpose()
    }

    fn number(&self, key: &str) -> Result<f64> {
        self.optional_number(key)?.ok_or_else(|| Error::new(format!("config has no field `{key}`")))
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            Some(value) => {
                value.as_bool().ok_or_else(|| Error::new(format!("config field `{key}` is not true or false")))
            }
            None => Ok(default),
        }
    }

    fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        self.get(key)
            .and_then(Value::as_array)
            .and_then(|items| items.iter().map(Value::as_f64).collect())
            .ok_or_else(|| Error::new(format!("config field `{key}` is not an array of numbers")))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

/// The largest size that is believed; products of two stay far from overflow.
const LARGEST: i64 = 1 << 24;

/// As many layers as are believed: what is kept per layer is made before the weights are looked for.
const MOST_LAYERS: i64 = 1 << 12;

fn positive(key: &str, value: i64) -> Result<i64> {
    let largest = if matches!(key, "num_hidden_layers" | "n_layer") { MOST_LAYERS } else { LARGEST };
    if (1..=largest).contains(&value) {
        Ok(value)
    } else {
        Err(Error::new(format!("config field `{key}` is {value}, which is not a possible size")))
    }
}

fn unsupported(key: &str, value: impl std::fmt::Display, hint: &str) -> Error {
    Error::new(format!("config field `{key}` = {value} is not supported")).hint(hint.to_owned())
}

/// Fields whose presence (not null, not false) means an architecture that the decoder does not know.
const FOREIGN: &[&str] = &[
    "quantization_config",
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "kv_lora_rank",
    "vision_config",
    "add_cross_attention",
    "is_encoder_decoder",
    "scale_attn_by_inverse_layer_idx",
    "clip_qkv",
    "use_bidirectional_attention",
];

/// Reads a config.
///
/// # Errors
/// A `model_type` or a field that is not supported, or one that is missing or of the wrong type; each is named.
pub fn parse(value: &Value) -> Result<Config> {
    let fields = Fields { value };
    let model_type =
        fields.text("model_type").ok_or_else(|| Error::new("config has no field `model_type`"))?.to_owned();
    if !MODEL_TYPES.contains(&model_type.as_str()) {
        let hint = format!("supported: {}", MODEL_TYPES.join(", "));
        return Err(unsupported("model_type", format!("\"{model_type}\""), &hint));
    }
    for key in FOREIGN {
        match fields.get(key) {
            None | Some(Value::Bool(false)) => {}
            Some(found) => {
                let shown = if found.is_object() { "{…}".to_owned() } else { found.to_string() };
                return Err(unsupported(key, shown, "the decoder would compute something else"));
            }
        }
    }
    let config = match model_type.as_str() {
        "gpt2" => gpt2(&fields, model_type)?,
        "gpt_neox" => gpt_neox(&fields, model_type)?,
        _ => llama_like(&fields, model_type)?,
    };
    if config.n_heads % config.n_kv_heads != 0 {
        return Err(Error::new(format!(
            "config: `num_attention_heads` {} is not a multiple of `num_key_value_heads` {}",
            config.n_heads, config.n_kv_heads
        )));
    }
    Ok(config)
}

fn activation(fields: &Fields, key: &str, default: &str) -> Result<Activation> {
    match fields.text(key).unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        "relu" => Ok(Activation::Relu),
        other => {
            Err(unsupported(key, format!("\"{other}\""), "supported: silu, gelu, gelu_new, gelu_pytorch_tanh, relu"))
        }
    }
}

fn eos_ids(fields: &Fields) -> Vec<i64> {
    match fields.get("eos_token_id") {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_i64).collect(),
        Some(item) => item.as_i64().into_iter().collect(),
        None => Vec::new(),
    }
}

fn gpt2(fields: &Fields, model_type: String) -> Result<Config> {
    let d_model = fields.size("n_embd")?;
    let n_heads = fields.size("n_head")?;
    let n_layers = fields.size("n_layer")?;
    if d_model % n_heads != 0 {
        return Err(Error::new(format!("config: `n_embd` {d_model} is not a multiple of `n_head` {n_heads}")));
    }
    let d_head = d_model / n_heads;
    let scaled = fields.flag_or("scale_attn_weights", true)?;
    Ok(Config {
        model_type,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: fields.size_or("n_inner", 4 * d_model)?,
        d_vocab: fields.size("vocab_size")?,
        n_ctx: fields.size_or("n_positions", 1024)?,
        activation: activation(fields, "activation_function", "gelu_new")?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: fields.number_or("layer_norm_epsilon", 1e-5)?,
        norm_placement: NormPlacement::Pre,
        query_key_norm: QueryKeyNorm::Absent,
        parallel: false,
        position_embedding: PositionEmbedding::Learned,
        layers: vec![LayerAttention { window: None, rope: None }; n_layers as usize],
        attention_scale: if scaled { (d_head as f64).powf(-0.5) } else { 1.0 },
        attention_soft_cap: None,
        logit_soft_cap: None,
        embedding_scale: None,
        tied: fields.flag_or("tie_word_embeddings", true)?,
        query_key_value_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        initializer_range: fields.number_or("initializer_range", 0.02)?,
        eos_token_ids: eos_ids(fields),
    })
}

fn gpt_neox(fields: &Fields, model_type: String) -> Result<Config> {
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_attention_heads")?;
    let n_layers = fields.size("num_hidden_layers")?;
    if d_model % n_heads != 0 {
        return Err(Error::new(format!(
            "config: `hidden_size` {d_model} is not a multiple of `num_attention_heads` {n_heads}"
        )));
    }
    let d_head = d_model / n_heads;
    let n_ctx = fields.size_or("max_position_embeddings", 2048)?;
    let fraction = fields.number_or("rotary_pct", fields.number_or("partial_rotary_factor", 0.25)?)?;
    let theta = fields.number_or("rotary_emb_base", fields.number_or("rope_theta", 10000.0)?)?;
    let rope = read_rope(fields, theta, rotary_dim("rotary_pct", d_head, fraction)?, n_ctx)?;
    let bias = fields.flag_or("attention_bias", true)?;
    Ok(Config {
        model_type,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        d_vocab: fields.size("vocab_size")?,
        n_ctx,
        activation: activation(fields, "hidden_act", "gelu")?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: fields.number_or("layer_norm_eps", 1e-5)?,
        norm_placement: NormPlacement::Pre,
        query_key_norm: QueryKeyNorm::Absent,
        parallel: fields.flag_or("use_parallel_residual", true)?,
        position_embedding: PositionEmbedding::Rotary,
        layers: vec![LayerAttention { window: None, rope: Some(rope) }; n_layers as usize],
        attention_scale: (d_head as f64).powf(-0.5),
        attention_soft_cap: None,
        logit_soft_cap: None,
        embedding_scale: None,
        tied: fields.flag_or("tie_word_embeddings", false)?,
        query_key_value_bias: bias,
        attention_output_bias: bias,
        mlp_bias: true,
        initializer_range: fields.number_or("initializer_range", 0.02)?,
        eos_token_ids: eos_ids(fields),
    })
}

fn llama_like(fields: &Fields, model_type: String) -> Result<Config> {
    let kind = model_type.as_str();
    let gemma = matches!(kind, "gemma2" | "gemma3_text");
    let olmo = matches!(kind, "olmo2" | "olmo3");
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_attention_heads")?;
    let n_layers = fields.size("num_hidden_layers")?;
    let d_head = match fields.optional_integer("head_dim")? {
        Some(d_head) => positive("head_dim", d_head)?,
        None if gemma => 256,
        None if kind == "qwen3" => 128,
        None if d_model % n_heads == 0 => d_model / n_heads,
        None => {
            return Err(Error::new(format!(
                "config: `hidden_size` {d_model} is not a multiple of `num_attention_heads` {n_heads} and there is no `head_dim`"
            )));
        }
    };
    let n_ctx = fields.size_or("max_position_embeddings", 2048)?;
    let attention_scale =
        if gemma { fields.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5) } else { (d_head as f64).powf(-0.5) };
    let attention_bias = fields.flag_or("attention_bias", false)?;
    let (norm, norm_placement) = match kind {
        _ if gemma => (NormKind::RmsPlusOne, NormPlacement::Both),
        _ if olmo => (NormKind::Rms, NormPlacement::Post),
        _ => (NormKind::Rms, NormPlacement::Pre),
    };
    let activation_key = if gemma { "hidden_activation" } else { "hidden_act" };
    let layers = layer_attention(fields, kind, n_layers, d_head, n_ctx)?;
    Ok(Config {
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: fields.size_or("num_key_value_heads", n_heads)?,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        d_vocab: fields.size("vocab_size")?,
        n_ctx,
        activation: activation(fields, activation_key, if gemma { "gelu_pytorch_tanh" } else { "silu" })?,
        gated_mlp: true,
        norm,
        norm_eps: fields.number_or("rms_norm_eps", if olmo { 1e-5 } else { 1e-6 })?,
        norm_placement,
        query_key_norm: match kind {
            _ if olmo => QueryKeyNorm::Projection,
            "qwen3" | "gemma3_text" => QueryKeyNorm::Head,
            _ => QueryKeyNorm::Absent,
        },
        parallel: false,
        position_embedding: PositionEmbedding::Rotary,
        layers,
        attention_scale,
        attention_soft_cap: if gemma { fields.optional_number("attn_logit_softcapping")? } else { None },
        logit_soft_cap: if gemma { fields.optional_number("final_logit_softcapping")? } else { None },
        embedding_scale: gemma.then(|| (d_model as f64).sqrt()),
        tied: fields.flag_or("tie_word_embeddings", gemma)?,
        query_key_value_bias: attention_bias || kind == "qwen2",
        attention_output_bias: attention_bias && kind != "qwen2",
        mlp_bias: kind == "llama" && fields.flag_or("mlp_bias", false)?,
        initializer_range: fields.number_or("initializer_range", 0.02)?,
        eos_token_ids: eos_ids(fields),
        model_type,
    })
}

/// Each layer's window and rotary embedding.
fn layer_attention(fields: &Fields, kind: &str, n_layers: i64, d_head: i64, n_ctx: i64) -> Result<Vec<LayerAttention>> {
    let fraction = match kind {
        "phi3" => fields.number_or("partial_rotary_factor", 1.0)?,
        _ => 1.0,
    };
    let dim = rotary_dim("partial_rotary_factor", d_head, fraction)?;
    let parameters = fields.get("rope_parameters").map(|value| Fields { value });
    // Newer configs keep one set of rotary parameters per kind of layer.
    let nested =
        |layer_type: &str| parameters.as_ref().and_then(|all| all.get(layer_type)).filter(|value| value.is_object());
    let default_theta = match kind {
        "gemma3_text" => 1e6,
        _ => 10000.0,
    };
    let global = match nested("full_attention") {
        Some(value) => read_parameters(&Fields { value }, fields, default_theta, dim, n_ctx)?,
        None => read_rope(fields, fields.number_or("rope_theta", default_theta)?, dim, n_ctx)?,
    };
    let local = match (kind, nested("sliding_attention")) {
        (_, Some(value)) => read_parameters(&Fields { value }, fields, 10000.0, dim, n_ctx)?,
        ("gemma3_text", None) => {
            Rope { theta: fields.number_or("rope_local_base_freq", 10000.0)?, dim, scaling: RopeScaling::Default }
        }
        // OLMo-3 scales the frequencies of its full-attention layers only.
        ("olmo3", None) => Rope { scaling: RopeScaling::Default, ..global.clone() },
        _ => global.clone(),
    };
    let window = match kind {
        "qwen2" | "qwen3" if !fields.flag_or("use_sliding_window", false)? => None,
        "mistral" | "phi3" | "qwen2" | "qwen3" | "olmo3" | "gemma2" | "gemma3_text" => {
            fields.optional_integer("sliding_window")?.map(|size| positive("sliding_window", size)).transpose()?
        }
        _ => None,
    };
    let types = layer_types(fields, kind, n_layers)?;
    Ok(types
        .into_iter()
        .map(|sliding| match window {
            Some(window) if sliding => LayerAttention { window: Some(window), rope: Some(local.clone()) },
            _ if sliding => LayerAttention { window: None, rope: Some(local.clone()) },
            _ => LayerAttention { window: None, rope: Some(global.clone()) },
        })
        .collect())
}

/// For each layer, whether it is one of the sliding-window kind.
fn layer_types(fields: &Fields, kind: &str, n_layers: i64) -> Result<Vec<bool>> {
    if let Some(types) = fields.get("layer_types") {
        let types = types.as_array().ok_or_else(|| Error::new("config field `layer_types` is not an array"))?;
        if types.len() as i64 != n_layers {
            return Err(Error::new(format!(
                "config field `layer_types` has {} entries for {n_layers} layers",
                types.len()
            )));
        }
        return types
            .iter()
            .map(|name| match name.as_str() {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                _ => Err(unsupported("layer_types", name, "supported: full_attention, sliding_attention")),
            })
            .collect();
    }
    let pattern = |full_each: i64| (0..n_layers).map(|layer| (layer + 1) % full_each != 0).collect::<Vec<_>>();
    Ok(match kind {
        "gemma2" => pattern(2),
        "gemma3_text" => {
            pattern(fields.size_or("sliding_window_pattern", fields.size_or("_sliding_window_pattern", 6)?)?)
        }
        "olmo3" => pattern(4),
        "mistral" | "phi3" => vec![true; n_layers as usize],
        "qwen2" | "qwen3" => {
            let first = fields.optional_integer("max_window_layers")?.unwrap_or(28);
            (0..n_layers).map(|layer| layer >= first).collect()
        }
        _ => vec![false; n_layers as usize],
    })
}

fn rotary_dim(key: &str, d_head: i64, fraction: f64) -> Result<i64> {
    let dim = (d_head as f64 * fraction) as i64;
    if dim < 2 || dim > d_head || dim % 2 != 0 {
        return Err(unsupported(key, fraction, "it must leave an even number of rotated dimensions, at most head_dim"));
    }
    Ok(dim)
}

/// The rotary embedding from `rope_parameters`, or from `rope_theta` and `rope_scaling`.
fn read_rope(fields: &Fields, theta: f64, dim: i64, n_ctx: i64) -> Result<Rope> {
    match fields.get("rope_parameters").or_else(|| fields.get("rope_scaling")) {
        Some(value) => read_parameters(&Fields { value }, fields, theta, dim, n_ctx),
        None => Ok(Rope { theta, dim, scaling: RopeScaling::Default }),
    }
}

fn read_parameters(scaling: &Fields, fields: &Fields, theta: f64, dim: i64, n_ctx: i64) -> Result<Rope> {
    let theta = scaling.number_or("rope_theta", theta)?;
    let original = |scaling: &Fields| -> Result<f64> {
        match scaling.optional_number("original_max_position_embeddings")? {
            Some(original) => Ok(original),
            None => fields.number_or("original_max_position_embeddings", n_ctx as f64),
        }
    };
    let scaling = match scaling.text("rope_type").or_else(|| scaling.text("type")).unwrap_or("default") {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: scaling.number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: scaling.number("factor")?,
            low_frequency_factor: scaling.number("low_freq_factor")?,
            high_frequency_factor: scaling.number("high_freq_factor")?,
            original_context: original(scaling)?,
        },
        "yarn" => {
            let factor = scaling.number("factor")?;
            RopeScaling::Yarn {
                factor,
                attention_factor: yarn_attention_factor(scaling, factor)?,
                beta_fast: scaling.number_or("beta_fast", 32.0)?,
                beta_slow: scaling.number_or("beta_slow", 1.0)?,
                original_context: original(scaling)?,
                truncate: scaling.flag_or("truncate", true)?,
            }
        }
        "longrope" => {
            let original = original(scaling)?;
            let factor = match fields.get("original_max_position_embeddings") {
                Some(_) => n_ctx as f64 / original,
                None => scaling.number_or("factor", n_ctx as f64 / original)?,
            };
            let by_length = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
            let (short, long) = (scaling.numbers("short_factor")?, scaling.numbers("long_factor")?);
            if short.len() as i64 != dim / 2 || long.len() as i64 != dim / 2 {
                return Err(Error::new(format!(
                    "config field `rope_scaling`: {} short and {} long factors for {} frequencies",
                    short.len(),
                    long.len(),
                    dim / 2
                )));
            }
            RopeScaling::LongRope {
                short,
                long,
                attention_factor: scaling.number_or("attention_factor", by_length)?,
                original_context: original as i64,
            }
        }
        // The loader fills the divisors in from the file's own tensor.
        "frequency_factors" => RopeScaling::Divisors(Vec::new()),
        other => {
            return Err(unsupported(
                "rope_scaling.rope_type",
                format!("\"{other}\""),
                "supported: default, linear, llama3, yarn, longrope",
            ));
        }
    };
    Ok(Rope { theta, dim, scaling })
}

fn yarn_attention_factor(scaling: &Fields, factor: f64) -> Result<f64> {
    let magnitude = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    if let Some(given) = scaling.optional_number("attention_factor")? {
        return Ok(given);
    }
    let weights = (scaling.number_or("mscale", 0.0)?, scaling.number_or("mscale_all_dim", 0.0)?);
    Ok(match weights {
        (one, all) if one != 0.0 && all != 0.0 => magnitude(one) / magnitude(all),
        _ => magnitude(1.0),
    })
}
