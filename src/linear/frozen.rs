//! What is frozen at one prompt: norms' divisors, attention probabilities, activations' slopes, the soft cap's secants.

use std::collections::BTreeSet;

use tch::{Kind, Tensor};

use super::norm::FrozenNorm;
use crate::error::{Error, Result};
use crate::model::cache::ActivationCache;
use crate::model::config::{Activation, NormPlacement};
use crate::model::decoder::{Decoder, Logits};
use crate::model::hook::{HookPoint, Site};
use crate::model::layer::soft_cap;
use crate::model::run::{Action, Hooks};
use crate::tensor::raw::constant;

/// One layer's frozen factors.
#[derive(Debug)]
pub struct FrozenLayer {
    /// Attention probabilities, [head, query, key]
    pub pattern: Tensor,
    pub ln1: FrozenNorm,
    pub ln1_post: Option<FrozenNorm>,
    pub ln2: FrozenNorm,
    pub ln2_post: Option<FrozenNorm>,
    /// act(gate) of a gated MLP; f(u) / u, a secant, of a plain one; [pos, d_mlp]
    pub slope: Tensor,
}

/// A decoder's factors frozen at one prompt.
#[derive(Debug)]
pub struct Frozen {
    /// The prompt
    pub tokens: Vec<i64>,
    pub layers: Vec<FrozenLayer>,
    pub final_norm: FrozenNorm,
    /// The residual stream before each layer and after the last, n_layers + 1 times [pos, d_model]. The first is the sum of
    /// embedding and learned position: what the map is applied to.
    pub residuals: Vec<Tensor>,
    /// The nodes' layers at which interventions of the run may have put something that no token and no bias has; none in a
    /// run without them
    pub intervened: BTreeSet<usize>,
}

impl Frozen {
    /// Runs `tokens` and keeps what the map is made of.
    ///
    /// # Errors
    /// An empty prompt, an id out of range.
    pub fn new(decoder: &Decoder, tokens: &[i64]) -> Result<Self> {
        Self::with_hooks(decoder, tokens, Hooks::none())
    }

    /// The same of a run with interventions: the factors are those of the changed run, and what the interventions put into
    /// the residual stream is a source of its own, beside tokens and biases (see [`Frozen::intervention`]). Changed
    /// embeddings count as the tokens'.
    ///
    /// # Errors
    /// As for [`Frozen::new`]; an intervention behind the last residual stream, which is not a part of any path.
    pub fn with_hooks(decoder: &Decoder, tokens: &[i64], mut hooks: Hooks) -> Result<Self> {
        let config = &decoder.config;
        let mut intervened = BTreeSet::new();
        for point in hooks.points() {
            match (point.site, point.layer as usize) {
                (Site::Embed | Site::PosEmbed, _) | (Site::ResidPre, 0) => {}
                (Site::ResidPre, layer) => drop(intervened.insert(layer)),
                (Site::LnFinalScale | Site::LnFinalNormalized, _) => {
                    return Err(Error::new(format!("a map cannot be frozen under a change of `{}`", point.name()))
                        .hint("it follows paths up to the last residual stream: intervene there, or before"));
                }
                (_, layer) => drop(intervened.insert(layer + 1)),
            }
        }
        let both = config.norm_placement == NormPlacement::Both;
        let mut sites =
            vec![Site::ResidPre, Site::Ln1Scale, Site::Pattern, Site::Ln2Scale, Site::MlpPre, Site::ResidPost];
        if both {
            sites.extend([Site::Ln1PostScale, Site::Ln2PostScale]);
        }
        for site in sites {
            let points = (0..config.n_layers).map(|layer| HookPoint { site, layer }).collect();
            hooks.add(config, points, site.name(), Action::Capture);
        }
        hooks.add(config, vec![HookPoint { site: Site::LnFinalScale, layer: 0 }], "ln_final", Action::Capture);
        let input = decoder.tokens(&[tokens.to_vec()])?;
        let _logits = decoder.forward(&input, Logits::Last, &mut hooks)?;
        let cache = hooks.finish()?;

        let at = |site, layer| captured(&cache, HookPoint { site, layer });
        let mut layers = Vec::with_capacity(decoder.blocks.len());
        let mut residuals = Vec::with_capacity(decoder.blocks.len() + 1);
        for (layer, block) in (0..).zip(&decoder.blocks) {
            residuals.push(at(Site::ResidPre, layer)?);
            let post = |norm: &Option<_>, site| -> Result<Option<FrozenNorm>> {
                norm.as_ref().map(|norm| FrozenNorm::new(norm, &at(site, layer)?)).transpose()
            };
            let pre = at(Site::MlpPre, layer)?;
            layers.push(FrozenLayer {
                pattern: at(Site::Pattern, layer)?.f_contiguous()?,
                ln1: FrozenNorm::new(&block.ln1, &at(Site::Ln1Scale, layer)?)?,
                ln1_post: post(&block.ln1_post, Site::Ln1PostScale)?,
                ln2: FrozenNorm::new(&block.ln2, &at(Site::Ln2Scale, layer)?)?,
                ln2_post: post(&block.ln2_post, Site::Ln2PostScale)?,
                slope: if config.gated_mlp {
                    config.activation.forward(&pre)?
                } else {
                    secant(config.activation, &pre)?
                },
            });
        }
        residuals.push(at(Site::ResidPost, config.n_layers - 1)?);
        let final_norm = FrozenNorm::new(&decoder.final_norm, &at(Site::LnFinalScale, 0)?)?;
        Ok(Self { tokens: tokens.to_vec(), layers, final_norm, residuals, intervened })
    }

    /// Number of positions.
    pub fn length(&self) -> i64 {
        self.tokens.len() as i64
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// What the map is applied to: embeddings, learned positions included, [pos, d_model].
    pub fn embeddings(&self) -> Result<&Tensor> {
        self.residual(0)
    }

    /// The residual stream before `layer`, or after the last, [pos, d_model].
    pub fn residual(&self, layer: usize) -> Result<&Tensor> {
        let depth = self.depth();
        self.residuals.get(layer).ok_or_else(|| {
            Error::new(format!("layer {layer} is out of range"))
                .hint(format!("nodes are 0 (before the first layer) to {depth} (after the last)"))
        })
    }

    /// The factors of one layer.
    pub fn layer(&self, layer: usize) -> Result<&FrozenLayer> {
        self.layers.get(layer).ok_or_else(|| {
            Error::new(format!("layer {layer} is out of range"))
                .hint(format!("this model's layers are 0 to {}", self.depth().saturating_sub(1)))
        })
    }

    /// A position counted from the start; `given` may count from the end.
    pub fn position(&self, given: i64) -> Result<i64> {
        let length = self.length();
        let position = if given < 0 { given + length } else { given };
        if (0..length).contains(&position) {
            return Ok(position);
        }
        Err(Error::new(format!("position {given} is out of range"))
            .hint(format!("the prompt has {length} tokens: 0 to {}, or -1 to -{length} from the end", length - 1)))
    }

    /// The model's own logits at position `to`, [d_vocab].
    pub fn logits(&self, decoder: &Decoder, to: i64) -> Result<Tensor> {
        let last = self.residual(self.depth())?.f_narrow(0, to, 1)?.f_unsqueeze(0)?;
        Ok(decoder.unembed(last, Logits::All, &mut Hooks::none())?.f_view([-1])?)
    }

    /// The final soft cap's secants at position `to`, c · tanh(u / c) / u for every token, [d_vocab]; None where the model
    /// has no cap.
    pub fn cap(&self, decoder: &Decoder, to: i64) -> Result<Option<Tensor>> {
        let Some(cap) = decoder.config.logit_soft_cap else { return Ok(None) };
        let last = self.residual(self.depth())?.f_narrow(0, to, 1)?;
        let uncapped = decoder.unembedding.forward(&decoder.final_norm.forward_plain(&last)?)?.f_view([-1])?;
        let zero = uncapped.f_eq_tensor(&constant(0.0)?)?;
        let secants = soft_cap(uncapped.shallow_clone(), Some(cap))?.f_div(&uncapped)?;
        Ok(Some(secants.f_masked_fill_tensor(&zero, &constant(1.0)?)?))
    }
}

/// An activation of the only sample.
fn captured(cache: &ActivationCache, point: HookPoint) -> Result<Tensor> {
    match cache.get(point) {
        Some(value) => Ok(value.f_select(0, 0)?),
        None => Err(Error::new(format!("`{}` was not captured", point.name()))),
    }
}

/// f(u) / u, written without the division, so that it is right near 0 (for a ReLU: 0 at 0).
fn secant(activation: Activation, u: &Tensor) -> Result<Tensor> {
    let kind = u.kind();
    let half_of_one_plus = |x: Tensor| -> Result<Tensor> { Ok(x.f_add(&constant(1.0)?)?.f_mul(&constant(0.5)?)?) };
    let slope = match activation {
        Activation::Silu => u.f_sigmoid()?,
        Activation::Relu => u.f_gt_tensor(&constant(0.0)?)?,
        Activation::Gelu => half_of_one_plus(u.f_mul(&constant(std::f64::consts::FRAC_1_SQRT_2)?)?.f_erf()?)?,
        Activation::GeluTanh => {
            let cubic = u.f_mul(&u.f_square()?)?.f_mul(&constant(0.044715)?)?.f_add(u)?;
            let inner = cubic.f_mul(&constant((2.0 / std::f64::consts::PI).sqrt())?)?;
            half_of_one_plus(inner.f_tanh()?)?
        }
    };
    Ok(slope.f_to_kind(kind)?)
}

/// A tensor of zeros like the map's vectors.
pub fn zeros(decoder: &Decoder, shape: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_zeros(shape, (decoder.kind, decoder.device))?)
}

/// Numbers of a small tensor as float64 on the CPU, flat.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let tensor = tensor.f_to_device_(tch::Device::Cpu, Kind::Double, false, false)?;
    Ok(Vec::<f64>::try_from(&tensor.f_reshape([-1])?)?)
}
