//! The frozen map applied to whole prompts: what each token contributes, what biases contribute, and whether it adds up.

use std::ops::Range;

use tch::Tensor;

use super::frozen::{Frozen, zeros};
use super::norm::At;
use super::row::Layer;
use crate::error::Result;
use crate::interrupt;
use crate::model::decoder::Decoder;
use crate::model::hook::{HookPoint, Site};
use crate::model::run::Hooks;
use crate::model::window::Window;

/// The most positions computed at once.
pub const POSITIONS: i64 = 8192;

/// The places of a run that the frozen map has too, where an intervention can be predicted.
pub const SITES: &[Site] =
    &[Site::ResidPre, Site::Z, Site::AttentionOut, Site::ResidMid, Site::MlpOut, Site::ResidPost];

/// How far the parts of a logit vector are from adding up.
#[derive(Debug, Clone, Copy)]
pub struct Completeness {
    /// Largest difference, divided by the largest logit
    pub relative: f64,
    /// Largest difference
    pub absolute: f64,
}

impl Frozen {
    /// Residual streams [batch, pos, d_model] after `layers`, from those before; biases are added where `with_bias`. Hooks
    /// at [`SITES`] are run.
    pub fn forward(
        &self,
        decoder: &Decoder,
        x: Tensor,
        layers: Range<usize>,
        with_bias: bool,
        hooks: &mut Hooks,
    ) -> Result<Tensor> {
        hooks.begin(Window { start: 0, length: self.length(), prompt: self.length() });
        let mut x = x;
        for index in layers {
            interrupt::check()?;
            x = self.at(decoder, index)?.forward(index as i64, x, with_bias, hooks)?;
        }
        Ok(x)
    }

    /// Logits at position `to` of residuals after the last layer, [row, d_model] to [row, d_vocab].
    pub fn unembed(&self, decoder: &Decoder, x: &Tensor, to: i64, with_bias: bool) -> Result<Tensor> {
        let position = Tensor::f_from_slice(&[to])?.f_to(decoder.device)?;
        let normalized = self.final_norm.forward(x, At::Rows(&position), with_bias)?;
        let bias = decoder.unembedding.bias.as_ref().filter(|_| with_bias);
        let logits = normalized.f_linear(&decoder.unembedding.weight, bias)?;
        match self.cap(decoder, to)? {
            Some(secants) => Ok(logits.f_mul(&secants)?),
            None => Ok(logits),
        }
    }

    /// What each source token contributes to the logits at position `to`, [source, d_vocab]; tokens after `to` nothing.
    pub fn totals(&self, decoder: &Decoder, to: i64) -> Result<Tensor> {
        let (length, size) = (self.length(), decoder.config.d_model);
        let step = (POSITIONS / length).max(1);
        let mut parts = Vec::new();
        let mut start = 0;
        while start < length {
            let count = step.min(length - start);
            let x = zeros(decoder, &[count, length, size])?;
            for row in 0..count {
                let source = self.embeddings()?.f_select(0, start + row)?;
                x.f_select(0, row)?.f_select(0, start + row)?.f_copy_(&source)?;
            }
            let out = self.forward(decoder, x, 0..self.depth(), false, &mut Hooks::none())?;
            parts.push(self.unembed(decoder, &out.f_select(1, to)?, to, false)?);
            start += count;
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// What all biases together contribute to the logits at position `to`, [d_vocab].
    pub fn bias(&self, decoder: &Decoder, to: i64) -> Result<Tensor> {
        let x = zeros(decoder, &[1, self.length(), decoder.config.d_model])?;
        let out = self.forward(decoder, x, 0..self.depth(), true, &mut Hooks::none())?;
        Ok(self.unembed(decoder, &out.f_select(1, to)?, to, true)?.f_view([-1])?)
    }

    /// What the run's interventions put into the residual stream at each node, [1, pos, d_model]: what is there less what
    /// the frozen layer makes of the node before. By the number of the node's layer, in order.
    pub fn put_in(&self, decoder: &Decoder) -> Result<Vec<(usize, Tensor)>> {
        let change = |node: &usize| {
            let before = node.saturating_sub(1);
            let x = self.residual(before)?.f_unsqueeze(0)?;
            let expected = self.forward(decoder, x, before..*node, true, &mut Hooks::none())?;
            Ok((*node, self.residual(*node)?.f_unsqueeze(0)?.f_sub(&expected)?))
        };
        self.intervened.iter().map(change).collect()
    }

    /// What all interventions together contribute to the logits at position `to`, [d_vocab]; zeros in a run without them.
    pub fn intervention(&self, decoder: &Decoder, to: i64) -> Result<Tensor> {
        let mut x = zeros(decoder, &[1, self.length(), decoder.config.d_model])?;
        let mut layer = 0;
        for (node, change) in self.put_in(decoder)? {
            x = self.forward(decoder, x, layer..node, false, &mut Hooks::none())?.f_add(&change)?;
            layer = node;
        }
        let out = self.forward(decoder, x, layer..self.depth(), false, &mut Hooks::none())?;
        Ok(self.unembed(decoder, &out.f_select(1, to)?, to, false)?.f_view([-1])?)
    }

    /// Compares the sum of all contributions, of tokens, biases and interventions, with the logits of the run at position
    /// `to`.
    pub fn check(&self, decoder: &Decoder, to: i64) -> Result<Completeness> {
        let mut sum = self.totals(decoder, to)?.f_sum_dim_intlist(0, false, None)?.f_add(&self.bias(decoder, to)?)?;
        if !self.intervened.is_empty() {
            sum = sum.f_add(&self.intervention(decoder, to)?)?;
        }
        let logits = self.logits(decoder, to)?;
        let absolute = sum.f_sub(&logits)?.f_abs()?.f_max()?.f_double_value(&[])?;
        let largest = logits.f_abs()?.f_max()?.f_double_value(&[])?;
        Ok(Completeness { absolute, relative: if largest > 0.0 { absolute / largest } else { absolute } })
    }

    /// A vector at node (layer, position) `from` carried to node `to` along every edge, both [d_model].
    pub fn carry(&self, decoder: &Decoder, vector: &Tensor, from: (usize, i64), to: (usize, i64)) -> Result<Tensor> {
        let x = zeros(decoder, &[1, self.length(), decoder.config.d_model])?;
        x.f_select(1, from.1)?.f_copy_(vector)?;
        let out = self.forward(decoder, x, from.0..to.0, false, &mut Hooks::none())?;
        Ok(out.f_select(1, to.1)?.f_view([-1])?)
    }
}

impl Layer<'_> {
    /// What attention adds, [batch, pos, d_model].
    pub fn attention(&self, x: &Tensor, with_bias: bool) -> Result<Tensor> {
        self.attention_out(&self.mix(&self.values(x, At::Prompt, with_bias)?)?, At::Prompt, with_bias)
    }

    /// Values [batch, pos, head, d_head], mixed by the frozen probabilities.
    fn mix(&self, values: &Tensor) -> Result<Tensor> {
        Ok(self.frozen().pattern.f_matmul(&values.f_transpose(1, 2)?)?.f_transpose(1, 2)?)
    }

    fn forward(&self, layer: i64, x: Tensor, with_bias: bool, hooks: &mut Hooks) -> Result<Tensor> {
        let at = |site| HookPoint { site, layer };
        let before = hooks.pass(at(Site::ResidPre), x)?;
        let mixed = hooks.pass(at(Site::Z), self.mix(&self.values(&before, At::Prompt, with_bias)?)?)?;
        let added = hooks.pass(at(Site::AttentionOut), self.attention_out(&mixed, At::Prompt, with_bias)?)?;
        let middle = hooks.pass(at(Site::ResidMid), before.f_add(&added)?)?;
        let source = if self.is_parallel() { &before } else { &middle };
        let added = hooks.pass(at(Site::MlpOut), self.mlp_out(source, At::Prompt, with_bias)?)?;
        hooks.pass(at(Site::ResidPost), middle.f_add(&added)?)
    }
}
