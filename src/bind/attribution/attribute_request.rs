//! The options of `attribute`.

use super::measure::Measure;
use super::request::names;
use crate::attribution::attribute::{Method, Path};
use crate::attribution::node::Kind;
use crate::attribution::replacement::{Sample, pairs, vectors};
use crate::bind::model::{Model, positions, prompts};
use crate::bind::option::Options;
use crate::error::{Error, Result, unknown};
use crate::model::backward::Backward;

/// The runs and the metric of a call.
pub struct Call {
    /// The model
    pub model: Model,
    /// The metric
    pub measure: Measure,
    /// The prompts whose distributions the metric compares with, if it does
    pub clean: Vec<Vec<i64>>,
}

/// Everything that a call asks for.
pub struct Asked {
    /// The runs and the metric
    pub call: Call,
    /// The samples
    pub samples: Vec<Sample>,
    /// The kinds of nodes
    pub kinds: Vec<Kind>,
    /// How they are scored
    pub method: Method,
    /// What that is called
    pub words: String,
    /// How many places to verify, and the seed of those that are drawn
    pub verify: Option<(usize, u64)>,
}

const HINT: &str = "#{ clean: prompts, corrupted: prompts, answer: ids }, or #{ source: .., target: .., position: .. }";

impl Asked {
    /// Reads the options.
    ///
    /// # Errors
    /// Options that are missing or are not what they must be.
    pub fn read(model: &Model, options: &mut Options) -> Result<Self> {
        let (samples, clean) = samples(model, options)?;
        let measure = Measure::read(model, options, samples.len(), HINT)?;
        let is_moved = samples.iter().any(|sample| sample.position.is_some());
        let (method, words) = method(options, is_moved)?;
        let verify = match (options.integer("verify")?, options.integer("seed")?) {
            (Some(count), _) if count < 2 => {
                return Err(Error::new(format!("{count} places say nothing of the others")).hint("verify: 20"));
            }
            (Some(count), seed) => Some((count as usize, seed.unwrap_or(0) as u64)),
            (None, None) => None,
            (None, Some(_)) => return Err(Error::new("option `seed` of `attribute` goes with `verify`")),
        };
        let kinds = kinds(model, options)?;
        Ok(Self { call: Call { model: model.clone(), measure, clean }, samples, kinds, method, words, verify })
    }
}

/// The samples, and the clean prompt of each.
fn samples(model: &Model, options: &mut Options) -> Result<(Vec<Sample>, Vec<Vec<i64>>)> {
    let language_model = model.get();
    let mut given = |key| options.any(key).map(|value| prompts(language_model, &value)).transpose();
    let (clean, corrupted) = (given("clean")?, given("corrupted")?);
    let (source, target) = (given("source")?, given("target")?);
    let position = options.any("position");
    let denoises = options.choice("direction", &[("noise", false), ("denoise", true)])?;
    for prompt in [&clean, &corrupted, &source, &target].into_iter().flatten().flatten() {
        language_model.decoder.check_ids(prompt, "a prompt")?;
    }
    match (clean, corrupted, source, target) {
        (Some(clean), Some(corrupted), None, None) => {
            if position.is_some() {
                return Err(Error::new(
                    "option `position` goes with `source` and `target`: of clean and corrupted prompts, \
                                       every position is patched",
                ));
            }
            let samples = match denoises {
                Some(true) => pairs(&corrupted, &clean)?,
                _ => pairs(&clean, &corrupted)?,
            };
            Ok((samples, clean))
        }
        (None, None, Some(source), Some(target)) => {
            if denoises.is_some() {
                return Err(Error::new(
                    "option `direction` goes with `clean` and `corrupted`: of `source` and `target`, \
                                       the target's run is patched",
                ));
            }
            let samples = vectors(&source, &target, &positions(position)?)?;
            let together = |(sample, target): (&Sample, &Vec<i64>)| [&sample.donor[..], target].concat();
            let clean = samples.iter().zip(&target).map(together).collect();
            Ok((samples, clean))
        }
        (None, None, None, None) => Err(Error::new("`attribute` needs the runs to compare").hint(HINT)),
        _ => Err(Error::new("`attribute` takes `clean` and `corrupted`, or `source` and `target`").hint(HINT)),
    }
}

/// The method, and what it is called.
fn method(options: &mut Options, is_moved: bool) -> Result<(Method, String)> {
    const METHODS: [(&str, Method); 5] = [
        ("atp", Method::Gradient(Backward::Exact)),
        ("relp", Method::Gradient(Backward::Relp)),
        ("frozen", Method::Gradient(Backward::Frozen)),
        ("atp*", Method::AtpStar),
        ("ig", Method::Integrated(Path::Inputs, 0)),
    ];
    let name = options.string("method")?.unwrap_or_else(|| "atp".to_owned());
    let known = METHODS.iter().find(|(known, _)| *known == name);
    let Some((_, method)) = known else {
        return Err(unknown("method", &name, &METHODS.map(|(known, _)| known)));
    };
    let steps = options.integer("steps")?;
    let path = options.choice("path", &[("inputs", Path::Inputs), ("activations", Path::Activations)])?;
    let Method::Integrated(..) = method else {
        if steps.is_some() || path.is_some() {
            return Err(Error::new(format!("options `steps` and `path` go with `method: \"ig\"`, not \"{name}\"")));
        }
        return Ok((*method, name));
    };
    let steps = steps.unwrap_or(10);
    if steps < 1 {
        return Err(Error::new(format!("a mean over {steps} steps cannot be taken")).hint("steps: 10"));
    }
    let path = path.unwrap_or(if is_moved { Path::Activations } else { Path::Inputs });
    let through = if path == Path::Inputs { "inputs" } else { "activations" };
    Ok((Method::Integrated(path, steps as usize), format!("ig over {through} in {steps} steps")))
}

/// The kinds of nodes: by default heads and, where the model has any, MLPs.
fn kinds(model: &Model, options: &mut Options) -> Result<Vec<Kind>> {
    let Some(given) = options.array("nodes")? else {
        let mlps = Kind::MlpOut.points(model.get().config()).is_ok();
        return Ok([Kind::Head].into_iter().chain(mlps.then_some(Kind::MlpOut)).collect());
    };
    let kind = |name: &String| {
        let found = Kind::NAMES.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
        found.ok_or_else(|| unknown("nodes", name, &Kind::NAMES.map(|(known, _)| known)))
    };
    names("nodes", &given)?.iter().map(kind).collect()
}
