//! How gradients pass back through what is not linear: as it is, or with parts of it held constant.

use tch::Tensor;

use super::config::{Activation, Config};
use super::layer::{clip, clip_slope, gated, soft_cap};
use crate::error::Result;
use crate::tensor::raw::Arithmetic;

/// The rules of a backward pass. They change gradients only, never the values of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backward {
    /// Derivatives
    #[default]
    Exact,
    /// RelP (arXiv 2508.21258): norm scales, patterns and experts' weights are constant, an activation is its slope f(u) / u
    /// times u, and each factor of a product gets half
    Relp,
    /// The frozen map: the same, but the whole product goes to `up`
    Frozen,
}

impl Backward {
    /// A value that the rules hold constant.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn held(self, value: Tensor) -> Result<Tensor> {
        Ok(if self == Self::Exact { value } else { value.f_detach()? })
    }

    /// An activation of `x`.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn activation(self, activation: Activation, x: &Tensor) -> Result<Tensor> {
        let out = activation.forward(x)?;
        match self {
            Self::Exact => Ok(out),
            _ => with_slope(&out.f_detach()?, x, &activation.secant(&x.f_detach()?)?),
        }
    }

    /// The hidden activations of a gated MLP.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn gated(self, config: &Config, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let out = gated(config, gate, up)?;
        if self == Self::Exact {
            return Ok(out);
        }
        let (out, held_gate, held_up) = (out.f_detach()?, gate.f_detach()?, up.f_detach()?);
        let of_up = match config.clamped_gate {
            None => config.activation.forward(&held_gate)?,
            Some(clamped) => clamped.gate(&held_gate)?.f_mul(&clip_slope(&held_up, clamped.limit)?)?,
        };
        if self == Self::Frozen {
            return with_slope(&out, up, &of_up);
        }
        let of_gate = match config.clamped_gate {
            None => held_up.f_mul(&config.activation.secant(&held_gate)?)?,
            Some(clamped) => clip(held_up, Some(clamped.limit))?.plus(1.0)?.f_mul(&clamped.secant(&held_gate)?)?,
        };
        with_slope(&with_slope(&out, up, &of_up.times(0.5)?)?, gate, &of_gate.times(0.5)?)
    }

    /// c · tanh(x / c), or `x` where there is no cap.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn soft_cap(self, x: Tensor, cap: Option<f64>) -> Result<Tensor> {
        let out = soft_cap(x.shallow_clone(), cap)?;
        if self == Self::Exact || cap.is_none() {
            return Ok(out);
        }
        let held = x.f_detach()?;
        // tanh is its input near 0.
        let slope = out.f_detach()?.f_div(&held)?.f_nan_to_num(1.0, None, None)?;
        with_slope(&out.f_detach()?, &x, &slope)
    }

    /// `x` with every element between -`bound` and `bound`, or `x` where there is no bound.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn clip(self, x: Tensor, bound: Option<f64>) -> Result<Tensor> {
        match (self, bound) {
            (Self::Exact, _) | (_, None) => clip(x, bound),
            (_, Some(limit)) => {
                let slope = clip_slope(&x.f_detach()?, limit)?;
                with_slope(&clip(x.f_detach()?, bound)?, &x, &slope)
            }
        }
    }
}

/// `value`, with the gradients of slope · x beside those that it has.
fn with_slope(value: &Tensor, x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    Ok(value.f_add(&x.f_sub(&x.f_detach()?)?.f_mul(slope)?)?)
}
