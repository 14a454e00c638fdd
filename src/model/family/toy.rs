//! Toys: decoders described by TransformerLens's switches alone, such as programs compiled by Tracr. None of the switches has
//! a default, so that a config.json says everything that changes a number.

use super::Family;
use super::fields::{Fields, unsupported};
use super::transformer_lens::{NAMING, activation, plain, sizes};
use crate::error::{Error, Result};
use crate::model::config::{Activation, Config, NormKind};

pub(super) const FAMILY: Family = Family { model_type: "toy", naming: NAMING, config: toy };

fn toy(fields: &Fields) -> Result<Config> {
    fields.given("model_type");
    // `save` writes these.
    fields.given("dtype");
    fields.only("tie_word_embeddings", false)?;
    let attention_only = fields.flag("attn_only")?;
    // Models without MLPs may leave out what describes them.
    let (activation, mlp_norm, d_mlp) = if attention_only {
        fields.given("act_fn");
        (Activation::Relu, false, fields.optional_size("d_mlp")?.unwrap_or(4 * fields.size("d_model")?))
    } else {
        let (activation, mlp_norm) = activation(fields)?;
        (activation, mlp_norm, fields.size("d_mlp")?)
    };
    let norm = match choice(fields, "normalization_type", "\"LN\", \"LNPre\", \"RMS\", null (no norm)")? {
        Some("LN") => NormKind::Layer,
        Some("LNPre") => NormKind::LayerPlain,
        Some("RMS") => NormKind::Rms,
        None => NormKind::Absent,
        Some(other) => return Err(wrong("normalization_type", other, "LN, LNPre, RMS, or null for no norm")),
    };
    if mlp_norm && norm != NormKind::Layer {
        return Err(wrong("act_fn", "solu_ln", "its norm is a LayerNorm with weights: `normalization_type` \"LN\""));
    }
    let norm_eps = match norm {
        NormKind::Absent => fields.optional_number("eps")?.unwrap_or(0.0),
        _ => fields.number("eps")?,
    };
    let causal = match choice(fields, "attention_dir", "\"causal\", \"bidirectional\"")? {
        Some("causal") => true,
        Some("bidirectional") => false,
        other => return Err(wrong("attention_dir", other.unwrap_or("null"), "causal, bidirectional")),
    };
    match choice(fields, "positional_embedding_type", "\"standard\"")? {
        Some("standard") => {}
        other => {
            return Err(wrong("positional_embedding_type", other.unwrap_or("null"), "standard (learned positions)"));
        }
    }
    let (sizes, d_vocab_out) = (sizes(fields, d_mlp)?, fields.size("d_vocab_out")?);
    let outputs_are_tokens = fields.flag("outputs_are_tokens")?;
    if outputs_are_tokens && d_vocab_out != sizes.d_vocab {
        let hint = format!("with `outputs_are_tokens` it is `d_vocab`, {}", sizes.d_vocab);
        return Err(unsupported("d_vocab_out", d_vocab_out, &hint));
    }
    Ok(Config {
        activation,
        mlp_norm,
        attention_only,
        norm,
        norm_eps,
        causal,
        d_vocab_out,
        outputs_are_tokens,
        unembedding_bias: fields.flag("unembed_bias")?,
        ..plain("toy", sizes)
    })
}

/// A switch that must be there, though it may be null.
fn choice<'a>(fields: &'a Fields, key: &str, values: &str) -> Result<Option<&'a str>> {
    match fields.given(key) {
        None => Err(Error::new(format!("config has no field `{key}`")).hint(format!("one of {values}"))),
        Some(_) => fields.text(key),
    }
}

fn wrong(key: &str, value: &str, supported: &str) -> Error {
    unsupported(key, format!("\"{value}\""), &format!("supported: {supported}"))
}
