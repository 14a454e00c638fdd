//! The metrics that a script asks for: names, maps, or several of them.

use rhai::{Array, Dynamic, FnPtr, Map};

use super::answer;
use crate::bind::convert::expected;
use crate::bind::option::Options;
use crate::error::{Error, Result, unknown};
use crate::grid::metric::{Asked, Metric};
use crate::grid::request::Reference;
use crate::grid::target::{self, Target};
use crate::model::language_model::LanguageModel;
use crate::tensor::Tensor;

/// What a request's metrics are.
#[derive(Debug, Default)]
pub struct Metrics {
    /// In the order asked for
    pub asked: Vec<Asked>,
    /// Tokens to compare the answers with, for each sample; none at all for no comparison
    pub against: Vec<Vec<i64>>,
    /// The run to compare distributions with
    pub reference: Option<Reference>,
    /// A function of the logits
    pub closure: Option<FnPtr>,
}

/// Reads the option `metric` for `samples` samples. Without it, the metrics are log-probability and reciprocal rank.
///
/// # Errors
/// An unknown metric or option, tokens to compare with that do not fit the samples, two metrics that compare with
/// different tokens or runs.
pub fn metrics(model: &LanguageModel, value: Option<Dynamic>, samples: usize) -> Result<Metrics> {
    let mut metrics = Metrics::default();
    match value {
        None => metrics.asked = [Metric::LogProbability, Metric::ReciprocalRank].map(Asked::plain).to_vec(),
        Some(value) => match value.clone().into_array() {
            Ok(values) if values.is_empty() => return Err(Error::new("option `metric` is empty")),
            Ok(values) => {
                for value in &values {
                    metrics.read(model, value, samples)?;
                }
            }
            Err(_) => metrics.read(model, &value, samples)?,
        },
    }
    Ok(metrics)
}

/// The values of every metric that needs no option, by name; ranks, which are integers, are left out.
///
/// # Errors
/// An error in the values.
pub fn plain(values: impl Fn(Metric) -> Result<tch::Tensor>) -> Result<Map> {
    let mut found = Map::new();
    for (name, metric) in Metric::NAMES {
        if !matches!(metric, Metric::Rank | Metric::LogitDifference | Metric::Kl | Metric::Closure) {
            found.insert(name.into(), Dynamic::from(Tensor::new(values(metric)?)));
        }
    }
    Ok(found)
}

/// The metric of that name.
///
/// # Errors
/// No such metric.
pub fn named(name: &str) -> Result<Metric> {
    let known = Metric::NAMES.iter().map(|(known, _)| *known).filter(|known| *known != Metric::Closure.name());
    Metric::named(name).ok_or_else(|| unknown("metric", name, &known.collect::<Vec<_>>()))
}

/// One metric: its name, or a map of `kind` and `normalised`.
///
/// # Errors
/// Another value, an unknown metric or option.
pub fn asked(value: &Dynamic) -> Result<Asked> {
    if let Ok(name) = value.clone().into_string() {
        return Ok(Asked::plain(named(&name)?));
    }
    let Some(map) = value.clone().try_cast::<Map>() else {
        return Err(expected("a metric", "a name, a map such as #{ kind: \"logit\" } or a function", value));
    };
    Options::read("metric", map, |options| {
        let kind = options.needed("kind", "a name, such as \"log_probability\"")?;
        let kind = kind.clone().into_string().map_err(|_| expected("option `kind` of a metric", "a string", &kind))?;
        Ok(Asked { metric: named(&kind)?, normalised: options.boolean("normalised")?.unwrap_or(false) })
    })
}

impl Metrics {
    /// The answers' ids of `samples` samples, of which one may stand for all.
    ///
    /// # Errors
    /// Another number of answers; an id that no logit belongs to.
    pub fn answers(&self, model: &LanguageModel, given: Vec<Vec<i64>>, samples: usize) -> Result<Vec<Vec<i64>>> {
        let answers = if given.len() == 1 { vec![given[0].clone(); samples] } else { given };
        if answers.len() != samples {
            return Err(Error::new(format!("there are {} answers for {samples} prompts", answers.len())));
        }
        for id in answers.iter().chain(&self.against).flatten() {
            model.decoder.check_outputs(&[*id], "an answer")?;
        }
        Ok(answers)
    }

    /// What these answers are measured by, with the tokens that they are compared with.
    ///
    /// # Errors
    /// As for [`Target::answers`] and [`target::against`].
    pub fn target<'a>(&self, answers: &[Vec<i64>]) -> Result<Target<'a>> {
        let mut target = Target::answers(answers)?;
        if !self.against.is_empty() {
            target.against = Some(target::against(answers, &self.against)?);
        }
        Ok(target)
    }

    fn read(&mut self, model: &LanguageModel, value: &Dynamic, samples: usize) -> Result<()> {
        if let Some(function) = value.clone().try_cast::<FnPtr>() {
            if self.closure.is_some() {
                return Err(Error::new("option `metric` has two functions").hint("run two grids"));
            }
            self.closure = Some(function);
            self.asked.push(Asked::plain(Metric::Closure));
            return Ok(());
        }
        let mut plain = value.clone();
        let (mut given, mut reference) = (None, None);
        if let Some(mut map) = plain.write_lock::<Map>() {
            given = map.remove("against");
            reference = map.remove("reference");
        }
        let asked = asked(&plain)?;
        if asked.metric == Metric::Closure {
            return Err(Error::new("the metric \"closure\" is a function").hint("metric: |logits| logits[:, 5]"));
        }
        self.against(model, asked.metric, given, samples)?;
        self.reference(asked.metric, reference)?;
        if self.asked.contains(&asked) {
            return Err(Error::new("option `metric` has the same metric twice"));
        }
        self.asked.push(asked);
        Ok(())
    }

    fn against(&mut self, model: &LanguageModel, metric: Metric, given: Option<Dynamic>, samples: usize) -> Result<()> {
        let Some(given) = given else {
            return if metric == Metric::LogitDifference && self.against.is_empty() {
                Err(Error::new("`logit_difference` needs tokens to compare the answer with")
                    .hint("metric: #{ kind: \"logit_difference\", against: \" Rome\" }"))
            } else {
                Ok(())
            };
        };
        if metric != Metric::LogitDifference {
            return Err(Error::new("only `logit_difference` compares the answer with tokens, the option `against`"));
        }
        let ids = compared(model, &given, samples)?;
        if !self.against.is_empty() && self.against != ids {
            return Err(Error::new("two metrics compare the answers with different tokens").hint("run two grids"));
        }
        self.against = ids;
        Ok(())
    }

    fn reference(&mut self, metric: Metric, given: Option<Dynamic>) -> Result<()> {
        const HINT: &str = "metric: #{ kind: \"kl\", reference: \"clean\" }, or \"target\"";
        match (metric == Metric::Kl, given) {
            (false, None) => Ok(()),
            (true, None) => Err(Error::new("`kl` needs a reference run").hint(HINT)),
            (false, Some(_)) => Err(Error::new("only `kl` has a reference run")),
            (true, Some(given)) => {
                let reference = match given.clone().into_string().as_deref() {
                    Ok("clean") => Reference::Clean,
                    Ok("target") => Reference::Target,
                    Ok(other) => return Err(unknown("reference", other, &["clean", "target"])),
                    Err(_) => return Err(expected("option `reference` of a metric", "a string", &given).hint(HINT)),
                };
                if self.reference.is_some_and(|other| other != reference) {
                    return Err(Error::new("two metrics have different reference runs").hint("run two grids"));
                }
                self.reference = Some(reference);
                Ok(())
            }
        }
    }
}

/// The ids to compare with: one token for all samples, one for each, or several for each.
fn compared(model: &LanguageModel, given: &Dynamic, samples: usize) -> Result<Vec<Vec<i64>>> {
    if given.is::<Tensor>() {
        // As an array of its numbers: one for each sample.
        return Ok(answer::ids(model, given)?.into_iter().map(|id| vec![id]).collect());
    }
    let Some(items) = given.clone().try_cast::<Array>() else {
        return Ok(vec![answer::ids(model, given)?; samples]);
    };
    let lists = items.iter().map(|item| answer::ids(model, item)).collect::<Result<Vec<_>>>()?;
    if lists.len() == 1 {
        return Ok(vec![lists.concat(); samples]);
    }
    Ok(lists)
}
