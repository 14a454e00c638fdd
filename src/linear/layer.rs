//! One layer's frozen map, forward and transposed: on whole prompts, and on single vectors at any positions.

use std::ops::Range;

use tch::Tensor;

use super::experts;
use super::frozen::FrozenLayer;
use super::live::Hops;
use super::norm::{At, FrozenNorm};
use crate::error::Result;
use crate::model::block::Block;
use crate::model::config::{Config, NormPlacement};
use crate::model::hook::{HookPoint, Site};
use crate::model::layer::{Linear, scaled};
use crate::model::run::Hooks;
use crate::tensor::raw::range;

/// One layer: its weights and its frozen factors.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    config: &'a Config,
    block: &'a Block,
    frozen: &'a FrozenLayer,
}

/// The edges that vectors cross, one row each; a single row serves all vectors.
#[derive(Debug)]
pub struct Crossing {
    /// Position where each vector arrives, int64 [row]
    pub target: Tensor,
    /// Weight of each head, [row, head, 1]
    pub weight: Tensor,
    /// Whether the residual stream crosses too, 0 or 1, [row, 1]
    pub residual: Tensor,
    /// The rows that cross by queries or keys; their weights are 0
    pub hops: Vec<Hops>,
}

impl<'a> Layer<'a> {
    /// The map of `block` with its frozen factors.
    pub fn new(config: &'a Config, block: &'a Block, frozen: &'a FrozenLayer) -> Self {
        Self { config, block, frozen }
    }

    /// The frozen factors.
    pub fn frozen(&self) -> &'a FrozenLayer {
        self.frozen
    }

    /// The decoder's configuration.
    pub(super) fn config(&self) -> &'a Config {
        self.config
    }

    /// The weights.
    pub(super) fn block(&self) -> &'a Block {
        self.block
    }

    /// The layer's number.
    pub(super) fn number(&self) -> i64 {
        self.block.layer
    }

    /// Whether there is an MLP.
    pub fn has_mlp(&self) -> bool {
        self.block.mlp.is_some()
    }

    /// Whether attention and MLP both read the block's input.
    pub fn is_parallel(&self) -> bool {
        self.config.parallel
    }

    /// The norms before and after attention.
    pub(super) fn attention_norms(&self) -> (Option<&FrozenNorm>, Option<&FrozenNorm>) {
        self.norms(Some(&self.frozen.ln1), self.frozen.ln1_post.as_ref())
    }

    /// The norms before and after the MLP.
    fn mlp_norms(&self) -> (Option<&FrozenNorm>, Option<&FrozenNorm>) {
        self.norms(self.frozen.ln2.as_ref(), self.frozen.ln2_post.as_ref())
    }

    fn norms<'b>(
        &self,
        first: Option<&'b FrozenNorm>,
        second: Option<&'b FrozenNorm>,
    ) -> (Option<&'b FrozenNorm>, Option<&'b FrozenNorm>) {
        if self.config.norm_placement == NormPlacement::Post { (None, first) } else { (first, second) }
    }

    /// What `work`, on the layer's device, makes of vectors of any other, which the result is brought back to.
    pub(super) fn here(&self, x: &Tensor, at: At, work: impl FnOnce(&Tensor, At) -> Result<Tensor>) -> Result<Tensor> {
        let (own, x_there) = (self.block.device(), x.f_to(self.block.device())?);
        let done = match at {
            At::Prompt => work(&x_there, at)?,
            At::Rows(positions) => work(&x_there, At::Rows(&positions.f_to(own)?))?,
        };
        Ok(done.f_to(x.device())?)
    }

    /// Values, [.., kv_head · d_head], times the clip's frozen slopes.
    fn clipped(&self, values: Tensor, at: At) -> Result<Tensor> {
        match &self.frozen.value_slope {
            Some(slope) => Ok(values.f_mul(&at.of(slope)?)?),
            None => Ok(values),
        }
    }

    /// Every head's value vectors of `x`, [.., d_model] to [.., head, d_head].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn values(&self, x: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
        self.here(x, at, |x, at| {
            let config = self.config;
            let input = normed(self.attention_norms().0, x, at, with_bias)?;
            let values = self.clipped(project(&self.block.attention.value, &input, with_bias)?, at)?;
            let values = values.f_unflatten(-1, [config.n_kv_heads, config.d_head])?;
            if config.n_kv_heads == config.n_heads {
                return Ok(values);
            }
            Ok(values.f_repeat_interleave_self_int(config.n_heads / config.n_kv_heads, -2, None)?)
        })
    }

    /// What attention adds to the residual stream, [.., d_model], from mixed values, [.., head, d_head].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn attention_out(&self, mixed: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
        self.here(mixed, at, |mixed, at| {
            let config = self.config;
            let out = project(&self.block.attention.output, &mixed.f_flatten(-2, -1)?, with_bias)?;
            scaled(normed(self.attention_norms().1, &out, at, with_bias)?, config.residual_scale)
        })
    }

    /// What the MLP adds to the residual stream, from its input `x`, both [.., d_model].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn mlp_out(&self, x: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
        self.here(x, at, |x, at| {
            let (Some(mlp), Some(frozen)) = (&self.block.mlp, &self.frozen.mlp) else { return Ok(x.f_zeros_like()?) };
            let (before, after) = self.mlp_norms();
            let input = normed(before, x, at, with_bias)?;
            let out = match &frozen.expert_weights {
                Some(weights) => experts::out(mlp, frozen, weights, &input, at, with_bias)?,
                None => {
                    let mut hidden = project(&mlp.up, &input, with_bias)?.f_mul(&at.of(&frozen.slope)?)?;
                    if let Some(offset) = frozen.offset.as_ref().filter(|_| with_bias) {
                        hidden = hidden.f_add(&at.of(offset)?)?;
                    }
                    let hidden = normed(frozen.norm.as_ref(), &hidden, at, with_bias)?;
                    project(&mlp.down, &hidden, with_bias)?
                }
            };
            let out = normed(after, &out, at, with_bias)?;
            scaled(out, self.config.residual_scale)
        })
    }

    /// Transpose of the linear part of [`Layer::values`].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn values_transposed(&self, covector: &Tensor, at: At) -> Result<Tensor> {
        self.here(covector, at, |covector, at| {
            let config = self.config;
            let group = config.n_heads / config.n_kv_heads;
            let summed = covector.f_unflatten(-2, [config.n_kv_heads, group])?.f_sum_dim_intlist(-2, false, None)?;
            let out = self.clipped(summed.f_flatten(-2, -1)?, at)?.f_matmul(&self.block.attention.value.weight)?;
            transposed(self.attention_norms().0, &out, at)
        })
    }

    /// Transpose of the linear part of [`Layer::attention_out`].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn attention_out_transposed(&self, covector: &Tensor, at: At) -> Result<Tensor> {
        self.here(covector, at, |covector, at| {
            let config = self.config;
            let before = transposed(self.attention_norms().1, covector, at)?;
            let before = scaled(before, config.residual_scale)?;
            Ok(before
                .f_matmul(&self.block.attention.output.weight)?
                .f_unflatten(-1, [config.n_heads, config.d_head])?)
        })
    }

    /// Transpose of the linear part of [`Layer::mlp_out`].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn mlp_out_transposed(&self, covector: &Tensor, at: At) -> Result<Tensor> {
        self.here(covector, at, |covector, at| {
            let (Some(mlp), Some(frozen)) = (&self.block.mlp, &self.frozen.mlp) else {
                return Ok(covector.f_zeros_like()?);
            };
            let (before, after) = self.mlp_norms();
            let out = scaled(transposed(after, covector, at)?, self.config.residual_scale)?;
            let input = match &frozen.expert_weights {
                Some(weights) => experts::out_transposed(mlp, frozen, weights, &out, at)?,
                None => {
                    let hidden = transposed(frozen.norm.as_ref(), &out.f_matmul(&mlp.down.weight)?, at)?;
                    hidden.f_mul(&at.of(&frozen.slope)?)?.f_matmul(&mlp.up.weight)?
                }
            };
            transposed(before, &input, at)
        })
    }
}

/// On whole prompts.
impl Layer<'_> {
    /// The residual stream [batch, pos, d_model] after this layer, number `layer`; runs the hooks at its places.
    ///
    /// # Errors
    /// An error raised by a hook.
    pub fn forward(&self, layer: i64, x: Tensor, with_bias: bool, hooks: &mut Hooks) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer };
        let before = hooks.pass(at(Site::ResidPre), x)?;
        let mixed = hooks.pass(at(Site::Z), self.mix(&self.values(&before, At::Prompt, with_bias)?)?)?;
        let added = hooks.pass(at(Site::AttentionOut), self.attention_out(&mixed, At::Prompt, with_bias)?)?;
        let middle = hooks.pass(at(Site::ResidMid), before.f_add(&added)?)?;
        let source = if self.is_parallel() { &before } else { &middle };
        let added = hooks.pass(at(Site::MlpOut), self.mlp_out(source, At::Prompt, with_bias)?)?;
        hooks.pass(at(Site::ResidPost), middle.f_add(&added)?)
    }

    /// What attention adds, [batch, pos, d_model].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn attention(&self, x: &Tensor, with_bias: bool) -> Result<Tensor> {
        self.attention_out(&self.mix(&self.values(x, At::Prompt, with_bias)?)?, At::Prompt, with_bias)
    }

    /// Changes after this layer at some neighbouring positions, [batch, position, d_model], of changes there before it;
    /// nothing else has changed.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn carry(&self, changes: &Tensor, positions: &Range<i64>) -> Result<Tensor> {
        let (start, count) = (positions.start, positions.end - positions.start);
        let rows = range(start, positions.end, changes.device())?;
        let at = At::Rows(&rows);
        let pattern = self.frozen.pattern.f_narrow(1, start, count)?.f_narrow(2, start, count)?;
        let added = self.attention_out(&mixed(&pattern, &self.values(changes, at, false)?)?, at, false)?;
        let middle = changes.f_add(&added)?;
        let source = if self.is_parallel() { changes } else { &middle };
        Ok(middle.f_add(&self.mlp_out(source, at, false)?)?)
    }

    /// Transpose of the linear part of [`Layer::attention`], [batch, pos, d_model].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn attention_transposed(&self, covector: &Tensor) -> Result<Tensor> {
        let mixed = self.attention_out_transposed(covector, At::Prompt)?.f_transpose(1, 2)?;
        let values = self.frozen.pattern.f_transpose(1, 2)?.f_matmul(&mixed)?.f_transpose(1, 2)?;
        self.values_transposed(&values, At::Prompt)
    }

    /// Values [batch, pos, head, d_head], mixed by the frozen probabilities.
    fn mix(&self, values: &Tensor) -> Result<Tensor> {
        mixed(&self.frozen.pattern, values)
    }
}

/// Along single edges.
impl Layer<'_> {
    /// Carries vectors [row, d_model] with their heads' values [row, head, d_head] along their edges.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn cross(&self, vectors: &Tensor, values: &Tensor, edges: &Crossing) -> Result<Tensor> {
        let at = At::Rows(&edges.target);
        let kept = vectors.f_mul(&edges.residual)?;
        let mixed = self.with_hops(values.f_mul(&edges.weight)?, vectors, &edges.hops)?;
        let added = self.attention_out(&mixed, at, false)?;
        let middle = kept.f_add(&added)?;
        let source = if self.is_parallel() { &kept } else { &middle };
        Ok(middle.f_add(&self.mlp_out(source, at, false)?)?)
    }

    /// Pulls covectors [row, d_model] at nodes after the layer, at positions `at`, back through the MLP: the work that
    /// all edges arriving there share. Returns the covectors of the mixed values and of the residual stream.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn pull_back(&self, covectors: &Tensor, at: At) -> Result<(Tensor, Tensor)> {
        let with_mlp = covectors.f_add(&self.mlp_out_transposed(covectors, at)?)?;
        let at_attention = if self.is_parallel() { covectors.shallow_clone() } else { with_mlp.shallow_clone() };
        Ok((self.attention_out_transposed(&at_attention, at)?, with_mlp))
    }

    /// The transpose of [`Layer::cross`], from the result of [`Layer::pull_back`], to positions `source`, int64 [row].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn cross_transposed(
        &self,
        (mixed, with_mlp): (&Tensor, &Tensor),
        edges: &Crossing,
        source: &Tensor,
    ) -> Result<Tensor> {
        let through = self.values_transposed(&mixed.f_mul(&edges.weight)?, At::Rows(source))?;
        self.with_hops_transposed(through.f_add(&with_mlp.f_mul(&edges.residual)?)?, mixed, &edges.hops)
    }
}

/// Values [batch, pos, head, d_head], mixed by probabilities [head, query, pos].
fn mixed(pattern: &Tensor, values: &Tensor) -> Result<Tensor> {
    Ok(pattern.f_matmul(&values.f_transpose(1, 2)?)?.f_transpose(1, 2)?)
}

pub(super) fn project(linear: &Linear, x: &Tensor, with_bias: bool) -> Result<Tensor> {
    Ok(x.f_linear(&linear.weight, linear.bias.as_ref().filter(|_| with_bias))?)
}

pub(super) fn normed(norm: Option<&FrozenNorm>, x: &Tensor, at: At, with_bias: bool) -> Result<Tensor> {
    norm.map_or_else(|| Ok(x.shallow_clone()), |norm| norm.forward(x, at, with_bias))
}

pub(super) fn transposed(norm: Option<&FrozenNorm>, covector: &Tensor, at: At) -> Result<Tensor> {
    norm.map_or_else(|| Ok(covector.shallow_clone()), |norm| norm.transposed(covector, at))
}
