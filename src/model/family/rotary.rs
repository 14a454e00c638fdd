//! Rotary embeddings in a config: `rope_parameters`, or `rope_theta` and `rope_scaling`, as transformers'
//! modeling_rope_utils.py reads them.

use super::fields::{Fields, unsupported};
use crate::error::{Error, Result};
use crate::model::config::{Rope, RopeScaling};

/// How many of a head's dimensions are rotated; `key` names the field that `fraction` comes from.
pub(super) fn rotated_dimensions(key: &str, d_head: i64, fraction: f64) -> Result<i64> {
    let dim = (d_head as f64 * fraction) as i64;
    if dim < 2 || dim > d_head || dim % 2 != 0 {
        return Err(unsupported(key, fraction, "it must leave an even number of rotated dimensions, at most head_dim"));
    }
    Ok(dim)
}

/// The rotary embedding of a whole model. `theta` applies where `rope_parameters` gives none.
pub(super) fn rope(fields: &Fields, theta: f64, dim: i64, n_ctx: i64) -> Result<Rope> {
    let parameters = match fields.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => fields.object("rope_scaling")?,
    };
    match parameters {
        Some(parameters) => from_parameters(&parameters, fields, theta, dim, n_ctx),
        None => Ok(Rope { theta, dim, scaling: RopeScaling::Default }),
    }
}

/// The rotary embedding of one kind of layer, for which newer configs have an object of its own in `rope_parameters`.
pub(super) fn rope_of(layers: &str, fields: &Fields, theta: f64, dim: i64, n_ctx: i64) -> Result<Option<Rope>> {
    let Some(all) = fields.object("rope_parameters")? else { return Ok(None) };
    let parameters = all.object(layers)?;
    parameters.map(|parameters| from_parameters(&parameters, fields, theta, dim, n_ctx)).transpose()
}

fn from_parameters(parameters: &Fields, fields: &Fields, theta: f64, dim: i64, n_ctx: i64) -> Result<Rope> {
    let theta = parameters.number_or("rope_theta", theta)?;
    let original_context = || match parameters.optional_number("original_max_position_embeddings")? {
        Some(original) => Ok(original),
        None => fields.number_or("original_max_position_embeddings", n_ctx as f64),
    };
    let scaling = match parameters.text("rope_type").or_else(|| parameters.text("type")).unwrap_or("default") {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: parameters.number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: parameters.number("factor")?,
            low_frequency_factor: parameters.number("low_freq_factor")?,
            high_frequency_factor: parameters.number("high_freq_factor")?,
            original_context: original_context()?,
        },
        "yarn" => {
            let factor = parameters.number("factor")?;
            RopeScaling::Yarn {
                factor,
                attention_factor: yarn_attention_factor(parameters, factor)?,
                beta_fast: parameters.number_or("beta_fast", 32.0)?,
                beta_slow: parameters.number_or("beta_slow", 1.0)?,
                original_context: original_context()?,
                truncate: parameters.flag_or("truncate", true)?,
            }
        }
        "longrope" => longrope(parameters, fields, original_context()?, dim, n_ctx)?,
        // The loader fills the divisors in from the file's own tensor.
        "frequency_factors" => RopeScaling::Divisors(Vec::new()),
        other => {
            return Err(unsupported(
                "rope_scaling.rope_type",
                format!("\"{other}\""),
                "supported: default, linear, llama3, yarn, longrope",
            ));
        }
    };
    Ok(Rope { theta, dim, scaling })
}

fn yarn_attention_factor(parameters: &Fields, factor: f64) -> Result<f64> {
    let magnitude = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    if let Some(given) = parameters.optional_number("attention_factor")? {
        return Ok(given);
    }
    let weights = (parameters.number_or("mscale", 0.0)?, parameters.number_or("mscale_all_dim", 0.0)?);
    Ok(match weights {
        (one, all) if one != 0.0 && all != 0.0 => magnitude(one) / magnitude(all),
        _ => magnitude(1.0),
    })
}

fn longrope(parameters: &Fields, fields: &Fields, original: f64, dim: i64, n_ctx: i64) -> Result<RopeScaling> {
    let factor = match fields.get("original_max_position_embeddings") {
        Some(_) => n_ctx as f64 / original,
        None => parameters.number_or("factor", n_ctx as f64 / original)?,
    };
    let by_length = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
    let (short, long) = (parameters.numbers("short_factor")?, parameters.numbers("long_factor")?);
    if short.len() as i64 != dim / 2 || long.len() as i64 != dim / 2 {
        return Err(Error::new(format!(
            "config field `rope_scaling`: {} short and {} long factors for {} frequencies",
            short.len(),
            long.len(),
            dim / 2
        )));
    }
    Ok(RopeScaling::LongRope {
        short,
        long,
        attention_factor: parameters.number_or("attention_factor", by_length)?,
        original_context: original as i64,
    })
}
