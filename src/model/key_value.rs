//! The keys and values of positions that a decoder has seen, which later positions attend to.

use std::rc::Rc;

use tch::Tensor;

use super::attention::KeyValue;
use super::decoder::Decoder;
use super::padding::Padding;
use crate::error::{Error, Result};

/// Keys and values of the positions seen so far, one entry per layer.
#[derive(Debug)]
pub struct KeyValueCache {
    pub(super) layers: Vec<KeyValue>,
    pub(super) seen: i64,
    /// Number of positions in the prompt; 0 before there is one
    pub(super) prompt: i64,
    /// Of prompts that had different lengths
    pub(super) padding: Option<Rc<Padding>>,
}

impl KeyValueCache {
    /// An empty cache for `decoder`.
    pub fn new(decoder: &Decoder) -> Self {
        Self { layers: decoder.blocks.iter().map(|_| None).collect(), seen: 0, prompt: 0, padding: None }
    }

    /// The number of positions seen.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// Forgets all positions, but not the length of the prompt.
    pub fn restart(&mut self) {
        self.layers.iter_mut().for_each(|layer| *layer = None);
        self.seen = 0;
    }

    /// The first `length` positions of some texts, by their numbers, to go on from as in their own run, from layer `first` on.
    ///
    /// # Errors
    /// A text or position that is not there.
    pub fn narrowed(&self, texts: &Tensor, length: i64, first: usize) -> Result<Self> {
        let some = |values: &Tensor| -> Result<Tensor> {
            Ok(values.f_narrow(1, 0, length)?.f_index_select(0, &texts.f_to(values.device())?)?)
        };
        let narrowed = |(number, layer): (usize, &KeyValue)| match layer {
            Some((key, value)) if number >= first => Ok(Some((some(key)?, some(value)?))),
            _ => Ok(None),
        };
        let layers = self.layers.iter().enumerate().map(narrowed).collect::<Result<Vec<_>>>()?;
        Ok(Self { layers, seen: length, prompt: self.prompt, padding: None })
    }

    /// Whether keys of `decoder` are rotated differently from the next position on (long rope), so that the cached ones
    /// no longer fit.
    pub fn is_outgrown(&self, decoder: &Decoder) -> bool {
        self.is_outgrown_by(decoder, 1)
    }

    fn is_outgrown_by(&self, decoder: &Decoder, length: i64) -> bool {
        decoder.ropes.iter().any(|rope| match &self.padding {
            Some(padding) => padding.is_outgrown(rope, self.seen, length),
            None => rope.is_changed_between(self.seen, self.seen + length),
        })
    }

    /// A copy to go on from with `batch` texts of `length` positions, which are then the rest of the prompt. One text may
    /// be continued by several.
    ///
    /// # Errors
    /// Another number of samples; more positions than the cached keys fit.
    pub fn continued(&self, decoder: &Decoder, (batch, length): (i64, i64)) -> Result<Self> {
        if self.is_outgrown_by(decoder, length) {
            return Err(outgrown());
        }
        let spread = |values: &Tensor| -> Result<Tensor> {
            let mut size = values.size();
            if size[0] != batch && size[0] != 1 {
                return Err(Error::new(format!("a prefix of {} texts cannot be continued by {batch}", size[0]))
                    .hint("one text can be continued by any number, several by as many"));
            }
            size[0] = batch;
            Ok(values.f_expand(size, false)?)
        };
        let layers = self
            .layers
            .iter()
            .map(|layer| layer.as_ref().map(|(key, value)| Ok((spread(key)?, spread(value)?))).transpose());
        Ok(Self { layers: layers.collect::<Result<Vec<_>>>()?, seen: self.seen, prompt: 0, padding: None })
    }
}

/// The error for a text so long that the keys of its prefix would be others.
pub fn outgrown() -> Error {
    Error::new("the text is so long that the model rotates the keys of its prefix differently")
        .hint("run the whole text without a prefix")
}
