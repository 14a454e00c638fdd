//! Qwen 2, 2.5 and 3: Llama with biases on queries, keys and values (Qwen 2) or norms on each head's queries and keys
//! (Qwen 3). Sources: transformers' configuration_qwen2.py, configuration_qwen3.py.

use super::Family;
use super::fields::Fields;
use super::gguf::{Architecture, Conversion};
use super::llama::{DEFAULTS, Defaults, Descendant, NAMING, descendant, descendant_in_gguf};
use crate::error::Result;
use crate::model::config::{Config, QueryKeyNorm};

pub(super) const QWEN2: Family = Family { model_type: "qwen2", naming: NAMING, config: qwen2 };
pub(super) const QWEN3: Family = Family { model_type: "qwen3", naming: NAMING, config: qwen3 };

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
    let qwen = descendant("qwen2", fields, &DEFAULTS)?;
    // Its code has these biases whatever the config says.
    Ok(Config { query_key_value_bias: true, attention_output_bias: false, ..sliding(qwen, fields)? })
}

fn qwen3(fields: &Fields) -> Result<Config> {
    let qwen = descendant("qwen3", fields, &Defaults { head_dim: Some(128), ..DEFAULTS })?;
    Ok(Config { query_key_norm: QueryKeyNorm::Head, ..sliding(qwen, fields)? })
}

/// Layers from `max_window_layers` on have a sliding window, if `use_sliding_window` says so.
fn sliding(qwen: Descendant, fields: &Fields) -> Result<Config> {
    let window =
        if fields.flag_or("use_sliding_window", false)? { fields.optional_size("sliding_window")? } else { None };
    let first = fields.optional_integer("max_window_layers")?.unwrap_or(28);
    qwen.sliding(fields, window, |layer| layer >= first, None)
}
