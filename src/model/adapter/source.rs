//! A source of weights with an adapter merged in.

use std::collections::BTreeSet;

use tch::{Device, Kind, Tensor};

use super::Adapter;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::family;
use crate::model::naming::Naming;
use crate::model::source::WeightSource;
use crate::tensor::raw::wide;

/// The weights of a source, changed by an adapter.
pub struct Adapted<'a> {
    inner: &'a dyn WeightSource,
    adapter: &'a Adapter,
    naming: Naming,
    /// The embedding's name where the unembedding is no longer the same matrix.
    untied: Option<String>,
}

impl<'a> Adapted<'a> {
    /// The weights of `inner`, which `config` describes, with those of `adapter`. The config says afterwards whether the
    /// unembedding still is the embedding: an adapter may change only one of them.
    ///
    /// # Errors
    /// A family that is not known.
    pub fn new(inner: &'a dyn WeightSource, adapter: &'a Adapter, config: &mut Config) -> Result<Self> {
        let naming = family::find(&config.model_type)?.naming;
        let embedding = format!("{}{}", naming.root, naming.embedding);
        let is_untied = config.tied && adapter.changes(&[&embedding, naming.unembedding]);
        config.tied &= !is_untied;
        Ok(Self { inner, adapter, naming, untied: is_untied.then(|| format!("{embedding}.weight")) })
    }

    /// Fails if a part of the adapter has changed nothing.
    ///
    /// # Errors
    /// The first such part.
    pub fn check_used(&self) -> Result<()> {
        self.adapter.weights.check_used()
    }

    fn unembedding(&self) -> String {
        format!("{}.weight", self.naming.unembedding)
    }

    /// Where the model's own tensor of that name is.
    fn own<'n>(&'n self, name: &'n str) -> Vec<&'n str> {
        match &self.untied {
            Some(embedding) if name == self.unembedding() && !self.inner.contains(name) => {
                let root = self.naming.root;
                let starts = root.match_indices('.').map(|(dot, _)| &embedding[dot + 1..]);
                [embedding.as_str()].into_iter().chain(starts).collect()
            }
            _ => vec![name],
        }
    }
}

impl WeightSource for Adapted<'_> {
    fn contains(&self, name: &str) -> bool {
        self.own(name).into_iter().any(|name| self.inner.contains(name))
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        let own = self.own(name).into_iter().find(|name| self.inner.contains(name));
        let own = own.map_or(name, |own| own);
        let weights = &self.adapter.weights;
        let Some(full) = weights.full_name(name, self.naming.root) else {
            return self.inner.load(own, shape, kind, device);
        };
        let before = match weights.replacement(&full) {
            Some(whole) if whole.size() == shape => whole.f_to_device(device)?.f_to_kind(wide(kind))?,
            Some(whole) => {
                return Err(Error::new(format!(
                    "the adapter's tensor `{full}` has shape {:?}, but the model's has {shape:?}",
                    whole.size()
                ))
                .hint("adapter and model do not belong together"));
            }
            None => self.inner.load(own, shape, wide(kind), device)?,
        };
        let in_layer = full.starts_with(&format!("{}{}", self.naming.root, self.naming.layers));
        let after = weights.applied(&full, before, in_layer && self.naming.transposed)?;
        Ok(after.f_to_kind(kind)?.f_contiguous()?)
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        self.inner.stored(name)
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.inner.unused(used)
    }
}
