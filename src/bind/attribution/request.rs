//! What calls about components and edges share: prompts, their corrupted counterparts, a metric.

use std::fmt::{self, Debug, Formatter};

use rhai::Dynamic;

use super::measure::Measure;
use crate::attribution::alternative::Ablation;
use crate::attribution::graph::Graph;
use crate::attribution::pairs::Pairs;
use crate::bind::model::hooks::Caller;
use crate::bind::model::{Model, prompts};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::objective::Objective;

/// The prompts and the metric of a call.
pub struct Request {
    /// The model that runs
    pub model: Model,
    /// Its components
    pub graph: Graph,
    /// The prompts
    pub pairs: Pairs,
    /// The ids of the clean prompts and of the corrupted ones
    clean: Vec<Vec<i64>>,
    corrupted: Option<Vec<Vec<i64>>>,
    measure: Measure,
}

impl Debug for Request {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Request").field("samples", &self.pairs.samples).finish_non_exhaustive()
    }
}

impl Request {
    /// Reads the options `clean`, `corrupted`, `answer` and `metric`; the metric is the log-probability by default.
    ///
    /// # Errors
    /// Options that are missing or are not what they must be.
    pub fn read(model: &Model, options: &mut Options) -> Result<Self> {
        const HINT: &str = "#{ clean: prompts, corrupted: prompts, answer: ids }";
        let language_model = model.get();
        let clean = prompts(language_model, &options.needed("clean", HINT)?)?;
        let corrupted = options.any("corrupted").map(|value| prompts(language_model, &value)).transpose()?;
        let measure = Measure::read(model, options, clean.len(), HINT)?;
        Ok(Self {
            graph: Graph::new(language_model.config()),
            pairs: Pairs::new(&language_model.decoder, &clean, corrupted.as_deref())?,
            model: model.clone(),
            clean,
            corrupted,
            measure,
        })
    }

    /// The same with the two runs exchanged.
    ///
    /// # Errors
    /// No corrupted prompts.
    pub fn exchanged(self) -> Result<Self> {
        let Some(corrupted) = &self.corrupted else {
            return Err(Error::new("direction \"denoise\" runs the corrupted prompts, which are not given")
                .hint("the option `corrupted`"));
        };
        let decoder = &self.model.get().decoder;
        let pairs = Pairs::new(decoder, corrupted, Some(&self.clean))?;
        Ok(Self { pairs, ..self })
    }

    /// The metric.
    pub fn measure(&self) -> &Measure {
        &self.measure
    }

    /// Does `work` with the metric.
    ///
    /// # Errors
    /// A metric without gradients; what `work` raises.
    pub fn measured<T>(&self, caller: &Caller<'_>, work: impl FnOnce(&Objective<'_>) -> Result<T>) -> Result<T> {
        self.measure.with(caller, &self.model, &self.clean, work)
    }

    /// Reads the options `ablation` and `seed`: what edges carry where they are ablated; `usual` where they do not say.
    ///
    /// # Errors
    /// Another value; a seed without use.
    pub fn ablation(options: &mut Options, usual: Ablation) -> Result<Ablation> {
        let words = [
            ("corrupted", Ablation::Corrupted),
            ("zero", Ablation::Zero),
            ("mean", Ablation::Mean),
            ("resample", Ablation::Resample(0)),
        ];
        let ablation = options.choice("ablation", &words)?.unwrap_or(usual);
        let seed = options.integer("seed")?;
        match (ablation, seed) {
            (_, None) => Ok(ablation),
            (Ablation::Resample(_), Some(seed)) => Ok(Ablation::Resample(seed as u64)),
            (_, Some(_)) => Err(Error::new("option `seed` goes with `ablation: \"resample\"`")),
        }
    }
}

/// The text of an option's items.
///
/// # Errors
/// Items that are not strings.
pub fn names(what: &str, value: &rhai::Array) -> Result<Vec<String>> {
    let one = |item: &Dynamic| {
        let text = item.clone().into_string();
        text.map_err(|_| crate::bind::convert::expected(&format!("each item of `{what}`"), "a string", item))
    };
    value.iter().map(one).collect()
}
