//! The options of `patch_grid`.

use std::path::PathBuf;
use std::rc::Rc;

use rhai::{Array, Dynamic, FnPtr, Map};

use super::hooks::Caller;
use super::metric::{self, Metrics};
use super::{answer, tokens};
use crate::bind::convert::{expected, integers};
use crate::bind::option::Options;
use crate::cache::Cache;
use crate::error::{Error, Result, unknown};
use crate::grid::driver;
use crate::grid::frozen::{self, Frozen};
use crate::grid::outcome::Grid;
use crate::grid::plan::Plan;
use crate::grid::request::{Direction, Origin, Request, Setting, Sizes};
use crate::grid::set::Element;
use crate::model::hook::Site;
use crate::model::language_model::LanguageModel;
use crate::output;
use crate::tensor::Tensor;

const SITES: &[(&str, Site)] = &[
    ("resid_post", Site::ResidPost),
    ("attn_out", Site::AttentionOut),
    ("mlp_out", Site::MlpOut),
    ("z", Site::Z),
    ("q", Site::Query),
    ("k", Site::Key),
    ("v", Site::Value),
    ("q_input", Site::QueryIn),
    ("k_input", Site::KeyIn),
    ("v_input", Site::ValueIn),
    ("post", Site::MlpPost),
];

/// A call of `patch_grid`.
#[derive(Debug)]
pub struct Call {
    request: Request,
    closure: Option<FnPtr>,
    quiet: bool,
}

impl Call {
    /// Reads the options.
    ///
    /// # Errors
    /// An unknown option, or a value that is not what the option takes.
    pub fn read(model: &LanguageModel, options: Map) -> Result<Self> {
        Options::read("patch_grid", options, |options| Self::of(model, options))
    }

    fn of(model: &LanguageModel, options: &mut Options) -> Result<Self> {
        const HINT: &str = "#{ source: tokens, target: tokens, answer: ids }";
        let seed = options.integer("seed")?;
        let origin = origin(model, options, seed, HINT)?;
        let targets = tokens::prompts(model, &options.needed("target", HINT)?)?;
        let answers = answer::ids_by_sample(model, &options.needed("answer", HINT)?)?;
        let Metrics { asked: metrics, against, reference, closure } =
            metric::metrics(model, options.any("metric"), targets.len())?;
        let released = options.choice("rr", &[("exact", false), ("released", true)])?.unwrap_or(false);
        let max_rank = options.integer("max_rank")?;
        if max_rank.is_some() && !released {
            return Err(Error::new("option `max_rank` of `patch_grid` goes with `rr: \"released\"`"));
        }
        let elements = options.array("elements")?.map(|elements| places(&elements)).transpose()?;
        let sizes = sizes(options, elements.as_ref().map(Vec::len), seed)?;
        if seed.is_some() && !matches!((&origin, &sizes), (Origin::Resample(_), _) | (_, Sizes::Random { .. })) {
            return Err(Error::new(
                "option `seed` of `patch_grid` goes with `source: \"resample\"` or `sizes: \"random\"`",
            ));
        }
        let directions = [("denoise", Direction::Denoise), ("noise", Direction::Noise)];
        let direction = options.choice("direction", &directions)?.unwrap_or(Direction::Denoise);
        let settings = [("pt_vs_to", Setting::TargetOnly), ("pt_vs_it", Setting::SourceAndTarget)];
        // By default the baseline is the run that is patched.
        let usual = if direction == Direction::Denoise { Setting::TargetOnly } else { Setting::SourceAndTarget };
        let request = Request {
            origin,
            targets,
            answers,
            metrics,
            against,
            reference,
            positions: positions(options.any("position"))?,
            sizes,
            elements,
            site: site(options)?,
            direction,
            setting: options.choice("setting", &settings)?.unwrap_or(usual),
            filler: filler(model, options.any("filler"))?,
            max_rank: released.then_some(max_rank.unwrap_or(1000)),
            verify: match options.integer("verify")?.unwrap_or(0) {
                cells if cells >= 0 => cells as usize,
                cells => return Err(Error::new(format!("{cells} cells cannot be computed again")).hint("0 or more")),
            },
            tokens_at_once: options.integer("tokens_at_once")?,
            store: store(options.any("store"))?,
        };
        Ok(Self { request, closure, quiet: options.boolean("quiet")?.unwrap_or(false) })
    }

    /// What the frozen maps predict of the grid.
    ///
    /// # Errors
    /// As for [`frozen::predicted`]; what the metric's function raises.
    pub fn frozen(&self, caller: &Caller<'_>, model: &Rc<LanguageModel>) -> Result<Frozen> {
        let Some(function) = &self.closure else {
            return frozen::predicted(model, &self.request, None);
        };
        let measure = |logits: &tch::Tensor, samples: &[usize]| caller.measure(function, logits, samples);
        frozen::predicted(model, &self.request, Some(&measure))
    }

    /// Computes the grid.
    ///
    /// # Errors
    /// As for [`driver::compute`]; what the metric's function raises.
    pub fn run(&self, caller: &Caller<'_>, model: &LanguageModel) -> Result<Grid> {
        let announce = &mut |plan: &Plan| {
            if !self.quiet {
                output::error_line(&plan.to_string());
            }
        };
        let Some(function) = &self.closure else {
            return driver::compute(model, &self.request, None, announce);
        };
        let measure = |logits: &tch::Tensor, samples: &[usize]| caller.measure(function, logits, samples);
        driver::compute(model, &self.request, Some(&measure), announce)
    }
}

/// The options `source` and `vectors`: where the activations that are patched in come from.
fn origin(model: &LanguageModel, options: &mut Options, seed: Option<i64>, hint: &'static str) -> Result<Origin> {
    if let Some(vectors) = options.array("vectors")? {
        if options.any("source").is_some() {
            return Err(Error::new("options `source` and `vectors` of `patch_grid` exclude each other"));
        }
        return Ok(Origin::Vectors(layer_vectors(&vectors)?));
    }
    let source = options.needed("source", hint)?;
    Ok(match source.clone().into_string().as_deref() {
        Ok("zero") => Origin::Zero,
        Ok("mean") => Origin::Mean,
        Ok("resample") => Origin::Resample(seed.unwrap_or(0) as u64),
        _ => Origin::Source(tokens::prompts(model, &source)?),
    })
}

/// The options `sizes` and `subsets`, for a number of chosen elements.
fn sizes(options: &mut Options, elements: Option<usize>, seed: Option<i64>) -> Result<Sizes> {
    let subsets = options.integer("subsets")?;
    let sizes = options.any("sizes");
    if sizes.as_ref().is_some_and(Dynamic::is_string) {
        let word = sizes.unwrap_or_default().into_string().unwrap_or_default();
        if word != "random" {
            return Err(unknown("sizes", &word, &["random"]).hint("or an array such as [1, 2]"));
        }
        let subsets = subsets
            .ok_or_else(|| Error::new("`sizes: \"random\"` needs `subsets`, how many to draw").hint("subsets: 500"))?;
        return Ok(Sizes::Random { subsets: subsets.max(0) as usize, seed: seed.unwrap_or(0) as u64 });
    }
    if subsets.is_some() {
        return Err(Error::new("option `subsets` of `patch_grid` goes with `sizes: \"random\"`"));
    }
    Ok(Sizes::Of(match sizes {
        Some(value) => match value.read_lock::<Array>() {
            Some(sizes) => integers("option `sizes`", &sizes)?.into_iter().map(|size| size.max(0) as usize).collect(),
            None => return Err(expected("option `sizes`", "an array such as [1, 2], or \"random\"", &value)),
        },
        None => elements.map_or(vec![1, 2], |elements| (1..=elements).collect()),
    }))
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
    let named =
        |item: &Dynamic| one(item).ok_or_else(|| expected("each element", "a layer, or [layer, head or neuron]", item));
    items.iter().map(named).collect()
}

/// The option `site`: where activations are read and patched in.
///
/// # Errors
/// An unknown site.
pub fn site(options: &mut Options) -> Result<Site> {
    let Some(name) = options.string("site")? else { return Ok(Site::ResidPost) };
    let short = name.strip_prefix("hook_").unwrap_or(&name);
    let found = SITES.iter().find(|(known, _)| *known == short).map(|(_, site)| *site);
    found.ok_or_else(|| unknown("site", &name, &SITES.iter().map(|(known, _)| *known).collect::<Vec<_>>()))
}

fn layer_vectors(vectors: &Array) -> Result<Rc<Vec<tch::Tensor>>> {
    let one = |value: &Dynamic| match value.read_lock::<Tensor>() {
        Some(tensor) => Ok(tensor.share()),
        None => Err(expected("each item of option `vectors`", "a tensor", value)),
    };
    Ok(Rc::new(vectors.iter().map(one).collect::<Result<_>>()?))
}

/// The option `position`: positions, the first one by default.
///
/// # Errors
/// Another value.
pub fn positions(value: Option<Dynamic>) -> Result<Vec<i64>> {
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
