//! The residual stream taken apart: what the embedding, layers, heads and neurons of a cached run add to it, and how much of
//! a logit each of them is.

use tch::{Kind, Tensor};

use super::block::Block;
use super::cache::ActivationCache;
use super::config::{Config, NormPlacement};
use super::decoder::Decoder;
use super::head;
use super::hook::{HookPoint, Site};
use super::intervention::{At, resolve};
use super::layer::{Norm, scaled};
use crate::error::{Error, Result};
use crate::tensor::raw::gathered;

/// Which layers' outputs a decomposition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sublayers {
    /// Attention and MLP
    All,
    /// Attention only
    Attention,
    /// MLP only
    Mlp,
}

/// Parts of the residual stream with their names.
#[derive(Debug, Default)]
pub struct Parts {
    /// TransformerLens's names: `embed`, `3_attn_out`, `L3H7`, `L3N100`, `remainder`, ...
    pub labels: Vec<String>,
    /// One per label, [.., d_model]
    pub values: Vec<Tensor>,
}

impl Parts {
    fn push(&mut self, label: impl Into<String>, value: Tensor) {
        self.labels.push(label.into());
        self.values.push(value);
    }

    /// The parts as one tensor, [part, .., d_model].
    ///
    /// # Errors
    /// There are none.
    pub fn stack(&self) -> Result<Tensor> {
        if self.values.is_empty() {
            return Err(Error::new("there are no parts before layer 0").hint("take a later layer"));
        }
        Ok(Tensor::f_stack(&self.values, 0)?)
    }
}

/// A decoder's cached run, read at some positions.
#[derive(Debug)]
pub struct Residual<'a> {
    /// The decoder that ran
    pub decoder: &'a Decoder,
    /// Its activations, with or without the dimension of samples
    pub cache: &'a ActivationCache,
    /// The positions; negative ones count from the end of the cached ones
    pub positions: At,
}

impl Residual<'_> {
    fn config(&self) -> &Config {
        &self.decoder.config
    }

    /// A layer before which the stream is read; -1 means after the last.
    ///
    /// # Errors
    /// There is no such layer.
    pub fn boundary(&self, layer: i64) -> Result<i64> {
        let last = self.config().n_layers;
        let found = if layer < 0 { layer + last + 1 } else { layer };
        if (0..=last).contains(&found) {
            return Ok(found);
        }
        Err(Error::new(format!("the residual stream is not read at layer {layer}"))
            .hint(format!("before layer 0 to {}, or at {last} or -1 after the last", last - 1)))
    }

    fn is_cached(&self, site: Site, layer: i64) -> bool {
        self.cache.get(HookPoint { site, layer }).is_some()
    }

    /// A cached activation at the positions; `back` is the place of their dimension from the end.
    fn at(&self, site: Site, layer: i64, back: i64) -> Result<Tensor> {
        let point = HookPoint { site, layer };
        let value = self.cache.get(point).ok_or_else(|| {
            Error::new(format!("`{}` was not cached", point.name()))
                .hint("`run_with_cache(tokens)` without names caches everything that this needs")
        })?;
        let length = value.size()[(value.dim() as i64 - back) as usize];
        match &self.positions {
            At::All => Ok(value.shallow_clone()),
            At::One(place) => Ok(value.f_select(-back, resolve("position", *place, length)?)?),
            At::Several(places) => {
                let places =
                    places.iter().map(|place| resolve("position", *place, length)).collect::<Result<Vec<_>>>()?;
                Ok(value.f_index_select(-back, &Tensor::f_from_slice(&places)?.f_to(value.device())?)?)
            }
        }
    }

    /// The residual stream before a layer, or after the last.
    fn stream(&self, layer: i64) -> Result<Tensor> {
        if layer == self.config().n_layers || (layer > 0 && !self.is_cached(Site::ResidPre, layer)) {
            return self.at(Site::ResidPost, layer - 1, 2);
        }
        self.at(Site::ResidPre, layer, 2)
    }

    /// The parts on the device of the logits.
    fn gathered(&self, parts: Parts) -> Result<Parts> {
        Ok(Parts { values: gathered(&parts.values, self.decoder.output_device())?, ..parts })
    }

    /// The residual stream before every layer up to `layer`, with the one between attention and MLP where `middle` says
    /// so; `mlp_input`: up to the MLP of that layer.
    ///
    /// # Errors
    /// An activation that was not cached.
    pub fn accumulated(&self, layer: i64, middle: bool, mlp_input: bool) -> Result<Parts> {
        let mut parts = Parts::default();
        self.check_mlp_input(layer, mlp_input)?;
        for current in 0..=layer {
            let label = if current == self.config().n_layers { "final_post".into() } else { format!("{current}_pre") };
            parts.push(label, self.stream(current)?);
            // Without MLPs there is nothing in the middle.
            let is_wanted = (middle && current < layer) || (mlp_input && current == layer);
            if is_wanted && !self.config().attention_only {
                parts.push(format!("{current}_mid"), self.at(Site::ResidMid, current, 2)?);
            }
        }
        self.gathered(parts)
    }

    /// What the embedding, if `embeddings`, and the sublayers before `layer` add to the residual stream.
    ///
    /// # Errors
    /// An activation that was not cached.
    pub fn decomposed(&self, layer: i64, which: Sublayers, embeddings: bool, mlp_input: bool) -> Result<Parts> {
        let mut parts = Parts::default();
        self.check_mlp_input(layer, mlp_input)?;
        if embeddings {
            parts.push("embed", self.at(Site::Embed, 0, 2)?);
            if self.decoder.position_embedding.is_some() {
                parts.push("pos_embed", self.at(Site::PosEmbed, 0, 2)?);
            }
        }
        for current in 0..layer {
            if which != Sublayers::Mlp {
                parts.push(format!("{current}_attn_out"), self.at(Site::AttentionOut, current, 2)?);
            }
            if which != Sublayers::Attention && !self.config().attention_only {
                parts.push(format!("{current}_mlp_out"), self.at(Site::MlpOut, current, 2)?);
            }
        }
        if mlp_input && which != Sublayers::Mlp {
            parts.push(format!("{layer}_attn_out"), self.at(Site::AttentionOut, layer, 2)?);
        }
        self.gathered(parts)
    }

    fn check_mlp_input(&self, layer: i64, mlp_input: bool) -> Result<()> {
        if mlp_input && layer == self.config().n_layers {
            return Err(Error::new("there is no MLP after the last layer").hint("`mlp_input` goes with `layer`"));
        }
        Ok(())
    }

    /// What every head before `layer` adds to the residual stream, after a norm that follows attention; then the rest of
    /// the stream, if `remainder`.
    ///
    /// # Errors
    /// An activation that was not cached.
    pub fn heads(&self, layer: i64, remainder: bool) -> Result<Parts> {
        let mut parts = Parts::default();
        for current in 0..layer {
            let block = &self.decoder.blocks[current as usize];
            let results = head::results(&block.attention.output, &self.at(Site::Z, current, 3)?)?;
            let results = self.added(results, attention_norm(self.config(), block), current)?;
            for (head, result) in (0..).zip(results.f_unbind(-2)?) {
                parts.push(format!("L{current}H{head}"), result);
            }
        }
        self.with_remainder(parts, layer, remainder)
    }

    /// What neurons of every layer before `layer` add to the residual stream, after a norm that follows the MLP; then the
    /// rest of the stream, if `remainder`.
    ///
    /// # Errors
    /// An activation that was not cached; a neuron that does not exist.
    pub fn neurons(&self, layer: i64, neurons: &[i64], remainder: bool) -> Result<Parts> {
        let mut parts = Parts::default();
        for current in 0..layer {
            let results = self.neurons_of(current, neurons)?;
            for (neuron, result) in neurons.iter().zip(results.f_unbind(-2)?) {
                parts.push(format!("L{current}N{neuron}"), result);
            }
        }
        self.with_remainder(parts, layer, remainder)
    }

    /// What neurons of one layer add to the residual stream, [.., neuron, d_model].
    ///
    /// # Errors
    /// As [`Residual::neurons`].
    pub fn neurons_of(&self, layer: i64, neurons: &[i64]) -> Result<Tensor> {
        let block = &self.decoder.blocks[layer as usize];
        if self.config().experts.is_some() {
            return Err(Error::new("the neurons of experts cannot be taken apart")
                .hint("`decompose_resid` gives what each layer's experts add together"));
        }
        let count = self.config().d_mlp;
        let neurons = neurons.iter().map(|neuron| resolve("neuron", *neuron, count)).collect::<Result<Vec<_>>>()?;
        let index = Tensor::f_from_slice(&neurons)?.f_to(block.device())?;
        let active = self.at(Site::MlpPost, layer, 2)?;
        let active = active.f_index_select(-1, &index.f_to(active.device())?)?.f_unsqueeze(-1)?;
        let Some(mlp) = &block.mlp else { return Err(without_mlps()) };
        if mlp.router.is_some() {
            return Err(Error::new("this model's neurons are those of experts, which `neurons` does not take apart")
                .hint("`mlp.hook_post` and `mlp.hook_expert_weights` hold what each expert adds"));
        }
        let rows = mlp.down.weight.f_index_select(1, &index)?.f_transpose(0, 1)?;
        self.added(active.f_mul(&rows)?, mlp_norm(self.config(), block), layer)
    }

    /// Parts of a sublayer's output, [.., part, d_model], as they are added to the residual stream: after a norm with its
    /// scale held fixed, and a factor.
    fn added(&self, parts: Tensor, norm: Option<(&Norm, Site)>, layer: i64) -> Result<Tensor> {
        let parts = match norm {
            None => parts,
            Some((norm, site)) => {
                let scale = self.at(site, layer, 2)?.f_unsqueeze(-2)?;
                weighted(norm, &divided(norm, &parts, &scale)?)?.f_to_kind(parts.kind())?
            }
        };
        scaled(parts, self.config().residual_scale)
    }

    fn with_remainder(&self, parts: Parts, layer: i64, remainder: bool) -> Result<Parts> {
        let mut parts = self.gathered(parts)?;
        if remainder {
            let mut rest = self.stream(layer)?.f_to(self.decoder.output_device())?;
            for value in &parts.values {
                rest = rest.f_sub(value)?;
            }
            parts.push("remainder", rest);
        }
        Ok(parts)
    }

    /// Parts of the stream before `layer`, [part, .., d_model], divided by the scale of the norm that reads it there (or of
    /// the MLP's), after LayerNorm's centring; without the norm's weight.
    ///
    /// # Errors
    /// A norm's scale that was not cached; a model whose layers begin without a norm.
    pub fn normed(&self, stack: &Tensor, layer: i64, mlp_input: bool) -> Result<Tensor> {
        self.check_mlp_input(layer, mlp_input)?;
        let (norm, site) = match self.decoder.blocks.get(layer as usize) {
            None => (&self.decoder.final_norm, Site::LnFinalScale),
            Some(_) if self.config().norm_placement == NormPlacement::Post => {
                return Err(Error::new("this model's layers read the residual stream without a norm")
                    .hint("only the unembedding's norm reads it: leave `layer` out"));
            }
            Some(block) => match &block.ln2 {
                Some(norm) if mlp_input && !self.config().shared_norm => (norm, Site::Ln2Scale),
                _ => (&block.ln1, Site::Ln1Scale),
            },
        };
        if !self.config().has_norm() {
            return Ok(stack.shallow_clone());
        }
        let place = if site.in_block() { layer } else { 0 };
        fits(divided(norm, stack, &self.at(site, place, 2)?.f_to(stack.device())?), stack)
    }

    /// How much of a logit each part is, [part, ..]: its product with the unembedding's `directions`, [.., d_model], after
    /// the final norm with its scale held fixed. Neither a bias nor a soft cap of the logits takes part.
    ///
    /// # Errors
    /// The final norm's scale was not cached; shapes that do not fit.
    pub fn logit_attributions(&self, stack: &Tensor, directions: &Tensor) -> Result<Tensor> {
        let stack = &stack.f_to(self.decoder.output_device())?;
        let normed = self.normed(stack, self.config().n_layers, false)?;
        let read = weighted(&self.decoder.final_norm, &normed)?;
        let directions = directions.f_to_device_(read.device(), read.kind(), false, false)?;
        let products = fits(read.f_mul(&directions).map_err(Error::from), &read)?;
        scaled(products.f_sum_dim_intlist(-1, false, None::<Kind>)?, self.config().logit_scale)
    }
}

/// (x - mean) / scale, without the mean for RMS norms.
fn divided(norm: &Norm, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let x = x.f_to_kind(scale.kind())?;
    let x = if norm.kind.is_centred() { x.f_sub(&x.f_mean_dim(-1, true, None::<Kind>)?)? } else { x };
    Ok(x.f_div(scale)?)
}

fn weighted(norm: &Norm, x: &Tensor) -> Result<Tensor> {
    Ok(match norm.factor()? {
        Some(factor) => x.f_mul(&factor)?,
        None => x.shallow_clone(),
    })
}

/// A result that has the shape of `given`, or the error that other positions were meant.
fn fits(result: Result<Tensor>, given: &Tensor) -> Result<Tensor> {
    match result {
        Ok(result) if result.size() == given.size() => Ok(result),
        _ => Err(Error::new(format!("parts of shape {:?} do not fit the run", given.size()))
            .hint("give the option `pos` with which the parts were made; tokens are one, or one per sample")),
    }
}

/// The norm that attention's output passes before it is added to the stream, and the site of its scale.
fn attention_norm<'a>(config: &Config, block: &'a Block) -> Option<(&'a Norm, Site)> {
    match config.norm_placement {
        NormPlacement::Post => Some((&block.ln1, Site::Ln1Scale)),
        _ => block.ln1_post.as_ref().map(|norm| (norm, Site::Ln1PostScale)),
    }
}

fn without_mlps() -> Error {
    Error::new("this model has no MLPs").hint("its layers are attention only")
}

/// The same for the MLP's output.
fn mlp_norm<'a>(config: &Config, block: &'a Block) -> Option<(&'a Norm, Site)> {
    match config.norm_placement {
        NormPlacement::Post => block.ln2.as_ref().map(|norm| (norm, Site::Ln2Scale)),
        _ => block.ln2_post.as_ref().map(|norm| (norm, Site::Ln2PostScale)),
    }
}
