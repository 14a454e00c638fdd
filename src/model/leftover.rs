//! Tensors of a checkpoint that no part of the decoder uses: buffers of older checkpoints, if their values equal the
//! decoder's, or an error.

use std::collections::BTreeSet;

use tch::{Device, Kind, Tensor};

use super::config::{Config, Rope, RopeScaling};
use super::source::WeightSource;
use crate::error::{Error, Result};

/// Relative and absolute difference between frequencies rounded to 16 bits and exact ones.
const ROUNDING: (f64, f64) = (1e-2, 1e-6);

/// Fails on a tensor in `source` that is neither `used` nor a buffer that the decoder computes itself.
///
/// # Errors
/// Unused tensors; the message names the first.
pub fn check(config: &Config, source: &dyn WeightSource, used: &BTreeSet<String>, ropes: &[Rope]) -> Result<()> {
    let mut left = Vec::new();
    for name in source.unused(used) {
        if !is_redundant(&name, source, config, ropes)? {
            left.push(name);
        }
    }
    let Some(first) = left.first() else { return Ok(()) };
    let (tensors, which) = if left.len() == 1 { ("tensor", "it is") } else { ("tensors", "the first is") };
    Err(Error::new(format!(
        "the checkpoint has {} {tensors} that a {} model does not use, {which} `{first}`",
        left.len(),
        config.model_type
    ))
    .hint("its architecture differs from its config, and the numbers would be wrong"))
}

/// Whether a tensor is a buffer with the values that the decoder computes: attention's masks, the value of hidden scores,
/// rotary frequencies.
fn is_redundant(name: &str, source: &dyn WeightSource, config: &Config, ropes: &[Rope]) -> Result<bool> {
    let is_one_of = |names: &[&str]| names.iter().any(|ending| name.ends_with(ending));
    let is_mask = is_one_of(&[".attn.bias", ".attention.bias", ".attn.mask"]);
    let is_hidden_score = is_one_of(&[".attn.masked_bias", ".attention.masked_bias", ".attn.IGNORE"]);
    let is_frequencies = name.ends_with("rotary_emb.inv_freq");
    if !(is_mask || is_hidden_score || is_frequencies) {
        return Ok(false);
    }
    let tensor = source.stored(name)?;
    match tensor.size()[..] {
        [1, 1, rows, columns] | [rows, columns] if is_mask && rows == columns => {
            let mut seen = Tensor::f_ones([rows, rows], (Kind::Double, Device::Cpu))?;
            if config.causal {
                seen = seen.f_tril(0)?;
            }
            let layer =
                name.split('.').find_map(|part| part.parse().ok()).and_then(|layer: usize| config.layers.get(layer));
            if let Some(window) = layer.and_then(|layer| layer.window) {
                seen = seen.f_sub(&seen.f_tril(-window)?)?;
            }
            Ok(tensor.f_view([rows, rows])?.f_equal(&seen)?)
        }
        _ if is_hidden_score => Ok(tensor.numel() == 1 && tensor.f_max()?.f_double_value(&[])? <= -1e4),
        [_] if is_frequencies => {
            for rope in ropes {
                let plain = Rope { scaling: RopeScaling::Default, ..rope.clone() };
                for frequencies in [rope.frequencies(1)?, plain.frequencies(1)?] {
                    let frequencies = frequencies.f_to_kind(Kind::Double)?;
                    if frequencies.size() == tensor.size()
                        && tensor.f_allclose(&frequencies, ROUNDING.0, ROUNDING.1, false)?
                    {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}
