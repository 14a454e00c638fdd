//! A model's fingerprint: a hash of its config and its weights.

use std::fmt::Display;

use super::config::{
    Activation, ClampedGate, Config, Experts, LayerAttention, NormKind, NormPlacement, PositionEmbedding, QueryKeyNorm,
    Rope, RopeScaling,
};
use super::decoder::Decoder;
use crate::error::Result;
use crate::identity::Identity;
use crate::interrupt;
use crate::tensor::raw::bit_sums;

/// Changed whenever the fields below are.
const VERSION: &str = "lancet model 3";

/// The hash of a decoder's config and of every weight as it was loaded, as 64 hexadecimal digits. Equal models have
/// equal fingerprints on every device.
///
/// # Errors
/// Too little memory on the weights' device; Ctrl-C.
pub fn fingerprint(decoder: &Decoder) -> Result<String> {
    let mut identity = Identity::new(VERSION);
    add_config(&mut identity, &decoder.config);
    for (number, weight) in decoder.weights().into_iter().enumerate() {
        interrupt::check()?;
        identity.list(&format!("weight.{number}.shape"), weight.size());
        identity.list(&format!("weight.{number}.sums"), bit_sums(weight)?);
    }
    Ok(identity.hex())
}

/// Adds every field of a config. It is taken apart by name, so that a new field cannot be forgotten here.
fn add_config(identity: &mut Identity, config: &Config) {
    let Config {
        model_type,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp,
        d_vocab,
        d_vocab_out,
        outputs_are_tokens,
        n_ctx,
        activation,
        gated_mlp,
        clamped_gate,
        experts,
        mlp_norm,
        attention_only,
        norm,
        norm_eps,
        norm_placement,
        query_key_norm,
        parallel,
        shared_norm,
        position_embedding,
        causal,
        layers,
        attention_scale,
        attention_scale_by_layer,
        attention_sinks,
        attention_soft_cap,
        query_key_value_clip,
        logit_soft_cap,
        logit_scale,
        embedding_scale,
        residual_scale,
        tied,
        query_key_value_bias,
        attention_output_bias,
        mlp_bias,
        unembedding_bias,
        initializer_range,
        eos_token_ids,
    } = config;
    let fields: &[(&str, &dyn Display)] = &[
        ("model_type", model_type),
        ("n_layers", n_layers),
        ("d_model", d_model),
        ("n_heads", n_heads),
        ("n_kv_heads", n_kv_heads),
        ("d_head", d_head),
        ("d_mlp", d_mlp),
        ("d_vocab", d_vocab),
        ("n_ctx", n_ctx),
        ("activation", &activation_word(*activation)),
        ("gated_mlp", gated_mlp),
        ("norm", &norm_word(*norm)),
        ("norm_eps", norm_eps),
        ("norm_placement", &placement_word(*norm_placement)),
        ("query_key_norm", &query_key_norm_word(*query_key_norm)),
        ("parallel", parallel),
        ("position_embedding", &position_word(position_embedding)),
        ("attention_scale", attention_scale),
        ("tied", tied),
        ("query_key_value_bias", query_key_value_bias),
        ("attention_output_bias", attention_output_bias),
        ("mlp_bias", mlp_bias),
        ("initializer_range", initializer_range),
    ];
    for (name, value) in fields {
        identity.field(name, value);
    }
    identity.optional("attention_soft_cap", *attention_soft_cap);
    identity.optional("logit_soft_cap", *logit_soft_cap);
    identity.optional("embedding_scale", *embedding_scale);
    identity.list("eos_token_ids", eos_token_ids);
    // What came later is only there where it is in use: what is stored of other models stays valid.
    let flag = |set: bool| set.then(|| set.to_string());
    let number = |number: &Option<f64>| number.map(|number| number.to_string());
    let later = [
        ("shared_norm", flag(*shared_norm)),
        ("attention_scale_by_layer", flag(*attention_scale_by_layer)),
        ("attention_sinks", flag(*attention_sinks)),
        ("mlp_norm", flag(*mlp_norm)),
        ("attention_only", flag(*attention_only)),
        ("clamped_gate", clamped_gate.map(|ClampedGate { slope, limit }| format!("{slope} {limit}"))),
        (
            "experts",
            experts.map(|Experts { count, per_token, normalized }| format!("{count} {per_token} {normalized}")),
        ),
        ("query_key_value_clip", number(query_key_value_clip)),
        ("logit_scale", number(logit_scale)),
        ("residual_scale", number(residual_scale)),
        ("unembedding_bias", flag(*unembedding_bias)),
        ("bidirectional", flag(!*causal)),
        ("other_outputs", flag(!*outputs_are_tokens)),
        ("d_vocab_out", (d_vocab_out != d_vocab).then(|| d_vocab_out.to_string())),
    ];
    for (name, value) in later.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        identity.field(name, value);
    }
    add_layers(identity, layers);
}

fn add_layers(identity: &mut Identity, layers: &[LayerAttention]) {
    for (number, LayerAttention { window, rope }) in layers.iter().enumerate() {
        identity.optional(&format!("layer.{number}.window"), *window);
        let name = format!("layer.{number}.rope");
        match rope {
            None => identity.field(&name, "none"),
            Some(rope) => add_rope(identity, &name, rope),
        }
    }
}

fn add_rope(identity: &mut Identity, name: &str, rope: &Rope) {
    let Rope { theta, dim, exponent_dim, scaling, interleaved } = rope;
    identity.field(&format!("{name}.theta"), theta);
    identity.field(&format!("{name}.dim"), dim);
    identity.field(&format!("{name}.exponent_dim"), exponent_dim);
    if *interleaved {
        identity.field(&format!("{name}.interleaved"), interleaved);
    }
    let (kind, numbers) = match scaling {
        RopeScaling::Default => ("default", vec![]),
        RopeScaling::Linear { factor } => ("linear", vec![*factor]),
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
            ("llama3", vec![*factor, *low_frequency_factor, *high_frequency_factor, *original_context])
        }
        RopeScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, original_context, truncate } => {
            let truncate = f64::from(u8::from(*truncate));
            ("yarn", vec![*factor, *attention_factor, *beta_fast, *beta_slow, *original_context, truncate])
        }
        RopeScaling::LongRope { short, long, attention_factor, original_context } => {
            identity.list(&format!("{name}.short"), short);
            identity.list(&format!("{name}.long"), long);
            ("longrope", vec![*attention_factor, *original_context as f64])
        }
        RopeScaling::Divisors(divisors) => ("divisors", divisors.clone()),
    };
    identity.field(&format!("{name}.scaling"), kind);
    identity.list(&format!("{name}.scaling_numbers"), numbers);
}

fn activation_word(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_tanh",
        Activation::Gelu => "gelu",
        Activation::Relu => "relu",
        Activation::Solu => "solu",
    }
}

fn norm_word(norm: NormKind) -> &'static str {
    match norm {
        NormKind::Rms => "rms",
        NormKind::RmsPlusOne => "rms_plus_one",
        NormKind::Layer => "layer",
        NormKind::LayerWithoutBias => "layer_without_bias",
        NormKind::LayerPlain => "layer_plain",
        NormKind::Absent => "absent",
    }
}

fn placement_word(placement: NormPlacement) -> &'static str {
    match placement {
        NormPlacement::Pre => "pre",
        NormPlacement::Post => "post",
        NormPlacement::Both => "both",
    }
}

fn query_key_norm_word(norm: QueryKeyNorm) -> &'static str {
    match norm {
        QueryKeyNorm::Absent => "absent",
        QueryKeyNorm::Projection => "projection",
        QueryKeyNorm::Head => "head",
        QueryKeyNorm::HeadWeights => "head_weights",
    }
}

fn position_word(embedding: &PositionEmbedding) -> &'static str {
    match embedding {
        PositionEmbedding::Learned => "learned",
        PositionEmbedding::Rotary => "rotary",
    }
}
