//! A norm with its divisor frozen: centring (LayerNorm) and a factor per position and dimension.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::model::layer::Norm;
use crate::model::rope::Rotation;

/// The positions of a tensor's vectors.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// [.., pos, d]: all of the prompt, in order
    Prompt,
    /// [row, d]: at these positions, int64 [row]
    Rows(&'a Tensor),
}

impl At<'_> {
    /// The rows of `table`, [pos, d], for the vectors; broadcasts against them.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn of(&self, table: &Tensor) -> Result<Tensor> {
        match self {
            Self::Prompt => Ok(table.shallow_clone()),
            Self::Rows(positions) => Ok(table.f_index_select(0, positions)?),
        }
    }

    /// The rotations of the vectors' positions, of those of the whole prompt.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn rotation(&self, rotation: &Rotation) -> Result<Rotation> {
        match self {
            Self::Prompt => Ok(rotation.shallow_clone()),
            Self::Rows(positions) => rotation.at(positions),
        }
    }
}

/// A norm with its divisor frozen at one prompt: x ↦ (x - mean x) · factor + bias, without the mean for RMS norms; or no
/// norm, x ↦ x.
#[derive(Debug)]
pub struct FrozenNorm {
    /// weight / divisor, [pos, d]; [pos, 1] without a weight; with a dimension of heads before the last where each has
    /// its own divisor; None without a norm
    factor: Option<Tensor>,
    centred: bool,
    bias: Option<Tensor>,
}

impl FrozenNorm {
    /// Freezes `norm` at its divisors `scale`, [pos, 1] or [pos, head, 1], for a model of the element type `kind`.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn new(norm: &Norm, scale: &Tensor, kind: Kind) -> Result<Self> {
        let factor = match norm.factor()? {
            Some(factor) => factor.f_div(scale)?,
            None => scale.f_reciprocal()?,
        };
        Ok(Self {
            factor: Some(factor.f_to_kind(kind)?),
            centred: norm.kind.is_centred(),
            bias: norm.bias.as_ref().map(Tensor::shallow_clone),
        })
    }

    /// What stands in for a norm in a model without norms.
    pub fn absent() -> Self {
        Self { factor: None, centred: false, bias: None }
    }

    /// The linear part.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn linear(&self, x: &Tensor, at: At) -> Result<Tensor> {
        let centred = if self.centred { centre(x)? } else { x.shallow_clone() };
        self.scaled(&centred, at)
    }

    /// `x` times the frozen factor.
    fn scaled(&self, x: &Tensor, at: At) -> Result<Tensor> {
        match &self.factor {
            Some(factor) => Ok(x.f_mul(&at.of(factor)?)?),
            None => Ok(x.shallow_clone()),
        }
    }

    /// The linear part, and the bias where `with_bias`.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn forward(&self, x: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
        let out = self.linear(x, at)?;
        match (&self.bias, with_bias) {
            (Some(bias), true) => Ok(out.f_add(bias)?),
            _ => Ok(out),
        }
    }

    /// The transpose of the linear part. (Centring is symmetric.)
    ///
    /// # Errors
    /// A libtorch error.
    pub fn transposed(&self, covector: &Tensor, at: At) -> Result<Tensor> {
        let scaled = self.scaled(covector, at)?;
        if self.centred { centre(&scaled) } else { Ok(scaled) }
    }
}

fn centre(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_sub(&x.f_mean_dim(-1, true, None::<Kind>)?)?)
}
