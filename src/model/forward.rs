//! Runs a decoder: all layers or some, from tokens or from the residual stream, after positions seen before or none.

use tch::Tensor;

use super::decoder::{Decoder, Logits};
use super::key_value::KeyValueCache;
use super::padding::Batch;
use super::run::Hooks;
use super::window::Window;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::tensor::{is_float, kind_name};

/// What a run begins with.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Token ids, int64 [batch, pos]
    Tokens(&'a Tensor),
    /// Prompts, perhaps of different lengths
    Batch(&'a Batch),
    /// The residual stream before a layer, [batch, pos, d_model]
    Residual(&'a Tensor, usize),
}

impl Decoder {
    /// Logits of `tokens`, int64 [batch, pos], as [batch, pos, d_vocab] (or [batch, 1, d_vocab]).
    ///
    /// # Errors
    /// An empty prompt, ids out of range, a text longer than learned positions allow; an error raised by a hook.
    pub fn forward(&self, tokens: &Tensor, logits: Logits, hooks: &mut Hooks) -> Result<Tensor> {
        let x = self.run_layers(Start::Tokens(tokens), self.blocks.len(), hooks, None)?;
        self.unembed(x, logits, hooks)
    }

    /// The same of prompts that may have different lengths. At filling the logits are NaN.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn forward_batch(&self, batch: &Batch, logits: Logits, hooks: &mut Hooks) -> Result<Tensor> {
        let x = self.run_layers(Start::Batch(batch), self.blocks.len(), hooks, None)?;
        let result = self.unembed(x, logits, hooks)?;
        match (&batch.padding, logits) {
            (Some(padding), Logits::All) => padding.marked(&result, 1),
            _ => Ok(result),
        }
    }

    /// Logits of the tokens that follow those in `cache`; adds the tokens to the cache.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn forward_cached(
        &self,
        tokens: &Tensor,
        logits: Logits,
        hooks: &mut Hooks,
        cache: &mut KeyValueCache,
    ) -> Result<Tensor> {
        let x = self.run_layers(Start::Tokens(tokens), self.blocks.len(), hooks, Some(cache))?;
        self.unembed(x, logits, hooks)
    }

    /// The residual stream before layer `end`, [batch, pos, d_model], or after the last one; later layers do not run. The
    /// positions follow those in `cache`, and are added to it.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; a residual stream of another width; an end before the start; a cache for a model whose
    /// attention looks ahead.
    pub fn run_layers(
        &self,
        start: Start,
        end: usize,
        hooks: &mut Hooks,
        mut cache: Option<&mut KeyValueCache>,
    ) -> Result<Tensor> {
        let (input, first) = match start {
            Start::Tokens(tokens) | Start::Batch(Batch { tokens, .. }) => {
                self.check_tokens(tokens)?;
                (tokens, 0)
            }
            Start::Residual(x, layer) => {
                self.check_residual(x)?;
                (x, layer)
            }
        };
        if first > end || end > self.blocks.len() {
            return Err(Error::new(format!("a run cannot start before layer {first} and stop before layer {end}"))
                .hint(format!("layers are 0 to {}", self.blocks.len() - 1)));
        }
        if cache.is_some() {
            self.config.check_causal("going on from a text")?;
        }
        let length = input.size()[1];
        let seen = cache.as_ref().map_or(0, |cache| cache.seen);
        let prompt = cache.as_ref().map_or(0, |cache| cache.prompt);
        let prompt = if prompt == 0 { seen + length } else { prompt };
        let window = Window { start: seen, length, prompt };
        let padding = match (&start, &cache) {
            (Start::Batch(Batch { padding: Some(padding), .. }), _) => Some(padding.clone()),
            (_, Some(cache)) => cache.padding.clone(),
            _ => None,
        };
        self.check_length(seen + length)?;
        self.warn_of_length(seen + length);
        hooks.begin(window, padding.clone());
        let padding = padding.as_deref();
        let pass = self.pass(window, padding)?;
        let mut x = match start {
            Start::Tokens(tokens) | Start::Batch(Batch { tokens, .. }) => self.embed(tokens, seen, hooks)?,
            Start::Residual(x, _) => x.f_to_device_(self.device_before(first), self.kind, false, false)?,
        };
        for (index, block) in self.blocks.iter().enumerate().take(end).skip(first) {
            interrupt::check()?;
            let past = cache.as_mut().map(|cache| &mut cache.layers[index]);
            x = block.forward(&self.config, x, &pass, past, hooks)?;
        }
        if let Some(cache) = cache {
            cache.seen = seen + length;
            cache.prompt = prompt;
        }
        Ok(x)
    }

    fn check_residual(&self, x: &Tensor) -> Result<()> {
        if !is_float(x.kind()) {
            return Err(Error::new(format!(
                "a residual stream holds numbers of a float type, not {}",
                kind_name(x.kind())
            ))
            .hint("it is what a run with `stop_at_layer` returns, or a cached `resid_pre`"));
        }
        match x.size().as_slice() {
            [batch, length, width] if *batch > 0 && *length > 0 && *width == self.config.d_model => Ok(()),
            size => Err(Error::new(format!("a residual stream must be [batch, pos, d_model], not {size:?}"))
                .hint(format!("d_model is {}", self.config.d_model))),
        }
    }
}
