//! The residual stream of a cached run taken apart, in scripts.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use super::cache::Cache;
use super::intervention::{Names, positions};
use super::tokens::directions;
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::hook;
use crate::model::intervention::At;
use crate::model::residual::{Parts, Residual, Sublayers};
use crate::tensor::Tensor;

/// The options that the decompositions share: positions, and a layer.
fn place(options: &mut Options) -> Result<(At, i64)> {
    let at = options.any("pos").map_or(Ok(At::All), |given| positions(&given, &Names::new()))?;
    Ok((at, options.integer("layer")?.unwrap_or(-1)))
}

fn flag(options: &mut Options, key: &'static str, default: bool) -> Result<bool> {
    Ok(options.boolean(key)?.unwrap_or(default))
}

/// The residual stream at some positions, and the layer before which it is read.
fn stream<'a>(cache: &'a Cache, (positions, layer): (At, i64)) -> Result<(Residual<'a>, i64)> {
    let residual = Residual { decoder: &cache.model().get().decoder, cache: cache.activations(), positions };
    let layer = residual.boundary(layer)?;
    Ok((residual, layer))
}

/// `#{ stack, labels }`.
fn labelled(parts: &Parts) -> Result<Map> {
    let labels: Array = parts.labels.iter().map(|label| label.as_str().into()).collect();
    Ok(map! { "stack" => Tensor::new(parts.stack()?), "labels" => labels })
}

/// A stack as a script gives it: a tensor, or the map that a decomposition returns.
fn stack_of(value: &Dynamic) -> Result<tch::Tensor> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return Ok(tensor.share());
    }
    let held = value.read_lock::<Map>().and_then(|map| map.get("stack").and_then(|stack| stack.clone().try_cast()));
    let stack: Tensor = held.ok_or_else(|| {
        expected("the stack", "a tensor, or what a decomposition such as `decompose_resid` returns", value)
    })?;
    Ok(stack.share())
}

/// The option `neurons`: all by default.
fn neurons(options: &mut Options, cache: &Cache) -> Result<Vec<i64>> {
    match options.any("neurons") {
        None => Ok((0..cache.model().get().config().d_mlp).collect()),
        Some(given) => match positions(&given, &Names::new())? {
            At::Several(neurons) => Ok(neurons),
            At::One(neuron) => Ok(vec![neuron]),
            At::All => Ok((0..cache.model().get().config().d_mlp).collect()),
        },
    }
}

#[export_module(manifest)]
pub mod functions {
    /// The residual stream before each layer and after the last: `#{ stack, labels }`, where `stack` is
    /// [part, batch, pos, d_model] and a label is `3_pre`, `3_mid` or `final_post`.
    ///
    /// Options: `layer` (up to before that layer; -1, the default, after the last), `incl_mid` (true: also between attention
    /// and MLP), `mlp_input` (true: up to before the MLP of `layer`), `pos` (a position, which leaves its dimension out, or
    /// several), `apply_ln` (true: each as the final norm gives it; with an earlier `layer`, divided by the scale of that
    /// layer's norm).
    #[rhai_fn(return_raw, pure)]
    pub fn accumulated_resid(cache: &mut Cache, options: Map) -> ScriptResult<Map> {
        let (place, middle, mlp_input, apply) = Options::read("accumulated_resid", options, |options| {
            let flags = (flag(options, "incl_mid", false)?, flag(options, "mlp_input", false)?);
            Ok((place(options)?, flags.0, flags.1, flag(options, "apply_ln", false)?))
        })?;
        let (residual, layer) = stream(cache, place)?;
        let mut parts = residual.accumulated(layer, middle, mlp_input)?;
        if apply && layer == residual.decoder.config.n_layers {
            let norm = &residual.decoder.final_norm;
            parts.values = parts.values.iter().map(|value| norm.forward_plain(value)).collect::<Result<_>>()?;
        } else if apply {
            parts.values = residual.normed(&parts.stack()?, layer, mlp_input)?.f_unbind(0).map_err(Error::from)?;
        }
        Ok(labelled(&parts)?)
    }

    /// What the embedding and every layer's attention and MLP add to the residual stream: `#{ stack, labels }`, where
    /// `stack` is [part, batch, pos, d_model] and a label is `embed`, `3_attn_out` or `3_mlp_out`. The parts sum to the
    /// residual stream.
    ///
    /// Options: `layer` (the layers before it; -1, the default, all), `mode` ("all", "attn", "mlp"), `incl_embeds` (true),
    /// `mlp_input` (true: also the attention of `layer`), `pos` (a position, which leaves its dimension out, or several),
    /// `apply_ln` (true: divided by the scale of the norm that reads the stream there).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let run = model.run_with_cache("The capital of France is");
    /// let parts = run.cache.decompose_resid(#{ pos: -1 });
    /// let effects = run.cache.logit_attrs(parts, " Paris", #{ pos: -1 });
    /// let logit = run.logits[0, -1, model.to_single_token(" Paris")].item();
    /// assert((effects.sum().item() - logit).abs() < 0.01);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn decompose_resid(cache: &mut Cache, options: Map) -> ScriptResult<Map> {
        let (place, which, embeddings, mlp_input, apply) = Options::read("decompose_resid", options, |options| {
            let modes = [("all", Sublayers::All), ("attn", Sublayers::Attention), ("mlp", Sublayers::Mlp)];
            let which = options.choice("mode", &modes)?.unwrap_or(Sublayers::All);
            let flags = (flag(options, "incl_embeds", true)?, flag(options, "mlp_input", false)?);
            Ok((place(options)?, which, flags.0, flags.1, flag(options, "apply_ln", false)?))
        })?;
        let (residual, layer) = stream(cache, place)?;
        let mut parts = residual.decomposed(layer, which, embeddings, mlp_input)?;
        if apply {
            parts.values = residual.normed(&parts.stack()?, layer, mlp_input)?.f_unbind(0).map_err(Error::from)?;
        }
        Ok(labelled(&parts)?)
    }

    /// What every head adds to the residual stream: `#{ stack, labels }`, where `stack` is [part, batch, pos, d_model] and a
    /// label is `L3H7`. Attention's output bias is no head's. In models with a norm after attention, it is what that norm
    /// makes of the head's result with its scale held fixed.
    ///
    /// Options: `layer` (the layers before it; -1, the default, all), `incl_remainder` (true: a last part `remainder`, the
    /// rest of the residual stream), `pos` (a position, which leaves its dimension out, or several).
    #[rhai_fn(return_raw, pure)]
    pub fn stack_heads(cache: &mut Cache, options: Map) -> ScriptResult<Map> {
        let (place, remainder) = Options::read("stack_heads", options, |options| {
            Ok((place(options)?, flag(options, "incl_remainder", false)?))
        })?;
        let (residual, layer) = stream(cache, place)?;
        Ok(labelled(&residual.heads(layer, remainder)?)?)
    }

    /// What neurons of every layer add to the residual stream: `#{ stack, labels }`, where `stack` is
    /// [part, batch, pos, d_model] and a label is `L3N100`. The MLP's output bias is no neuron's.
    ///
    /// Options: `neurons` (a number, several, or a range; all by default, which takes much memory), `layer` (the layers
    /// before it; -1, the default, all), `incl_remainder`, `pos` (see `stack_heads`).
    #[rhai_fn(return_raw, pure)]
    pub fn stack_neurons(cache: &mut Cache, options: Map) -> ScriptResult<Map> {
        let (place, neurons, remainder) = Options::read("stack_neurons", options, |options| {
            Ok((place(options)?, neurons(options, cache)?, flag(options, "incl_remainder", false)?))
        })?;
        let (residual, layer) = stream(cache, place)?;
        Ok(labelled(&residual.neurons(layer, &neurons, remainder)?)?)
    }

    /// What neurons of one layer add to the residual stream, [batch, pos, neuron, d_model].
    ///
    /// Options: `neurons`, `pos` (see `stack_neurons`).
    #[rhai_fn(return_raw, pure)]
    pub fn neuron_results(cache: &mut Cache, layer: i64, options: Map) -> ScriptResult<Tensor> {
        let (at, neurons) = Options::read("neuron_results", options, |options| {
            let at = options.any("pos").map_or(Ok(At::All), |given| positions(&given, &Names::new()))?;
            Ok((at, neurons(options, cache)?))
        })?;
        let layer = hook::layer(layer, cache.model().get().config())?;
        let (residual, _) = stream(cache, (at, -1))?;
        Ok(residual.neurons_of(layer, &neurons).map(Tensor::new)?)
    }

    /// Parts of the residual stream, [part, batch, pos, d_model], divided by the scale that the norm had in this run, after
    /// LayerNorm's centring. The norm's weight is left out, as in TransformerLens; `logit_attrs` includes it.
    ///
    /// `parts` is a tensor, or what a decomposition returns. Options: `layer` (the norm before that layer; -1, the default,
    /// the final norm), `mlp_input` (true: before its MLP), `pos` (the option with which the parts were made).
    #[rhai_fn(return_raw, pure)]
    pub fn apply_ln_to_stack(cache: &mut Cache, parts: Dynamic, options: Map) -> ScriptResult<Tensor> {
        let (place, mlp_input) = Options::read("apply_ln_to_stack", options, |options| {
            Ok((place(options)?, flag(options, "mlp_input", false)?))
        })?;
        let (residual, layer) = stream(cache, place)?;
        Ok(residual.normed(&stack_of(&parts)?, layer, mlp_input).map(Tensor::new)?)
    }

    /// How much each part of the residual stream adds to a token's logit (direct logit attribution): [part, batch, pos].
    ///
    /// `parts` is a tensor, [part, batch, pos, d_model], or what a decomposition returns. `tokens` is one token (text or id)
    /// or an array with one per sample, or a tensor of ids, [batch, pos]. The final norm has the scale of this run, and its
    /// weight is included. The norm's bias and the unembedding's are no part's. A soft cap of the logits (Gemma 2) is left
    /// out: the parts sum to the logit before it.
    ///
    /// Options: `incorrect` (tokens whose logits are subtracted), `pos` (the option with which the parts were made).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let cache = model.run_with_cache("The capital of France is").cache;
    /// let heads = cache.stack_heads(#{ pos: -1 });
    /// let effects = cache.logit_attrs(heads, " Paris", #{ incorrect: " Rome", pos: -1 });
    /// print(heads.labels[effects.squeeze().argmax().item()]);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn logit_attrs(cache: &mut Cache, parts: Dynamic, tokens: Dynamic, options: Map) -> ScriptResult<Tensor> {
        let (at, incorrect) = Options::read("logit_attrs", options, |options| {
            let at = options.any("pos").map_or(Ok(At::All), |given| positions(&given, &Names::new()))?;
            Ok((at, options.any("incorrect")))
        })?;
        let (residual, _) = stream(cache, (at, -1))?;
        let stack = stack_of(&parts)?;
        let model = cache.model().get();
        let mut along = directions(model, &tokens)?;
        if let Some(incorrect) = incorrect {
            let other = directions(model, &incorrect)?;
            if other.size() != along.size() {
                return Err(Error::new("`tokens` and `incorrect` must be equally many").into());
            }
            along = along.f_sub(&other).map_err(Error::from)?;
        }
        // One token per sample stands for all of its positions.
        if cache.has_samples() && stack.dim() == 4 && along.dim() == 2 {
            along = along.f_unsqueeze(-2).map_err(Error::from)?;
        }
        Ok(residual.logit_attributions(&stack, &along).map(Tensor::new)?)
    }
}
