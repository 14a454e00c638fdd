//! What of an MLP is frozen at one prompt: its activations' slopes, its experts' weights, the divisor of its norm.

use tch::{Kind, Tensor};

use super::norm::FrozenNorm;
use crate::error::Result;
use crate::model::block::Mlp;
use crate::model::config::Config;
use crate::model::hook::Site;
use crate::model::layer::clip_slope;

/// One MLP's frozen factors.
#[derive(Debug)]
pub struct FrozenMlp {
    /// act(gate) of a gated MLP, times clip(up) / up where up is clipped; f(u) / u, a secant, of a plain one; [pos,
    /// d_mlp]. Of experts, times their weights, [pos, expert, d_mlp].
    pub slope: Tensor,
    /// What is added to slope · up; of experts, times their weights
    pub offset: Option<Tensor>,
    /// The weights of experts, [pos, expert]
    pub expert_weights: Option<Tensor>,
    /// The norm of the hidden activations
    pub norm: Option<FrozenNorm>,
}

impl FrozenMlp {
    /// Freezes an MLP at its activations; `at` looks one up by its place.
    ///
    /// # Errors
    /// An activation that was not captured.
    pub fn new(config: &Config, mlp: &Mlp, kind: Kind, at: &dyn Fn(Site) -> Result<Tensor>) -> Result<Self> {
        let (slope, offset) = hidden_slope(config, &at(Site::MlpPre)?, at)?;
        let expert_weights = config.experts.map(|_| at(Site::ExpertWeights)).transpose()?;
        let weighted = |factor: Tensor| -> Result<Tensor> {
            match &expert_weights {
                Some(weights) => Ok(factor.f_mul(&weights.f_unsqueeze(-1)?)?),
                None => Ok(factor),
            }
        };
        let norm = |norm| FrozenNorm::new(norm, &at(Site::MlpNormScale)?, kind);
        Ok(Self {
            slope: weighted(slope)?,
            offset: offset.map(weighted).transpose()?,
            norm: mlp.norm.as_ref().map(norm).transpose()?,
            expert_weights,
        })
    }
}

/// The factor of `up` (of the only input, in a plain MLP) in the hidden activations, and what is added to the product.
fn hidden_slope(
    config: &Config,
    pre: &Tensor,
    at: &dyn Fn(Site) -> Result<Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    if !config.gated_mlp {
        return Ok((config.activation.secant(pre)?, None));
    }
    let Some(clamped) = config.clamped_gate else { return Ok((config.activation.forward(pre)?, None)) };
    let gate = clamped.gate(pre)?;
    Ok((gate.f_mul(&clip_slope(&at(Site::MlpPreLinear)?, clamped.limit)?)?, Some(gate)))
}
