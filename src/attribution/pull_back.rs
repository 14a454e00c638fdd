//! Gradients at what destinations read, from gradients inside them: back through a projection and a norm.

use tch::{Kind, Tensor};

use super::graph::{Graph, Letter};
use crate::error::Result;
use crate::model::backward::Backward;
use crate::model::cache::ActivationCache;
use crate::model::config::{NormKind, NormPlacement};
use crate::model::decoder::Decoder;
use crate::model::gradient::Gradients;
use crate::model::hook::{HookPoint, Site};
use crate::model::layer::{Linear, Norm, clip_slope};
use crate::tensor::raw::{constant, wide};

/// The gradients at the destinations of one layer, or at the logits.
pub struct Group {
    /// The first destination's number
    pub first: usize,
    /// [batch, pos, destination, d_model]
    pub gradient: Tensor,
}

/// Where gradients are taken: queries, keys, values, the MLPs' normalised inputs, and the last residual stream.
pub fn watched(decoder: &Decoder) -> Vec<HookPoint> {
    let inside = decoder.blocks.iter().flat_map(|block| {
        let at = |site| HookPoint { site, layer: block.layer };
        let mlp = block.mlp.as_ref().map(|_| at(Site::MlpNormedIn));
        [at(Site::Query), at(Site::Key), at(Site::Value)].into_iter().chain(mlp)
    });
    inside.chain([last(decoder)]).collect()
}

/// The residual streams that destinations read, which the way back needs.
pub fn captured(decoder: &Decoder) -> Vec<HookPoint> {
    let mid = |block: &crate::model::block::Block| block.mlp.is_some() && !decoder.config.parallel;
    let of = |block: &crate::model::block::Block| {
        let at = |site| HookPoint { site, layer: block.layer };
        [Some(at(Site::ResidPre)), mid(block).then_some(at(Site::ResidMid))]
    };
    decoder.blocks.iter().flat_map(of).flatten().collect()
}

/// The last residual stream.
fn last(decoder: &Decoder) -> HookPoint {
    HookPoint { site: Site::ResidPost, layer: decoder.config.n_layers - 1 }
}

/// The gradients at all destinations, from those of a run at the places of [`watched`].
///
/// # Errors
/// An activation that was not captured; too little memory.
pub fn groups<'a>(
    decoder: &'a Decoder,
    graph: &'a Graph,
    run: &'a Gradients,
    backward: Backward,
) -> impl Iterator<Item = Result<Group>> + 'a {
    let config = &decoder.config;
    let gradient = move |site, layer| run.gradients.named(&HookPoint { site, layer }.name(), config);
    let is_post = config.norm_placement == NormPlacement::Post;
    let heads = decoder.blocks.iter().flat_map(move |block| {
        let layer = block.layer;
        Letter::ALL.into_iter().map(move |letter| {
            let (site, linear) = match letter {
                Letter::Query => (Site::Query, &block.attention.query),
                Letter::Key => (Site::Key, &block.attention.key),
                Letter::Value => (Site::Value, &block.attention.value),
            };
            let mut inside = gradient(site, layer)?.shallow_clone();
            let read = activation(&run.activations, Site::ResidPre, layer, decoder)?;
            let norm = (!is_post).then_some(&block.ln1);
            if let (Letter::Value, Some(bound)) = (letter, config.query_key_value_clip) {
                // The hook sees values after they are clipped.
                let normed = norm.map_or_else(|| Ok(read.shallow_clone()), |norm| norm.forward_plain(read))?;
                let value = linear.forward(&normed)?.f_view(inside.size().as_slice())?;
                inside = inside.f_mul(&clip_derivative(&value, bound, backward)?)?;
            }
            let normed = by_head(linear, &inside, graph.head_count(letter))?;
            Ok(Group { first: graph.heads(layer, letter), gradient: through_norm(norm, read, normed, backward)? })
        })
    });
    let mlps = decoder.blocks.iter().filter_map(move |block| {
        let (layer, first) = (block.layer, graph.mlp(block.layer)?);
        let norm = block.ln2.as_ref().filter(|_| !is_post);
        let site = if config.parallel { Site::ResidPre } else { Site::ResidMid };
        let group = || {
            let read = activation(&run.activations, site, layer, decoder)?;
            let normed = gradient(Site::MlpNormedIn, layer)?.f_unsqueeze(2)?;
            Ok(Group { first, gradient: through_norm(norm, read, normed, backward)? })
        };
        Some(group())
    });
    let logits = std::iter::once_with(move || {
        let point = last(decoder);
        let gradient = gradient(point.site, point.layer)?.f_unsqueeze(2)?;
        Ok(Group { first: graph.logits(), gradient })
    });
    heads.chain(mlps).chain(logits)
}

fn activation<'a>(cache: &'a ActivationCache, site: Site, layer: i64, decoder: &Decoder) -> Result<&'a Tensor> {
    cache.named(&HookPoint { site, layer }.name(), &decoder.config)
}

/// What a gradient is multiplied by on its way back through a clip of `value`.
fn clip_derivative(value: &Tensor, bound: f64, backward: Backward) -> Result<Tensor> {
    match backward {
        Backward::Exact => Ok(value.f_abs()?.f_le_tensor(&constant(bound)?)?.f_to_kind(value.kind())?),
        Backward::Relp | Backward::Frozen => clip_slope(value, bound),
    }
}

/// Gradients at the input of each head's projection, [batch, pos, head, d_model], from those at its output, [batch, pos,
/// head, d_head].
fn by_head(linear: &Linear, gradient: &Tensor, heads: i64) -> Result<Tensor> {
    let weight = linear.weight.f_unflatten(0, [heads, -1])?;
    Ok(Tensor::f_einsum("bphd,hdm->bphm", &[gradient, &weight], None::<i64>)?)
}

/// Gradients at a norm's input `x`, [batch, pos, d_model], from those at its output, [batch, pos, destination, d_model].
/// With n = c / s, c = x less its mean where the norm is centred, s² = mean c² + eps: (g - n mean(g n)) / s, less its mean;
/// g / s where the divisor is held.
fn through_norm(norm: Option<&Norm>, x: &Tensor, gradient: Tensor, backward: Backward) -> Result<Tensor> {
    let Some(norm) = norm.filter(|norm| norm.kind != NormKind::Absent) else { return Ok(gradient) };
    let kind = gradient.kind();
    let mean = |x: &Tensor| x.f_mean_dim(-1, true, None::<Kind>);
    let centred = |x: Tensor| -> Result<Tensor> {
        match norm.kind.is_centred() {
            true => Ok(x.f_sub(&mean(&x)?)?),
            false => Ok(x),
        }
    };
    let c = centred(x.f_to_kind(wide(kind))?)?;
    let s = mean(&c.f_square()?)?.f_add(&constant(norm.eps)?)?.f_sqrt()?.f_unsqueeze(2)?;
    let mut g = gradient.f_to_kind(wide(kind))?;
    if let Some(factor) = norm.factor()? {
        g = g.f_mul(&factor)?;
    }
    if backward == Backward::Exact {
        let n = c.f_unsqueeze(2)?.f_div(&s)?;
        g = g.f_sub(&n.f_mul(&mean(&g.f_mul(&n)?)?)?)?;
    }
    Ok(centred(g.f_div(&s)?)?.f_to_kind(kind)?)
}
