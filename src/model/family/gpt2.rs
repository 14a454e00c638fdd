//! GPT-2: learned positions, LayerNorm, plain MLPs, weights stored [in, out]. Sources: transformers'
//! configuration_gpt2.py, llama.cpp's convert_hf_to_gguf.py.

use serde_json::Value as Json;

use super::Family;
use super::fields::{Fields, head_size};
use super::gguf::{Architecture, Conversion, Metadata};
use super::llama::NAMING as LLAMA;
use crate::error::Result;
use crate::model::config::{Config, NormKind, PositionEmbedding, Sizes};
use crate::model::naming::{AttentionNaming, MlpNaming, Naming, NormNaming};

pub(super) const GPT2: Family = Family { model_type: "gpt2", naming: NAMING, config: gpt2 };

pub(super) const GGUF: Architecture = Architecture {
    name: "gpt2",
    naming: NAMING,
    config: in_gguf,
    conversion: Conversion { linear_layout: true, ..Conversion::NONE },
};

/// The names of GPT-2's weights, some of which GPT-Neo and GPT-J share.
pub(super) const NAMING: Naming = Naming {
    root: "transformer.",
    embedding: "wte",
    position_embedding: Some("wpe"),
    final_norm: "ln_f",
    layers: "h.",
    attention: AttentionNaming::StackedColumns("attn.c_attn"),
    attention_output: "attn.c_proj",
    mlp: MlpNaming::Plain { up: "mlp.c_fc" },
    mlp_down: "mlp.c_proj",
    norms: NormNaming::Pre { attention: "ln_1", mlp: "ln_2" },
    transposed: true,
    ..LLAMA
};

/// The sizes by GPT-2's names, which GPT-J shares.
pub(super) fn sizes(fields: &Fields) -> Result<Sizes> {
    let d_model = fields.size("n_embd")?;
    let n_heads = fields.size("n_head")?;
    Ok(Sizes {
        n_layers: fields.size("n_layer")?,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head: head_size(("n_embd", d_model), ("n_head", n_heads))?,
        d_mlp: fields.optional_size("n_inner")?.unwrap_or(4 * d_model),
        d_vocab: fields.size("vocab_size")?,
        n_ctx: fields.size("n_positions")?,
    })
}

fn gpt2(fields: &Fields) -> Result<Config> {
    let config = Config::new("gpt2", sizes(fields)?);
    let scaled = fields.flag("scale_attn_weights")?;
    let by_layer = fields.flag("scale_attn_by_inverse_layer_idx")?;
    // Llama's names, which the code does not read; the shapes of the weights show the same.
    for key in ["num_key_value_heads", "intermediate_size"] {
        let _ = fields.given(key);
    }
    // Old files also give the number of positions under this name.
    fields.agrees("n_ctx", config.n_ctx as f64)?;
    Ok(Config {
        activation: fields.activation("activation_function")?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: fields.number("layer_norm_epsilon")?,
        position_embedding: PositionEmbedding::Learned,
        attention_scale: if scaled { config.attention_scale } else { 1.0 },
        attention_scale_by_layer: by_layer,
        tied: fields.flag("tie_word_embeddings")?,
        query_key_value_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        initializer_range: fields.number("initializer_range")?,
        eos_token_ids: fields.eos_token_ids()?,
        ..config
    })
}

fn in_gguf(file: &Metadata) -> Result<Json> {
    let mut config = file.common("gpt2")?;
    let context = file.integer("context_length")?;
    let (hidden, heads) = (file.integer("embedding_length")?, file.heads()?);
    file.check_heads(hidden / heads, hidden / heads)?;
    config["n_embd"] = hidden.into();
    config["n_layer"] = file.integer("block_count")?.into();
    config["n_head"] = heads.into();
    config["n_inner"] = file.integer("feed_forward_length")?.into();
    config["n_ctx"] = context.into();
    config["n_positions"] = context.into();
    config["activation_function"] = "gelu_new".into();
    config["layer_norm_epsilon"] = file.float("attention.layer_norm_epsilon")?.into();
    Ok(config)
}
