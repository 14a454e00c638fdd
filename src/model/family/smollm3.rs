//! SmolLM3: Llama with layers that have no positions. Source: transformers' configuration_smollm3.py.

use super::Family;
use super::fields::{Fields, unsupported};
use super::llama::{NAMING, descendant, extent, sliding};
use super::rotary::{self, LayerRopes};
use crate::error::{Error, Result};
use crate::model::config::{Config, LayerAttention};

pub(super) const SMOLLM3: Family = Family { model_type: "smollm3", naming: NAMING, config: smollm3 };

/// Every fourth layer, or the one of `no_rope_layer_interval`, has no rotary embedding. With `use_sliding_window`, those
/// without one have a window, unless `layer_types` says which have.
fn smollm3(fields: &Fields) -> Result<Config> {
    let config = descendant("smollm3", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    let is_rotary = rotary_layers(fields, config.n_layers)?;
    let window = fields.optional_size("sliding_window")?;
    let slides = fields.flag("use_sliding_window")?;
    let has_window = |layer: i64| slides && window.is_some() && !is_rotary[layer as usize];
    let layers = sliding(fields, &config, window, has_window, &LayerRopes::same(rope))?;
    let layers = layers
        .into_iter()
        .zip(&is_rotary)
        .map(|(layer, rotary)| LayerAttention { rope: layer.rope.filter(|_| *rotary), ..layer });
    Ok(Config { mlp_bias: fields.flag("mlp_bias")?, layers: layers.collect(), ..config })
}

/// For each layer, whether it has a rotary embedding.
fn rotary_layers(fields: &Fields, n_layers: i64) -> Result<Vec<bool>> {
    let interval = fields.size("no_rope_layer_interval")?;
    let Some(given) = fields.array("no_rope_layers")? else {
        return Ok((1..=n_layers).map(|layer| layer % interval != 0).collect());
    };
    if (given.len() as i64) < n_layers {
        return Err(Error::new(format!(
            "config field `no_rope_layers` has {} entries for {n_layers} layers",
            given.len()
        )));
    }
    let is_rotary = given.iter().take(n_layers as usize).map(|layer| match layer.as_i64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(unsupported("no_rope_layers", layer, "1 for a layer with a rotary embedding, 0 for one without")),
    });
    is_rotary.collect()
}
