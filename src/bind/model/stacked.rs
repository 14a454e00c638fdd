//! One kind of weight of all layers in one tensor, by TransformerLens's names: `model.W_Q` and the like.

use rhai::plugin::*;

use super::Model;
use crate::bind::error::ScriptResult;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::raw::gathered;

/// One weight of all layers in one tensor, [layer, ..].
fn stacked(model: &Model, name: &str) -> ScriptResult<Tensor> {
    let decoder = &model.get().decoder;
    let find = |layer: i64| {
        let block = decoder.block_parameters(layer)?;
        let full = format!("blocks.{layer}.{name}");
        let found = block.into_iter().find(|(known, _)| *known == full);
        found.map(|(_, tensor)| tensor).ok_or_else(|| Error::new(format!("the model has no weight `{full}`")))
    };
    let layers = (0..decoder.config.n_layers).map(find).collect::<Result<Vec<_>>>()?;
    let layers = gathered(&layers, decoder.output_device())?;
    Ok(tch::Tensor::f_stack(&layers, 0).map(Tensor::new).map_err(Error::from)?)
}

#[export_module(manifest)]
pub mod functions {
    /// The query weights of all layers, [layer, head, d_model, d_head].
    #[rhai_fn(get = "W_Q", return_raw, pure)]
    pub fn stacked_w_q(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.W_Q")
    }

    /// The key weights of all layers, [layer, kv_head, d_model, d_head].
    #[rhai_fn(get = "W_K", return_raw, pure)]
    pub fn stacked_w_k(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.W_K")
    }

    /// The value weights of all layers, [layer, kv_head, d_model, d_head].
    #[rhai_fn(get = "W_V", return_raw, pure)]
    pub fn stacked_w_v(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.W_V")
    }

    /// The output weights of all heads, [layer, head, d_head, d_model].
    #[rhai_fn(get = "W_O", return_raw, pure)]
    pub fn stacked_w_o(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.W_O")
    }

    /// The query biases of all layers, [layer, head, d_head].
    #[rhai_fn(get = "b_Q", return_raw, pure)]
    pub fn stacked_b_q(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.b_Q")
    }

    /// The key biases of all layers, [layer, kv_head, d_head].
    #[rhai_fn(get = "b_K", return_raw, pure)]
    pub fn stacked_b_k(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.b_K")
    }

    /// The value biases of all layers, [layer, kv_head, d_head].
    #[rhai_fn(get = "b_V", return_raw, pure)]
    pub fn stacked_b_v(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.b_V")
    }

    /// The output biases of all attention layers, [layer, d_model].
    #[rhai_fn(get = "b_O", return_raw, pure)]
    pub fn stacked_b_o(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "attn.b_O")
    }

    /// The input weights of all MLPs, [layer, d_model, d_mlp]; of gated ones those that the activation does not act on.
    #[rhai_fn(get = "W_in", return_raw, pure)]
    pub fn stacked_w_in(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "mlp.W_in")
    }

    /// The gates' weights of all gated MLPs, [layer, d_model, d_mlp].
    #[rhai_fn(get = "W_gate", return_raw, pure)]
    pub fn stacked_w_gate(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "mlp.W_gate")
    }

    /// The output weights of all MLPs, [layer, d_mlp, d_model].
    #[rhai_fn(get = "W_out", return_raw, pure)]
    pub fn stacked_w_out(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "mlp.W_out")
    }

    /// The input biases of all MLPs, [layer, d_mlp].
    #[rhai_fn(get = "b_in", return_raw, pure)]
    pub fn stacked_b_in(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "mlp.b_in")
    }

    /// The output biases of all MLPs, [layer, d_model].
    #[rhai_fn(get = "b_out", return_raw, pure)]
    pub fn stacked_b_out(model: &mut Model) -> ScriptResult<Tensor> {
        stacked(model, "mlp.b_out")
    }
}
