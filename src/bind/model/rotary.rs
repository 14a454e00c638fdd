//! A model's rotary embedding, applied to any vectors.

use rhai::Map;
use rhai::plugin::*;

use super::Model;
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::hook;
use crate::tensor::Tensor;

fn rotated(model: &Model, x: &Tensor, options: Map) -> Result<Tensor> {
    let (layer, start) = Options::read("apply_rotary", options, |options| {
        Ok((options.integer("layer")?.unwrap_or(0), options.integer("start")?.unwrap_or(0)))
    })?;
    let decoder = &model.get().decoder;
    let layer = hook::layer(layer, &decoder.config)?;
    let Some(rope) = decoder.blocks[layer as usize].attention.rope.map(|index| &decoder.ropes[index]) else {
        return Err(Error::new(format!("layer {layer} of the model rotates nothing"))
            .hint("its positions are learned, or the layer has none"));
    };
    let shape = x.shape();
    let &[_, length, _, d_head] = shape.as_slice() else {
        return Err(Error::new(format!("`apply_rotary` takes [batch, pos, head, d_head], not {shape:?}"))
            .hint("`x.unsqueeze(2)` adds a dimension for one head"));
    };
    if d_head != decoder.config.d_head || start < 0 {
        return Err(Error::new(format!(
            "`apply_rotary` takes vectors of {} numbers from position 0 on, not of {d_head} from {start}",
            decoder.config.d_head
        )));
    }
    let x = x.as_float()?;
    let rotation = rope.rotation(start, length, start + length, x.kind(), x.device())?;
    Ok(Tensor::new(rotation.apply(x.tch())?))
}

#[export_module(manifest)]
pub mod functions {
    /// Rotates vectors, [batch, pos, head, d_head], as the model rotates queries and keys.
    ///
    /// Options: `layer` (0; in some models they differ), `start` (0: the number of the first position).
    ///
    /// # Errors
    /// A model whose positions are learned, another shape.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let cache = model.run_with_cache("The capital of France", ["q.3", "rot_q.3"]).cache;
    /// assert(allclose(model.apply_rotary(cache["q.3"], #{ layer: 3 }), cache["rot_q.3"]));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn apply_rotary(model: &mut Model, x: Tensor, options: Map) -> ScriptResult<Tensor> {
        Ok(rotated(model, &x, options)?)
    }
}
