//! Patching grids in scripts.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use tch::Kind;

use super::metric::{self, Metrics};
use super::{Model, tokens};
use crate::bind::convert::{expected, integers};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::cache::Cache;
use crate::error::{Error, Result, unknown};
use crate::grid::metric::Metric;
use crate::grid::outcome::Grid;
use crate::grid::plan::Plan;
use crate::grid::request::{Request, Setting};
use crate::grid::set::{Element, Set};
use crate::grid::{digest, driver, export};
use crate::model::hook::Site;
use crate::model::language_model::LanguageModel;
use crate::output;
use crate::tensor::Tensor;

/// The script's handle of a computed grid.
#[derive(Debug, Clone)]
pub struct GridHandle(Rc<Grid>);

impl Handle for GridHandle {
    const NAME: &'static str = "grid";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        format!("grid of {} sets x {} samples", self.0.sets.len(), self.0.samples())
    }
}

impl GridHandle {
    /// The grid.
    pub fn get(&self) -> &Grid {
        &self.0
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

const SITES: &[(&str, Site)] =
    &[("resid_post", Site::ResidPost), ("attn_out", Site::AttentionOut), ("mlp_out", Site::MlpOut), ("z", Site::Z)];

fn grid_request(model: &LanguageModel, options: Map) -> Result<(Request, bool)> {
    Options::read("patch_grid", options, |options| {
        Ok((read(model, options)?, options.boolean("quiet")?.unwrap_or(false)))
    })
}

fn read(model: &LanguageModel, options: &mut Options) -> Result<Request> {
    const HINT: &str = "#{ source: tokens, target: tokens, answer: ids }";
    let vectors = options.array("vectors")?.map(|vectors| layer_vectors(&vectors)).transpose()?;
    let sources = match vectors {
        None => tokens::prompts(model, &options.needed("source", HINT)?)?,
        Some(_) if options.any("source").is_some() => {
            return Err(Error::new("options `source` and `vectors` of `patch_grid` exclude each other"));
        }
        Some(_) => Vec::new(),
    };
    let targets = tokens::prompts(model, &options.needed("target", HINT)?)?;
    let answers = answers(model, &options.needed("answer", HINT)?)?;
    let Metrics { asked: metrics, against, reference } = metric::metrics(model, options.any("metric"), targets.len())?;
    let released = options.choice("rr", &[("exact", false), ("released", true)])?.unwrap_or(false);
    let max_rank = options.integer("max_rank")?;
    if max_rank.is_some() && !released {
        return Err(Error::new("option `max_rank` of `patch_grid` goes with `rr: \"released\"`"));
    }
    let elements = options.array("elements")?.map(|elements| places(&elements)).transpose()?;
    let sizes = match options.array("sizes")? {
        Some(sizes) => integers("option `sizes`", &sizes)?.into_iter().map(|size| size.max(0) as usize).collect(),
        None => elements.as_ref().map_or(vec![1, 2], |elements| (1..=elements.len()).collect()),
    };
    Ok(Request {
        sources,
        vectors,
        targets,
        answers,
        metrics,
        against,
        reference,
        positions: positions(options.any("position"))?,
        sizes,
        elements,
        site: site(options)?,
        setting: options
            .choice("setting", &[("pt_vs_to", Setting::TargetOnly), ("pt_vs_it", Setting::SourceAndTarget)])?
            .unwrap_or(Setting::TargetOnly),
        filler: filler(model, options.any("filler"))?,
        max_rank: released.then_some(max_rank.unwrap_or(1000)),
        verify: options.integer("verify")?.unwrap_or(0).max(0) as usize,
        tokens_at_once: options.integer("tokens_at_once")?,
        store: store(options.any("store"))?,
    })
}

/// Places, each a layer or a pair of layer and head.
fn places(items: &Array) -> Result<Vec<Element>> {
    let one = |item: &Dynamic| -> Option<Element> {
        let Some(pair) = item.read_lock::<Array>() else {
            return Some(Element { layer: item.as_int().ok()?, head: None });
        };
        let [layer, head] = pair.as_slice() else { return None };
        Some(Element { layer: layer.as_int().ok()?, head: Some(head.as_int().ok()?) })
    };
    let named = |item: &Dynamic| one(item).ok_or_else(|| expected("each element", "a layer or [layer, head]", item));
    items.iter().map(named).collect()
}

/// The option `site`: where activations are read and patched in.
fn site(options: &mut Options) -> Result<Site> {
    let Some(name) = options.string("site")? else { return Ok(Site::ResidPost) };
    let short = name.strip_prefix("hook_").unwrap_or(&name);
    let found = SITES.iter().find(|(known, _)| *known == short).map(|(_, site)| *site);
    found.ok_or_else(|| unknown("site", &name, &SITES.iter().map(|(known, _)| *known).collect::<Vec<_>>()))
}

fn digest_vectors(model: &LanguageModel, source: &Dynamic, options: Map) -> Result<Array> {
    let site = Options::read("digest", options, site)?;
    let prompts = tokens::prompts(model, source)?;
    let [prompt] = prompts.as_slice() else {
        return Err(Error::new(format!("`digest` takes one source, not {}", prompts.len()))
            .hint("sources.map(|source| model.digest(source))"));
    };
    let vectors = digest::digest(&model.decoder, prompt, site)?;
    Ok(vectors.into_iter().map(|vector| Dynamic::from(Tensor::new(vector))).collect())
}

fn layer_vectors(vectors: &Array) -> Result<Rc<Vec<tch::Tensor>>> {
    let one = |value: &Dynamic| match value.read_lock::<Tensor>() {
        Some(tensor) => Ok(tensor.share()),
        None => Err(expected("each item of option `vectors`", "a tensor", value)),
    };
    Ok(Rc::new(vectors.iter().map(one).collect::<Result<_>>()?))
}

/// Answer ids, from integers, or from texts, of which the first token counts.
pub fn answers(model: &LanguageModel, value: &Dynamic) -> Result<Vec<i64>> {
    let one = |item: &Dynamic| -> Result<i64> {
        if let Ok(id) = item.as_int() {
            return Ok(id);
        }
        let text = item.clone().into_string().map_err(|_| expected("an answer", "a token id or text", item))?;
        match model.encode(&text, false)?.as_slice() {
            [] => {
                Err(Error::new("an answer is empty").hint("give its text, with the space in front where it needs one"))
            }
            [id] => Ok(*id),
            [id, rest @ ..] => {
                let first = model.decode(&[*id])?;
                output::error_line(&format!(
                    "warning: the answer \"{text}\" is {} tokens; its first, \"{first}\", is measured",
                    rest.len() + 1
                ));
                Ok(*id)
            }
        }
    };
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return Ok(Vec::<i64>::try_from(&tensor.tch().f_to_device_(tch::Device::Cpu, Kind::Int64, false, false)?)?);
    }
    match value.read_lock::<Array>() {
        Some(items) => items.iter().map(one).collect(),
        None => one(value).map(|id| vec![id]),
    }
}

fn positions(value: Option<Dynamic>) -> Result<Vec<i64>> {
    let one = |value: &Dynamic| -> Result<i64> {
        match (value.as_int(), value.clone().into_string().as_deref()) {
            (Ok(position), _) => Ok(position),
            (_, Ok("first")) => Ok(0),
            (_, Ok("last")) => Ok(-1),
            _ => Err(expected("option `position`", "an integer, \"first\", \"last\", or an array of them", value)),
        }
    };
    match value {
        None => Ok(vec![0]),
        Some(value) => match value.read_lock::<Array>() {
            Some(items) => items.iter().map(one).collect(),
            None => one(&value).map(|position| vec![position]),
        },
    }
}

fn filler(model: &LanguageModel, value: Option<Dynamic>) -> Result<Option<i64>> {
    let Some(value) = value else { return Ok(None) };
    if let Ok(id) = value.as_int() {
        return Ok(Some(id));
    }
    let text = value.clone().into_string().map_err(|_| expected("option `filler`", "a token id or text", &value))?;
    match model.encode(&text, false)?.as_slice() {
        [id] => Ok(Some(*id)),
        other => {
            Err(Error::new(format!("the filler \"{text}\" is {} tokens", other.len())).hint("it must be one token"))
        }
    }
}

fn store(value: Option<Dynamic>) -> Result<Option<PathBuf>> {
    match value {
        None => Ok(Some(Cache::from_env()?.cells())),
        Some(value) if value.is_bool() => match value.as_bool() {
            Ok(true) => Ok(Some(Cache::from_env()?.cells())),
            _ => Ok(None),
        },
        Some(value) if value.is_string() => Ok(value.into_string().ok().map(PathBuf::from)),
        Some(value) => Err(expected("option `store`", "true, false or a folder", &value)),
    }
}

fn tensor(value: Result<tch::Tensor>) -> ScriptResult<Tensor> {
    Ok(value.map(Tensor::new)?)
}

fn matrix(grid: &Grid, metric: &str) -> Result<tch::Tensor> {
    let metric = metric::named(metric)?;
    grid.matrix(metric).map_err(|error| error.hint("use `sizes: [1, 2]`, or read `grid.logit` and `grid.rr` directly"))
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
    /// Patches every set of layers (or heads) of a target's run with the activations of a source's last token, and
    /// measures the answers: a grid.
    ///
    /// Work that sets share is done once; the numbers are those of one run per cell. Needed: `source` (tokens or text;
    /// one, or one per sample), `target` (one or many, of any lengths), `answer` (a token id per sample, or text, of
    /// which the first token counts). Options:
    /// - `position`: of the target, 0 by default; negative counts from its end; also `"first"`, `"last"`, or one per
    ///   sample, such as `samples.map(|sample| sample.query_last)` for the samples of a task
    /// - `sizes`: of the sets, `[1, 2]` by default, at most 3
    /// - `elements`: the places to make sets of, layers or [layer, head] pairs, at most 16; all by default. `sizes` are
    ///   then all sizes by default
    /// - `site`: `"resid_post"` (default), `"attn_out"`, `"mlp_out"`, or `"z"` for single heads
    /// - `setting`: `"pt_vs_to"` (default) measures effects against the target alone, `"pt_vs_it"` against source and
    ///   target together
    /// - `filler`: a token put before every target
    /// - `rr`: `"exact"` (default), or `"released"`: a reciprocal rank is -1 beyond `max_rank`, 1000 by default
    /// - `verify`: the number of cells to compute again one by one, 0 by default
    /// - `vectors`: one tensor [d_model] per layer to patch in, instead of `source`
    /// - `store`: `true` (default) caches finished samples, and an interrupted grid goes on there; a folder; or `false`
    /// - `tokens_at_once`: the largest number of tokens computed together; by default what memory allows
    /// - `quiet`: `true` prints no plan
    ///
    /// - `metric`: what effects are measured in, a name, a map or an array of them; `["log_probability", "rr"]` by
    ///   default, see below
    ///
    /// The result has `sets`; `effect(metric)`, [set, sample], and `metrics`, the names asked for; `logit` and `rr`,
    /// effects [set, sample]; `rank` [set, sample] and `patched_logit`; `baseline` (`#{ logit, rr, rank, .. }`,
    /// [sample]); `plan`; `verified`; and `matrix(metric)`, `to_csv(path)`.
    ///
    /// Metrics, where l are the last position's logits and a is the answer:
    /// - `"logit"`: l[a], the paper's. It carries a shift that all tokens share, so no verdict should rest on it alone
    /// - `"logit_difference"`: l[a] less the mean of the logits of `against`: a token for all samples, one for each, or
    ///   an array for each
    /// - `"centred_logit"`: l[a] less the mean of all logits
    /// - `"log_probability"`, `"probability"`, `"rank"`, `"rr"` (1 / rank)
    /// - `"kl"`: KL(reference ‖ patched) in nats; `reference` is `"clean"`, source and target together, or `"target"`
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
    pub fn patch_grid(model: &mut Model, request: Map) -> ScriptResult<GridHandle> {
        let (request, quiet) = grid_request(model.get(), request)?;
        let announce = &mut |plan: &Plan| {
            if !quiet {
                output::error_line(&plan.to_string());
            }
        };
        Ok(driver::compute(model.get(), &request, announce).map(|grid| GridHandle(Rc::new(grid)))?)
    }

    /// The digest of a source: the residual stream at its last token after every layer, an array of tensors [d_model].
    ///
    /// These are the activations that `patch_grid` patches in; its option `vectors` takes such an array.
    ///
    /// Option: `site` ("resid_post"; "attn_out" or "mlp_out": what attention or the MLP adds; "z": tensors [head,
    /// d_head]).
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
        grid.0.sets.iter().map(set_value).collect()
    }

    /// The effects on the answer's logit: patched minus baseline, [set, sample].
    #[rhai_fn(get = "logit", return_raw, pure)]
    pub fn grid_logit(grid: &mut GridHandle) -> ScriptResult<Tensor> {
        tensor(grid.0.effect(Metric::Logit))
    }

    /// The effects on the answer's reciprocal rank: patched minus baseline, [set, sample].
    #[rhai_fn(get = "rr", return_raw, pure)]
    pub fn grid_rr(grid: &mut GridHandle) -> ScriptResult<Tensor> {
        tensor(grid.0.effect(Metric::ReciprocalRank))
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
        tensor(metric::asked(&metric).and_then(|asked| grid.0.asked(asked)))
    }

    /// The names of the metrics that the grid was asked for.
    #[rhai_fn(get = "metrics", pure)]
    pub fn grid_metrics(grid: &mut GridHandle) -> Array {
        let name = |metric| Metric::NAMES.iter().find(|(_, known)| *known == metric).map(|(name, _)| *name);
        grid.0.metrics.iter().filter_map(|asked| name(asked.metric)).map(Dynamic::from).collect()
    }

    /// The answer's rank in the patched runs, [set, sample]; 1 is the most likely token.
    #[rhai_fn(get = "rank", pure)]
    pub fn grid_rank(grid: &mut GridHandle) -> Tensor {
        Tensor::new(grid.0.patched.rank.shallow_clone())
    }

    /// The answer's logit in the patched runs, [set, sample].
    #[rhai_fn(get = "patched_logit", pure)]
    pub fn grid_patched_logit(grid: &mut GridHandle) -> Tensor {
        Tensor::new(grid.0.patched.logit.shallow_clone())
    }

    /// The answer in the baseline runs: `#{ logit, rr, rank, .. }`, each [sample], with every metric that needs no
    /// option.
    #[rhai_fn(get = "baseline", return_raw, pure)]
    pub fn grid_baseline(grid: &mut GridHandle) -> ScriptResult<Map> {
        let grid = &grid.0;
        let mut baseline = metric::plain(|metric| grid.values(&grid.baseline, metric))?;
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
        plan_map(&grid.0.plan)
    }

    /// The cells computed again one by one (option `verify`): `#{ cells, max_logit_difference, rank_differences }`, or
    /// ().
    #[rhai_fn(get = "verified", pure)]
    pub fn grid_verified(grid: &mut GridHandle) -> Dynamic {
        let Some(verified) = grid.0.verified else { return Dynamic::UNIT };
        let map = map! {
            "cells" => verified.cells as i64,
            "max_logit_difference" => verified.max_logit_difference,
            "rank_differences" => verified.rank_differences as i64,
        };
        map.into()
    }

    /// The mean effects on a metric ("log_probability", "rr", "logit", ...) of sets of one and two layers as a square, [layer i, layer j], NaN below the
    /// diagonal: for `heatmap`.
    #[rhai_fn(name = "matrix", return_raw, pure)]
    pub fn grid_matrix(grid: &mut GridHandle, metric: &str) -> ScriptResult<Tensor> {
        tensor(matrix(&grid.0, metric))
    }

    /// Writes every cell: set (layers joined by +, heads as layer.head), sample, effects on logit, centred logit,
    /// log-probability and reciprocal rank, rank.
    #[rhai_fn(name = "to_csv", return_raw, pure)]
    pub fn grid_to_csv(grid: &mut GridHandle, path: &str) -> ScriptResult<()> {
        Ok(export::write_csv(&grid.0, Path::new(path))?)
    }
}
