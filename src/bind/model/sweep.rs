//! Sweeps in scripts: any hooks over any items, several items side by side in one batch.

use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};

use super::grid::answers;
use super::hooks::with_hooks;
use super::intervention::Names;
use super::{Model, tokens};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::error::{Error, Result, unknown};
use crate::grid::metric::Measured;
use crate::interrupt;
use crate::model::decoder::Logits;
use crate::model::language_model::LanguageModel;
use crate::model::run::Hooks;
use crate::tensor::Tensor;

/// An item's hooks, as the script's function gives them.
fn hooks_of(context: &NativeCallContext, function: &FnPtr, item: &Dynamic) -> ScriptResult<Array> {
    let result = function.call_within_context::<Dynamic>(context, (item.clone(),))?;
    result
        .try_cast_result::<Array>()
        .map_err(|value| expected("what `hooks` returns", "an array of hooks", &value).into())
}

/// What is asked of a sweep.
struct Sweep {
    rows: Vec<Vec<i64>>,
    items: Array,
    hooks: FnPtr,
    answers: Option<Vec<i64>>,
    metric: Option<FnPtr>,
    logits: Logits,
    at_once: usize,
    positions: Names,
}

impl Sweep {
    fn read(model: &LanguageModel, options: Map) -> Result<Self> {
        const ALLOWED: &[&str] = &["target", "over", "hooks", "answer", "metric", "logits", "batch", "positions"];
        let mut options = Options::new("sweep", options, ALLOWED)?;
        let missing = |key: &str| Error::new(format!("`sweep` needs `{key}`")).hint("see `help(\"sweep\")`");
        let rows = tokens::prompts(model, &options.any("target").ok_or_else(|| missing("target"))?)?;
        let items = options.array("over")?.ok_or_else(|| missing("over"))?;
        let function = |value: Dynamic, key: &str| {
            let cast = value.clone().try_cast::<FnPtr>();
            cast.ok_or_else(|| expected(&format!("option `{key}` of `sweep`"), "a function", &value))
        };
        let hooks = function(options.any("hooks").ok_or_else(|| missing("hooks"))?, "hooks")?;
        let answers = options.any("answer").map(|value| answers(model, &value)).transpose()?;
        let metric = options.any("metric").map(|value| function(value, "metric")).transpose()?;
        if answers.is_some() == metric.is_some() {
            return Err(Error::new("`sweep` needs either `answer` or `metric`")
                .hint("`answer`: ids, measured by logit and rank; `metric`: |logits| ..."));
        }
        if items.is_empty() {
            return Err(Error::new("option `over` of `sweep` is empty"));
        }
        if let Some(ids) = answers.as_ref().filter(|ids| ids.len() != rows.len()) {
            return Err(Error::new(format!("there are {} prompts and {} answers", rows.len(), ids.len())));
        }
        for id in answers.iter().flatten() {
            model.decoder.check_ids(&[*id], "the answers")?;
        }
        let logits = match options.string("logits")?.as_deref() {
            None | Some("last") => Logits::Last,
            Some("all") if metric.is_some() => Logits::All,
            Some(other) => return Err(unknown("logits", other, &["last", "all (with `metric`)"])),
        };
        let batch = options.integer("batch")?.unwrap_or(64).max(1) as usize;
        let at_once = (batch / rows.len().max(1)).max(1);
        let positions = options.map("positions")?.unwrap_or_default();
        Ok(Self { rows, items, hooks, answers, metric, logits, at_once, positions })
    }

    /// The logits of some items, [item · prompt, pos, d_vocab], run side by side.
    fn run(&self, context: &NativeCallContext, model: &LanguageModel, items: &[Dynamic]) -> ScriptResult<tch::Tensor> {
        let count = self.rows.len() as i64;
        let entries =
            items.iter().map(|item| hooks_of(context, &self.hooks, item)).collect::<ScriptResult<Vec<_>>>()?;
        with_hooks(context, |caller| {
            let mut all = Hooks::none();
            for (number, entries) in entries.iter().enumerate() {
                let rows = Some((number as i64 * count, count));
                caller.add(&mut all, entries, model.config(), &self.positions, rows)?;
            }
            let prompts: Vec<Vec<i64>> = items.iter().flat_map(|_| self.rows.iter().cloned()).collect();
            let logits = model.decoder.forward(&model.decoder.tokens(&prompts)?, self.logits, &mut all)?;
            all.finish()?;
            Ok(logits)
        })
    }

    fn measure(&self, logits: &tch::Tensor, ids: &[i64], items: usize) -> Result<Measured> {
        let repeated: Vec<i64> = (0..items).flat_map(|_| ids.iter().copied()).collect();
        Measured::of_logits(&logits.f_select(1, -1)?, &tch::Tensor::f_from_slice(&repeated)?)
    }

    fn finish(&self, context: &NativeCallContext, model: &LanguageModel) -> ScriptResult<Dynamic> {
        let progress = crate::progress::Progress::new(self.items.len() as u64, "sweep");
        let mut measured = Vec::new();
        let mut values = Array::new();
        for some in self.items.chunks(self.at_once) {
            interrupt::check()?;
            let logits = self.run(context, model, some)?;
            if let Some(ids) = &self.answers {
                measured.push(self.measure(&logits, ids, some.len())?);
            }
            if let Some(metric) = &self.metric {
                let count = self.rows.len() as i64;
                for number in 0..some.len() as i64 {
                    let own = logits.f_narrow(0, number * count, count).map_err(Error::from)?;
                    let own = match self.logits {
                        Logits::Last => own.f_select(1, -1).map_err(Error::from)?,
                        Logits::All => own,
                    };
                    values.push(metric.call_within_context::<Dynamic>(context, (Tensor::new(own),))?);
                }
            }
            progress.tick(some.len() as u64);
        }
        progress.finish();
        if self.metric.is_some() {
            return Ok(values.into());
        }
        let shape = [self.items.len() as i64, self.rows.len() as i64];
        let joined = Measured::join(&measured)?;
        let mut map = Map::new();
        for (key, part) in [("logit", joined.logit), ("rank", joined.rank)] {
            let shaped = part.f_to(tch::Device::Cpu).and_then(|part| part.f_view(shape));
            map.insert(key.into(), Dynamic::from(Tensor::new(shaped.map_err(Error::from)?)));
        }
        Ok(map.into())
    }
}

#[export_module]
pub mod functions {
    /// Runs the same prompts under the hooks of many items (layers, heads, positions, ...), several items side by side.
    ///
    /// Needed: `target` (prompts of one length), `over` (an array of items), `hooks` (|item| an array of hooks, as for
    /// `run_with_hooks`; each sees its own copy of the prompts), and `answer` (an id per prompt: the result is `#{ logit,
    /// rank }`, each [item, prompt]) or `metric` (|logits| anything, given [prompt, d_vocab] of the last position: the
    /// result is an array with one value per item).
    /// Options: `batch` (64; prompts run at once), `logits` ("all": the metric is given [prompt, pos, d_vocab]), `positions`.
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
    pub fn sweep(context: NativeCallContext, model: &mut Model, options: Map) -> ScriptResult<Dynamic> {
        let sweep = Sweep::read(model.get(), options)?;
        sweep.finish(&context, model.get())
    }
}
