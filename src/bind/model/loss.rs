//! How well a model predicts a text.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::hooks::with_hooks;
use super::intervention::Names;
use super::run::padding;
use super::{Model, tokens};
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::decoder::Logits;
use crate::model::padding::Side;
use crate::model::run::Hooks;
use crate::tensor::Tensor;
use crate::tensor::raw::{constant, wide};

/// The log-probability of each token but the first, [batch, pos - 1], in float32 at least; and where prompts of different
/// lengths have none, of the same shape.
fn log_probabilities(
    context: &NativeCallContext,
    model: &Model,
    prompt: &Dynamic,
    RunOptions { hooks: entries, positions, padding }: &RunOptions,
) -> ScriptResult<(tch::Tensor, Option<tch::Tensor>)> {
    with_hooks(context, |caller| {
        let decoder = &model.get().decoder;
        decoder.config.check_predicts_next("the log-probability of a next token")?;
        let input = decoder.batch(&tokens::prompts(model.get(), prompt)?, *padding)?;
        let length = input.tokens.size()[1];
        if length < 2 {
            return Err(Error::new("a text of one token has no next token").hint("give at least two tokens"));
        }
        let mut hooks = Hooks::none();
        caller.add(&mut hooks, entries, &decoder.config, positions, None)?;
        let logits = decoder.forward_batch(&input, Logits::All, &mut hooks)?;
        hooks.finish()?;
        let next = input.tokens.f_narrow(1, 1, length - 1)?.f_to(logits.device())?.f_unsqueeze(-1)?;
        let before = logits.f_narrow(1, 0, length - 1)?;
        let all = before.f_log_softmax(-1, wide(logits.kind()))?;
        let found = all.f_gather(-1, &next, false)?.f_squeeze_dim(-1)?;
        let Some(padding) = &input.padding else { return Ok((found, None)) };
        // A token after filling, or filling itself, follows nothing.
        let hidden = padding.mask()?.f_logical_not()?.f_to(found.device())?;
        Ok((found, Some(hidden.f_narrow(1, 0, length - 1)?.f_logical_or(&hidden.f_narrow(1, 1, length - 1)?)?)))
    })
}

/// The values with NaN where there are none.
fn marked(values: tch::Tensor, hidden: Option<&tch::Tensor>) -> Result<Tensor> {
    Ok(Tensor::new(match hidden {
        Some(hidden) => values.f_masked_fill_tensor(hidden, &constant(f64::NAN)?)?,
        None => values,
    }))
}

/// The mean of the values, but for those that are hidden.
fn mean(values: &tch::Tensor, hidden: Option<&tch::Tensor>) -> Result<Tensor> {
    let values = match hidden {
        Some(hidden) => values.f_masked_select(&hidden.f_logical_not()?)?,
        None => values.shallow_clone(),
    };
    Ok(Tensor::new(values.f_mean(None::<tch::Kind>)?))
}

struct RunOptions {
    hooks: Array,
    positions: Names,
    padding: Option<Side>,
}

impl RunOptions {
    fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            hooks: options.array("hooks")?.unwrap_or_default(),
            positions: options.map("positions")?.unwrap_or_default(),
            padding: padding(options)?,
        })
    }
}

#[export_module(manifest)]
pub mod functions {
    /// The cross-entropy of a text: the mean negative log-probability of each next token, over all prompts and positions.
    ///
    /// Options: `per_token` (true: [batch, pos - 1] instead of the mean, NaN at filling), `hooks`, `positions` and
    /// `padding` (as in `run_with_hooks`).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let loss = model.loss("The capital of France is Paris");
    /// assert(loss.item() > 1.0 && loss.item() < 5.0);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn loss(context: NativeCallContext, model: &mut Model, tokens: Dynamic, options: Map) -> ScriptResult<Tensor> {
        let (per_token, run) = Options::read("loss", options, |options| {
            Ok((options.boolean("per_token")?.unwrap_or(false), RunOptions::read(options)?))
        })?;
        let (found, hidden) = log_probabilities(&context, model, &tokens, &run)?;
        let loss = found.f_neg().map_err(Error::from)?;
        Ok(if per_token { marked(loss, hidden.as_ref())? } else { mean(&loss, hidden.as_ref())? })
    }

    /// The log-probability of each token of a text but the first, given those before it, [batch, pos - 1].
    ///
    /// Options: `hooks`, `positions` and `padding` (as in `run_with_hooks`; NaN at filling).
    #[rhai_fn(return_raw, pure)]
    pub fn log_probs(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Tensor> {
        let run = Options::read("log_probs", options, RunOptions::read)?;
        let (found, hidden) = log_probabilities(&context, model, &tokens, &run)?;
        Ok(marked(found, hidden.as_ref())?)
    }
}
