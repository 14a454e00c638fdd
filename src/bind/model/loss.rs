//! How well a model predicts a text.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::hooks::with_hooks;
use super::intervention::Names;
use super::{Model, tokens};
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::decoder::Logits;
use crate::model::run::Hooks;
use crate::tensor::Tensor;
use crate::tensor::raw::wide;

/// The log-probability of each token but the first, [batch, pos - 1], in float32 at least.
fn log_probabilities(
    context: &NativeCallContext,
    model: &Model,
    prompt: &Dynamic,
    (entries, positions): (&Array, &Names),
) -> ScriptResult<tch::Tensor> {
    with_hooks(context, |caller| {
        let decoder = &model.get().decoder;
        let input = decoder.tokens(&tokens::prompts(model.get(), prompt)?)?;
        let length = input.size()[1];
        if length < 2 {
            return Err(Error::new("a text of one token has no next token").hint("give at least two tokens"));
        }
        let mut hooks = Hooks::none();
        caller.add(&mut hooks, entries, &decoder.config, positions, None)?;
        let logits = decoder.forward(&input, Logits::All, &mut hooks)?;
        hooks.finish()?;
        let next = input.f_narrow(1, 1, length - 1)?.f_to(logits.device())?.f_unsqueeze(-1)?;
        let before = logits.f_narrow(1, 0, length - 1)?;
        let all = before.f_log_softmax(-1, wide(logits.kind()))?;
        Ok(all.f_gather(-1, &next, false)?.f_squeeze_dim(-1)?)
    })
}

fn run_options(options: &mut Options) -> Result<(Array, Names)> {
    Ok((options.array("hooks")?.unwrap_or_default(), options.map("positions")?.unwrap_or_default()))
}

#[export_module(manifest)]
pub mod functions {
    /// The cross-entropy of a text: the mean negative log-probability of each next token, over all prompts and positions.
    ///
    /// Options: `per_token` (true: [batch, pos - 1] instead of the mean), `hooks` and `positions` (as in
    /// `run_with_hooks`).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let loss = model.loss("The capital of France is Paris");
    /// assert(loss.item() > 1.0 && loss.item() < 5.0);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn loss(context: NativeCallContext, model: &mut Model, tokens: Dynamic, options: Map) -> ScriptResult<Tensor> {
        let (per_token, (hooks, positions)) = Options::read("loss", options, |options| {
            Ok((options.boolean("per_token")?.unwrap_or(false), run_options(options)?))
        })?;
        let loss = log_probabilities(&context, model, &tokens, (&hooks, &positions))?.f_neg().map_err(Error::from)?;
        let loss = if per_token { Ok(loss) } else { loss.f_mean(None::<tch::Kind>) };
        Ok(loss.map(Tensor::new).map_err(Error::from)?)
    }

    /// The log-probability of each token of a text but the first, given those before it, [batch, pos - 1].
    ///
    /// Options: `hooks` and `positions` (as in `run_with_hooks`).
    #[rhai_fn(return_raw, pure)]
    pub fn log_probs(
        context: NativeCallContext,
        model: &mut Model,
        tokens: Dynamic,
        options: Map,
    ) -> ScriptResult<Tensor> {
        let (hooks, positions) = Options::read("log_probs", options, run_options)?;
        log_probabilities(&context, model, &tokens, (&hooks, &positions)).map(Tensor::new)
    }
}
