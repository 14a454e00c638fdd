//! Rotary position embedding: frequencies of each scaling, and the rotation (Hugging Face's rotate-half layout, or pairs of neighbours).

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::config::{Rope, RopeScaling};
use super::hook::{HookPoint, Site};
use super::run::Hooks;
use crate::error::{Error, Result};
use crate::tensor::raw::{Arithmetic, constant, range, wide};

/// cos and sin, each [pos, 1, dim], or [batch, pos, 1, dim] where prompts have positions of their own, for one kind of
/// rotary embedding.
#[derive(Debug)]
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
    dim: i64,
    interleaved: bool,
}

impl Rope {
    /// The rotation of positions `start .. start + length` of a text of `total` tokens. Frequencies are rounded to
    /// float32 for every `kind`, because checkpoints were trained with such frequencies. Angles are computed in
    /// float32, or in float64 for a float64 model.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn rotation(&self, start: i64, length: i64, total: i64, kind: Kind, device: Device) -> Result<Rotation> {
        let wide = wide(kind);
        let frequencies = self.frequencies(total)?.f_to_device_(device, wide, false, false)?;
        let positions = range(start, start + length, device)?.f_to_kind(wide)?;
        let angles = positions.f_outer(&frequencies)?;
        let angles = match self.interleaved {
            true => angles.f_repeat_interleave_self_int(2, -1, None)?,
            false => Tensor::f_cat(&[&angles, &angles], -1)?,
        };
        let angles = angles.f_unsqueeze(1)?;
        let factor = self.attention_factor();
        let finish = |values: Tensor| -> Result<Tensor> {
            let values = if factor == 1.0 { values } else { values.times(factor)? };
            Ok(values.f_to_kind(kind)?)
        };
        let (cos, sin) = (finish(angles.f_cos()?)?, finish(angles.f_sin()?)?);
        Ok(Rotation { cos, sin, dim: self.dim, interleaved: self.interleaved })
    }

    /// Whether texts of `short` and of `long` tokens have different frequencies.
    pub fn is_changed_between(&self, short: i64, long: i64) -> bool {
        matches!(&self.scaling, RopeScaling::LongRope { original_context, .. }
            if (short <= *original_context) != (long <= *original_context))
    }

    /// The factor of cos and sin.
    fn attention_factor(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                *attention_factor
            }
            _ => 1.0,
        }
    }

    /// Radians per position, [dim / 2] in float32, for a text of `length` tokens, by the operations of transformers'
    /// modeling_rope_utils.py in the same order: another order changes the last bits.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn frequencies(&self, length: i64) -> Result<Tensor> {
        let numbers = range(0, self.dim / 2, Device::Cpu)?.f_to_kind(Kind::Float)?;
        let exponents = numbers.times(2.0)?.over(self.exponent_dim as f64)?;
        let wavelengths = constant(self.theta)?.f_pow(&exponents)?;
        let plain = wavelengths.f_reciprocal()?;
        Ok(match &self.scaling {
            RopeScaling::Default => plain,
            RopeScaling::Linear { factor } => plain.over(*factor)?,
            RopeScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                let turn = plain.f_reciprocal()?.times(2.0 * PI)?;
                let is_long = turn.f_gt_tensor(&constant(original_context / low)?)?;
                let is_short = turn.f_lt_tensor(&constant(original_context / high)?)?;
                let scaled = Tensor::f_where_self(&plain.over(*factor)?, &is_long, &plain)?;
                let smooth = turn.f_reciprocal()?.times(*original_context)?.minus(*low)?.over(high - low)?;
                let rest = smooth.f_neg()?.plus(1.0)?;
                let mixed = rest.f_mul(&scaled)?.over(*factor)?.f_add(&smooth.f_mul(&scaled)?)?;
                Tensor::f_where_self(&scaled, &is_long.f_logical_or(&is_short)?, &mixed)?
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, .. } => {
                let dim = self.dim as f64;
                let correction =
                    |turns: f64| dim * (original_context / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
                let (mut low, mut high) = (correction(*beta_fast), correction(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
                if low == high {
                    high += 0.001;
                }
                let ramp = numbers.minus(low)?.over(high - low)?;
                let ramp = ramp.f_clamp_tensor(Some(constant(0.0)?), Some(constant(1.0)?))?;
                let stretched = wavelengths.times(*factor)?.f_reciprocal()?;
                let share = ramp.f_neg()?.plus(1.0)?;
                stretched.f_mul(&share.f_neg()?.plus(1.0)?)?.f_add(&plain.f_mul(&share)?)?
            }
            RopeScaling::LongRope { short, long, original_context, .. } => {
                let divisors = factors(if length > *original_context { long } else { short })?;
                divisors.f_mul(&wavelengths)?.f_reciprocal()?
            }
            RopeScaling::Divisors(divisors) => plain.f_div(&factors(divisors)?)?,
        })
    }
}

fn factors(values: &[f64]) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    Ok(Tensor::f_from_slice(&values)?)
}

impl Rotation {
    /// The rotations of several prompts, each with positions of its own.
    ///
    /// # Errors
    /// No rotation.
    pub fn stacked(rows: Vec<Self>) -> Result<Self> {
        let stack = |part: fn(&Self) -> &Tensor| Tensor::f_stack(&rows.iter().map(part).collect::<Vec<_>>(), 0);
        let (cos, sin) = (stack(|row| &row.cos)?, stack(|row| &row.sin)?);
        let first = rows.first().ok_or_else(|| Error::new("there are no prompts"))?;
        Ok(Self { cos, sin, ..*first })
    }

    /// The rotation in one layer, whose cos and sin, each [1, pos, dim] ([batch, pos, dim] where prompts have positions of
    /// their own), pass through its hooks.
    ///
    /// # Errors
    /// An error raised by a hook.
    pub fn hooked(&self, layer: i64, hooks: &mut Hooks) -> Result<Self> {
        let mut hooked = |site, values: &Tensor| -> Result<Tensor> {
            let point = HookPoint { site, layer };
            if !hooks.wants(point) {
                return Ok(values.shallow_clone());
            }
            // The dimension of heads stands where that of samples does, or beside it.
            let (heads, samples) = (values.dim() as i64 - 2, values.dim() == 4);
            let shown = if samples { values.f_squeeze_dim(heads)? } else { values.f_transpose(0, heads)? };
            let changed = hooks.pass(point, shown)?;
            Ok(if samples { changed.f_unsqueeze(heads)? } else { changed.f_transpose(0, heads)? })
        };
        let (cos, sin) = (hooked(Site::RotaryCos, &self.cos)?, hooked(Site::RotarySin, &self.sin)?);
        Ok(Self { cos, sin, ..*self })
    }

    /// Another handle of the same rotation.
    pub fn shallow_clone(&self) -> Self {
        Self { cos: self.cos.shallow_clone(), sin: self.sin.shallow_clone(), ..*self }
    }

    /// The rotations of these positions among those of one prompt, int64 [row].
    ///
    /// # Errors
    /// A position out of range.
    pub fn at(&self, positions: &Tensor) -> Result<Self> {
        let (cos, sin) = (self.cos.f_index_select(0, positions)?, self.sin.f_index_select(0, positions)?);
        Ok(Self { cos, sin, ..*self })
    }

    /// The transposed map: the rotation back, with the same factor.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn transposed(&self) -> Result<Self> {
        Ok(Self { cos: self.cos.shallow_clone(), sin: self.sin.f_neg()?, ..*self })
    }

    /// Rotates the first `dim` dimensions of `x`, [.., pos, head, d_head].
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let d_head = x.size()[x.dim() - 1];
        if d_head == self.dim {
            return self.rotate(x);
        }
        let rotated = self.rotate(&x.f_narrow(-1, 0, self.dim)?)?;
        Ok(Tensor::f_cat(&[rotated, x.f_narrow(-1, self.dim, d_head - self.dim)?], -1)?)
    }

    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = self.dim / 2;
        let turned = if self.interleaved {
            let pairs = x.f_unflatten(-1, [half, 2])?;
            Tensor::f_stack(&[pairs.f_select(-1, 1)?.f_neg()?, pairs.f_select(-1, 0)?], -1)?.f_flatten(-2, -1)?
        } else {
            Tensor::f_cat(&[x.f_narrow(-1, half, half)?.f_neg()?, x.f_narrow(-1, 0, half)?], -1)?
        };
        Ok(x.f_mul(&self.cos)?.f_add(&turned.f_mul(&self.sin)?)?)
    }
}
