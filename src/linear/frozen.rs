//! What is frozen at one prompt: norms' divisors, attention probabilities and activations' slopes.

use std::collections::BTreeSet;

use tch::{Kind, Tensor};

use super::norm::{At, FrozenNorm};
use crate::error::{Error, Result};
use crate::model::block::Block;
use crate::model::cache::ActivationCache;
use crate::model::config::{Activation, Config, NormPlacement};
use crate::model::decoder::{Decoder, Logits, not_finite_hint};
use crate::model::hook::{HookPoint, Site};
use crate::model::layer::Norm;
use crate::model::run::{Action, Hooks};
use crate::tensor::raw::{Arithmetic, constant};

/// The activations of each layer that the factors are made from.
const SITES: [Site; 6] = [Site::ResidPre, Site::Ln1Scale, Site::Pattern, Site::Ln2Scale, Site::MlpPre, Site::ResidPost];

/// More activations of a layer with norms after attention and MLP as well.
const POST_SITES: [Site; 2] = [Site::Ln1PostScale, Site::Ln2PostScale];

/// One layer's frozen factors.
#[derive(Debug)]
pub struct FrozenLayer {
    /// Attention probabilities, [head, query, key]
    pub pattern: Tensor,
    /// The norm before attention, or after it in a model whose norms all come after
    pub ln1: FrozenNorm,
    /// The norm after attention of a model with norms on both sides
    pub ln1_post: Option<FrozenNorm>,
    /// The norm before the MLP, or after it in a model whose norms all come after
    pub ln2: FrozenNorm,
    /// The norm after the MLP of a model with norms on both sides
    pub ln2_post: Option<FrozenNorm>,
    /// clip(v) / v of a model that clips its values, [pos, kv_head · d_head]
    pub value_slope: Option<Tensor>,
    /// act(gate) of a gated MLP, times clip(up) / up where up is clipped; f(u) / u, a secant, of a plain one; [pos,
    /// d_mlp]. Of experts, times their weights, [pos, expert, d_mlp].
    pub slope: Tensor,
    /// What is added to slope · up; of experts, times their weights
    pub offset: Option<Tensor>,
    /// The weights of experts, [pos, expert]
    pub expert_weights: Option<Tensor>,
}

/// A decoder's factors frozen at one prompt.
#[derive(Debug)]
pub struct Frozen {
    /// The prompt's token ids
    pub tokens: Vec<i64>,
    /// The factors of each layer
    pub layers: Vec<FrozenLayer>,
    /// The norm before the unembedding
    pub final_norm: FrozenNorm,
    /// The residual stream before each layer and after the last, n_layers + 1 times [pos, d_model]. The first is the
    /// sum of embedding and learned position: what the map is applied to.
    pub residuals: Vec<Tensor>,
    /// The layers of the nodes whose residual stream the run's interventions may have changed; empty in a run without
    /// them
    pub intervened: BTreeSet<usize>,
}

impl Frozen {
    /// Runs `tokens` under `hooks` and freezes the factors of that run. Changed embeddings count as the tokens'.
    ///
    /// # Errors
    /// An empty prompt, an id out of range; a hook after the last residual stream; an error raised by a hook; activations
    /// that are not finite.
    pub fn of_run(decoder: &Decoder, tokens: &[i64], mut hooks: Hooks) -> Result<Self> {
        let config = &decoder.config;
        let intervened = intervened(&hooks)?;
        add_captures(&mut hooks, config);
        let input = decoder.tokens(&[tokens.to_vec()])?;
        let _logits = decoder.forward(&input, Logits::Last, &mut hooks)?;
        let cache = hooks.finish()?;

        let mut layers = Vec::with_capacity(decoder.blocks.len());
        let mut residuals = Vec::with_capacity(decoder.blocks.len() + 1);
        for (layer, block) in (0..).zip(&decoder.blocks) {
            let at = |site| captured(&cache, site, layer);
            residuals.push(at(Site::ResidPre)?);
            layers.push(FrozenLayer::new(config, block, &at)?);
        }
        residuals.push(captured(&cache, Site::ResidPost, config.n_layers - 1)?);
        for (layer, residual) in residuals.iter().enumerate() {
            if !residual.f_sum(Kind::Double)?.f_double_value(&[])?.is_finite() {
                return Err(Error::new(format!(
                    "the residual stream before layer {layer} is not finite, so that no map can be frozen"
                ))
                .hint(not_finite_hint(decoder.kind)));
            }
        }
        let final_norm = FrozenNorm::new(&decoder.final_norm, &captured(&cache, Site::LnFinalScale, 0)?, decoder.kind)?;
        Ok(Self { tokens: tokens.to_vec(), layers, final_norm, residuals, intervened })
    }
}

impl FrozenLayer {
    /// Freezes a block at its activations; `at` looks one up by its place.
    fn new(config: &Config, block: &Block, at: &dyn Fn(Site) -> Result<Tensor>) -> Result<Self> {
        let pre = at(Site::MlpPre)?;
        let (slope, offset) = hidden_slope(config, &pre, at)?;
        let expert_weights = config.experts.map(|_| at(Site::ExpertWeights)).transpose()?;
        let weighted = |factor: Tensor| -> Result<Tensor> {
            match &expert_weights {
                Some(weights) => Ok(factor.f_mul(&weights.f_unsqueeze(-1)?)?),
                None => Ok(factor),
            }
        };
        let freeze = |norm: &Norm, site| FrozenNorm::new(norm, &at(site)?, pre.kind());
        let post = |norm: &Option<Norm>, site| norm.as_ref().map(|norm| freeze(norm, site)).transpose();
        let ln1 = freeze(&block.ln1, Site::Ln1Scale)?;
        let value_slope = match config.query_key_value_clip {
            None => None,
            Some(bound) => {
                let before = &at(Site::ResidPre)?;
                let before = if config.norm_placement == NormPlacement::Post {
                    before.shallow_clone()
                } else {
                    ln1.forward(before, At::Prompt, true)?
                };
                Some(clip_slope(&block.attention.value.forward(&before)?, bound)?)
            }
        };
        Ok(Self {
            value_slope,
            pattern: at(Site::Pattern)?.f_contiguous()?,
            ln1,
            ln1_post: post(&block.ln1_post, Site::Ln1PostScale)?,
            ln2: freeze(&block.ln2, if config.shared_norm { Site::Ln1Scale } else { Site::Ln2Scale })?,
            ln2_post: post(&block.ln2_post, Site::Ln2PostScale)?,
            slope: weighted(slope)?,
            offset: offset.map(weighted).transpose()?,
            expert_weights,
        })
    }
}

/// The layers of the nodes whose residual stream `hooks` may change.
fn intervened(hooks: &Hooks) -> Result<BTreeSet<usize>> {
    let mut layers = BTreeSet::new();
    for point in hooks.points() {
        match (point.site, point.layer as usize) {
            (Site::Embed | Site::PosEmbed, _) | (Site::ResidPre, 0) => {}
            (Site::ResidPre, layer) => drop(layers.insert(layer)),
            (Site::LnFinalScale | Site::LnFinalNormalized | Site::LnFinalOut | Site::Unembed, _) => {
                return Err(Error::new(format!("a map cannot be frozen under a change of `{}`", point.name()))
                    .hint("it follows paths up to the last residual stream: intervene there, or before"));
            }
            (_, layer) => drop(layers.insert(layer + 1)),
        }
    }
    Ok(layers)
}

fn add_captures(hooks: &mut Hooks, config: &Config) {
    let post = if config.norm_placement == NormPlacement::Both { &POST_SITES[..] } else { &[] };
    let experts = config.experts.map(|_| Site::ExpertWeights);
    let clamped = config.clamped_gate.map(|_| Site::MlpPreLinear);
    let sites = SITES.iter().chain(post).copied().chain(experts).chain(clamped);
    for site in sites.filter(|site| !(config.shared_norm && *site == Site::Ln2Scale)) {
        let points = (0..config.n_layers).map(|layer| HookPoint { site, layer }).collect();
        hooks.add(config, points, site.name(), Action::Capture);
    }
    hooks.add(config, vec![HookPoint { site: Site::LnFinalScale, layer: 0 }], "ln_final", Action::Capture);
}

/// A captured activation of the only sample.
fn captured(cache: &ActivationCache, site: Site, layer: i64) -> Result<Tensor> {
    let point = HookPoint { site, layer };
    let value = cache.get(point).ok_or_else(|| Error::new(format!("`{}` was not captured", point.name())))?;
    Ok(value.f_select(0, 0)?)
}

/// The factor of `up` (of the only input, in a plain MLP) in the hidden activations, and what is added to the product.
fn hidden_slope(
    config: &Config,
    pre: &Tensor,
    at: &dyn Fn(Site) -> Result<Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    if !config.gated_mlp {
        return Ok((secant(config.activation, pre)?, None));
    }
    let Some(clamped) = config.clamped_gate else { return Ok((config.activation.forward(pre)?, None)) };
    let gate = clamped.gate(pre)?;
    Ok((gate.f_mul(&clip_slope(&at(Site::MlpPreLinear)?, clamped.limit)?)?, Some(gate)))
}

/// clip(v) / v.
fn clip_slope(v: &Tensor, bound: f64) -> Result<Tensor> {
    Ok(v.f_abs()?.f_reciprocal()?.times(bound)?.f_minimum(&constant(1.0)?)?)
}

/// f(u) / u, computed without the division, so that it is exact near 0 (for a ReLU: 0 at 0).
fn secant(activation: Activation, u: &Tensor) -> Result<Tensor> {
    let kind = u.kind();
    let half_of_one_plus = |x: Tensor| -> Result<Tensor> { x.plus(1.0)?.times(0.5) };
    let slope = match activation {
        Activation::Silu => u.f_sigmoid()?,
        Activation::Relu => u.f_gt_tensor(&constant(0.0)?)?,
        Activation::Gelu => half_of_one_plus(u.times(std::f64::consts::FRAC_1_SQRT_2)?.f_erf()?)?,
        Activation::GeluTanh => {
            let cubic = u.f_mul(&u.f_square()?)?.times(0.044715)?.f_add(u)?;
            let inner = cubic.times((2.0 / std::f64::consts::PI).sqrt())?;
            half_of_one_plus(inner.f_tanh()?)?
        }
    };
    Ok(slope.f_to_kind(kind)?)
}
