//! One layer: attention and MLP, and what they add to the residual stream.

use tch::{Device, Tensor};

use super::attention::{Attention, KeyValue, Pass};
use super::config::{Config, NormPlacement};
use super::head::Input;
use super::hook::{HookPoint, Site};
use super::layer::{Linear, Norm, scaled};
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
    /// Another handle of the same weights.
    pub fn shallow_clone(&self) -> Self {
        Self {
            gate: self.gate.as_ref().map(Linear::shallow_clone),
            up: self.up.shallow_clone(),
            down: self.down.shallow_clone(),
            norm: self.norm.as_ref().map(Norm::shallow_clone),
            router: self.router.as_ref().map(Linear::shallow_clone),
        }
    }

    /// Its linear maps.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.gate.iter().chain([&self.up, &self.down]).chain(&self.router)
    }

    /// The MLP's output for the normalised input `x`, before any norm of the output.
    fn forward(&self, config: &Config, layer: i64, x: &Tensor, hooks: &mut Hooks) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer };
        let x = hooks.pass(at(Site::MlpNormedIn), x.shallow_clone())?;
        if let (Some(router), Some(experts)) = (&self.router, config.experts) {
            return self.forward_experts(router, experts, config, layer, &x, hooks);
        }
        let hidden = match &self.gate {
            Some(gate) => {
                let gate_in = hooks.pass(at(Site::MlpGateIn), x.shallow_clone())?;
                let up_in = hooks.pass(at(Site::MlpUpIn), x)?;
                let gate = hooks.pass(at(Site::MlpPre), gate.forward(&gate_in)?)?;
                let up = hooks.pass(at(Site::MlpPreLinear), self.up.forward(&up_in)?)?;
                hooks.backward().gated(config, &gate, &up)?
            }
            None => {
                let pre = hooks.pass(at(Site::MlpPre), self.up.forward(&x)?)?;
                hooks.backward().activation(config.activation, &pre)?
            }
        };
        let hidden = match &self.norm {
            Some(norm) => norm.forward(&hooks.pass(at(Site::MlpMid), hidden)?, MLP_NORM, layer, hooks)?,
            None => hidden,
        };
        let hidden = hooks.pass(at(Site::MlpPost), hidden)?;
        hooks.pass(at(Site::MlpRaw), self.down.forward(&hidden)?)
    }
}

const LN1: (Site, Site) = (Site::Ln1Scale, Site::Ln1Normalized);
const LN1_POST: (Site, Site) = (Site::Ln1PostScale, Site::Ln1PostNormalized);
const LN2: (Site, Site) = (Site::Ln2Scale, Site::Ln2Normalized);
const MLP_NORM: (Site, Site) = (Site::MlpNormScale, Site::MlpNormNormalized);
const LN2_POST: (Site, Site) = (Site::Ln2PostScale, Site::Ln2PostNormalized);

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
    /// Another handle of the same weights.
    pub fn shallow_clone(&self) -> Self {
        Self {
            layer: self.layer,
            attention: self.attention.shallow_clone(),
            mlp: self.mlp.as_ref().map(Mlp::shallow_clone),
            ln1: self.ln1.shallow_clone(),
            ln1_post: self.ln1_post.as_ref().map(Norm::shallow_clone),
            ln2: self.ln2.as_ref().map(Norm::shallow_clone),
            ln2_post: self.ln2_post.as_ref().map(Norm::shallow_clone),
        }
    }

    /// The device of its weights.
    pub fn device(&self) -> Device {
        self.attention.output.weight.device()
    }

    /// The residual stream after the layer, on its device, from the one before it, both [batch, pos, d_model].
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

        let before = hooks.pass(at(Site::ResidPre), x.f_to(self.device())?)?;
        let (normed, norm) = if post {
            (before.shallow_clone(), None)
        } else {
            let read = hooks.pass(at(Site::Ln1In), before.shallow_clone())?;
            let normed = self.ln1.forward(&read, LN1, layer, hooks)?;
            (hooks.pass(at(Site::Ln1Out), normed)?, Some(&self.ln1))
        };
        let input = hooks.pass(at(Site::AttentionIn), normed.shallow_clone())?;
        let input = Input { normed: &input, residual: &before, norm };
        let raw = self.attention.forward(config, layer, input, pass, past, hooks)?;
        let added = match (&self.ln1_post, post) {
            (_, true) => self.ln1.forward(&raw, LN1, layer, hooks)?,
            (Some(norm), _) => norm.forward(&raw, LN1_POST, layer, hooks)?,
            (None, _) => raw,
        };
        let added = hooks.pass(at(Site::AttentionOut), scaled(added, config.residual_scale)?)?;
        let (Some(mlp), Some(ln2)) = (&self.mlp, &self.ln2) else {
            return hooks.pass(at(Site::ResidPost), before.f_add(&added)?);
        };
        let middle = hooks.pass(at(Site::ResidMid), before.f_add(&added)?)?;

        let input = if config.shared_norm {
            normed
        } else {
            let source = if config.parallel { &before } else { &middle };
            let read = hooks.pass(at(Site::MlpIn), source.shallow_clone())?;
            if post {
                read
            } else {
                let normed = ln2.forward(&read, LN2, layer, hooks)?;
                hooks.pass(at(Site::Ln2Out), normed)?
            }
        };
        let raw = mlp.forward(config, layer, &input, hooks)?;
        let added = match (&self.ln2_post, post) {
            (_, true) => ln2.forward(&raw, LN2, layer, hooks)?,
            (Some(norm), _) => norm.forward(&raw, LN2_POST, layer, hooks)?,
            (None, _) => raw,
        };
        let added = hooks.pass(at(Site::MlpOut), scaled(added, config.residual_scale)?)?;
        hooks.pass(at(Site::ResidPost), middle.f_add(&added)?)
    }
}
