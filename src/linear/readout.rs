//! What the map's parts are measured in: a metric of one answer that is linear in the logits of one position.

use tch::{Kind, Tensor};

use super::attention::Side;
use super::head_score::Place;
use super::map::{LinearMap, Node};
use super::norm::At;
use crate::error::Result;
use crate::interrupt;
use crate::tensor::raw::{Arithmetic, wide};

/// Tokens whose unembedding is converted at once.
const TOKENS: i64 = 1 << 13;

/// A metric that is linear in the logits `l`, or its differential; `a` is the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scale {
    /// l\[a\]: the paper's. It carries a shift that all tokens share
    Logit,
    /// l\[a\] - mean of the logits of these tokens
    LogitDifference(Vec<i64>),
    /// l\[a\] - mean of all logits
    CentredLogit,
    /// l\[a\] - logsumexp(l), by its differential at the run's own logits
    LogProbability,
}

impl Scale {
    /// Its name in scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Logit => "logit",
            Self::LogitDifference(_) => "logit_difference",
            Self::CentredLogit => "centred_logit",
            Self::LogProbability => "log_probability",
        }
    }

    /// Its name in labels.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Logit => "logit",
            Self::LogitDifference(_) => "logit difference",
            Self::CentredLogit => "centred logit",
            Self::LogProbability => "log-probability (linearised)",
        }
    }
}

/// What is read off one node of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A metric of the logits of a token
    Answer {
        /// A token id
        id: i64,
        /// The metric
        scale: Scale,
    },
    /// A head's score, as a function of its query alone or of its key alone
    Score {
        /// Which score
        place: Place,
        /// The vector that is not fixed
        side: Side,
    },
}

impl Target {
    /// Its name in scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer { scale, .. } => scale.name(),
            Self::Score { .. } => "score",
        }
    }

    /// Its name in labels.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Answer { scale, .. } => scale.words(),
            Self::Score { .. } => "score",
        }
    }
}

/// A number read off one node of a map.
#[derive(Debug)]
pub struct Readout {
    /// What is read
    pub target: Target,
    /// The node: after the last layer for logits
    pub node: Node,
    /// Its covector there, [1, d_model]
    pub covector: Tensor,
    /// The run's own value
    pub value: f64,
    /// What the value has beside the linear part of the run's own node: minus the entropy of the run's distribution
    /// for log-probability, 0 for the others
    pub constant: f64,
}

impl LinearMap {
    /// The metric `scale` of token `answer`, at position `to`.
    ///
    /// # Errors
    /// Interruption.
    pub fn readout(&self, answer: i64, scale: Scale, to: i64) -> Result<Readout> {
        let logits = self.logits(to)?.f_to_kind(Kind::Double)?;
        let weights = self.weights(answer, &scale, &logits)?;
        let linear = weights.f_dot(&logits)?.f_double_value(&[])?;
        let value = match scale {
            Scale::LogProbability => logits.f_log_softmax(0, Kind::Double)?.f_double_value(&[answer])?,
            _ => linear,
        };
        let covector = match scale {
            Scale::Logit => self.logit_covectors(to, &[answer])?,
            _ => self.pulled_through_unembedding(&weights, to)?,
        };
        let target = Target::Answer { id: answer, scale };
        Ok(Readout { target, node: (self.depth(), to), covector, value, constant: value - linear })
    }

    /// The weight of each token's logit in a metric, [d_vocab]; `logits` are the run's own.
    fn weights(&self, answer: i64, scale: &Scale, logits: &Tensor) -> Result<Tensor> {
        let share = |ids: &[i64], weight: f64| -> Result<Tensor> {
            let weights = Tensor::f_zeros_like(logits)?;
            let each = Tensor::f_ones([ids.len() as i64], (Kind::Double, logits.device()))?.times(weight)?;
            Ok(weights.f_index_add(0, &self.index(ids)?, &each)?)
        };
        let subtracted = match scale {
            Scale::Logit => return share(&[answer], 1.0),
            Scale::LogitDifference(against) => share(against, 1.0 / against.len() as f64)?,
            Scale::CentredLogit => logits.f_ones_like()?.times(1.0 / logits.numel() as f64)?,
            Scale::LogProbability => logits.f_softmax(0, Kind::Double)?,
        };
        Ok(share(&[answer], 1.0)?.f_sub(&subtracted)?)
    }

    /// The covector at the last node, [1, d_model], of a weighted sum of the logits at position `to`.
    fn pulled_through_unembedding(&self, weights: &Tensor, to: i64) -> Result<Tensor> {
        let decoder = self.decoder();
        let weights = match self.logit_slopes(to)? {
            Some(slopes) => weights.f_mul(&slopes)?,
            None => weights.shallow_clone(),
        };
        // Single weights can be too small for half precision.
        let kind = wide(decoder.kind);
        let mut covector = Tensor::f_zeros([1, decoder.config.d_model], (kind, decoder.output_device()))?;
        let vocabulary = weights.numel() as i64;
        for start in (0..vocabulary).step_by(TOKENS as usize) {
            interrupt::check()?;
            let count = TOKENS.min(vocabulary - start);
            let rows = decoder.unembedding.weight.f_narrow(0, start, count)?.f_to_kind(kind)?;
            let own = weights.f_narrow(0, start, count)?.f_to_kind(kind)?.f_unsqueeze(0)?;
            covector = covector.f_add(&own.f_matmul(&rows)?)?;
        }
        let at = self.index(&[to])?;
        self.frozen().final_norm.transposed(&covector.f_to_kind(decoder.kind)?, At::Rows(&at))
    }

    /// What the unembedding's and the last norm's biases add to a metric; those of a query or key, to a score.
    ///
    /// # Errors
    /// Interruption.
    pub(super) fn final_bias(&self, readout: &Readout) -> Result<f64> {
        let (id, scale) = match &readout.target {
            Target::Answer { id, scale } => (*id, scale),
            Target::Score { place, side } => return self.score_bias(*place, *side),
        };
        let to = readout.node.1;
        let zero = self.zeros(&[1, self.config().d_model])?;
        let bias = self.unembed(&zero, to, true)?.f_view([-1])?.f_to_kind(Kind::Double)?;
        let logits = self.logits(to)?.f_to_kind(Kind::Double)?;
        Ok(self.weights(id, scale, &logits)?.f_dot(&bias)?.f_double_value(&[])?)
    }
}
