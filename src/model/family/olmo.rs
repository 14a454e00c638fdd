//! OLMo 1, 2 and 3. OLMo 1: LayerNorm without weights, clipped queries, keys and values. The later ones: post-norm, with
//! norms over the whole query and key projections; OLMo 3 has sliding windows in three of four layers. Sources:
//! transformers' configuration_olmo.py, configuration_olmo2.py, configuration_olmo3.py.

use serde_json::{Value as Json, json};

use super::Family;
use super::fields::Fields;
use super::gguf::{Architecture, Conversion, Metadata, layer_types};
use super::llama::{
    NAMING as LLAMA, descendant, descendant_in_gguf, descendant_without_eps, extent, full_attention, sliding,
};
use super::rotary;
use crate::error::Result;
use crate::model::config::{Config, NormKind, NormPlacement, QueryKeyNorm};
use crate::model::naming::{Naming, NormNaming};

pub(super) const OLMO: Family = Family { model_type: "olmo", naming: LLAMA, config: olmo1 };
pub(super) const OLMO2: Family = Family { model_type: "olmo2", naming: NAMING, config: olmo2 };
pub(super) const OLMO3: Family = Family { model_type: "olmo3", naming: NAMING, config: olmo3 };

/// The converter writes both as `olmo2`; only OLMo 3 has sliding windows.
pub(super) const GGUF: Architecture =
    Architecture { name: "olmo2", naming: NAMING, config: in_gguf, conversion: Conversion::NONE };

const NAMING: Naming = Naming {
    norms: NormNaming::Post { attention: "post_attention_layernorm", mlp: "post_feedforward_layernorm" },
    ..LLAMA
};

fn olmo1(fields: &Fields) -> Result<Config> {
    let config = descendant_without_eps("olmo", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    Ok(Config {
        norm: NormKind::LayerPlain,
        norm_eps: 1e-5,
        query_key_value_clip: fields.optional_number("clip_qkv")?,
        layers: full_attention(&config, rope),
        ..config
    })
}

fn olmo(model_type: &str, fields: &Fields) -> Result<Config> {
    let config = descendant(model_type, fields, "hidden_act")?;
    Ok(Config { norm_placement: NormPlacement::Post, query_key_norm: QueryKeyNorm::Projection, ..config })
}

fn olmo2(fields: &Fields) -> Result<Config> {
    let config = olmo("olmo2", fields)?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    Ok(Config { layers: full_attention(&config, rope), ..config })
}

/// Every fourth layer attends to all positions; only its frequencies are scaled.
fn olmo3(fields: &Fields) -> Result<Config> {
    let config = olmo("olmo3", fields)?;
    let ropes = rotary::ropes_by_layer(fields, None, extent(&config))?;
    let window = fields.optional_size("sliding_window")?;
    let layers = sliding(fields, &config, window, |layer| (layer + 1) % 4 != 0, &ropes)?;
    Ok(Config { layers, ..config })
}

fn in_gguf(file: &Metadata) -> Result<Json> {
    let Some(window) = file.optional_integer("attention.sliding_window")? else {
        return descendant_in_gguf(file, "olmo2");
    };
    let mut config = descendant_in_gguf(file, "olmo3")?;
    // transformers 5 has another default base for layers with a sliding window.
    let theta = config["rope_theta"].take();
    let mut full = config["rope_scaling"].take();
    if full.is_null() {
        full = json!({ "rope_type": "default" });
    }
    full["rope_theta"] = theta.clone();
    config["rope_parameters"] =
        json!({ "full_attention": full, "sliding_attention": { "rope_type": "default", "rope_theta": theta } });
    config["sliding_window"] = window.into();
    config["layer_types"] = layer_types(file.slides(4)?);
    Ok(config)
}
