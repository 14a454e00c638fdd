//! Qwen 2, 2.5, 3 and 3-VL's text: Llama with biases on queries, keys and values (Qwen 2) or norms on each head's queries and keys
//! (Qwen 3). Sources: transformers' configuration_qwen2.py, configuration_qwen3.py.

use super::Family;
use super::fields::Fields;
use super::gguf::{Architecture, Conversion};
use super::llama::{NAMING, descendant, descendant_in_gguf, extent, full_attention, sliding};
use super::rotary::{self, LayerRopes, Style};
use crate::error::Result;
use crate::model::config::{Config, QueryKeyNorm};

pub(super) const QWEN2: Family = Family { model_type: "qwen2", naming: NAMING, config: qwen2 };
pub(super) const QWEN3: Family = Family { model_type: "qwen3", naming: NAMING, config: qwen3 };

/// The text part of Qwen3-VL.
pub(super) const QWEN3_VL_TEXT: Family = Family { model_type: "qwen3_vl_text", naming: NAMING, config: qwen3_vl_text };

/// In a text, the positions of all three sections are the same, so that the sections change nothing.
const VL_ROPE: Style = Style { harmless: &["mrope_section", "mrope_interleaved"], ..rotary::LLAMA };

pub(super) const GGUF_QWEN2: Architecture = Architecture {
    name: "qwen2",
    naming: NAMING,
    config: |file| descendant_in_gguf(file, "qwen2"),
    conversion: Conversion::NONE,
};
pub(super) const GGUF_QWEN3: Architecture = Architecture {
    name: "qwen3",
    naming: NAMING,
    config: |file| descendant_in_gguf(file, "qwen3"),
    conversion: Conversion::NONE,
};

fn qwen2(fields: &Fields) -> Result<Config> {
    // Its code has these biases for every config.
    Ok(Config { query_key_value_bias: true, ..qwen("qwen2", fields)? })
}

fn qwen3(fields: &Fields) -> Result<Config> {
    Ok(Config { query_key_norm: QueryKeyNorm::Head, ..qwen("qwen3", fields)? })
}

fn qwen3_vl_text(fields: &Fields) -> Result<Config> {
    let config = descendant("qwen3_vl_text", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &VL_ROPE, extent(&config))?;
    let layers = full_attention(&config, rope);
    Ok(Config { query_key_norm: QueryKeyNorm::Head, layers, ..config })
}

/// With `use_sliding_window`, layers from `max_window_layers` on have a sliding window.
fn qwen(model_type: &str, fields: &Fields) -> Result<Config> {
    let config = descendant(model_type, fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    let window = fields.optional_integer("sliding_window")?;
    let window =
        if fields.flag("use_sliding_window")? { window.and(fields.optional_size("sliding_window")?) } else { None };
    let first = fields.integer("max_window_layers")?;
    let slides = |layer| window.is_some() && layer >= first;
    let layers = sliding(fields, &config, window, slides, &LayerRopes::same(rope))?;
    Ok(Config { layers, ..config })
}
