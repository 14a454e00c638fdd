//! What is frozen at one prompt: norms' divisors, attention probabilities and activations' slopes.

use std::collections::BTreeSet;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::attention::FrozenSide;
use super::frozen_mlp::FrozenMlp;
use super::norm::{At, FrozenNorm};
use crate::error::{Error, Result};
use crate::model::block::Block;
use crate::model::cache::ActivationCache;
use crate::model::config::{Config, NormPlacement};
use crate::model::decoder::{Decoder, Logits, not_finite_hint};
use crate::model::hook::{self, HookPoint, Site};
use crate::model::layer::{Norm, clip_slope};
use crate::model::rope::Rotation;
use crate::model::run::{Action, Hooks};
use crate::model::window::Window;

/// The activations that the factors are made from, in a model that has them.
const SITES: [Site; 15] = [
    Site::PosEmbed,
    Site::ResidPre,
    Site::Ln1Scale,
    Site::QueryNormScale,
    Site::KeyNormScale,
    Site::Pattern,
    Site::Ln1PostScale,
    Site::Ln2Scale,
    Site::ExpertWeights,
    Site::MlpPre,
    Site::MlpPreLinear,
    Site::MlpNormScale,
    Site::Ln2PostScale,
    Site::ResidPost,
    Site::LnFinalScale,
];

/// One layer's frozen factors.
#[derive(Debug)]
pub struct FrozenLayer {
    /// Attention probabilities, [head, query, key]
    pub pattern: Tensor,
    /// Its queries
    pub query: FrozenSide,
    /// Its keys
    pub key: FrozenSide,
    /// The norm before attention, or after it in a model whose norms all come after
    pub ln1: FrozenNorm,
    /// The norm after attention of a model with norms on both sides
    pub ln1_post: Option<FrozenNorm>,
    /// The norm before the MLP, or after it in a model whose norms all come after; None without an MLP
    pub ln2: Option<FrozenNorm>,
    /// The norm after the MLP of a model with norms on both sides
    pub ln2_post: Option<FrozenNorm>,
    /// clip(v) / v of a model that clips its values, [pos, kv_head · d_head]
    pub value_slope: Option<Tensor>,
    /// The MLP, where there is one
    pub mlp: Option<FrozenMlp>,
}

/// A decoder's factors frozen at one prompt. Patterns and residual streams are on the device of the logits, a layer's other
/// factors on its own.
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
    /// The learned positions' part of the first, [pos, d_model]; None in a model without them
    pub positions: Option<Tensor>,
    /// The layers whose scores or patterns the run's interventions may have changed otherwise than by the residual
    /// stream
    pub rescored: BTreeSet<usize>,
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
        let (intervened, rescored) = (intervened(&hooks)?, rescored(&hooks));
        add_captures(&mut hooks, config);
        let input = decoder.tokens(&[tokens.to_vec()])?;
        let _logits = decoder.forward(&input, Logits::Last, &mut hooks)?;
        let cache = hooks.finish()?;

        let length = tokens.len() as i64;
        let pass = decoder.pass(Window { start: 0, length, prompt: length }, None)?;
        let home = decoder.output_device();
        let mut layers = Vec::with_capacity(decoder.blocks.len());
        let mut residuals = Vec::with_capacity(decoder.blocks.len() + 1);
        for (layer, block) in (0..).zip(&decoder.blocks) {
            let at = |site| captured(&cache, site, layer);
            residuals.push(at(Site::ResidPre)?.f_to(home)?);
            let rotations = &pass.on(block.device())?.rotations;
            let rotation = block.attention.rope.map(|index| Rc::new(rotations[index].shallow_clone()));
            layers.push(FrozenLayer::new(config, block, (decoder.kind, home), &at, rotation)?);
        }
        residuals.push(captured(&cache, Site::ResidPost, config.n_layers - 1)?.f_to(home)?);
        for (layer, residual) in residuals.iter().enumerate() {
            if !residual.f_sum(Kind::Double)?.f_double_value(&[])?.is_finite() {
                return Err(Error::new(format!(
                    "the residual stream before layer {layer} is not finite, so that no map can be frozen"
                ))
                .hint(not_finite_hint(decoder.kind)));
            }
        }
        let final_norm = match config.has_norm() {
            true => FrozenNorm::new(&decoder.final_norm, &captured(&cache, Site::LnFinalScale, 0)?, decoder.kind)?,
            false => FrozenNorm::absent(),
        };
        let positions = |_| Ok::<_, Error>(captured(&cache, Site::PosEmbed, 0)?.f_to(home)?);
        let positions = decoder.position_embedding.as_ref().map(positions).transpose()?;
        Ok(Self { tokens: tokens.to_vec(), layers, final_norm, residuals, positions, rescored, intervened })
    }
}

impl FrozenLayer {
    /// Freezes a block at its activations; `at` looks one up by its place. The pattern goes to the device `home`.
    fn new(
        config: &Config,
        block: &Block,
        (kind, home): (Kind, Device),
        at: &dyn Fn(Site) -> Result<Tensor>,
        rotation: Option<Rc<Rotation>>,
    ) -> Result<Self> {
        let freeze = |norm: &Norm, site| match config.has_norm() {
            true => FrozenNorm::new(norm, &at(site)?, kind),
            false => Ok(FrozenNorm::absent()),
        };
        let optional = |norm: &Option<Norm>, site| norm.as_ref().map(|norm| freeze(norm, site)).transpose();
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
        let side =
            |norm: &Option<Norm>, site| FrozenSide::new(config, norm.as_ref(), site, (kind, at), rotation.clone());
        Ok(Self {
            query: side(&block.attention.query_norm, Site::QueryNormScale)?,
            key: side(&block.attention.key_norm, Site::KeyNormScale)?,
            value_slope,
            pattern: at(Site::Pattern)?.f_to(home)?.f_contiguous()?,
            ln1,
            ln1_post: optional(&block.ln1_post, Site::Ln1PostScale)?,
            ln2: optional(&block.ln2, if config.shared_norm { Site::Ln1Scale } else { Site::Ln2Scale })?,
            ln2_post: optional(&block.ln2_post, Site::Ln2PostScale)?,
            mlp: block.mlp.as_ref().map(|mlp| FrozenMlp::new(config, mlp, kind, at)).transpose()?,
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

/// The layers whose scores or patterns `hooks` may change otherwise than by the residual stream before them.
fn rescored(hooks: &Hooks) -> BTreeSet<usize> {
    let changes_scores = |site| match site {
        // Its divisor is frozen as changed.
        Site::Ln1Scale | Site::QueryNormScale | Site::KeyNormScale => false,
        Site::ValueIn | Site::ValueNormedIn | Site::Value => false,
        site => (Site::Ln1In..=Site::Pattern).contains(&site),
    };
    hooks.points().filter(|point| changes_scores(point.site)).map(|point| point.layer as usize).collect()
}

fn add_captures(hooks: &mut Hooks, config: &Config) {
    // The other factor of a gated MLP is not frozen, unless it is clipped.
    let is_needed = |site: Site| SITES.contains(&site) && (site != Site::MlpPreLinear || config.clamped_gate.is_some());
    let points: Vec<HookPoint> = hook::points(config).into_iter().filter(|point| is_needed(point.site)).collect();
    hooks.add(config, points, "frozen", Action::Capture);
}

/// A captured activation of the only sample.
fn captured(cache: &ActivationCache, site: Site, layer: i64) -> Result<Tensor> {
    let point = HookPoint { site, layer };
    let value = cache.get(point).ok_or_else(|| Error::new(format!("`{}` was not captured", point.name())))?;
    Ok(value.f_select(0, 0)?)
}
