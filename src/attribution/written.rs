//! What each source adds to the residual stream in one run.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::model::block::Block;
use crate::model::cache::ActivationCache;
use crate::model::config::{Config, NormPlacement};
use crate::model::decoder::Decoder;
use crate::model::forward::Start;
use crate::model::hook::{HookPoint, Site};
use crate::model::layer::Norm;
use crate::model::run::{Action, Hooks};
use crate::tensor::raw::{gathered, wide};

/// The norm of a layer's attention output, with the place where its divisor can be read; None in pre-norm blocks.
///
/// # Errors
/// A bias of attention's output before that norm, which belongs to no head.
pub fn norm_after(config: &Config, block: &Block) -> Result<Option<(Norm, Site)>> {
    let found = match (config.norm_placement, &block.ln1_post) {
        (NormPlacement::Post, _) => Some((block.ln1.shallow_clone(), Site::Ln1Scale)),
        (_, Some(norm)) => Some((norm.shallow_clone(), Site::Ln1PostScale)),
        (_, None) => None,
    };
    if found.is_some() && block.attention.output.bias.is_some() {
        return Err(Error::new("attention has an output bias before a norm, which belongs to no head")
            .hint("edges are defined where heads and MLPs alone add up"));
    }
    Ok(found)
}

/// What heads add to the residual stream, [.., head, d_model], from their results before a norm with the divisor
/// `scale`, [.., 1], which is held fixed so that the parts add up.
///
/// # Errors
/// A libtorch error.
pub fn normed(norm: &Norm, results: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let kind = results.kind();
    let mut part = results.f_to_kind(wide(kind))?;
    if norm.kind.is_centred() {
        part = part.f_sub(&part.f_mean_dim(-1, true, None::<tch::Kind>)?)?;
    }
    part = part.f_div(&scale.f_unsqueeze(-2)?)?;
    if let Some(factor) = norm.factor()? {
        part = part.f_mul(&factor)?;
    }
    Ok(part.f_to_kind(kind)?)
}

/// The points to capture so that [`collect`] finds what it needs.
///
/// # Errors
/// A model whose heads do not add up.
pub fn points(decoder: &Decoder) -> Result<Vec<HookPoint>> {
    let mut points = vec![HookPoint { site: Site::Embed, layer: 0 }];
    for block in &decoder.blocks {
        let at = |site| HookPoint { site, layer: block.layer };
        points.push(at(Site::HeadResult));
        points.extend(norm_after(&decoder.config, block)?.map(|(_, site)| at(site)));
        points.extend(block.mlp.as_ref().map(|_| at(Site::MlpOut)));
    }
    Ok(points)
}

/// What every source of a run adds, [source, batch, pos, d_model], on the device of the logits, from its activations.
///
/// # Errors
/// An activation that was not captured; too little memory.
pub fn collect(decoder: &Decoder, cache: &ActivationCache) -> Result<Tensor> {
    let config = &decoder.config;
    let at = |site, layer| cache.named(&HookPoint { site, layer }.name(), config);
    let mut parts = Vec::new();
    parts.push(at(Site::Embed, 0)?.f_unsqueeze(0)?);
    for block in &decoder.blocks {
        let layer = block.layer;
        let mut results = at(Site::HeadResult, layer)?.shallow_clone();
        if let Some((norm, site)) = norm_after(config, block)? {
            results = normed(&norm, &results, at(site, layer)?)?;
        }
        parts.push(results.f_permute([2, 0, 1, 3])?);
        if block.mlp.is_some() {
            parts.push(at(Site::MlpOut, layer)?.f_unsqueeze(0)?);
        }
    }
    Ok(Tensor::f_cat(&gathered(&parts, decoder.output_device())?, 0)?)
}

/// What every source adds in a run of `tokens`, [source, batch, pos, d_model].
///
/// # Errors
/// As for a run of the decoder; a model whose heads do not add up.
pub fn of_run(decoder: &Decoder, tokens: &Tensor) -> Result<Tensor> {
    let mut hooks = Hooks::none();
    hooks.add(&decoder.config, points(decoder)?, "what is written", Action::Capture);
    let _ = decoder.run_layers(Start::Tokens(tokens), decoder.blocks.len(), &mut hooks, None)?;
    collect(decoder, &hooks.finish()?)
}
