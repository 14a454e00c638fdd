//! The decoder: embedding, blocks, final norm, unembedding.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tch::{Device, Kind, Tensor};

use super::attention::{Pass, Tables, hidden_keys};
use super::backward::Backward;
use super::block::{Block, Mlp};
use super::config::{Config, PositionEmbedding, Rope};
use super::hook::{HookPoint, Site};
use super::key_value::KeyValueCache;
use super::layer::{Linear, Norm, scaled};
use super::padding::{Batch, Padding, Side};
use super::placement::Placement;
use super::run::Hooks;
use super::window::Window;
use crate::device;
use crate::error::{Error, Result};
use crate::output::error_line;
use crate::tensor::raw::constant;

/// The positions to compute logits at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// At every position
    All,
    /// At the last only; the position dimension is then 1
    Last,
}

/// The hint for logits or activations that are not finite, in a model of this element type.
pub fn not_finite_hint(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "f16 numbers reach 65504, which this model exceeds; f32 and bf16 reach further",
        _ => "the weights or the patched activations hold infinity or NaN, or lead to it",
    }
}

/// A loaded decoder.
#[derive(Debug)]
#[allow(missing_docs)] // The names are the literature's own.
pub struct Decoder {
    pub config: Config,
    /// Element type of weights and activations
    pub kind: Kind,
    /// [d_vocab, d_model]
    pub embedding: Tensor,
    /// [n_ctx, d_model], learned positions only
    pub position_embedding: Option<Tensor>,
    pub blocks: Vec<Block>,
    pub final_norm: Norm,
    /// weight [d_vocab_out, d_model]; the embedding itself where tied
    pub unembedding: Linear,
    /// The distinct rotary embeddings of the layers
    pub ropes: Vec<Rope>,
    /// Whether a text was longer than those that the model was trained with
    pub outran: Cell<bool>,
}

impl Decoder {
    /// The device where runs begin: that of the embedding.
    pub fn input_device(&self) -> Device {
        self.embedding.device()
    }

    /// The device of the logits: that of the unembedding.
    pub fn output_device(&self) -> Device {
        self.unembedding.weight.device()
    }

    /// The device of the residual stream before a layer; after the last, that of the final norm.
    pub fn device_before(&self, layer: usize) -> Device {
        self.blocks.get(layer).map_or_else(|| self.output_device(), Block::device)
    }

    /// Where the embedding, the layers and the unembedding are.
    pub fn placement(&self) -> Placement {
        Placement {
            input: self.input_device(),
            layers: self.blocks.iter().map(Block::device).collect(),
            output: self.output_device(),
        }
    }

    /// The free memory, in bytes, of the device that has least; `None` if the system does not report it.
    pub fn free_memory(&self) -> Option<u64> {
        self.placement().devices().into_iter().map(device::free_memory).min().flatten()
    }

    /// Rotations and masks for the positions of `window`, on every device with layers.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn pass(&self, window: Window, padding: Option<&Padding>) -> Result<Pass> {
        let mut tables: Vec<(Device, Tables)> = Vec::new();
        for device in self.blocks.iter().map(Block::device) {
            if tables.iter().all(|(known, _)| *known != device) {
                tables.push((device, self.tables(window, padding, device)?));
            }
        }
        Ok(Pass { window, tables })
    }

    fn tables(&self, window: Window, padding: Option<&Padding>, device: Device) -> Result<Tables> {
        let total = window.prompt.max(window.start + window.length);
        let rotation = |rope: &Rope| match padding {
            Some(padding) => padding.rotation(rope, window, self.kind, device),
            None => rope.rotation(window.start, window.length, total, self.kind, device),
        };
        let rotations = self.ropes.iter().map(rotation).collect::<Result<Vec<_>>>()?;
        let mut masks = BTreeMap::new();
        for layer in &self.config.layers {
            if let Entry::Vacant(entry) = masks.entry(layer.window) {
                entry.insert(match padding {
                    Some(padding) => padding.hidden(&self.config, window, layer.window, device)?,
                    None => hidden_keys(&self.config, window, layer.window, device)?,
                });
            }
        }
        Ok(Tables { rotations, masks })
    }

    /// The residual stream before the first block, [batch, pos, d_model].
    ///
    /// # Errors
    /// A text longer than learned positions allow; an error raised by a hook.
    pub fn embed(&self, tokens: &Tensor, start: i64, hooks: &mut Hooks) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer: 0 };
        let tokens = tokens.f_to(self.input_device())?;
        let mut x = Tensor::f_embedding(&self.embedding, &tokens, -1, false, false)?;
        if let Some(factor) = self.config.embedding_scale {
            // The factor is rounded to the model's own precision first, as the reference does.
            x = x.f_mul(&constant(factor)?.f_to_kind(self.kind)?)?;
        }
        let x = hooks.pass(at(Site::Embed), x)?;
        let Some(positions) = &self.position_embedding else { return Ok(x) };
        let length = x.size()[1];
        let positions = match hooks.padding() {
            Some(padding) => {
                let numbers = padding.positions((start, length), self.input_device())?;
                Tensor::f_embedding(positions, &numbers, -1, false, false)?
            }
            None => positions.f_narrow(0, start, length)?.f_unsqueeze(0)?.f_expand(x.size(), false)?,
        };
        Ok(x.f_add(&hooks.pass(at(Site::PosEmbed), positions)?)?)
    }

    /// Logits of the residual stream after the last block.
    ///
    /// # Errors
    /// An error raised by a hook; a width that is not d_model.
    pub fn unembed(&self, x: Tensor, logits: Logits, hooks: &mut Hooks) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer: 0 };
        let sites = (Site::LnFinalScale, Site::LnFinalNormalized);
        let x = x.f_to(self.output_device())?;
        let normed = self.final_norm.forward(&x, sites, 0, hooks)?;
        let normed = hooks.pass(at(Site::LnFinalOut), normed)?;
        let padding = hooks.padding();
        let last = |x: Tensor, is_needed| -> Result<Tensor> {
            match (logits, is_needed, &padding) {
                (Logits::Last, true, Some(padding)) => padding.last(&x),
                (Logits::Last, true, None) => Ok(x.f_narrow(1, -1, 1)?),
                _ => Ok(x),
            }
        };
        // A hook at the logits sees those of all positions.
        let is_hooked = hooks.wants(at(Site::Unembed));
        let unembedded = self.unembedding.forward(&last(normed, !is_hooked)?)?;
        self.finished(last(hooks.pass(at(Site::Unembed), unembedded)?, is_hooked)?, hooks.backward())
    }

    /// Logits of some tokens, from what the final norm gives. `part` is the unembedding's map to them.
    ///
    /// # Errors
    /// A width that is not d_model.
    pub fn unembed_part(&self, part: &Linear, normed: &Tensor) -> Result<Tensor> {
        self.finished(part.forward(normed)?, Backward::Exact)
    }

    /// The logits that the unembedding's outputs stand for.
    fn finished(&self, unembedded: Tensor, backward: Backward) -> Result<Tensor> {
        backward.soft_cap(scaled(unembedded, self.config.logit_scale)?, self.config.logit_soft_cap)
    }

    /// The token ids as a tensor, one row per sample.
    ///
    /// # Errors
    /// No rows, an empty prompt, rows of different lengths, an id out of range (each names the row).
    pub fn tokens(&self, rows: &[Vec<i64>]) -> Result<Tensor> {
        self.batch(rows, None).map(|batch| batch.tokens)
    }

    /// The token ids of prompts, which are filled up on `side` where their lengths differ.
    ///
    /// # Errors
    /// No rows, an empty prompt, an id out of range (each names the row); different lengths without a side.
    pub fn batch(&self, rows: &[Vec<i64>], side: Option<Side>) -> Result<Batch> {
        for (index, row) in rows.iter().enumerate() {
            self.check_ids(row, &format!("prompt {index}"))?;
        }
        Batch::new(rows, side)
    }

    /// Fails if `ids` is empty or holds an id that the model does not have; `what` names them.
    ///
    /// # Errors
    /// An empty list, or an id that the model does not have; it is named.
    pub fn check_ids(&self, ids: &[i64], what: &str) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::new(format!("{what} is empty")).hint("a prompt needs at least one token"));
        }
        check_below(ids, self.config.d_vocab, what)
    }

    /// Fails if `ids` holds one that no logit belongs to; `what` names them.
    ///
    /// # Errors
    /// An id without a logit; it is named.
    pub fn check_outputs(&self, ids: &[i64], what: &str) -> Result<()> {
        check_below(ids, self.config.d_vocab_out, what)
    }

    /// Fails if `tokens` is not int64 [batch, pos], is empty or holds an id that the model does not have.
    pub(super) fn check_tokens(&self, tokens: &Tensor) -> Result<()> {
        let size = tokens.size();
        if size.len() != 2 || tokens.kind() != Kind::Int64 {
            return Err(Error::new(format!("tokens must be int64 [batch, pos], not {:?} {size:?}", tokens.kind())));
        }
        if size.contains(&0) {
            return Err(Error::new("the prompt is empty").hint("a prompt needs at least one token"));
        }
        let (low, high) = (tokens.f_min()?.f_int64_value(&[])?, tokens.f_max()?.f_int64_value(&[])?);
        if low < 0 || high >= self.config.d_vocab {
            let id = if low < 0 { low } else { high };
            return Err(Error::new(format!("token id {id} is out of range"))
                .hint(format!("this model's ids are 0 to {}", self.config.d_vocab - 1)));
        }
        Ok(())
    }

    /// Whether learned positions reach far enough for `tokens` after those that `cache` has seen.
    pub fn has_room(&self, cache: &KeyValueCache, tokens: &Tensor) -> bool {
        let length = tokens.size()[1];
        self.check_length(cache.seen() + length).is_ok()
    }

    pub(super) fn check_length(&self, length: i64) -> Result<()> {
        if self.config.position_embedding == PositionEmbedding::Learned && length > self.config.n_ctx {
            return Err(Error::new(format!("a text of {length} tokens is too long"))
                .hint(format!("this model has {} learned positions", self.config.n_ctx)));
        }
        Ok(())
    }

    /// Warns, once for a model, of a text that is longer than those that it was trained with: rotary positions go on, but
    /// what they give is untested.
    pub(super) fn warn_of_length(&self, length: i64) {
        let trained = self.config.n_ctx;
        if length > trained && !self.outran.replace(true) {
            error_line(&format!(
                "warning: a text has {length} tokens, and the model was trained with {trained} at most \
                 (`max_position_embeddings`); this is said once"
            ));
        }
    }

    /// Another handle of the same weights.
    pub fn shallow_clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            kind: self.kind,
            embedding: self.embedding.shallow_clone(),
            position_embedding: self.position_embedding.as_ref().map(Tensor::shallow_clone),
            blocks: self.blocks.iter().map(Block::shallow_clone).collect(),
            final_norm: self.final_norm.shallow_clone(),
            unembedding: self.unembedding.shallow_clone(),
            ropes: self.ropes.clone(),
            outran: self.outran.clone(),
        }
    }

    /// Every weight once.
    pub fn weights(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.embedding];
        all.extend(&self.position_embedding);
        for block in &self.blocks {
            let attention = &block.attention;
            let linears = [&attention.query, &attention.key, &attention.value, &attention.output]
                .into_iter()
                .chain(block.mlp.iter().flat_map(Mlp::linears));
            for linear in linears {
                all.push(&linear.weight);
                all.extend(&linear.bias);
            }
            all.extend(&attention.sinks);
            let norms = [&block.ln1]
                .into_iter()
                .chain(block.ln2.iter().filter(|_| !self.config.shared_norm))
                .chain(&block.ln1_post)
                .chain(&block.ln2_post)
                .chain(block.mlp.iter().filter_map(|mlp| mlp.norm.as_ref()))
                .chain(&attention.query_norm)
                .chain(&attention.key_norm);
            for norm in norms {
                all.extend(&norm.weight);
                all.extend(&norm.bias);
            }
        }
        all.extend(&self.final_norm.weight);
        all.extend(&self.final_norm.bias);
        if !self.config.tied {
            all.push(&self.unembedding.weight);
        }
        all.extend(&self.unembedding.bias);
        all
    }
}

fn check_below(ids: &[i64], count: i64, what: &str) -> Result<()> {
    match ids.iter().enumerate().find(|(_, id)| !(0..count).contains(*id)) {
        None => Ok(()),
        Some((position, id)) => {
            Err(Error::new(format!("token id {id} at position {position} of {what} is out of range"))
                .hint(format!("this model's ids are 0 to {}", count - 1)))
        }
    }
}
