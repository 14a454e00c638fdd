//! Cohere's Command R and R7B (`cohere2`): attention and MLP in parallel behind one LayerNorm without bias, interleaved
//! rotary embeddings, scaled logits; Command R+ also has a norm with its own weights on each head's queries and keys, and
//! R7B sliding windows in three of four layers, the only ones with positions. Sources: transformers'
//! configuration_cohere.py, configuration_cohere2.py.

use super::Family;
use super::fields::Fields;
use super::llama::{NAMING as LLAMA, descendant_with_layer_norm, extent, full_attention, sliding};
use super::rotary::{self, LayerRopes, Style};
use crate::error::Result;
use crate::model::config::{Config, LayerAttention, NormKind, QueryKeyNorm};
use crate::model::naming::{Naming, NormNaming};

pub(super) const COHERE: Family = Family { model_type: "cohere", naming: NAMING, config: cohere1 };
pub(super) const COHERE2: Family = Family { model_type: "cohere2", naming: NAMING, config: cohere2 };

const NAMING: Naming = Naming { norms: NormNaming::Shared("input_layernorm"), ..LLAMA };

const ROPE: Style = Style { interleaved: true, ..rotary::LLAMA };

fn cohere(model_type: &str, fields: &Fields) -> Result<Config> {
    let config = descendant_with_layer_norm(model_type, fields)?;
    Ok(Config {
        norm: NormKind::LayerWithoutBias,
        parallel: true,
        shared_norm: true,
        logit_scale: Some(fields.number("logit_scale")?),
        ..config
    })
}

fn cohere1(fields: &Fields) -> Result<Config> {
    let config = cohere("cohere", fields)?;
    let rope = rotary::rope(fields, &ROPE, extent(&config))?;
    // transformers takes null as false.
    let is_normed = fields.optional_flag("use_qk_norm")?.unwrap_or(false);
    let query_key_norm = if is_normed { QueryKeyNorm::HeadWeights } else { QueryKeyNorm::Absent };
    Ok(Config { query_key_norm, layers: full_attention(&config, rope), ..config })
}

/// Every fourth layer, or the one of `sliding_window_pattern`, attends to all positions, and has none of its own.
fn cohere2(fields: &Fields) -> Result<Config> {
    let config = cohere("cohere2", fields)?;
    let rope = rotary::rope(fields, &ROPE, extent(&config))?;
    let window = fields.optional_size("sliding_window")?;
    let period = fields.optional_size("sliding_window_pattern")?.unwrap_or(4);
    let slides = |layer: i64| (layer + 1) % period != 0;
    let layers = sliding(fields, &config, window, slides, &LayerRopes::same(rope))?;
    let layers =
        layers.into_iter().map(|layer| LayerAttention { rope: layer.rope.filter(|_| layer.window.is_some()), ..layer });
    Ok(Config { layers: layers.collect(), ..config })
}
