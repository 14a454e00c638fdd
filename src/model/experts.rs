//! A mixture of experts: the weights that a router gives them, and what those with a weight compute.

use tch::Tensor;

use super::block::Mlp;
use super::config::{Config, Experts};
use super::hook::{HookPoint, Site};
use super::layer::Linear;
use super::run::Hooks;
use crate::error::Result;
use crate::tensor::raw::{values, wide};

/// The rows of each expert that has any, with its number: those where its weight, [row, expert], is not zero.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn routed(weights: &Tensor) -> Result<Vec<(i64, Tensor)>> {
    let experts = weights.size2()?.1 as usize;
    let chosen = values::<bool>(&weights.f_ne_tensor(&weights.f_zeros_like()?)?)?;
    let mut rows = vec![Vec::new(); experts];
    for (place, _) in chosen.iter().enumerate().filter(|(_, chosen)| **chosen) {
        rows[place % experts].push((place / experts) as i64);
    }
    let of_expert =
        |(expert, rows): (i64, Vec<i64>)| Ok((expert, Tensor::f_from_slice(&rows)?.f_to(weights.device())?));
    (0..).zip(rows).filter(|(_, rows)| !rows.is_empty()).map(of_expert).collect()
}

/// Weights of the experts by the router's logits, both [.., expert]; 0 for those that a token does not have.
fn weights(logits: &Tensor, experts: Experts) -> Result<Tensor> {
    let kind = logits.kind();
    let probabilities = logits.f_softmax(-1, wide(kind))?;
    let (chosen, indices) = if experts.normalized {
        let (logits, indices) = logits.f_topk(experts.per_token, -1, true, true)?;
        (logits.f_softmax(-1, wide(kind))?, indices)
    } else {
        probabilities.f_topk(experts.per_token, -1, true, true)?
    };
    Ok(logits.f_zeros_like()?.f_scatter(-1, &indices, &chosen.f_to_kind(kind)?)?)
}

impl Mlp {
    /// The output for the normalised input `x`, both [batch, pos, d_model], before any norm of the output. At the hooks
    /// of hidden activations, [batch, pos, expert, d_mlp], experts that a token does not have are 0, and what is written
    /// there has no effect.
    pub(super) fn forward_experts(
        &self,
        router: &Linear,
        experts: Experts,
        config: &Config,
        layer: i64,
        x: &Tensor,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer };
        let logits = hooks.pass(at(Site::RouterScores), router.forward(x)?)?;
        let backward = hooks.backward();
        let weights = hooks.pass(at(Site::ExpertWeights), weights(&logits, experts)?)?;
        let weights = backward.held(weights)?.f_flatten(0, 1)?;
        let routed = routed(&weights)?;
        let shape = x.size();
        let x = x.f_flatten(0, 1)?;
        let mut hook = |site, parts: Vec<Tensor>| pass_parts(&routed, parts, &weights, &shape, at(site), hooks);
        let project = |linear: &Linear| -> Result<Vec<Tensor>> {
            let part = |(expert, rows): &(i64, Tensor)| linear.of_expert(*expert)?.forward(&x.f_index_select(0, rows)?);
            routed.iter().map(part).collect()
        };
        let up = project(&self.up)?;
        let hidden = match &self.gate {
            Some(gate) => {
                let gate = hook(Site::MlpPre, project(gate)?)?;
                let up = hook(Site::MlpPreLinear, up)?;
                gate.iter().zip(&up).map(|(gate, up)| backward.gated(config, gate, up)).collect::<Result<_>>()?
            }
            None => {
                let up = hook(Site::MlpPre, up)?;
                up.iter().map(|up| backward.activation(config.activation, up)).collect::<Result<_>>()?
            }
        };
        let hidden = hook(Site::MlpPost, hidden)?;
        let out = x.f_zeros_like()?;
        for ((expert, rows), hidden) in routed.iter().zip(&hidden) {
            let weight = weights.f_select(1, *expert)?.f_index_select(0, rows)?.f_unsqueeze(1)?;
            let part = self.down.of_expert(*expert)?.forward(hidden)?.f_mul(&weight)?;
            let _ = out.shallow_clone().f_index_add_(0, rows, &part)?;
        }
        hooks.pass(at(Site::MlpRaw), out.f_view(shape.as_slice())?)
    }
}

/// Passes the rows of each expert through the hooks at `point`, as one tensor [batch, pos, expert, d_mlp] if there are any.
fn pass_parts(
    routed: &[(i64, Tensor)],
    parts: Vec<Tensor>,
    weights: &Tensor,
    shape: &[i64],
    point: HookPoint,
    hooks: &mut Hooks,
) -> Result<Vec<Tensor>> {
    let Some(width) = parts.first().map(|part| part.size()[1]).filter(|_| hooks.wants(point)) else { return Ok(parts) };
    let (rows, experts) = weights.size2()?;
    let all = Tensor::f_zeros([rows, experts, width], (weights.kind(), weights.device()))?;
    for ((expert, rows), part) in routed.iter().zip(&parts) {
        let _ = all.f_select(1, *expert)?.f_index_copy_(0, rows, part)?;
    }
    let all = hooks.pass(point, all.f_view([shape[0], shape[1], experts, width])?)?.f_flatten(0, 1)?;
    let part = |(expert, rows): &(i64, Tensor)| Ok(all.f_select(1, *expert)?.f_index_select(0, rows)?);
    routed.iter().map(part).collect()
}
