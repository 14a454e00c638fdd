//! Queries and keys of one layer with the divisors of their norms frozen: linear in the residual stream.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::layer::{Layer, normed, project, transposed};
use super::norm::{At, FrozenNorm};
use crate::error::{Error, Result};
use crate::model::config::{Config, QueryKeyNorm};
use crate::model::hook::Site;
use crate::model::layer::Norm;
use crate::model::rope::Rotation;
use crate::tensor::raw::constant;

/// The two vectors whose product is a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Of the position that looks
    Query,
    /// Of the position that is looked at
    Key,
}

impl Side {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Key => "key",
        }
    }
}

/// What is frozen of one layer's queries or keys.
#[derive(Debug)]
pub struct FrozenSide {
    /// Its factors have the dimensions [pos, head, d_head], or [pos, head · d_head] where one norm spans all heads
    norm: Option<FrozenNorm>,
    rotation: Option<Rc<Rotation>>,
}

impl FrozenSide {
    /// Freezes the norm of queries or keys at its captured divisors.
    ///
    /// # Errors
    /// An activation that was not captured.
    pub fn new(
        config: &Config,
        norm: Option<&Norm>,
        site: Site,
        (kind, at): (Kind, &dyn Fn(Site) -> Result<Tensor>),
        rotation: Option<Rc<Rotation>>,
    ) -> Result<Self> {
        let freeze = |norm: &Norm| {
            let scale = match config.query_key_norm {
                QueryKeyNorm::Head | QueryKeyNorm::HeadWeights => at(site)?.f_transpose(0, 1)?,
                QueryKeyNorm::Projection | QueryKeyNorm::Absent => at(site)?,
            };
            FrozenNorm::new(norm, &scale, kind)
        };
        Ok(Self { norm: norm.map(freeze).transpose()?, rotation })
    }
}

impl Layer<'_> {
    fn side(&self, side: Side) -> &FrozenSide {
        match side {
            Side::Query => &self.frozen().query,
            Side::Key => &self.frozen().key,
        }
    }

    /// Every head's queries or keys of `x` before the rotation, [.., d_model] to [.., head, d_head]; a key that several
    /// heads share is not repeated.
    fn unrotated(&self, side: Side, x: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
        let config = self.config();
        let attention = &self.block().attention;
        let (linear, heads) = match side {
            Side::Query => (&attention.query, config.n_heads),
            Side::Key => (&attention.key, config.n_kv_heads),
        };
        let input = normed(self.attention_norms().0, x, at, with_bias)?;
        let out = project(linear, &input, with_bias)?;
        let norm = self.side(side).norm.as_ref();
        let split = |out: Tensor| -> Result<Tensor> { Ok(out.f_unflatten(-1, [heads, config.d_head])?) };
        match config.query_key_norm {
            QueryKeyNorm::Projection => split(normed(norm, &out, at, with_bias)?),
            _ => normed(norm, &split(out)?, at, with_bias),
        }
    }

    /// Every head's queries or keys as its scores take them, from the residual stream before the layer, [.., d_model]
    /// to [.., head, d_head].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn projected(&self, side: Side, x: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
        self.here(x, at, |x, at| {
            let config = self.config();
            let out = self.unrotated(side, x, at, with_bias)?;
            let out = match &self.side(side).rotation {
                Some(rotation) => at.rotation(rotation)?.apply(&out)?,
                None => out,
            };
            match side {
                Side::Key if config.n_kv_heads != config.n_heads => {
                    Ok(out.f_repeat_interleave_self_int(config.n_heads / config.n_kv_heads, -2, None)?)
                }
                _ => Ok(out),
            }
        })
    }

    /// Transpose of the linear part of [`Layer::projected`].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn projected_transposed(&self, side: Side, covector: &Tensor, at: At) -> Result<Tensor> {
        self.here(covector, at, |covector, at| {
            let config = self.config();
            let attention = &self.block().attention;
            let (linear, covector) = match side {
                Side::Query => (&attention.query, covector.shallow_clone()),
                Side::Key => {
                    let group = config.n_heads / config.n_kv_heads;
                    let by_key = covector.f_unflatten(-2, [config.n_kv_heads, group])?;
                    (&attention.key, by_key.f_sum_dim_intlist(-2, false, None)?)
                }
            };
            let covector = match &self.side(side).rotation {
                Some(rotation) => at.rotation(rotation)?.transposed()?.apply(&covector)?,
                None => covector,
            };
            let norm = self.side(side).norm.as_ref();
            let covector = match config.query_key_norm {
                QueryKeyNorm::Projection => transposed(norm, &covector.f_flatten(-2, -1)?, at)?,
                _ => transposed(norm, &covector, at)?.f_flatten(-2, -1)?,
            };
            transposed(self.attention_norms().0, &covector.f_matmul(&linear.weight)?, at)
        })
    }

    /// The factor of the layer's scores.
    pub fn score_scale(&self) -> f64 {
        self.config().attention_scale_at(self.number())
    }

    /// Where the clip of queries or keys takes effect, [pos, head], in the run with the residual stream `x`, [pos,
    /// d_model]; None in a model that does not clip.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn clips(&self, side: Side, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(bound) = self.config().query_key_value_clip else { return Ok(None) };
        let before = self.here(x, At::Prompt, |x, at| self.unrotated(side, x, at, true))?;
        Ok(Some(before.f_abs()?.f_gt_tensor(&constant(bound)?)?.f_any_dim(-1, false)?))
    }

    /// Refuses a query or key that the model clips: the score is not linear in its parts.
    ///
    /// # Errors
    /// The clip takes effect.
    pub fn check_unclipped(&self, side: Side, x: &Tensor, head: i64, position: i64) -> Result<()> {
        let Some(clipped) = self.clips(side, x)? else { return Ok(()) };
        let config = self.config();
        let own = if side == Side::Key { head * config.n_kv_heads / config.n_heads } else { head };
        if clipped.f_int64_value(&[position, own])? == 0 {
            return Ok(());
        }
        let layer = self.number();
        Err(Error::new(format!(
            "the model clips the {} of head {head} in layer {layer} at position {position}, so that its score is not \
             linear in its parts",
            side.name()
        )))
    }
}
