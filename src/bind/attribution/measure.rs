//! The metric of calls about components and edges: the options `metric` and `answer`.

use rhai::FnPtr;
use tch::{Kind, Tensor};

use crate::bind::model::hooks::Caller;
use crate::bind::model::metric::{self, Metrics};
use crate::bind::model::{Model, answers_by_sample};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::metric::Metric;
use crate::grid::objective::Objective;
use crate::grid::request::Reference;
use crate::model::decoder::Logits;
use crate::model::run::Hooks;

/// One metric of some samples.
pub struct Measure {
    answers: Vec<Vec<i64>>,
    asked: Metrics,
}

impl Measure {
    /// Reads the options for `samples` samples; the metric is the log-probability by default. `hint` shows the call.
    ///
    /// # Errors
    /// Options that are missing or are not what they must be.
    pub fn read(model: &Model, options: &mut Options, samples: usize, hint: &'static str) -> Result<Self> {
        let language_model = model.get();
        let mut answers = options.any("answer").map(|value| answers_by_sample(language_model, &value)).transpose()?;
        let metric = options.any("metric").unwrap_or_else(|| "log_probability".into());
        let asked = metric::metrics(language_model, Some(metric), samples)?;
        let [one] = asked.asked.as_slice() else {
            return Err(Error::new("effects are measured in one metric at a time"));
        };
        if one.normalised {
            return Err(Error::new("effects here are not normalised; `faithfulness` is").hint("leave `normalised` out"));
        }
        if asked.reference == Some(Reference::Target) {
            return Err(Error::new("`kl` compares with the clean run here").hint("reference: \"clean\""));
        }
        if matches!(one.metric, Metric::Kl | Metric::Closure) {
            // Neither looks at an answer.
            if answers.replace(vec![vec![0]]).is_some() {
                return Err(Error::new(match one.metric {
                    Metric::Kl => "option `answer` is of no use: `kl` compares whole distributions",
                    _ => "option `answer` goes with a metric's name; a function of the logits has its own",
                }));
            }
        }
        let answers = answers
            .ok_or_else(|| Error::new(format!("the metric `{}` needs `answer`", one.metric.name())).hint(hint))?;
        let answers = asked.answers(language_model, answers, samples)?;
        Ok(Self { answers, asked })
    }

    /// Fails for the divergence from the clean run, which has no slope there; `method` looks at that run alone.
    ///
    /// # Errors
    /// The metric "kl".
    pub fn check_slope(&self, method: &str) -> Result<()> {
        if self.asked.asked[0].metric != Metric::Kl {
            return Ok(());
        }
        Err(Error::new(format!(
            "`kl` is smallest in the clean run, so its gradient there is zero and \"{method}\" says nothing"
        ))
        .hint("use integrated gradients or exact effects, or another metric"))
    }

    /// Its name in scripts.
    pub fn name(&self) -> &'static str {
        self.asked.asked[0].metric.name()
    }

    /// Does `work` with the metric; `clean` are the prompts whose distributions it compares with, if it does.
    ///
    /// # Errors
    /// A metric without gradients; what `work` raises.
    pub fn with<T>(
        &self,
        caller: &Caller<'_>,
        model: &Model,
        clean: &[Vec<i64>],
        work: impl FnOnce(&Objective<'_>) -> Result<T>,
    ) -> Result<T> {
        let function: Option<&FnPtr> = self.asked.closure.as_ref();
        let measure = |logits: &Tensor, samples: &[usize]| match function {
            Some(function) => caller.measure(function, logits, samples),
            None => Err(Error::new("the metric has no function")),
        };
        let mut target = self.asked.target(&self.answers)?;
        if function.is_some() {
            target.closure = Some(&measure);
        }
        if self.asked.reference.is_some() {
            target.reference = Some(log_probabilities(model, clean)?);
        }
        work(&Objective::new(self.asked.asked[0].metric, target)?)
    }
}

/// Log-probabilities at the last position of each prompt, [sample, d_vocab].
fn log_probabilities(model: &Model, prompts: &[Vec<i64>]) -> Result<Tensor> {
    let decoder = &model.get().decoder;
    let one = |prompt: &Vec<i64>| -> Result<Tensor> {
        let tokens = decoder.tokens(std::slice::from_ref(prompt))?;
        let logits = decoder.forward(&tokens, Logits::Last, &mut Hooks::none())?;
        Ok(logits.f_reshape([-1])?.f_log_softmax(-1, Kind::Double)?)
    };
    Ok(Tensor::f_stack(&prompts.iter().map(one).collect::<Result<Vec<_>>>()?, 0)?)
}
