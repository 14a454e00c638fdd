//! Families with a mixture of experts in every layer: OLMoE, Mixtral, Qwen3 and gpt-oss. Sources: transformers'
//! configuration_olmoe.py, configuration_mixtral.py, configuration_qwen3_moe.py, configuration_gpt_oss.py.

use serde_json::{Value, json};

use super::Family;
use super::fields::{Fields, unsupported};
use super::llama::{NAMING as LLAMA, descendant, extent, full_attention, one_window, sliding};
use super::rotary::{self, LayerRopes, Style};
use crate::error::Result;
use crate::model::config::{ClampedGate, Config, Experts, QueryKeyNorm, RopeScaling};
use crate::model::naming::{MlpNaming, Naming};

pub(super) const OLMOE: Family = Family { model_type: "olmoe", naming: NAMING, config: olmoe };
pub(super) const MIXTRAL: Family = Family { model_type: "mixtral", naming: MIXTRAL_NAMING, config: mixtral };
pub(super) const QWEN3_MOE: Family = Family { model_type: "qwen3_moe", naming: NAMING, config: qwen3_moe };
pub(super) const GPT_OSS: Family = Family { model_type: "gpt_oss", naming: GPT_OSS_NAMING, config: gpt_oss };

const NAMING: Naming = Naming {
    mlp: MlpNaming::Experts { router: "mlp.gate", experts: "mlp.experts.", gate: "gate_proj", up: "up_proj" },
    mlp_down: "down_proj",
    ..LLAMA
};

const MIXTRAL_NAMING: Naming = Naming {
    mlp: MlpNaming::Experts {
        router: "block_sparse_moe.gate",
        experts: "block_sparse_moe.experts.",
        gate: "w1",
        up: "w3",
    },
    mlp_down: "w2",
    ..LLAMA
};

const GPT_OSS_NAMING: Naming = Naming {
    mlp: MlpNaming::StackedExperts { router: "mlp.router", gate_up: "mlp.experts.gate_up_proj" },
    mlp_down: "mlp.experts.down_proj",
    ..LLAMA
};

const GPT_OSS_ROPE: Style = Style { default_parameters: Some(gpt_oss_scaling), ..rotary::LLAMA };

/// What transformers' config class takes where the file has none.
fn gpt_oss_scaling() -> Value {
    json!({
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": false,
        "original_max_position_embeddings": 4096,
    })
}

/// The experts, by the field of their number and whether a token's weights sum to 1.
fn experts(fields: &Fields, count: &str, normalized: bool) -> Result<Experts> {
    let (count, per_token) = (fields.size(count)?, fields.size("num_experts_per_tok")?);
    if per_token > count {
        return Err(unsupported("num_experts_per_tok", per_token, &format!("there are {count} experts")));
    }
    // The loss and the outputs of training.
    for harmless in ["output_router_logits", "router_aux_loss_coef", "router_jitter_noise"] {
        let _ = fields.given(harmless);
    }
    Ok(Experts { count, per_token, normalized })
}

fn olmoe(fields: &Fields) -> Result<Config> {
    let config = descendant("olmoe", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    Ok(Config {
        query_key_norm: QueryKeyNorm::Projection,
        query_key_value_clip: fields.optional_number("clip_qkv")?,
        experts: Some(experts(fields, "num_experts", fields.flag("norm_topk_prob")?)?),
        layers: full_attention(&config, rope),
        ..config
    })
}

fn mixtral(fields: &Fields) -> Result<Config> {
    let config = descendant("mixtral", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    let layers = one_window(&config, fields.optional_size("sliding_window")?, rope);
    Ok(Config { experts: Some(experts(fields, "num_local_experts", true)?), layers, ..config })
}

fn qwen3_moe(fields: &Fields) -> Result<Config> {
    let config = descendant("qwen3_moe", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &rotary::LLAMA, extent(&config))?;
    let window = fields.optional_integer("sliding_window")?;
    let slides = fields.flag("use_sliding_window")? && window.is_some();
    let window = if slides { fields.optional_size("sliding_window")? } else { None };
    if let Some(layers) = fields.array("mlp_only_layers")?.filter(|layers| !layers.is_empty()) {
        return Err(unsupported("mlp_only_layers", format!("{layers:?}"), "every layer must have experts"));
    }
    if let step @ 2.. = fields.size("decoder_sparse_step")? {
        return Err(unsupported("decoder_sparse_step", step, "every layer must have experts"));
    }
    // The layers without experts have this size.
    let _ = fields.given("intermediate_size");
    // transformers 5 writes this name; only the older one, which it still takes, has a default.
    let count = if fields.given("num_local_experts").is_some() { "num_local_experts" } else { "num_experts" };
    let experts = experts(fields, count, fields.flag("norm_topk_prob")?)?;
    // An early name in the official files, which transformers ignores.
    let _ = fields.given("max_window_layers");
    Ok(Config {
        d_mlp: fields.size("moe_intermediate_size")?,
        query_key_norm: QueryKeyNorm::Head,
        experts: Some(experts),
        layers: one_window(&config, window, rope),
        ..config
    })
}

/// Every second layer has a sliding window.
fn gpt_oss(fields: &Fields) -> Result<Config> {
    let config = descendant("gpt_oss", fields, "hidden_act")?;
    let rope = rotary::rope(fields, &GPT_OSS_ROPE, extent(&config))?;
    let window = fields.optional_size("sliding_window")?;
    // The official files say these a second time; transformers passes over them.
    if let RopeScaling::Yarn { original_context, .. } = rope.scaling {
        fields.agrees("initial_context_length", original_context)?;
    }
    if let Some(quantization) = fields.object("quantization_config")? {
        let quantization = Fields::of_object(quantization.clone(), "quantization_config");
        match quantization.text("quant_method")? {
            Some("mxfp4") => {}
            other => {
                let other = other.map_or("null".to_owned(), |other| format!("\"{other}\""));
                return Err(unsupported(&quantization.name("quant_method"), other, "supported: mxfp4"));
            }
        }
        // The stored tensors show which are not.
        let _ = quantization.given("modules_to_not_convert");
        quantization.refuse_unread()?;
    }
    let experts = experts(fields, "num_local_experts", true)?;
    fields.agrees("experts_per_token", experts.per_token as f64)?;
    let layers = sliding(fields, &config, window, |layer| (layer + 1) % 2 != 0, &LayerRopes::same(rope))?;
    Ok(Config {
        clamped_gate: Some(ClampedGate {
            slope: fields.number("swiglu_alpha")?,
            limit: fields.number("swiglu_limit")?,
        }),
        attention_sinks: true,
        mlp_bias: true,
        experts: Some(experts),
        layers,
        ..config
    })
}
