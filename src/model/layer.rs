//! The two components of every block: linear maps and norms.

use std::ops::RangeInclusive;

use tch::{Device, Kind, Tensor};

use super::backward::Backward;
use super::config::{Activation, ClampedGate, Config, NormKind};
use super::hook::{HookPoint, Site};
use super::run::Hooks;
use crate::error::Result;
use crate::tensor::raw::{Arithmetic, constant, wide};

/// Numbers of rows of which MKL multiplies weight · xᵀ faster than x · weightᵀ on a single thread: by a third at 14 rows, not
/// below 10 or above 30.
const FEW_ROWS: RangeInclusive<i64> = 10..=30;

/// x · weightᵀ + bias, with weight [out, in] as in Hugging Face's checkpoints.
#[derive(Debug)]
pub struct Linear {
    /// [out, in]; of all experts, [expert, out, in]
    pub weight: Tensor,
    /// [out]; of all experts, [expert, out]
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Another handle of the same weights.
    pub fn shallow_clone(&self) -> Self {
        Self { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }

    /// The map of one expert.
    ///
    /// # Errors
    /// A map that is not of experts, or a number that is out of range.
    pub fn of_expert(&self, expert: i64) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.f_select(0, expert)).transpose()?;
        Ok(Self { weight: self.weight.f_select(0, expert)?, bias })
    }

    /// The map to some of its outputs: `length` from `start` on.
    ///
    /// # Errors
    /// Outputs out of range.
    pub fn narrow(&self, start: i64, length: i64) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.f_narrow(0, start, length)).transpose()?;
        Ok(Self { weight: self.weight.f_narrow(0, start, length)?, bias })
    }

    /// The map to the outputs of these numbers.
    ///
    /// # Errors
    /// Outputs out of range.
    pub fn select(&self, outputs: &[i64]) -> Result<Self> {
        let index = Tensor::f_from_slice(outputs)?.f_to(self.weight.device())?;
        let bias = self.bias.as_ref().map(|bias| bias.f_index_select(0, &index)).transpose()?;
        Ok(Self { weight: self.weight.f_index_select(0, &index)?, bias })
    }

    /// [.., in] to [.., out].
    ///
    /// # Errors
    /// A last dimension that is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let size = x.size();
        let rows = x.numel() as i64 / size.last().copied().unwrap_or(1).max(1);
        if !FEW_ROWS.contains(&rows) || self.weight.device() != Device::Cpu || tch::get_num_threads() > 1 {
            // Without a contiguous input libtorch multiplies sample by sample and reads the weight again for each.
            return Ok(x.f_contiguous()?.f_linear(&self.weight, self.bias.as_ref())?);
        }
        let out = self.weight.f_matmul(&x.f_reshape([rows, -1])?.f_transpose(0, 1)?)?.f_transpose(0, 1)?;
        let out = match &self.bias {
            Some(bias) => out.f_add(bias)?,
            None => out,
        };
        let mut shape = size;
        shape.pop();
        shape.push(self.weight.size()[0]);
        Ok(out.f_contiguous()?.f_view(shape.as_slice())?)
    }
}

/// RMS norm or LayerNorm over the last dimension, or none; computed in float32 at least.
#[derive(Debug)]
pub struct Norm {
    /// Which
    pub kind: NormKind,
    /// Added to the mean square before the root
    pub eps: f64,
    /// [d], or [head, d_head] where each head has its own; for Gemma the part beyond 1; OLMo's norms have none
    pub weight: Option<Tensor>,
    /// [d], LayerNorm only
    pub bias: Option<Tensor>,
}

/// What a norm computes on its way.
enum Stage {
    Scale,
    Normalized,
}

impl Norm {
    /// Another handle of the same weights.
    pub fn shallow_clone(&self) -> Self {
        let share = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self { kind: self.kind, eps: self.eps, weight: share(&self.weight), bias: share(&self.bias) }
    }

    /// Normalises the last dimension of `x`; the divisor, and the quotient before the weight, pass through the hooks at
    /// the sites of `layer`.
    ///
    /// # Errors
    /// An error raised by a hook.
    pub fn forward(
        &self,
        x: &Tensor,
        (scale, normalized): (Site, Site),
        layer: i64,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        let (scale, normalized) = (HookPoint { site: scale, layer }, HookPoint { site: normalized, layer });
        self.apply(x, |stage, value| match stage {
            Stage::Scale => hooks.backward().held(hooks.pass(scale, value)?),
            Stage::Normalized if !hooks.wants(normalized) => Ok(value),
            // Hooks see the model's own precision; looking at it changes nothing.
            Stage::Normalized => match hooks.change(normalized, &value.f_to_kind(x.kind())?)? {
                Some(changed) => Ok(changed.f_to_kind(value.kind())?),
                None => Ok(value),
            },
        })
    }

    /// Normalises the last dimension of `x`.
    ///
    /// # Errors
    /// A last dimension of another size.
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_by(x, Backward::Exact)
    }

    /// The same, for a backward pass by these rules.
    ///
    /// # Errors
    /// As [`Norm::forward_plain`].
    pub fn forward_by(&self, x: &Tensor, backward: Backward) -> Result<Tensor> {
        self.apply(x, |stage, value| match stage {
            Stage::Scale => backward.held(value),
            Stage::Normalized => Ok(value),
        })
    }

    /// What the normalised input is multiplied by, in float32 at least; None for a norm without a weight.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn factor(&self) -> Result<Option<Tensor>> {
        let Some(weight) = &self.weight else { return Ok(None) };
        let weight = weight.f_to_kind(wide(weight.kind()))?;
        Ok(Some(if self.kind == NormKind::RmsPlusOne { weight.plus(1.0)? } else { weight }))
    }

    fn apply(&self, x: &Tensor, mut hook: impl FnMut(Stage, Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if self.kind == NormKind::Absent {
            return Ok(x.shallow_clone());
        }
        let kind = x.kind();
        let mut wide_x = x.f_to_kind(wide(kind))?;
        if self.kind.is_centred() {
            wide_x = wide_x.f_sub(&wide_x.f_mean_dim(-1, true, None::<Kind>)?)?;
        }
        let mean_square = wide_x.f_square()?.f_mean_dim(-1, true, None::<Kind>)?;
        let scale = hook(Stage::Scale, mean_square.plus(self.eps)?.f_sqrt()?)?;
        let normalized = hook(Stage::Normalized, wide_x.f_div(&scale)?)?;
        let mut out = match self.factor()? {
            Some(factor) => normalized.f_mul(&factor)?,
            None => normalized,
        };
        if let Some(bias) = &self.bias {
            out = out.f_add(bias)?;
        }
        Ok(out.f_to_kind(kind)?)
    }
}

impl Activation {
    /// Applies the function elementwise.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => x.f_silu()?,
            Self::GeluTanh => x.f_gelu("tanh")?,
            Self::Gelu => x.f_gelu("none")?,
            Self::Relu => x.f_relu()?,
            Self::Solu => x.f_mul(&x.f_softmax(-1, wide(x.kind()))?.f_to_kind(x.kind())?)?,
        })
    }

    /// f(x) / x, computed without the division, so that it is exact near 0 (for a ReLU: 0 at 0).
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn secant(self, x: &Tensor) -> Result<Tensor> {
        let kind = x.kind();
        let half_of_one_plus = |x: Tensor| -> Result<Tensor> { x.plus(1.0)?.times(0.5) };
        let slope = match self {
            Self::Silu => x.f_sigmoid()?,
            Self::Relu => x.f_gt_tensor(&constant(0.0)?)?,
            Self::Solu => x.f_softmax(-1, wide(kind))?,
            Self::Gelu => half_of_one_plus(x.times(std::f64::consts::FRAC_1_SQRT_2)?.f_erf()?)?,
            Self::GeluTanh => {
                let cubic = x.f_mul(&x.f_square()?)?.times(0.044715)?.f_add(x)?;
                let inner = cubic.times((2.0 / std::f64::consts::PI).sqrt())?;
                half_of_one_plus(inner.f_tanh()?)?
            }
        };
        Ok(slope.f_to_kind(kind)?)
    }
}

impl ClampedGate {
    /// The factor of clip(up) + 1.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn gate(self, gate: &Tensor) -> Result<Tensor> {
        let gate = gate.f_minimum(&constant(self.limit)?)?;
        Ok(gate.f_mul(&gate.times(self.slope)?.f_sigmoid()?)?)
    }

    /// That factor divided by `gate`.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn secant(self, gate: &Tensor) -> Result<Tensor> {
        let limit = constant(self.limit)?;
        let sigmoid = gate.f_minimum(&limit)?.times(self.slope)?.f_sigmoid()?;
        Ok(sigmoid.f_mul(&gate.f_maximum(&limit)?.f_reciprocal()?.times(self.limit)?)?)
    }
}

/// The hidden activations of a gated MLP.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn gated(config: &Config, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match config.clamped_gate {
        Some(clamped) => {
            let up = clip(up.shallow_clone(), Some(clamped.limit))?.plus(1.0)?;
            Ok(up.f_mul(&clamped.gate(gate)?)?)
        }
        None => Ok(config.activation.forward(gate)?.f_mul(up)?),
    }
}

/// c · tanh(x / c), or `x` where there is no cap.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn soft_cap(x: Tensor, cap: Option<f64>) -> Result<Tensor> {
    match cap {
        Some(cap) => x.over(cap)?.f_tanh()?.times(cap),
        None => Ok(x),
    }
}

/// `x` with every element between -`bound` and `bound`, or `x` where there is no bound.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn clip(x: Tensor, bound: Option<f64>) -> Result<Tensor> {
    match bound {
        Some(bound) => Ok(x.f_maximum(&constant(-bound)?)?.f_minimum(&constant(bound)?)?),
        None => Ok(x),
    }
}

/// clip(x) / x.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn clip_slope(x: &Tensor, bound: f64) -> Result<Tensor> {
    Ok(x.f_abs()?.f_reciprocal()?.times(bound)?.f_minimum(&constant(1.0)?)?)
}

/// `x` times a factor, or `x` where there is none.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn scaled(x: Tensor, factor: Option<f64>) -> Result<Tensor> {
    match factor {
        Some(factor) => x.times(factor),
        None => Ok(x),
    }
}
