//! One layer: attention and MLP, and what they add to the residual stream.

use tch::Tensor;

use super::attention::{Attention, KeyValue, Pass};
use super::config::{Config, NormPlacement};
use super::hook::{HookPoint, Site};
use super::layer::{Linear, Norm, gated, scaled};
use super::run::Hooks;
use crate::error::Result;

/// The MLP: gated (`gate`, `up`, `down`) or plain (`up`, `down`). With a router, each map is one of all experts, [expert,
/// out, in].
#[derive(Debug)]
#[allow(missing_docs)] // The names are the literature's own.
pub struct Mlp {
    pub gate: Option<Linear>,
    pub up: Linear,
    pub down: Linear,
    /// Before `down`
    pub norm: Option<Norm>,
    pub router: Option<Linear>,
}

impl Mlp {
    /// Its linear maps.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.gate.iter().chain([&self.up, &self.down]).chain(&self.router)
    }

    /// The MLP's output for the normalised input `x`, before any norm of the output.
    fn forward(&self, config: &Config, layer: i64, x: &Tensor, hooks: &mut Hooks) -> Result<Tensor> {
        if let (Some(router), Some(experts)) = (&self.router, config.experts) {
            return self.forward_experts(router, experts, config, layer, x, hooks);
        }
        let at = |site| HookPoint { site, layer };
        let hidden = match &self.gate {
            Some(gate) => {
                let gate = hooks.pass(at(Site::MlpPre), gate.forward(x)?)?;
                let up = hooks.pass(at(Site::MlpPreLinear), self.up.forward(x)?)?;
                gated(config, &gate, &up)?
            }
            None => config.activation.forward(&hooks.pass(at(Site::MlpPre), self.up.forward(x)?)?)?,
        };
        let hidden = match &self.norm {
            Some(norm) => norm.forward(&hooks.pass(at(Site::MlpMid), hidden)?, at(Site::MlpNormScale), hooks)?,
            None => hidden,
        };
        let hidden = hooks.pass(at(Site::MlpPost), hidden)?;
        hooks.pass(at(Site::MlpRaw), self.down.forward(&hidden)?)
    }
}

/// One layer.
#[derive(Debug)]
#[allow(missing_docs)] // The names are the literature's own.
pub struct Block {
    /// The layer's number, from 0
    pub layer: i64,
    pub attention: Attention,
    /// None in models without MLPs
    pub mlp: Option<Mlp>,
    /// The attention's norm: before it, or after it in post-norm families
    pub ln1: Norm,
    /// The attention's second norm, after it, in families that have both
    pub ln1_post: Option<Norm>,
    /// The MLP's norm; where the two share one, a second handle of `ln1`
    pub ln2: Option<Norm>,
    /// The MLP's second norm
    pub ln2_post: Option<Norm>,
}

impl Block {
    /// The residual stream after the layer, from the one before it, both [batch, pos, d_model].
    ///
    /// # Errors
    /// An error raised by a hook.
    pub fn forward(
        &self,
        config: &Config,
        x: Tensor,
        pass: &Pass,
        past: Option<&mut KeyValue>,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        let layer = self.layer;
        let at = |site| HookPoint { site, layer };
        let post = config.norm_placement == NormPlacement::Post;

        let before = hooks.pass(at(Site::ResidPre), x)?;
        let input = if post { before.shallow_clone() } else { self.ln1.forward(&before, at(Site::Ln1Scale), hooks)? };
        let raw = self.attention.forward(config, layer, &input, pass, past, hooks)?;
        let added = match (&self.ln1_post, post) {
            (_, true) => self.ln1.forward(&raw, at(Site::Ln1Scale), hooks)?,
            (Some(norm), _) => norm.forward(&raw, at(Site::Ln1PostScale), hooks)?,
            (None, _) => raw,
        };
        let added = hooks.pass(at(Site::AttentionOut), scaled(added, config.residual_scale)?)?;
        let (Some(mlp), Some(ln2)) = (&self.mlp, &self.ln2) else {
            return hooks.pass(at(Site::ResidPost), before.f_add(&added)?);
        };
        let middle = hooks.pass(at(Site::ResidMid), before.f_add(&added)?)?;

        let source = if config.parallel { &before } else { &middle };
        let input = if post { source.shallow_clone() } else { ln2.forward(source, at(Site::Ln2Scale), hooks)? };
        let raw = mlp.forward(config, layer, &input, hooks)?;
        let added = match (&self.ln2_post, post) {
            (_, true) => ln2.forward(&raw, at(Site::Ln2Scale), hooks)?,
            (Some(norm), _) => norm.forward(&raw, at(Site::Ln2PostScale), hooks)?,
            (None, _) => raw,
        };
        let added = hooks.pass(at(Site::MlpOut), scaled(added, config.residual_scale)?)?;
        hooks.pass(at(Site::ResidPost), middle.f_add(&added)?)
    }
}
