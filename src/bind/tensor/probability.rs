//! Losses, divergences, quantiles, draws.

use rhai::plugin::*;
use rhai::{Dynamic, Engine, Map};

use super::convert::tensor;
use super::from_nested;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::tensor::reduce::{REDUCTIONS, Settings};
use crate::tensor::{Tensor, probability};

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(probability_functions));
}

/// Numbers as a tensor: a number, an array or a tensor.
fn numbers(what: &str, value: &Dynamic) -> Result<Tensor> {
    if value.is::<Tensor>() { tensor(what, value) } else { from_nested(value, None, tch::Device::Cpu) }
}

#[export_module(manifest)]
mod probability_functions {
    /// The cross-entropy of logits [.., class] and class numbers [..], in nats: the mean of -log softmax(logits)[class].
    ///
    /// Option: `reduction`, "mean" (the default), "sum" or "none", which gives one number for each target.
    ///
    /// # Errors
    /// Shapes that do not fit, a class that does not exist.
    ///
    /// # Example
    /// ```rhai
    /// let logits = tensor([[0.0, 0.0], [2.0, 2.0]]);
    /// assert(allclose(cross_entropy(logits, tensor([0, 1])), tensor(log(2.0))));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cross_entropy(logits: Tensor, targets: Dynamic, options: Map) -> ScriptResult<Tensor> {
        let reductions = [("mean", Some("mean")), ("sum", Some("sum")), ("none", None)];
        let reduction = Options::read("cross_entropy", options, |options| {
            Ok(options.choice("reduction", &reductions)?.unwrap_or(Some("mean")))
        })?;
        let each = numbers("the targets", &targets)
            .and_then(|targets| probability::cross_entropy(&logits, &targets.to(None, Some(logits.device()))?))?;
        match REDUCTIONS.iter().find(|known| Some(known.name) == reduction) {
            Some(reduction) => Ok(reduction.apply(&each, &Settings::default())?),
            None => Ok(each),
        }
    }

    /// The Kullback-Leibler divergence KL(p ‖ q) in nats over the last dimension, of log-probabilities log p and log q.
    ///
    /// (PyTorch's `kl_div(input, target)` has them the other way round.)
    ///
    /// # Errors
    /// Numbers that are not log-probabilities: make them of logits by `log_softmax(-1)`.
    ///
    /// # Example
    /// ```rhai
    /// let p = tensor([0.5, 0.5]).log();
    /// let q = tensor([0.25, 0.75]).log();
    /// assert(allclose(kl_div(p, q), tensor(0.5 * log(2.0) + 0.5 * log(2.0 / 3.0))));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn kl_div(log_p: Tensor, log_q: Tensor) -> ScriptResult<Tensor> {
        Ok(probability::kl_div(&log_p, &log_q, -1)?)
    }

    /// The quantiles `q`, a number from 0 to 1 or several, of all elements; interpolated linearly, as in NumPy.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(5.0).quantile(0.5).item(), 2.0);
    /// assert_eq(arange(5.0).quantile([0.0, 0.25]).to_array(), [0.0, 1.0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn quantile(t: Tensor, q: Dynamic) -> ScriptResult<Tensor> {
        Ok(numbers("the quantiles", &q).and_then(|q| t.quantile(&q, None))?)
    }

    /// The quantiles `q` along dimension `dim`; several quantiles form the first dimension.
    #[rhai_fn(name = "quantile", return_raw)]
    pub fn quantile_along(t: Tensor, q: Dynamic, dim: i64) -> ScriptResult<Tensor> {
        Ok(numbers("the quantiles", &q).and_then(|q| t.quantile(&q, Some(dim)))?)
    }

    /// `count` positions along the last dimension, drawn with probabilities in proportion to the elements.
    ///
    /// Options: `replacement` (whether a position may be drawn twice; false), `seed` (see `rand`).
    ///
    /// # Errors
    /// Negative weights; more draws than positions without replacement.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([0.0, 1.0, 0.0]).multinomial(2, #{ replacement: true }).to_array(), [1, 1]);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn multinomial(t: Tensor, count: i64, options: Map) -> ScriptResult<Tensor> {
        let (replacement, seed) = Options::read("multinomial", options, |options| {
            Ok((options.boolean("replacement")?.unwrap_or(false), options.integer("seed")?))
        })?;
        Ok(t.multinomial(count, replacement, seed)?)
    }
}
