//! Attention with grouped queries, rotary positions, sliding windows and soft caps, causal or bidirectional; eager where
//! scores or patterns are read or changed, and in short texts.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::backward::Backward;
use super::config::{Config, QueryKeyNorm};
use super::head::{self, HeadInputs, Input};
use super::hook::{HookPoint, Site};
use super::layer::{Linear, Norm, clip, soft_cap};
use super::rope::Rotation;
use super::run::Hooks;
use super::window::Window;
use crate::device::device_name;
use crate::error::{Error, Result};
use crate::tensor::raw::{Arithmetic, constant, range, wide};

/// The shortest text for which fused attention is used.
const SHORTEST_FUSED: i64 = 64;

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

/// What the layers of one pass share.
#[derive(Debug)]
pub struct Pass {
    /// The positions computed
    pub window: Window,
    /// One per device that has layers
    pub(super) tables: Vec<(Device, Tables)>,
}

/// The rotations and masks of one pass, on one device.
#[derive(Debug)]
pub struct Tables {
    /// One per rotary embedding of the decoder
    pub rotations: Vec<Rotation>,
    /// By the size of a layer's sliding window: the keys that are hidden, [query, key] or [batch, 1, query, key]; None
    /// where no key is
    pub(super) masks: BTreeMap<Option<i64>, Option<Tensor>>,
}

impl Pass {
    /// The rotations and masks on a device.
    ///
    /// # Errors
    /// A device on which the decoder has no layer.
    pub fn on(&self, device: Device) -> Result<&Tables> {
        let own = self.tables.iter().find(|(own, _)| *own == device);
        own.map(|(_, tables)| tables)
            .ok_or_else(|| Error::new(format!("the model has no layer on {}", device_name(device))))
    }
}

/// True where query position `window.start + i` must not see key position `j`; None if it sees everything.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn hidden_keys(config: &Config, window: Window, sliding: Option<i64>, device: Device) -> Result<Option<Tensor>> {
    let keys = window.start + window.length;
    if !config.causal || window.length == 1 && sliding.is_none_or(|size| keys <= size) {
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
    /// Another handle of the same weights.
    pub fn shallow_clone(&self) -> Self {
        Self {
            query: self.query.shallow_clone(),
            key: self.key.shallow_clone(),
            value: self.value.shallow_clone(),
            output: self.output.shallow_clone(),
            query_norm: self.query_norm.as_ref().map(Norm::shallow_clone),
            key_norm: self.key_norm.as_ref().map(Norm::shallow_clone),
            sinks: self.sinks.as_ref().map(Tensor::shallow_clone),
            ..*self
        }
    }

    /// The attention's output for `input`, both [batch, pos, d_model], before any norm of the output.
    ///
    /// # Errors
    /// An error raised by a hook.
    pub fn forward(
        &self,
        config: &Config,
        layer: i64,
        input: Input,
        pass: &Pass,
        past: Option<&mut KeyValue>,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer };
        let tables = pass.on(self.output.weight.device())?;
        let (heads, kv_heads) = (config.n_heads, config.n_kv_heads);
        let (_, length, _) = input.normed.size3()?;

        let own = HeadInputs::new(config, layer, input.residual, hooks)?;
        let query = input.project(&self.query, heads, own.query, at(Site::QueryNormedIn), hooks)?;
        let key = input.project(&self.key, kv_heads, own.key, at(Site::KeyNormedIn), hooks)?;
        let value = input.project(&self.value, kv_heads, own.value, at(Site::ValueNormedIn), hooks)?;
        let query = hooks.pass(at(Site::Query), query)?;
        let key = hooks.pass(at(Site::Key), key)?;
        let bound = config.query_key_value_clip;
        let value = hooks.pass(at(Site::Value), hooks.backward().clip(value, bound)?)?;

        let mut norm = |x: Tensor, norm: &Option<Norm>, sites| match norm {
            Some(norm) => normalize(x, norm, config.query_key_norm, sites, layer, hooks),
            None => Ok(x),
        };
        let query = clip(norm(query, &self.query_norm, QUERY_NORM)?, bound)?;
        let key = clip(norm(key, &self.key_norm, KEY_NORM)?, bound)?;
        let (query, key) = match self.rope.map(|index| &tables.rotations[index]) {
            Some(rotation) => {
                let rotation = &rotation.hooked(layer, hooks)?;
                (
                    hooks.pass(at(Site::RotaryQuery), rotation.apply(&query)?)?,
                    hooks.pass(at(Site::RotaryKey), rotation.apply(&key)?)?,
                )
            }
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

        let mixed = if self.is_fused(config, length, layer, hooks) {
            self.mix_fused(config, layer, (&query, &key, &value), (pass.window, tables))?
        } else {
            self.mix(config, layer, (&query, &key, &value), tables, hooks)?
        };
        let mixed = hooks.pass(at(Site::Z), mixed)?;
        let out = head::output(config, &self.output, &mixed, layer, hooks)?;
        hooks.pass(at(Site::AttentionRaw), out)
    }

    /// Whether libtorch's fused attention can be used: nothing looks at scores or pattern, and the text is long enough for
    /// it to matter. Shorter texts then give the same bits whether something looks or not.
    fn is_fused(&self, config: &Config, length: i64, layer: i64, hooks: &Hooks) -> bool {
        let is_seen =
            [Site::AttentionScores, Site::Pattern].iter().any(|site| hooks.wants(HookPoint { site: *site, layer }));
        let is_exact = hooks.backward() == Backward::Exact;
        length >= SHORTEST_FUSED && !is_seen && is_exact && config.attention_soft_cap.is_none() && self.sinks.is_none()
    }

    /// The mixed values, [batch, pos, head, d_head], by libtorch's fused attention.
    fn mix_fused(
        &self,
        config: &Config,
        layer: i64,
        (query, key, value): (&Tensor, &Tensor, &Tensor),
        (window, tables): (Window, &Tables),
    ) -> Result<Tensor> {
        let [query, key, value] = [query, key, value].map(|x| x.f_transpose(1, 2));
        let (query, key, value) = (query?, key?, value?);
        let hidden = tables.masks[&self.window].as_ref();
        let is_plain = config.causal
            && window.start == 0
            && hidden.is_none_or(|hidden| hidden.dim() == 2)
            && self.window.is_none_or(|size| window.length <= size);
        let mask = hidden.filter(|_| !is_plain).map(Tensor::f_logical_not).transpose()?;
        let mixed = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            mask.as_ref(),
            0.0,
            is_plain,
            config.attention_scale_at(layer),
            config.n_heads > config.n_kv_heads,
        )?;
        Ok(mixed.f_transpose(1, 2)?)
    }

    /// The mixed values, [batch, pos, head, d_head]; scores and pattern pass through their hooks.
    fn mix(
        &self,
        config: &Config,
        layer: i64,
        (query, key, value): (&Tensor, &Tensor, &Tensor),
        tables: &Tables,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer };
        let (heads, kv_heads, d_head) = (config.n_heads, config.n_kv_heads, config.d_head);
        let (batch, length) = (query.size()[0], query.size()[1]);
        // Heads that share a key are put side by side as more query rows, so that no key or value is copied.
        let group = heads / kv_heads;
        let keys = key.size()[1];
        let query = query
            .f_reshape([batch, length, kv_heads, group, d_head])?
            .f_permute([0, 2, 3, 1, 4])?
            .f_reshape([batch, kv_heads, group * length, d_head])?;
        let scores = query.f_matmul(&key.f_permute([0, 2, 3, 1])?)?.times(config.attention_scale_at(layer))?;
        let scores = soft_cap(scores.f_view([batch, heads, length, keys])?, config.attention_soft_cap)?;
        let scores = match &tables.masks[&self.window] {
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
        let pattern = hooks.backward().held(hooks.pass(at(Site::Pattern), pattern)?)?;

        Ok(pattern
            .f_reshape([batch, kv_heads, group * length, keys])?
            .f_matmul(&value.f_permute([0, 2, 1, 3])?)?
            .f_view([batch, heads, length, d_head])?
            .f_permute([0, 2, 1, 3])?)
    }
}

/// The sites of a norm of queries or keys: divisor, quotient, result.
type NormSites = (Site, Site, Site);

const QUERY_NORM: NormSites = (Site::QueryNormScale, Site::QueryNormNormalized, Site::QueryNormed);
const KEY_NORM: NormSites = (Site::KeyNormScale, Site::KeyNormNormalized, Site::KeyNormed);

/// Norms queries or keys, [batch, pos, head, d_head].
fn normalize(
    x: Tensor,
    norm: &Norm,
    kind: QueryKeyNorm,
    (scale, normalized, result): NormSites,
    layer: i64,
    hooks: &mut Hooks,
) -> Result<Tensor> {
    let weight = match (&norm.weight, kind) {
        // By head, for queries or keys that have the heads before the positions.
        (Some(weight), QueryKeyNorm::HeadWeights) => Some(weight.f_unsqueeze(1)?),
        (weight, _) => weight.as_ref().map(Tensor::shallow_clone),
    };
    let norm = &Norm { weight, ..norm.shallow_clone() };
    let mut apply = |x: &Tensor| -> Result<Tensor> {
        let normed = norm.forward(x, (scale, normalized), layer, hooks)?;
        hooks.pass(HookPoint { site: result, layer }, normed)
    };
    match kind {
        QueryKeyNorm::Projection => Ok(apply(&x.f_flatten(2, 3)?)?.f_view(x.size().as_slice())?),
        QueryKeyNorm::Head | QueryKeyNorm::HeadWeights | QueryKeyNorm::Absent => {
            Ok(apply(&x.f_transpose(1, 2)?)?.f_transpose(1, 2)?)
        }
    }
}
