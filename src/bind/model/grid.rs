//! Patching grids in scripts.

use std::cell::OnceCell;
use std::path::Path;
use std::rc::{Rc, Weak};

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::grid_request::{self, Call};
use super::hooks::{Caller, with_hooks};
use super::{Model, metric, tokens};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::frozen::Frozen;
use crate::grid::metric::Metric;
use crate::grid::outcome::Grid;
use crate::grid::plan::Plan;
use crate::grid::set::{Element, Set};
use crate::grid::{digest, export};
use crate::model::language_model::LanguageModel;
use crate::tensor::Tensor;

/// The script's handle of a computed grid.
#[derive(Debug, Clone)]
pub struct GridHandle(Rc<Computed>);

/// A grid with what more can be computed of it.
#[derive(Debug)]
struct Computed {
    grid: Grid,
    call: Call,
    /// The grid does not keep its model in memory
    model: Weak<LanguageModel>,
    frozen: OnceCell<Frozen>,
}

impl Handle for GridHandle {
    const NAME: &'static str = "grid";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        format!("grid of {} sets x {} samples", self.get().sets.len(), self.get().samples())
    }
}

impl GridHandle {
    /// The grid.
    pub fn get(&self) -> &Grid {
        &self.0.grid
    }

    /// What the frozen maps predict of it, computed once.
    ///
    /// # Errors
    /// A model that is gone; as for [`Call::frozen`].
    pub fn frozen(&self, caller: &Caller<'_>) -> Result<&Frozen> {
        if let Some(frozen) = self.0.frozen.get() {
            return Ok(frozen);
        }
        let Some(model) = self.0.model.upgrade() else {
            return Err(Error::new("the model of this grid is no longer there, and its frozen maps are of its runs")
                .hint("keep the model in a variable"));
        };
        let computed = self.0.call.frozen(caller, &model)?;
        Ok(self.0.frozen.get_or_init(|| computed))
    }
}

/// A set as scripts see it: an array of layers, or of [layer, head] pairs.
pub fn set_value(set: &Set) -> Dynamic {
    let place = |element: &Element| match element.head {
        None => Dynamic::from(element.layer),
        Some(head) => Dynamic::from(vec![Dynamic::from(element.layer), Dynamic::from(head)]),
    };
    set.iter().map(place).collect::<Array>().into()
}

fn digest_vectors(model: &LanguageModel, source: &Dynamic, options: Map) -> Result<Array> {
    let site = Options::read("digest", options, grid_request::site)?;
    let prompts = tokens::prompts(model, source)?;
    let [prompt] = prompts.as_slice() else {
        return Err(Error::new(format!("`digest` takes one source, not {}", prompts.len()))
            .hint("sources.map(|source| model.digest(source))"));
    };
    let vectors = digest::digest(&model.decoder, prompt, site)?;
    Ok(vectors.into_iter().map(|vector| Dynamic::from(Tensor::new(vector))).collect())
}

fn tensor(value: Result<tch::Tensor>) -> ScriptResult<Tensor> {
    Ok(value.map(Tensor::new)?)
}

fn matrix(grid: &Grid, metric: &Dynamic) -> Result<tch::Tensor> {
    grid.matrix(metric::asked(metric)?)
        .map_err(|error| error.hint("use `sizes: [1, 2]`, or read `grid.logit` and `grid.rr` directly"))
}

fn plan_map(plan: &Plan) -> Map {
    map! {
        "sets" => plan.sets as i64,
        "samples" => plan.samples as i64,
        "stored" => plan.stored as i64,
        "passes" => plan.passes as i64,
        "plain_passes" => plan.plain_passes as i64,
        "bytes" => plan.bytes as i64,
        "text" => plan.to_string(),
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Patches every set of layers (or heads, or neurons) of a target's run with the activations of a source's last token,
    /// and measures the answers: a grid.
    ///
    /// Work that sets share is done once; the numbers are those of one run per cell. Needed: `target` (one or many, of any
    /// lengths), `answer` (a token id per sample, or text, of which the first token counts; an array of several per sample
    /// counts as one token with all their probability) and `source`, what to patch in:
    /// - tokens or text, one or one per sample: the activations at the last token
    /// - `"zero"`, `"mean"` (the mean of the targets' own activations at their patched positions) or `"resample"` (those of
    ///   another sample's target, by `seed`): ablations
    ///
    /// or `vectors`, one tensor per layer. Options:
    /// - `position`: of the target, 0 by default; negative counts from its end; also `"first"`, `"last"`, or one per
    ///   sample, such as `samples.map(|sample| sample.query_last)` for the samples of a task
    /// - `direction`: `"denoise"` (default) patches the source's activations into the target's run: what suffices.
    ///   `"noise"` exchanges the two places: the run of source and target together gets, at the source's last token, the
    ///   activations of the target's run at `position`: what is needed
    /// - `sizes`: of the sets, `[1, 2]` by default, at most 3; or `"random"` for `subsets` sets, drawn by `seed`, which
    ///   have each place by an even chance
    /// - `elements`: the places to make sets of, layers or [layer, head] or [layer, neuron] pairs; all by default. `sizes`
    ///   are then all sizes by default
    /// - `site`: `"resid_post"` (default), `"attn_out"`, `"mlp_out"`; single heads by `"z"`, `"q"`, `"k"`, `"v"` (before the
    ///   rotary embedding), `"q_input"`, `"k_input"` or `"v_input"`; single neurons by `"post"`
    /// - `setting`: the baseline, `"pt_vs_to"` for the target alone, `"pt_vs_it"` for source and target together; by default
    ///   the run that is patched
    /// - `filler`: a token put before every target
    /// - `rr`: `"exact"` (default), or `"released"`: a reciprocal rank is -1 beyond `max_rank`, 1000 by default
    /// - `verify`: the number of cells to compute again one by one, 0 by default
    /// - `store`: `true` (default) caches finished batches of samples, and an interrupted grid goes on there; a folder; or
    ///   `false`. Grids of a function as metric are not stored
    /// - `tokens_at_once`: the largest number of tokens computed together; by default what memory allows
    /// - `quiet`: `true` prints no plan
    ///
    /// - `metric`: what effects are measured in, a name, a map, a function or an array of them; `["log_probability", "rr"]`
    ///   by default, see below
    ///
    /// The result has `sets`; `effect(metric)`, [set, sample], and `metrics`, the names asked for; `logit` and `rr`,
    /// effects [set, sample]; `rank` [set, sample] and `patched_logit`; `baseline` (`#{ logit, rr, rank, .. }`,
    /// [sample]); `plan`; `verified`; and `matrix(metric)`, `interactions(options)`, `anova(options)`, `to_csv(path)`.
    ///
    /// Metrics, where l are the last position's logits and a is the answer:
    /// - `"logit"`: l[a], the paper's. It carries a shift that all tokens share, so no verdict should rest on it alone
    /// - `"logit_difference"`: l[a] less the mean of the logits of `against`: a token for all samples, one for each, or
    ///   an array for each
    /// - `"centred_logit"`: l[a] less the mean of all logits
    /// - `"log_probability"`, `"probability"`, `"rank"`, `"rr"` (1 / rank)
    /// - `"kl"`: KL(reference ‖ patched) in nats; `reference` is `"clean"`, source and target together, or `"target"`
    /// - a function |logits| or |logits, samples| of [sample, d_vocab], which returns one number per sample; `samples` are
    ///   their numbers. Samples of another length or position come in a call of their own. Its effects are
    ///   `effect("closure")`
    ///
    /// A map names the metric `kind` and has these options and `normalised`: true gives (patched - corrupted) / (clean -
    /// corrupted), where corrupted is the target alone and clean source and target together.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let grid = model.patch_grid(#{
    ///     source: "; short, shorter; loud, louder", target: ["; big,"], answer: [" bigger"],
    ///     sizes: [1], verify: 2, store: false, quiet: true,
    /// });
    /// print(grid.sets[grid.rr.mean(1).argmax().item()]);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn patch_grid(context: NativeCallContext, model: &mut Model, request: Map) -> ScriptResult<GridHandle> {
        let call = Call::read(model.get(), request)?;
        with_hooks(&context, |caller| {
            let grid = call.run(caller, model.get())?;
            let model = Rc::downgrade(&model.shared());
            Ok(GridHandle(Rc::new(Computed { grid, call, model, frozen: OnceCell::new() })))
        })
    }

    /// The digest of a source: the residual stream at its last token after every layer, an array of tensors [d_model].
    ///
    /// These are the activations that `patch_grid` patches in; its option `vectors` takes such an array.
    ///
    /// Option: `site`, as for `patch_grid`: "resid_post" by default; "z" gives tensors [head, d_head].
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let vectors = model.digest("; short, shorter; loud, louder");
    /// assert_eq(vectors.len(), model.cfg.n_layers);
    /// assert_eq(vectors[0].shape, [model.cfg.d_model]);
    /// let run = model.run_with_cache("; short, shorter; loud, louder", "blocks.3.hook_resid_post");
    /// assert(allclose(vectors[3], run.cache["blocks.3.hook_resid_post"][0, -1]));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn digest(model: &mut Model, source: Dynamic, options: Map) -> ScriptResult<Array> {
        Ok(digest_vectors(model.get(), &source, options)?)
    }

    /// The sets of a grid: arrays of layers, or of [layer, head] pairs.
    #[rhai_fn(get = "sets", pure)]
    pub fn grid_sets(grid: &mut GridHandle) -> Array {
        grid.get().sets.iter().map(set_value).collect()
    }

    /// The effects on the answer's logit: patched minus baseline, [set, sample].
    #[rhai_fn(get = "logit", return_raw, pure)]
    pub fn grid_logit(grid: &mut GridHandle) -> ScriptResult<Tensor> {
        tensor(grid.get().effect(Metric::Logit))
    }

    /// The effects on the answer's reciprocal rank: patched minus baseline, [set, sample].
    #[rhai_fn(get = "rr", return_raw, pure)]
    pub fn grid_rr(grid: &mut GridHandle) -> ScriptResult<Tensor> {
        tensor(grid.get().effect(Metric::ReciprocalRank))
    }

    /// The effects on a metric: patched minus baseline, or normalised, [set, sample].
    ///
    /// `metric` is a name of a metric of `patch_grid`, or a map `#{ kind, normalised }`. All metrics that need no option
    /// can be read of every grid; a metric asked for as normalised only is given so by its name.
    ///
    /// # Errors
    /// A metric that needs an option that the grid was not given.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let grid = model.patch_grid(#{
    ///     source: "; short, shorter; loud, louder", target: ["; big,"], answer: [" bigger"], sizes: [1], quiet: true,
    ///     metric: ["log_probability", #{ kind: "logit_difference", against: " big" }], store: false,
    /// });
    /// let shift = grid.effect("logit") - grid.effect("log_probability");      // what all tokens share
    /// print(grid.effect("logit_difference")[3]);
    /// ```
    #[rhai_fn(name = "effect", return_raw, pure)]
    pub fn grid_effect(grid: &mut GridHandle, metric: Dynamic) -> ScriptResult<Tensor> {
        tensor(metric::asked(&metric).and_then(|asked| grid.get().asked(asked)))
    }

    /// The direction of the patches: "denoise" or "noise".
    #[rhai_fn(get = "direction", pure)]
    pub fn grid_direction(grid: &mut GridHandle) -> String {
        grid.get().direction.name().to_owned()
    }

    /// The baseline: "pt_vs_to", the target alone, or "pt_vs_it", source and target together.
    #[rhai_fn(get = "setting", pure)]
    pub fn grid_setting(grid: &mut GridHandle) -> String {
        grid.get().setting.name().to_owned()
    }

    /// The names of the metrics that the grid was asked for.
    #[rhai_fn(get = "metrics", pure)]
    pub fn grid_metrics(grid: &mut GridHandle) -> Array {
        grid.get().metrics.iter().map(|asked| Dynamic::from(asked.metric.name())).collect()
    }

    /// The answer's rank in the patched runs, [set, sample]; 1 is the most likely token.
    #[rhai_fn(get = "rank", pure)]
    pub fn grid_rank(grid: &mut GridHandle) -> Tensor {
        Tensor::new(grid.get().patched.rank.shallow_clone())
    }

    /// The answer's logit in the patched runs, [set, sample].
    #[rhai_fn(get = "patched_logit", pure)]
    pub fn grid_patched_logit(grid: &mut GridHandle) -> Tensor {
        Tensor::new(grid.get().patched.logit.shallow_clone())
    }

    /// The answer in the baseline runs: `#{ logit, rr, rank, .. }`, each [sample], with every metric that needs no option,
    /// and those asked for.
    #[rhai_fn(get = "baseline", return_raw, pure)]
    pub fn grid_baseline(grid: &mut GridHandle) -> ScriptResult<Map> {
        let grid = grid.get();
        let values = |metric| grid.values(&grid.baseline, metric);
        let mut baseline = metric::plain(values)?;
        for asked in &grid.metrics {
            baseline.insert(asked.metric.name().into(), Dynamic::from(Tensor::new(values(asked.metric)?)));
        }
        baseline.insert("rank".into(), Dynamic::from(Tensor::new(grid.baseline.rank.shallow_clone())));
        Ok(baseline)
    }

    /// The cost of the grid: `#{ sets, samples, stored, passes, plain_passes, bytes, text }`.
    ///
    /// `samples` were computed and `stored` found in the store. A pass takes one token through one block: `passes` were
    /// made, one run per cell would make `plain_passes`. `bytes` is the memory for the activations of samples computed
    /// together; `text` is one line about all of it.
    #[rhai_fn(get = "plan", pure)]
    pub fn grid_plan(grid: &mut GridHandle) -> Map {
        plan_map(&grid.get().plan)
    }

    /// The cells computed again one by one (option `verify`): `#{ cells, max_logit_difference, max_difference,
    /// rank_differences }`, or (). `max_difference` is the largest of all numbers that metrics are made of.
    #[rhai_fn(get = "verified", pure)]
    pub fn grid_verified(grid: &mut GridHandle) -> Dynamic {
        let Some(verified) = grid.get().verified else { return Dynamic::UNIT };
        let map = map! {
            "cells" => verified.cells as i64,
            "max_logit_difference" => verified.max_logit_difference,
            "max_difference" => verified.max_difference,
            "rank_differences" => verified.rank_differences as i64,
        };
        map.into()
    }

    /// The mean effects on a metric, as `effect` takes it, of sets of one and two layers as a square, [layer i, layer j],
    /// NaN below the diagonal: for `heatmap`.
    #[rhai_fn(name = "matrix", return_raw, pure)]
    pub fn grid_matrix(grid: &mut GridHandle, metric: Dynamic) -> ScriptResult<Tensor> {
        tensor(matrix(grid.get(), &metric))
    }

    /// Writes every cell: set (layers joined by +, heads as layer.head), sample, effects on logit, centred logit,
    /// log-probability and reciprocal rank, rank.
    #[rhai_fn(name = "to_csv", return_raw, pure)]
    pub fn grid_to_csv(grid: &mut GridHandle, path: &str) -> ScriptResult<()> {
        Ok(export::write_csv(grid.get(), Path::new(path))?)
    }
}
