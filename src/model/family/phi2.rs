//! Phi-1, 1.5 and 2: attention and plain MLP in parallel behind one LayerNorm, half of each head rotated, biases
//! everywhere. Source: transformers' configuration_phi.py.

use super::Family;
use super::fields::Fields;
use super::llama::{NAMING as LLAMA, descendant_with_layer_norm, extent, full_attention};
use super::rotary::{self, Style};
use crate::error::Result;
use crate::model::config::{Config, QueryKeyNorm};
use crate::model::naming::{MlpNaming, Naming, NormNaming};

pub(super) const PHI: Family = Family { model_type: "phi", naming: NAMING, config: phi };

const NAMING: Naming = Naming {
    final_norm: "final_layernorm",
    attention_output: "self_attn.dense",
    query_norm: "self_attn.q_layernorm",
    key_norm: "self_attn.k_layernorm",
    mlp: MlpNaming::Plain { up: "mlp.fc1" },
    mlp_down: "mlp.fc2",
    norms: NormNaming::Shared("input_layernorm"),
    ..LLAMA
};

const ROPE: Style = Style { default_fraction: Some(0.5), only_even: true, ..rotary::LLAMA };

fn phi(fields: &Fields) -> Result<Config> {
    let config = descendant_with_layer_norm("phi", fields)?;
    let rope = rotary::rope(fields, &ROPE, extent(&config))?;
    let is_normed = fields.flag("qk_layernorm")?;
    Ok(Config {
        gated_mlp: false,
        query_key_norm: if is_normed { QueryKeyNorm::Head } else { QueryKeyNorm::Absent },
        parallel: true,
        shared_norm: true,
        query_key_value_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        unembedding_bias: true,
        layers: full_attention(&config, rope),
        ..config
    })
}
