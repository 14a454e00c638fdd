//! Phi-3: Llama with queries, keys and values in one matrix, gate and up in another, and long rotary embeddings.
//! Sources: transformers' configuration_phi3.py, llama.cpp's convert_hf_to_gguf.py.

use serde_json::{Value as Json, json};
use tch::Kind;

use super::Family;
use super::fields::Fields;
use super::gguf::{Architecture, Conversion, LONG_FACTORS, Metadata, SHORT_FACTORS, set, share};
use super::llama::{NAMING as LLAMA, base_in_gguf, descendant, extent, one_window};
use super::rotary::{self, Style};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::naming::{AttentionNaming, MlpNaming, Naming};

pub(super) const PHI3: Family = Family { model_type: "phi3", naming: NAMING, config: phi3 };

pub(super) const GGUF: Architecture =
    Architecture { name: "phi3", naming: NAMING, config: in_gguf, conversion: Conversion::NONE };

const NAMING: Naming = Naming {
    attention: AttentionNaming::Stacked("self_attn.qkv_proj"),
    mlp: MlpNaming::GatedStacked("mlp.gate_up_proj"),
    ..LLAMA
};

const ROPE: Style = Style { default_fraction: Some(1.0), only_long: true, ..rotary::LLAMA };

fn phi3(fields: &Fields) -> Result<Config> {
    let config = descendant("phi3", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &ROPE, extent(&config))?;
    let layers = one_window(&config, fields.optional_size("sliding_window")?, rope);
    Ok(Config { layers, ..config })
}

fn in_gguf(file: &Metadata) -> Result<Json> {
    let mut config = base_in_gguf(file, "phi3")?;
    let head_dim = config["head_dim"].as_i64().filter(|size| *size > 0);
    let head_dim = head_dim.ok_or_else(|| file.error("heads without a size"))?;
    let rotary = file.optional_integer("rope.dimension_count")?.unwrap_or(head_dim);
    config["partial_rotary_factor"] = share(rotary, head_dim).into();
    // The converter writes 0 for no window.
    config["sliding_window"] = json!(file.optional_integer("attention.sliding_window")?.filter(|window| *window > 0));
    let original = file.optional_integer("rope.scaling.original_context_length")?;
    config["original_max_position_embeddings"] = match original {
        Some(original) => original.into(),
        None => config["max_position_embeddings"].clone(),
    };
    let kind = file.string("rope.scaling.type")?;
    let magnitude = file.optional_float("rope.scaling.attn_factor")?;
    let is_long = file.gguf.contains(LONG_FACTORS);
    match (kind, is_long) {
        (None | Some("none"), false) if magnitude.is_none_or(|magnitude| magnitude == 1.0) => {}
        (None | Some("longrope"), true) => {
            let mut scaling = json!({
                "rope_type": "longrope",
                "long_factor": factors(file, LONG_FACTORS)?,
                "short_factor": factors(file, SHORT_FACTORS)?,
            });
            set(&mut scaling, "attention_factor", magnitude);
            config["rope_scaling"] = scaling;
        }
        _ => {
            let tensors = if is_long { "with" } else { "without" };
            let kind = kind.unwrap_or("none");
            return Err(file.error(format!("the rotary scaling is `{kind}`, {tensors} a tensor `{LONG_FACTORS}`")));
        }
    }
    Ok(config)
}

fn factors(file: &Metadata, tensor: &str) -> Result<Vec<f64>> {
    let factors = file.gguf.load(tensor)?.f_flatten(0, -1)?.f_to_kind(Kind::Double)?;
    Ok(Vec::<f64>::try_from(&factors)?)
}
