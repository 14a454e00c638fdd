//! Granite: Llama with factors on embeddings, scores, what each sublayer adds, and logits. Source: transformers'
//! configuration_granite.py.

use super::Family;
use super::fields::{Fields, unsupported};
use super::llama::{NAMING, descendant, extent, full_attention};
use super::rotary;
use crate::error::Result;
use crate::model::config::Config;

pub(super) const GRANITE: Family = Family { model_type: "granite", naming: NAMING, config: granite };

fn granite(fields: &Fields) -> Result<Config> {
    let config = descendant("granite", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    let divisor = fields.number("logits_scaling")?;
    if divisor == 0.0 {
        return Err(unsupported("logits_scaling", divisor, "the logits are divided by it"));
    }
    Ok(Config {
        attention_scale: fields.number("attention_multiplier")?,
        embedding_scale: Some(fields.number("embedding_multiplier")?),
        residual_scale: Some(fields.number("residual_multiplier")?),
        logit_scale: Some(divisor.recip()),
        mlp_bias: fields.flag("mlp_bias")?,
        layers: full_attention(&config, rope),
        ..config
    })
}
