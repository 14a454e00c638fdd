//! Cached activations in scripts: looking them up, going through them, stacking them over layers.

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use super::Model;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::indexes::{Indexes, Slot};
use crate::error::{Error, Result};
use crate::model::cache::ActivationCache;
use crate::model::hook;
use crate::tensor::Tensor;
use crate::tensor::raw::gathered;

/// The script's handle of cached activations.
#[derive(Debug, Clone)]
pub struct Cache {
    activations: Rc<ActivationCache>,
    model: Model,
    /// Whether activations have a dimension of samples
    has_samples: bool,
}

impl Cache {
    /// The activations of a run of `model`.
    pub fn new(activations: Rc<ActivationCache>, model: Model) -> Self {
        Self { activations, model, has_samples: true }
    }

    /// The activations themselves.
    pub fn activations(&self) -> &ActivationCache {
        &self.activations
    }

    /// The model that ran.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether activations have a dimension of samples.
    pub fn has_samples(&self) -> bool {
        self.has_samples
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        let found = self.activations.named(name, self.model.get().config()).map_err(|error| {
            error.hint("name it in `run_with_cache(tokens, [names])`; patterns such as `blocks.*.hook_resid_post` work")
        })?;
        Ok(Tensor::new(found.shallow_clone()))
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.activations.iter().map(|(point, _)| point.name())
    }

    fn values(&self) -> impl Iterator<Item = Tensor> {
        self.activations.iter().map(|(_, value)| Tensor::new(value.shallow_clone()))
    }
}

impl Handle for Cache {
    const NAME: &'static str = "cache";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        format!("cache of {} activations", self.activations.len())
    }
}

/// `for name in cache` goes through the names.
impl IntoIterator for Cache {
    type Item = String;
    type IntoIter = std::vec::IntoIter<String>;

    fn into_iter(self) -> Self::IntoIter {
        self.names().collect::<Vec<_>>().into_iter()
    }
}

#[export_module(manifest)]
pub mod functions {
    /// The cached activation under a hook's name or alias.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn cache_get(cache: &mut Cache, name: &str) -> ScriptResult<Tensor> {
        Ok(cache.get(name)?)
    }

    /// The cached activation of a kind at a layer, as in `cache["resid_post", 3]`; layer -1 is the last.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn cache_get_at(cache: &mut Cache, kind_and_layer: Indexes) -> ScriptResult<Tensor> {
        let name = match kind_and_layer.slots() {
            [Slot::Value(kind), Slot::Value(layer)] if kind.is_string() && layer.is_int() => format!("{kind}.{layer}"),
            _ => {
                return Err(Error::new("an index of a cache must be a hook name, or a kind and a layer")
                    .hint("such as `cache[\"blocks.3.attn.hook_z\"]` or `cache[\"z\", 3]`")
                    .into());
            }
        };
        Ok(cache.get(&name)?)
    }

    /// The activation of a kind (`resid_post`, `attn_out`, `z`, ...) at a layer; -1 is the last.
    #[rhai_fn(name = "get", return_raw, pure)]
    pub fn cache_get_kind(cache: &mut Cache, kind: &str, layer: i64) -> ScriptResult<Tensor> {
        Ok(cache.get(&format!("{kind}.{layer}"))?)
    }

    /// The names of the activations in a cache, in order of execution.
    #[rhai_fn(name = "keys", pure)]
    pub fn cache_keys(cache: &mut Cache) -> Array {
        cache.names().map(Dynamic::from).collect()
    }

    /// The activations in a cache, in order of execution.
    #[rhai_fn(name = "values", pure)]
    pub fn cache_values(cache: &mut Cache) -> Array {
        cache.values().map(Dynamic::from).collect()
    }

    /// The activations in a cache with their names, as `[name, activation]`, in order of execution. `for name in cache`
    /// goes through the names alone.
    #[rhai_fn(name = "items", pure)]
    pub fn cache_items(cache: &mut Cache) -> Array {
        let item = |(name, value): (String, Tensor)| vec![Dynamic::from(name), Dynamic::from(value)].into();
        cache.names().zip(cache.values()).map(item).collect()
    }

    /// The activations of a kind in all layers, in one tensor, [layer, ...].
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let cache = model.run_with_cache("Hello world", "resid_post").cache;
    /// assert_eq(cache.stack("resid_post").shape, [30, 1, 2, 576]);
    /// ```
    #[rhai_fn(name = "stack", return_raw, pure)]
    pub fn cache_stack(cache: &mut Cache, kind: &str) -> ScriptResult<Tensor> {
        let points = hook::matching(kind, cache.model.get().config())?;
        let values = points.iter().map(|point| cache.get(&point.name()).map(|value| value.share()));
        let values = values.collect::<Result<Vec<_>>>()?;
        let values = gathered(&values, cache.model.get().decoder.output_device())?;
        Ok(tch::Tensor::f_stack(&values, 0).map(Tensor::new).map_err(Error::from)?)
    }

    /// The same activations without the dimension of samples, of which there must be one.
    #[rhai_fn(return_raw, pure)]
    pub fn remove_batch_dim(cache: &mut Cache) -> ScriptResult<Cache> {
        if !cache.has_samples {
            return Err(Error::new("the cache has no dimension of samples any more").into());
        }
        let activations = Rc::new(cache.activations.without_samples()?);
        Ok(Cache { activations, model: cache.model.clone(), has_samples: false })
    }

    /// The number of activations in a cache.
    #[rhai_fn(name = "len", pure)]
    pub fn cache_len(cache: &mut Cache) -> i64 {
        cache.activations.len() as i64
    }

    /// Whether a cache holds the activation of a hook; also `name in cache`.
    #[rhai_fn(name = "contains", pure)]
    pub fn cache_contains(cache: &mut Cache, name: &str) -> bool {
        cache.get(name).is_ok()
    }

    /// The activations of a cache as a map by name, for example for `save_safetensors`.
    #[rhai_fn(name = "to_map", pure)]
    pub fn cache_to_map(cache: &mut Cache) -> Map {
        cache
            .activations
            .iter()
            .map(|(point, value)| (point.name().into(), Dynamic::from(Tensor::new(value.shallow_clone()))))
            .collect()
    }
}
