//! OPT: learned positions after two that are not used, LayerNorm, plain MLPs. Source: transformers' configuration_opt.py.

use super::Family;
use super::fields::{Fields, head_size, unsupported};
use super::llama::NAMING as LLAMA;
use crate::error::Result;
use crate::model::config::{Config, NormKind, PositionEmbedding, Sizes};
use crate::model::naming::{MlpNaming, Naming, NormNaming};

pub(super) const OPT: Family = Family { model_type: "opt", naming: NAMING, config: opt };

const NAMING: Naming = Naming {
    root: "model.decoder.",
    position_embedding: Some("embed_positions"),
    position_offset: 2,
    final_norm: "final_layer_norm",
    attention_output: "self_attn.out_proj",
    mlp: MlpNaming::Plain { up: "fc1" },
    mlp_down: "fc2",
    norms: NormNaming::Pre { attention: "self_attn_layer_norm", mlp: "final_layer_norm" },
    ..LLAMA
};

fn opt(fields: &Fields) -> Result<Config> {
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_attention_heads")?;
    let sizes = Sizes {
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head: head_size(("hidden_size", d_model), ("num_attention_heads", n_heads))?,
        d_mlp: fields.size("ffn_dim")?,
        d_vocab: fields.size("vocab_size")?,
        n_ctx: fields.size("max_position_embeddings")?,
    };
    // OPT 350M has norms after each residual sum, and embeddings of another size.
    if !fields.flag("do_layer_norm_before")? {
        return Err(unsupported("do_layer_norm_before", false, "only norms before attention and MLP are"));
    }
    if fields.flag("_remove_final_layer_norm")? {
        return Err(unsupported("_remove_final_layer_norm", true, "only models with a final norm are"));
    }
    if let Some(size) = fields.optional_size("word_embed_proj_dim")?.filter(|size| *size != d_model) {
        return Err(unsupported("word_embed_proj_dim", size, "only embeddings of `hidden_size` are"));
    }
    let has_weights = fields.flag("layer_norm_elementwise_affine")?;
    let bias = fields.flag("enable_bias")?;
    for harmless in ["dropout", "layerdrop"] {
        let _ = fields.given(harmless);
    }
    Ok(Config {
        activation: fields.activation("activation_function")?,
        gated_mlp: false,
        norm: if has_weights { NormKind::Layer } else { NormKind::LayerPlain },
        norm_eps: 1e-5,
        position_embedding: PositionEmbedding::Learned,
        tied: fields.flag("tie_word_embeddings")?,
        query_key_value_bias: bias,
        attention_output_bias: bias,
        mlp_bias: bias,
        initializer_range: fields.number("init_std")?,
        eos_token_ids: fields.eos_token_ids()?,
        ..Config::new("opt", sizes)
    })
}
