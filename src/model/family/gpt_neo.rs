//! GPT-Neo (and TinyStories): GPT-2 with separate projections, scores that are not scaled, and a sliding window in some
//! layers. Source: transformers' configuration_gpt_neo.py.

use serde_json::{Value, json};

use super::Family;
use super::fields::{Fields, head_size, unsupported};
use super::gpt2::NAMING as GPT2;
use crate::error::{Error, Result};
use crate::model::config::{Config, LayerAttention, NormKind, PositionEmbedding, Sizes};
use crate::model::naming::{AttentionNaming, Naming};

pub(super) const GPT_NEO: Family = Family { model_type: "gpt_neo", naming: NAMING, config: gpt_neo };

const NAMING: Naming = Naming {
    attention: AttentionNaming::Separate {
        query: "attn.attention.q_proj",
        key: "attn.attention.k_proj",
        value: "attn.attention.v_proj",
    },
    attention_output: "attn.attention.out_proj",
    transposed: false,
    ..GPT2
};

fn gpt_neo(fields: &Fields) -> Result<Config> {
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_heads")?;
    let sizes = Sizes {
        n_layers: fields.size("num_layers")?,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head: head_size(("hidden_size", d_model), ("num_heads", n_heads))?,
        d_mlp: fields.optional_size("intermediate_size")?.unwrap_or(4 * d_model),
        d_vocab: fields.size("vocab_size")?,
        n_ctx: fields.size("max_position_embeddings")?,
    };
    let config = Config::new("gpt_neo", sizes);
    let window = fields.size("window_size")?;
    let is_local = local_layers(fields, config.n_layers)?;
    let layers = is_local.iter().map(|local| LayerAttention { window: local.then_some(window), rope: None }).collect();
    Ok(Config {
        activation: fields.activation("activation_function")?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: fields.number("layer_norm_epsilon")?,
        position_embedding: PositionEmbedding::Learned,
        layers,
        attention_scale: 1.0,
        tied: fields.flag("tie_word_embeddings")?,
        attention_output_bias: true,
        mlp_bias: true,
        initializer_range: fields.number("initializer_range")?,
        eos_token_ids: fields.eos_token_ids()?,
        ..config
    })
}

/// For each layer, whether it has a window: by `attention_types`, such as `[[["global", "local"], 12]]`, or by the list
/// `attention_layers`, which has precedence.
fn local_layers(fields: &Fields, n_layers: i64) -> Result<Vec<bool>> {
    let mut layers = Vec::new();
    let default = vec![json!([["global", "local"], 12])];
    for group in fields.array("attention_types")?.unwrap_or(&default) {
        let (Some(kinds), Some(times @ 0..=4096)) = (group[0].as_array(), group[1].as_u64()) else {
            return Err(unsupported("attention_types", group, "each entry is [[kinds of layer], times]"));
        };
        layers.extend(are_local("attention_types", kinds)?.repeat(times as usize));
    }
    let check = |key: &str, count: usize| match count as i64 == n_layers {
        true => Ok(()),
        false => Err(Error::new(format!("config field `{key}` is of {count} layers, not {n_layers}"))),
    };
    check("attention_types", layers.len())?;
    let Some(kinds) = fields.array("attention_layers")? else { return Ok(layers) };
    check("attention_layers", kinds.len())?;
    are_local("attention_layers", kinds)
}

/// For each kind of layer, whether it has a window.
fn are_local(key: &str, kinds: &[Value]) -> Result<Vec<bool>> {
    let local = |kind: &Value| match kind.as_str() {
        Some("global") => Ok(false),
        Some("local") => Ok(true),
        _ => Err(unsupported(key, kind, "supported: global, local")),
    };
    kinds.iter().map(local).collect()
}
