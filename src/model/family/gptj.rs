//! GPT-J: attention and plain MLP in parallel behind one LayerNorm, interleaved rotary embeddings on the first
//! dimensions of each head, an unembedding with a bias. Source: transformers' configuration_gptj.py.

use super::Family;
use super::fields::{Fields, unsupported};
use super::gpt2::{NAMING as GPT2, sizes};
use crate::error::Result;
use crate::model::config::{Config, LayerAttention, NormKind, Rope, RopeScaling};
use crate::model::naming::{AttentionNaming, MlpNaming, Naming, NormNaming};

pub(super) const GPTJ: Family = Family { model_type: "gptj", naming: NAMING, config: gptj };

const NAMING: Naming = Naming {
    position_embedding: None,
    attention: AttentionNaming::Separate { query: "attn.q_proj", key: "attn.k_proj", value: "attn.v_proj" },
    attention_output: "attn.out_proj",
    mlp: MlpNaming::Plain { up: "mlp.fc_in" },
    mlp_down: "mlp.fc_out",
    norms: NormNaming::Shared("ln_1"),
    transposed: false,
    ..GPT2
};

fn gptj(fields: &Fields) -> Result<Config> {
    let config = Config::new("gptj", sizes(fields)?);
    let dim = fields.size("rotary_dim")?;
    if dim % 2 != 0 || dim > config.d_head {
        let hint = format!("an even number of the {} dimensions of a head is rotated", config.d_head);
        return Err(unsupported("rotary_dim", dim, &hint));
    }
    let rope = Rope { theta: 10_000.0, dim, exponent_dim: dim, scaling: RopeScaling::Default, interleaved: true };
    // The official file has both: the first says that the second is the way, and the second is the only one here.
    fields.only("rotary", true)?;
    fields.only("scale_attn_weights", true)?;
    fields.agrees("n_ctx", config.n_ctx as f64)?;
    Ok(Config {
        activation: fields.activation("activation_function")?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: fields.number("layer_norm_epsilon")?,
        parallel: true,
        shared_norm: true,
        layers: vec![LayerAttention { window: None, rope: Some(rope) }; config.n_layers as usize],
        tied: fields.flag("tie_word_embeddings")?,
        mlp_bias: true,
        unembedding_bias: true,
        initializer_range: fields.number("initializer_range")?,
        eos_token_ids: fields.eos_token_ids()?,
        ..config
    })
}
