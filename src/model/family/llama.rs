//! Llama 2 and 3, and Mistral; and what the configs of their descendants (OLMo, Gemma, Qwen, Phi-3) share with them.
//! Sources: transformers' configuration_llama.py, configuration_mistral.py, and llama.cpp's convert_hf_to_gguf.py.

use serde_json::{Value as Json, json};

use super::Family;
use super::fields::{Fields, head_size, unsupported};
use super::gguf::{Architecture, Conversion, Metadata, set};
use super::rotary;
use crate::error::{Error, Result};
use crate::model::config::{Config, LayerAttention, Rope, Sizes};
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

/// The names of Llama's weights, from which its descendants differ in few.
pub(super) const NAMING: Naming = Naming {
    root: "model.",
    embedding: "embed_tokens",
    position_embedding: None,
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
    norms: NormNaming::Pre { attention: "input_layernorm", mlp: "post_attention_layernorm" },
    transposed: false,
};

fn llama(fields: &Fields) -> Result<Config> {
    let descendant = descendant("llama", fields, &DEFAULTS)?;
    let mlp_bias = fields.flag_or("mlp_bias", false)?;
    Ok(Config { mlp_bias, ..descendant.full_attention(fields)? })
}

fn mistral(fields: &Fields) -> Result<Config> {
    let window = fields.optional_size("sliding_window")?;
    descendant("mistral", fields, &DEFAULTS)?.sliding(fields, window, |_| true, None)
}

/// The fields that configs of Llama's descendants may leave out.
pub(super) struct Defaults {
    /// `head_dim`; None for `hidden_size` / `num_attention_heads`
    pub head_dim: Option<i64>,
    /// `max_position_embeddings`
    pub n_ctx: i64,
    /// Name and default of the field of the activation
    pub activation: (&'static str, &'static str),
    /// `rms_norm_eps`
    pub norm_eps: f64,
    /// `rope_theta`
    pub rope_theta: f64,
    /// `partial_rotary_factor`; None where there is no such field and all dimensions are rotated
    pub rotary_fraction: Option<f64>,
    /// `tie_word_embeddings`
    pub tied: bool,
}

pub(super) const DEFAULTS: Defaults = Defaults {
    head_dim: None,
    n_ctx: 2048,
    activation: ("hidden_act", "silu"),
    norm_eps: 1e-6,
    rope_theta: 10_000.0,
    rotary_fraction: None,
    tied: false,
};

/// A config whose layers are not described yet.
pub(super) struct Descendant {
    pub config: Config,
    /// The rotary embedding of layers with full attention
    pub rope: Rope,
}

/// Reads the fields that the configs of Llama's descendants share.
pub(super) fn descendant(model_type: &str, fields: &Fields, defaults: &Defaults) -> Result<Descendant> {
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_attention_heads")?;
    let n_layers = fields.size("num_hidden_layers")?;
    let d_head = match fields.optional_size("head_dim")?.or(defaults.head_dim) {
        Some(d_head) => d_head,
        None => head_size(("hidden_size", d_model), ("num_attention_heads", n_heads))
            .map_err(|error| error.hint("there is no `head_dim`"))?,
    };
    let n_ctx = fields.size_or("max_position_embeddings", defaults.n_ctx)?;
    let fraction = match defaults.rotary_fraction {
        Some(default) => fields.number_or("partial_rotary_factor", default)?,
        None => 1.0,
    };
    let dim = rotary::rotated_dimensions("partial_rotary_factor", d_head, fraction)?;
    let rope = match rotary::rope_of("full_attention", fields, defaults.rope_theta, dim, n_ctx)? {
        Some(rope) => rope,
        None => rotary::rope(fields, fields.number_or("rope_theta", defaults.rope_theta)?, dim, n_ctx)?,
    };
    let (activation_key, activation) = defaults.activation;
    let bias = fields.flag_or("attention_bias", false)?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: fields.size_or("num_key_value_heads", n_heads)?,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        d_vocab: fields.size("vocab_size")?,
        n_ctx,
    };
    let config = Config {
        activation: fields.activation(activation_key, activation)?,
        norm_eps: fields.number_or("rms_norm_eps", defaults.norm_eps)?,
        tied: fields.flag_or("tie_word_embeddings", defaults.tied)?,
        query_key_value_bias: bias,
        attention_output_bias: bias,
        initializer_range: fields.initializer_range()?,
        eos_token_ids: fields.eos_token_ids()?,
        ..Config::new(model_type, sizes)
    };
    Ok(Descendant { config, rope })
}

impl Descendant {
    /// The config of a model without sliding windows.
    pub fn full_attention(self, fields: &Fields) -> Result<Config> {
        self.sliding(fields, None, |_| false, None)
    }

    /// The config of a model in which the layers that slide see `window` positions and have the rotary embedding
    /// `local`, or all layers' one. `slides` tells which layers do where the config does not.
    pub fn sliding(
        self,
        fields: &Fields,
        window: Option<i64>,
        slides: impl Fn(i64) -> bool,
        local: Option<Rope>,
    ) -> Result<Config> {
        let Self { config, rope } = self;
        let local = match rotary::rope_of("sliding_attention", fields, 10_000.0, rope.dim, config.n_ctx)? {
            Some(given) => given,
            None => local.unwrap_or_else(|| rope.clone()),
        };
        let sliding = match layer_types(fields, config.n_layers)? {
            Some(types) => types,
            None => (0..config.n_layers).map(slides).collect(),
        };
        let layer = |slides: bool| match slides {
            true => LayerAttention { window, rope: Some(local.clone()) },
            false => LayerAttention { window: None, rope: Some(rope.clone()) },
        };
        Ok(Config { layers: sliding.into_iter().map(layer).collect(), ..config })
    }
}

/// For each layer, whether `layer_types` says that it has a sliding window.
fn layer_types(fields: &Fields, n_layers: i64) -> Result<Option<Vec<bool>>> {
    let Some(types) = fields.get("layer_types") else { return Ok(None) };
    let types = types.as_array().ok_or_else(|| Error::new("config field `layer_types` is not an array"))?;
    if types.len() as i64 != n_layers {
        return Err(Error::new(format!(
            "config field `layer_types` has {} entries for {n_layers} layers",
            types.len()
        )));
    }
    let slides = types.iter().map(|name| match name.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(unsupported("layer_types", name, "supported: full_attention, sliding_attention")),
    });
    slides.collect::<Result<_>>().map(Some)
}

/// The config.json of one of Llama's descendants, from a GGUF file.
pub(super) fn descendant_in_gguf(file: &Metadata, model_type: &str) -> Result<Json> {
    let mut config = file.common(model_type)?;
    let (hidden, heads) = (file.integer("embedding_length")?, file.heads()?);
    let key_length = file.optional_integer("attention.key_length")?;
    let head_dim = match file.architecture {
        "llama" if key_length.is_none() => file.optional_integer("rope.dimension_count")?,
        _ => key_length,
    };
    config["hidden_size"] = hidden.into();
    config["num_hidden_layers"] = file.integer("block_count")?.into();
    config["num_attention_heads"] = heads.into();
    config["num_key_value_heads"] = file.optional_integer("attention.head_count_kv")?.unwrap_or(heads).into();
    config["head_dim"] = head_dim.unwrap_or(hidden / heads).into();
    config["intermediate_size"] = file.integer("feed_forward_length")?.into();
    config["hidden_act"] = "silu".into();
    config["max_position_embeddings"] = file.integer("context_length")?.into();
    config["rms_norm_eps"] = file.float("attention.layer_norm_rms_epsilon")?.into();
    config["rope_theta"] = file.optional_float("rope.freq_base")?.unwrap_or(10_000.0).into();
    config["rope_scaling"] = rope_scaling_in_gguf(file)?;
    config["attention_bias"] = file.gguf.contains("blk.0.attn_q.bias").into();
    config["mlp_bias"] = file.gguf.contains("blk.0.ffn_up.bias").into();
    Ok(config)
}

fn rope_scaling_in_gguf(file: &Metadata) -> Result<Json> {
    if file.gguf.contains("rope_freqs.weight") {
        return Ok(json!({ "rope_type": "frequency_factors" }));
    }
    match file.string("rope.scaling.type")? {
        None => match file.optional_float("rope.scale_linear")? {
            Some(factor) if factor != 1.0 => Ok(json!({ "rope_type": "linear", "factor": factor })),
            _ => Ok(Json::Null),
        },
        Some("none") => Ok(Json::Null),
        Some("linear") => Ok(json!({ "rope_type": "linear", "factor": file.float("rope.scaling.factor")? })),
        Some("yarn") => {
            let mut scaling = json!({ "rope_type": "yarn", "factor": file.float("rope.scaling.factor")? });
            let original = file.optional_integer("rope.scaling.original_context_length")?;
            set(&mut scaling, "original_max_position_embeddings", original);
            set(&mut scaling, "attention_factor", file.optional_float("rope.scaling.attn_factor")?);
            Ok(scaling)
        }
        Some(other) => Err(file
            .error(format!("the rotary scaling `{other}` is not supported"))
            .hint("linear, yarn and frequency factors are")),
    }
}
