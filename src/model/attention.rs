//! Causal attention with grouped queries, rotary positions, sliding windows and soft caps; eager, so that scores and
//! patterns can be read and changed.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::config::{Config, QueryKeyNorm};
use super::hook::{HookPoint, Site};
use super::layer::{Linear, Norm, clip, soft_cap};
use super::rope::Rotation;
use super::run::Hooks;
use super::window::Window;
use crate::error::Result;
use crate::tensor::raw::{Arithmetic, constant, range, wide};

/// Keys (rotated) and values of one layer, each [batch, pos, kv_head, d_head], of the positions seen so far.
pub type KeyValue = Option<(Tensor, Tensor)>;

/// One layer's attention.
#[derive(Debug)]
#[allow(missing_docs)] // The names are the literature's own.
pub struct Attention {
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    pub query_norm: Option<Norm>,
    pub key_norm: Option<Norm>,
    /// The scores of a key without a value, [head]
    pub sinks: Option<Tensor>,
    /// The number of its rotary embedding among the decoder's
    pub rope: Option<usize>,
    /// Size of the sliding window in positions, counting the current one; None without a window
    pub window: Option<i64>,
}

/// The rotations and masks of one pass, which all layers share.
#[derive(Debug)]
pub struct Pass {
    /// The positions computed
    pub window: Window,
    /// One per rotary embedding of the decoder
    pub rotations: Vec<Rotation>,
    /// By the size of a layer's sliding window: the keys that are hidden, [query, key]; None where no key is
    pub masks: BTreeMap<Option<i64>, Option<Tensor>>,
}

/// True where query position `window.start + i` must not see key position `j`; None if it sees everything.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn causal_mask(window: Window, sliding: Option<i64>, device: Device) -> Result<Option<Tensor>> {
    let keys = window.start + window.length;
    if window.length == 1 && sliding.is_none_or(|size| keys <= size) {
        return Ok(None);
    }
    let key = range(0, keys, device)?.f_unsqueeze(0)?;
    let mut hidden = key.f_gt_tensor(&range(window.start, keys, device)?.f_unsqueeze(1)?)?;
    if let Some(size) = sliding {
        let last_hidden = range(window.start - size, keys - size, device)?.f_unsqueeze(1)?;
        hidden = hidden.f_logical_or(&key.f_le_tensor(&last_hidden)?)?;
    }
    Ok(Some(hidden))
}

impl Attention {
    /// The attention's output for the normalised input `x`, both [batch, pos, d_model], before any norm of the output.
    ///
    /// # Errors
    /// An error raised by a hook.
    pub fn forward(
        &self,
        config: &Config,
        layer: i64,
        x: &Tensor,
        pass: &Pass,
        past: Option<&mut KeyValue>,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer };
        let (heads, kv_heads, d_head) = (config.n_heads, config.n_kv_heads, config.d_head);
        let (batch, length, _) = x.size3()?;

        let query = hooks.pass(at(Site::Query), split_heads(&self.query.forward(x)?, heads, d_head)?)?;
        let key = hooks.pass(at(Site::Key), split_heads(&self.key.forward(x)?, kv_heads, d_head)?)?;
        let bound = config.query_key_value_clip;
        let value = split_heads(&clip(self.value.forward(x)?, bound)?, kv_heads, d_head)?;
        let value = hooks.pass(at(Site::Value), value)?;

        let query = clip(normalize(query, self.query_norm.as_ref(), config.query_key_norm)?, bound)?;
        let key = clip(normalize(key, self.key_norm.as_ref(), config.query_key_norm)?, bound)?;
        let (query, key) = match self.rope.map(|index| &pass.rotations[index]) {
            Some(rotation) => (
                hooks.pass(at(Site::RotaryQuery), rotation.apply(&query)?)?,
                hooks.pass(at(Site::RotaryKey), rotation.apply(&key)?)?,
            ),
            None => (query, key),
        };
        let (key, value) = match past {
            None => (key, value),
            Some(past) => {
                let (key, value) = match past.take() {
                    Some((old_key, old_value)) => {
                        (Tensor::f_cat(&[old_key, key], 1)?, Tensor::f_cat(&[old_value, value], 1)?)
                    }
                    None => (key, value),
                };
                *past = Some((key.shallow_clone(), value.shallow_clone()));
                (key, value)
            }
        };

        // Heads that share a key are put side by side as more query rows, so that no key or value is copied.
        let group = heads / kv_heads;
        let keys = key.size()[1];
        let query = query
            .f_reshape([batch, length, kv_heads, group, d_head])?
            .f_permute([0, 2, 3, 1, 4])?
            .f_reshape([batch, kv_heads, group * length, d_head])?;
        let scores = query.f_matmul(&key.f_permute([0, 2, 3, 1])?)?.times(config.attention_scale_at(layer))?;
        let scores = soft_cap(scores.f_view([batch, heads, length, keys])?, config.attention_soft_cap)?;
        let scores = match &pass.masks[&self.window] {
            Some(hidden) => scores.f_masked_fill_tensor(hidden, &constant(f64::NEG_INFINITY)?)?,
            None => scores,
        };
        let scores = hooks.pass(at(Site::AttentionScores), scores)?;
        let kind = scores.kind();
        let pattern = match &self.sinks {
            None => scores.f_softmax(-1, wide(kind))?,
            Some(sinks) => {
                let sinks = sinks.f_view([1, heads, 1, 1])?.f_expand([batch, heads, length, 1], false)?;
                let with_sinks = Tensor::f_cat(&[scores, sinks], -1)?.f_softmax(-1, wide(kind))?;
                with_sinks.f_narrow(-1, 0, keys)?
            }
        };
        let pattern = pattern.f_to_kind(kind)?;
        let pattern = hooks.pass(at(Site::Pattern), pattern)?;

        let mixed = pattern
            .f_reshape([batch, kv_heads, group * length, keys])?
            .f_matmul(&value.f_permute([0, 2, 1, 3])?)?
            .f_view([batch, heads, length, d_head])?
            .f_permute([0, 2, 1, 3])?;
        let mixed = hooks.pass(at(Site::Z), mixed)?;
        let out = self.output.forward(&mixed.f_reshape([batch, length, heads * d_head])?)?;
        hooks.pass(at(Site::AttentionRaw), out)
    }
}

fn split_heads(x: &Tensor, heads: i64, d_head: i64) -> Result<Tensor> {
    Ok(x.f_unflatten(-1, [heads, d_head])?)
}

/// Norms queries or keys, [batch, pos, head, d_head].
fn normalize(x: Tensor, norm: Option<&Norm>, kind: QueryKeyNorm) -> Result<Tensor> {
    match (norm, kind) {
        (Some(norm), QueryKeyNorm::Projection) => {
            let size = x.size();
            Ok(norm.forward_plain(&x.f_flatten(2, 3)?)?.f_view(size.as_slice())?)
        }
        (Some(norm), _) => norm.forward_plain(&x),
        (None, _) => Ok(x),
    }
}
