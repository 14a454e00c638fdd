//! GPT-NeoX and Pythia: LayerNorm, plain MLPs, partly rotated heads, and by default attention and MLP in parallel.
//! Sources: transformers' configuration_gpt_neox.py, llama.cpp's convert_hf_to_gguf.py.

use serde_json::Value as Json;

use super::Family;
use super::fields::{Fields, head_size};
use super::gguf::{Architecture, Conversion, Metadata, share};
use super::llama::NAMING as LLAMA;
use super::rotary::{self, Extent, Style};
use crate::error::Result;
use crate::model::config::{Config, LayerAttention, NormKind, Sizes};
use crate::model::naming::{AttentionNaming, MlpNaming, Naming};

pub(super) const GPT_NEOX: Family = Family { model_type: "gpt_neox", naming: NAMING, config: gpt_neox };

pub(super) const GGUF: Architecture = Architecture {
    name: "gptneox",
    naming: NAMING,
    config: in_gguf,
    conversion: Conversion { qkv_split: true, ..Conversion::NONE },
};

const NAMING: Naming = Naming {
    root: "gpt_neox.",
    embedding: "embed_in",
    final_norm: "final_layer_norm",
    unembedding: "embed_out",
    attention: AttentionNaming::PerHead("attention.query_key_value"),
    attention_output: "attention.dense",
    mlp: MlpNaming::Plain { up: "mlp.dense_h_to_4h" },
    mlp_down: "mlp.dense_4h_to_h",
    ..LLAMA
};

const ROPE: Style = Style {
    theta: "rotary_emb_base",
    fraction: "rotary_pct",
    default_fraction: Some(0.25),
    copies: Some(("rope_theta", "partial_rotary_factor")),
    ..rotary::LLAMA
};

fn gpt_neox(fields: &Fields) -> Result<Config> {
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_attention_heads")?;
    let n_layers = fields.size("num_hidden_layers")?;
    let d_head = head_size(("hidden_size", d_model), ("num_attention_heads", n_heads))?;
    let n_ctx = fields.size("max_position_embeddings")?;
    let rope = rotary::rope(fields, &ROPE, Extent { d_head, n_ctx })?;
    let bias = fields.flag("attention_bias")?;
    // The shape of the fused projection shows that every head has keys of its own.
    let _ = fields.given("num_key_value_heads");
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        d_vocab: fields.size("vocab_size")?,
        n_ctx,
    };
    Ok(Config {
        activation: fields.activation("hidden_act")?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: fields.number("layer_norm_eps")?,
        parallel: fields.flag("use_parallel_residual")?,
        layers: vec![LayerAttention { window: None, rope: Some(rope) }; n_layers as usize],
        tied: fields.flag("tie_word_embeddings")?,
        query_key_value_bias: bias,
        attention_output_bias: bias,
        mlp_bias: true,
        initializer_range: fields.number("initializer_range")?,
        eos_token_ids: fields.eos_token_ids()?,
        ..Config::new("gpt_neox", sizes)
    })
}

fn in_gguf(file: &Metadata) -> Result<Json> {
    let mut config = file.common("gpt_neox")?;
    let (hidden, heads) = (file.integer("embedding_length")?, file.heads()?);
    let head_dim = (hidden / heads).max(1);
    file.check_heads(head_dim, head_dim)?;
    let rotary = file.optional_integer("rope.dimension_count")?.unwrap_or(head_dim);
    config["hidden_size"] = hidden.into();
    config["num_hidden_layers"] = file.integer("block_count")?.into();
    config["num_attention_heads"] = heads.into();
    config["intermediate_size"] = file.integer("feed_forward_length")?.into();
    config["hidden_act"] = "gelu".into();
    config["max_position_embeddings"] = file.integer("context_length")?.into();
    config["layer_norm_eps"] = file.float("attention.layer_norm_epsilon")?.into();
    config["rotary_pct"] = share(rotary, head_dim).into();
    config["rotary_emb_base"] = file.optional_float("rope.freq_base")?.unwrap_or(10_000.0).into();
    config["use_parallel_residual"] = file.boolean("use_parallel_residual")?.unwrap_or(true).into();
    config["attention_bias"] = file.gguf.contains("blk.0.attn_qkv.bias").into();
    Ok(config)
}
