//! What a map's parts are measured in: the metrics that are linear in the logits, as scripts ask for them.

use rhai::{Dynamic, Map};

use super::Linear;
use crate::bind::model::metric::{Metrics, metrics};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::metric::Metric;
use crate::grid::target;
use crate::linear::readout::{Readout, Scale};

/// The metrics asked of one prompt, each without options of its own.
pub struct Asked {
    /// In the order asked for
    pub metrics: Vec<Metric>,
    /// What else they need; its `against` has at most one list of ids
    pub needs: Metrics,
}

impl Linear {
    /// Reads the option `metric` for the answer `answer`; the logit by default.
    pub(super) fn scale(&self, options: &mut Options, answer: i64) -> Result<Scale> {
        let Some(value) = options.any("metric") else { return Ok(Scale::Logit) };
        if let Some(metric) = kind(&value).and_then(|name| Metric::named(&name)) {
            scale(metric, &[]).ok_or_else(|| not_linear(metric))?;
        }
        let asked = self.metrics(value, answer)?;
        let [metric] = asked.metrics.as_slice() else {
            return Err(Error::new("parts of the map are measured in one metric at a time"));
        };
        scale(*metric, &asked.needs.against.concat()).ok_or_else(|| not_linear(*metric))
    }

    /// The metric that the options `answer`, `metric` and `to` ask for, or the score that `root` does.
    pub(super) fn readout(&self, options: &mut Options) -> Result<Readout> {
        if let Some((place, side)) = self.root(options)? {
            return self.map.score_readout(place, side);
        }
        let answer = self.answer(options)?;
        let scale = self.scale(options, answer)?;
        self.map.readout(answer, scale, self.to(options)?)
    }

    /// Metrics of the answer `answer` at this prompt.
    pub(super) fn metrics(&self, value: Dynamic, answer: i64) -> Result<Asked> {
        let mut needs = metrics(self.model.get(), Some(value), 1)?;
        if needs.closure.is_some() {
            return Err(Error::new("a linear map is not measured by functions")
                .hint("a metric's name, or a map such as #{ kind: \"logit_difference\", against: \" Rome\" }"));
        }
        if needs.asked.iter().any(|asked| asked.normalised) {
            return Err(Error::new("a linear map's metrics are not normalised").hint("leave `normalised` out"));
        }
        if !needs.against.is_empty() {
            // There is one prompt: several tokens are all compared with its answer.
            needs.against = vec![needs.against.concat()];
            needs.against.iter().flatten().try_for_each(|id| self.check_id(*id))?;
            let _ids = target::against(&[vec![answer]], &needs.against)?;
        }
        Ok(Asked { metrics: needs.asked.iter().map(|asked| asked.metric).collect(), needs })
    }
}

/// The metric as one that is linear in the logits; None where it is not.
pub fn scale(metric: Metric, against: &[i64]) -> Option<Scale> {
    match metric {
        Metric::Logit => Some(Scale::Logit),
        Metric::LogitDifference => Some(Scale::LogitDifference(against.to_vec())),
        Metric::CentredLogit => Some(Scale::CentredLogit),
        Metric::LogProbability => Some(Scale::LogProbability),
        _ => None,
    }
}

/// The name of a metric given alone or as the `kind` of a map.
fn kind(value: &Dynamic) -> Option<String> {
    match value.read_lock::<Map>() {
        Some(map) => map.get("kind").and_then(|kind| kind.clone().into_string().ok()),
        None => value.clone().into_string().ok(),
    }
}

fn not_linear(metric: Metric) -> Error {
    Error::new(format!("`{}` is not linear in the logits, so the map's parts do not add up to it", metric.name())).hint(
        "metric: \"logit\", \"centred_logit\", #{ kind: \"logit_difference\", against: .. }, or \"log_probability\" \
         (by its differential at this run)",
    )
}
