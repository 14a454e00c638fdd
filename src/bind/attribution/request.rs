//! What calls about components and edges share: prompts, their corrupted counterparts, a metric.

use std::fmt::{self, Debug, Formatter};

use rhai::{Dynamic, FnPtr};
use tch::{Kind, Tensor};

use crate::attribution::alternative::Ablation;
use crate::attribution::graph::Graph;
use crate::attribution::pairs::Pairs;
use crate::bind::model::hooks::Caller;
use crate::bind::model::metric::{self, Metrics};
use crate::bind::model::{Model, answers_by_sample, prompts};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::metric::Metric;
use crate::grid::objective::Objective;
use crate::grid::request::Reference;
use crate::grid::target::{self, Target};
use crate::model::decoder::Logits;
use crate::model::run::Hooks;

/// The prompts and the metric of a call.
pub struct Request {
    /// The model that runs
    pub model: Model,
    /// Its components
    pub graph: Graph,
    /// The prompts
    pub pairs: Pairs,
    /// The clean prompts' ids
    clean: Vec<Vec<i64>>,
    corrupted: Option<Vec<Vec<i64>>>,
    answers: Vec<Vec<i64>>,
    asked: Metrics,
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
        let mut answers = options.any("answer").map(|value| answers_by_sample(language_model, &value)).transpose()?;
        let metric = options.any("metric").unwrap_or_else(|| "log_probability".into());
        let asked = metric::metrics(language_model, Some(metric), clean.len())?;
        let [one] = asked.asked.as_slice() else {
            return Err(Error::new("effects are measured in one metric at a time"));
        };
        if one.normalised {
            return Err(Error::new("effects here are not normalised; `faithfulness` is").hint("leave `normalised` out"));
        }
        if asked.reference == Some(Reference::Target) {
            return Err(Error::new("`kl` compares with the clean run here").hint("reference: \"clean\""));
        }
        if let (Some(given), Metric::Closure) = (&answers, one.metric) {
            return Err(Error::new(format!(
                "option `answer` ({} of them) goes with a metric's name; a function of the logits has its own",
                given.len()
            )));
        }
        if one.metric == Metric::Kl || one.metric == Metric::Closure {
            // Neither looks at an answer.
            answers = Some(vec![vec![0]]);
        }
        let answers = answers
            .ok_or_else(|| Error::new(format!("the metric `{}` needs `answer`", one.metric.name())).hint(HINT))?;
        let answers = if answers.len() == 1 { vec![answers[0].clone(); clean.len()] } else { answers };
        if answers.len() != clean.len() {
            return Err(Error::new(format!("there are {} answers for {} prompts", answers.len(), clean.len())));
        }
        for id in answers.iter().chain(&asked.against).flatten() {
            language_model.decoder.check_outputs(&[*id], "an answer")?;
        }
        Ok(Self {
            graph: Graph::new(language_model.config()),
            pairs: Pairs::new(&language_model.decoder, &clean, corrupted.as_deref())?,
            model: model.clone(),
            clean,
            corrupted,
            answers,
            asked,
        })
    }

    /// The same with the two runs exchanged.
    ///
    /// # Errors
    /// No corrupted prompts.
    pub fn exchanged(self) -> Result<Self> {
        let Some(corrupted) = self.corrupted else {
            return Err(Error::new("direction \"denoise\" runs the corrupted prompts, which are not given")
                .hint("the option `corrupted`"));
        };
        let decoder = &self.model.get().decoder;
        let pairs = Pairs::new(decoder, &corrupted, Some(&self.clean))?;
        Ok(Self { pairs, clean: corrupted, corrupted: Some(self.clean), ..self })
    }

    /// Whether there are corrupted prompts.
    pub fn has_corrupted(&self) -> bool {
        self.corrupted.is_some()
    }

    /// Does `work` with the metric.
    ///
    /// # Errors
    /// A metric without gradients; what `work` raises.
    pub fn measured<T>(&self, caller: &Caller<'_>, work: impl FnOnce(&Objective<'_>) -> Result<T>) -> Result<T> {
        let function: Option<&FnPtr> = self.asked.closure.as_ref();
        let measure = |logits: &Tensor, samples: &[usize]| match function {
            Some(function) => caller.measure(function, logits, samples),
            None => Err(Error::new("the metric has no function")),
        };
        let mut target = Target::answers(&self.answers)?;
        if function.is_some() {
            target.closure = Some(&measure);
        }
        if !self.asked.against.is_empty() {
            target.against = Some(target::against(&self.answers, &self.asked.against)?);
        }
        if self.asked.reference.is_some() {
            target.reference = Some(self.reference()?);
        }
        work(&Objective::new(self.asked.asked[0].metric, target)?)
    }

    /// Log-probabilities of the clean runs, [sample, d_vocab].
    fn reference(&self) -> Result<Tensor> {
        let decoder = &self.model.get().decoder;
        let one = |prompt: &Vec<i64>| -> Result<Tensor> {
            let tokens = decoder.tokens(std::slice::from_ref(prompt))?;
            let logits = decoder.forward(&tokens, Logits::Last, &mut Hooks::none())?;
            Ok(logits.f_reshape([-1])?.f_log_softmax(-1, Kind::Double)?)
        };
        Ok(Tensor::f_stack(&self.clean.iter().map(one).collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// Reads the options `ablation` and `seed`: what edges carry where they are ablated.
    ///
    /// # Errors
    /// Another value; a seed without use.
    pub fn ablation(&self, options: &mut Options) -> Result<Ablation> {
        let words = [
            ("corrupted", Ablation::Corrupted),
            ("zero", Ablation::Zero),
            ("mean", Ablation::Mean),
            ("resample", Ablation::Resample(0)),
        ];
        let ablation = options.choice("ablation", &words)?.unwrap_or(Ablation::Corrupted);
        let seed = options.integer("seed")?;
        match (ablation, seed) {
            (Ablation::Resample(_), seed) => Ok(Ablation::Resample(seed.unwrap_or(0) as u64)),
            (_, None) => Ok(ablation),
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
