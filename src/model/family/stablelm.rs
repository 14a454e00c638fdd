//! StableLM 1 and 2: Llama with LayerNorms and partly rotated heads, in some models with attention and MLP in parallel
//! behind one norm. Source: transformers' configuration_stablelm.py.

use super::Family;
use super::fields::{Fields, unsupported};
use super::llama::{NAMING, descendant_with_layer_norm, extent, full_attention};
use super::rotary::{self, Style};
use crate::error::Result;
use crate::model::config::Config;

pub(super) const STABLELM: Family = Family { model_type: "stablelm", naming: NAMING, config: stablelm };

const ROPE: Style = Style { default_fraction: Some(0.25), only_even: true, ..rotary::LLAMA };

fn stablelm(fields: &Fields) -> Result<Config> {
    let config = descendant_with_layer_norm("stablelm", fields)?;
    fields.agrees("head_dim", config.d_model as f64 / config.n_heads as f64)?;
    let rope = rotary::rope(fields, &ROPE, extent(&config))?;
    if fields.flag("qk_layernorm")? {
        return Err(unsupported("qk_layernorm", true, "only false is; StableLM 2 12B has a norm module for each head"));
    }
    let parallel = fields.flag("use_parallel_residual")?;
    Ok(Config {
        parallel,
        shared_norm: parallel,
        query_key_value_bias: fields.flag("use_qkv_bias")?,
        layers: full_attention(&config, rope),
        ..config
    })
}
