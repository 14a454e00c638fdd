//! Sweeps in scripts: any hooks over any items, several items side by side in one batch.

use std::ops::{Range, RangeInclusive};

use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};

use super::hooks::{Caller, with_hooks};
use super::intervention::Names;
use super::metric::{self, Metrics};
use super::run::padding;
use super::{Model, answer, tokens};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::metric::Metric;
use crate::grid::plain;
use crate::grid::request::Reference;
use crate::grid::target::{self, Closure, Target};
use crate::model::decoder::Logits;
use crate::model::language_model::LanguageModel;
use crate::sweep::{AddHooks, Sweep};
use crate::tensor::Tensor;

/// The arguments of a sweep.
struct Call {
    sweep: Sweep,
    items: Array,
    hooks: FnPtr,
    measure: Measure,
    positions: Names,
}

/// What is measured of each item.
enum Measure {
    /// Metrics of an answer per prompt; without any, all that need no option
    Answers(Vec<Vec<i64>>, Option<Metrics>),
    /// What a function makes of the logits
    Metric(FnPtr, Logits),
}

/// What to sweep over: an array's items, or a range's numbers.
fn items(over: &Dynamic) -> Option<Array> {
    if let Some(range) = over.clone().try_cast::<Range<i64>>() {
        return Some(range.map(Dynamic::from).collect());
    }
    if let Some(range) = over.clone().try_cast::<RangeInclusive<i64>>() {
        return Some(range.map(Dynamic::from).collect());
    }
    over.clone().into_array().ok()
}

impl Call {
    fn read(model: &LanguageModel, options: Map) -> Result<Self> {
        Options::read("sweep", options, |options| Self::of(model, options))
    }

    fn of(model: &LanguageModel, options: &mut Options) -> Result<Self> {
        const HINT: &str = "see `help(\"sweep\")`";
        let prompts = tokens::prompts(model, &options.needed("target", HINT)?)?;
        let over = options.needed("over", HINT)?;
        let items = items(&over).ok_or_else(|| expected("option `over` of `sweep`", "an array or a range", &over))?;
        let function = |value: Dynamic, key: &str| {
            let cast = value.clone().try_cast::<FnPtr>();
            cast.ok_or_else(|| expected(&format!("option `{key}` of `sweep`"), "a function", &value))
        };
        let hooks = function(options.needed("hooks", HINT)?, "hooks")?;
        if items.is_empty() {
            return Err(Error::new("option `over` of `sweep` is empty"));
        }
        let logits = options.choice("logits", &[("last", Logits::Last), ("all", Logits::All)])?;
        let measure = match (options.any("answer"), options.any("metric")) {
            (Some(value), metric) => {
                let metrics = metric.map(|metric| metric::metrics(model, Some(metric), prompts.len())).transpose()?;
                Measure::Answers(answer::ids_by_sample(model, &value)?, metrics)
            }
            (None, Some(value)) => Measure::Metric(function(value, "metric")?, logits.unwrap_or(Logits::Last)),
            (None, None) => {
                return Err(Error::new("`sweep` needs `answer` or `metric`")
                    .hint("`answer`: ids, measured by the metrics of `patch_grid`; `metric`: |logits| ..."));
            }
        };
        if logits.is_some() && matches!(measure, Measure::Answers(..)) {
            return Err(Error::new("option `logits` of `sweep` goes with `metric`"));
        }
        let batch = match options.integer("batch")?.unwrap_or(64) {
            batch if batch >= 1 => batch as usize,
            batch => return Err(Error::new(format!("option `batch` of `sweep` must be at least 1, not {batch}"))),
        };
        let positions = options.map("positions")?.unwrap_or_default();
        let padding = padding(options)?;
        let quiet = options.boolean("quiet")?.unwrap_or(false);
        let sweep = Sweep { prompts, padding, items: items.len(), batch, quiet };
        Ok(Self { sweep, items, hooks, measure, positions })
    }

    fn run<'h>(&self, caller: &'h Caller<'_>, model: &LanguageModel) -> Result<Dynamic> {
        let add_hooks: &mut AddHooks<'_, 'h> = &mut |item, rows, all| {
            let entries = caller.call(&self.hooks, (self.items[item].clone(),))?;
            let entries = entries
                .try_cast_result::<Array>()
                .map_err(|value| expected("what `hooks` returns", "an array of hooks", &value))?;
            caller.add(all, &entries, model.config(), &self.positions, Some(rows))
        };
        let (function, logits) = match &self.measure {
            Measure::Answers(ids, metrics) => return self.measured(caller, model, ids, metrics.as_ref(), add_hooks),
            Measure::Metric(function, logits) => (function, *logits),
        };
        let mut values = Array::new();
        self.sweep.run(&model.decoder, logits, add_hooks, &mut |_item, all| {
            let given = if logits == Logits::Last { all.f_select(1, -1)? } else { all };
            values.push(caller.call(function, (Tensor::new(given),))?);
            Ok(())
        })?;
        Ok(values.into())
    }

    /// The metrics of the answers, a map from name to [item, prompt].
    fn measured<'h>(
        &self,
        caller: &Caller<'_>,
        model: &LanguageModel,
        ids: &[Vec<i64>],
        metrics: Option<&Metrics>,
        add_hooks: &mut AddHooks<'_, 'h>,
    ) -> Result<Dynamic> {
        for (prompt, ids) in ids.iter().enumerate() {
            model.decoder.check_outputs(ids, &format!("the answer of prompt {prompt}"))?;
        }
        let mut target = Target::answers(ids)?;
        let Some(metrics) = metrics else {
            let measured = self.sweep.measure(&model.decoder, &target, add_hooks)?;
            let mut found = metric::plain(|metric| measured.values(metric, None))?;
            found.insert("rank".into(), Dynamic::from(Tensor::new(measured.rank)));
            return Ok(found.into());
        };
        if metrics.asked.iter().any(|asked| asked.normalised) {
            return Err(Error::new("a sweep has no clean and corrupted runs to normalise by"));
        }
        if !metrics.against.is_empty() {
            model.decoder.check_outputs(&metrics.against.concat(), "`against`")?;
            target.against = Some(target::against(ids, &metrics.against)?);
        }
        if metrics.reference.is_some() {
            if metrics.reference == Some(Reference::Clean) {
                return Err(Error::new("a sweep has no source, so no clean run").hint("reference: \"target\""));
            }
            target.reference = Some(plain::log_probabilities(&model.decoder, &self.sweep.prompts)?);
        }
        let measure = metrics
            .closure
            .as_ref()
            .map(|function| move |logits: &tch::Tensor, samples: &[usize]| caller.measure(function, logits, samples));
        target.closure = measure.as_ref().map(|measure| measure as &Closure);
        let measured = self.sweep.measure(&model.decoder, &target, add_hooks)?;
        let mut found = Map::new();
        for asked in &metrics.asked {
            let values = match asked.metric {
                Metric::Rank => measured.rank.shallow_clone(),
                metric => measured.values(metric, None)?,
            };
            found.insert(asked.metric.name().into(), Dynamic::from(Tensor::new(values)));
        }
        Ok(found.into())
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Runs the same prompts under the hooks of many items (layers, heads, positions, ...), several items side by side.
    ///
    /// Needed: `target` (prompts), `over` (an array of items, or a range), `hooks` (|item| an array of hooks, as for
    /// `run_with_hooks`; each sees its own copy of the prompts), and one of
    /// - `answer`: an id per prompt, or an array of ids that count as one answer; returns `#{ logit, log_probability, rank,
    ///   .. }`, each [item, prompt]: every metric of `patch_grid` that needs no option. With `metric`, a name, map or
    ///   function as for `patch_grid` or an array of them, the map has these
    /// - `metric` without `answer`: |logits| anything, called with [prompt, d_vocab] of the last position; returns an array with one
    ///   value per item
    ///
    /// Options: `batch` (64; prompts run at once), `logits` ("all": the metric takes [prompt, pos, d_vocab]),
    /// `positions`, `padding` ("left" or "right", for prompts of different lengths: see `forward`), `quiet` (true shows no
    /// progress).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let result = model.sweep(#{
    ///     target: "The capital of France is", answer: " Paris", over: [0, 10, 20],
    ///     hooks: |layer| [[`blocks.${layer}.hook_mlp_out`, |activation| activation * 0.0]],
    /// });
    /// print(result.rank);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn sweep(context: NativeCallContext, model: &mut Model, request: Map) -> ScriptResult<Dynamic> {
        let call = Call::read(model.get(), request)?;
        with_hooks(&context, |caller| call.run(caller, model.get()))
    }
}
