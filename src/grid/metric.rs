//! What is measured of the last position's logits, and the metrics that are made of it.

use std::fmt::{self, Display, Formatter};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::decoder::{Decoder, Logits};
use crate::model::run::Hooks;
use crate::tensor::raw::{constant, wide};

/// The most logits held at once, in elements.
const BLOCK: i64 = 1 << 26;

/// What an effect is measured in. `l` are the last position's logits, `a` is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// l\[a\]: the paper's. It carries a shift that all tokens share
    Logit,
    /// l\[a\] - mean of the logits of other tokens
    LogitDifference,
    /// l\[a\] - mean of all logits
    CentredLogit,
    /// l\[a\] - logsumexp(l)
    LogProbability,
    /// The exponential of the log-probability
    Probability,
    /// 1 / rank
    ReciprocalRank,
    /// 1 + the number of tokens with a higher logit
    Rank,
    /// KL(p_reference ‖ p), in nats
    Kl,
}

impl Metric {
    /// Every metric with its name in scripts.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("logit", Self::Logit),
        ("logit_difference", Self::LogitDifference),
        ("centred_logit", Self::CentredLogit),
        ("log_probability", Self::LogProbability),
        ("probability", Self::Probability),
        ("rr", Self::ReciprocalRank),
        ("rank", Self::Rank),
        ("kl", Self::Kl),
    ];

    /// The metric of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric)
    }
}

/// A metric that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The metric
    pub metric: Metric,
    /// Whether effects are shares of the way from the target's run to that of source and target together
    pub normalised: bool,
}

impl Asked {
    /// The metric as it is.
    pub fn plain(metric: Metric) -> Self {
        Self { metric, normalised: false }
    }
}

/// What is measured in one run; every metric is made of these numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Logit of the answer
    pub logit: f64,
    /// 1 + the number of tokens with a higher logit
    pub rank: i64,
    /// logsumexp of all logits
    pub log_sum_exp: f64,
    /// Mean of all logits
    pub mean: f64,
    /// Mean of the logits of the tokens that the answer is compared with; 0 without such tokens
    pub against: f64,
    /// KL(p_reference ‖ p) in nats; 0 without a reference
    pub kl: f64,
}

impl Cell {
    /// Whether the numbers come from a run: finite logits, and a rank of 1 or more. (A NaN logit has rank 1, since no
    /// logit is higher.)
    pub fn is_measured(self) -> bool {
        let Self { logit, rank, log_sum_exp, mean, against, kl } = self;
        rank >= 1 && [logit, log_sum_exp, mean, against, kl].iter().all(|number| number.is_finite())
    }
}

impl Display for Cell {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "logit {}, rank {}", self.logit, self.rank)
    }
}

/// What the logits of each sample are measured by.
#[derive(Debug)]
pub struct Target {
    /// The answers' ids, int64 [sample]
    pub answers: Tensor,
    /// Ids of tokens that the answer is compared with, int64 [sample, token]
    pub against: Option<Tensor>,
    /// Log-probabilities of the reference run, [sample, d_vocab]
    pub reference: Option<Tensor>,
}

impl Target {
    /// One answer per sample, and nothing to compare with.
    ///
    /// # Errors
    /// Too little memory.
    pub fn answers(answers: &[i64]) -> Result<Self> {
        Ok(Self { answers: Tensor::f_from_slice(answers)?, against: None, reference: None })
    }

    /// The samples `index`, int64 [row], on a device.
    ///
    /// # Errors
    /// Too little memory.
    pub fn select(&self, index: &Tensor, device: Device) -> Result<Self> {
        let some = |values: &Tensor| -> Result<Tensor> {
            Ok(values.f_index_select(0, &index.f_to(values.device())?)?.f_to(device)?)
        };
        Ok(Self {
            answers: some(&self.answers)?,
            against: self.against.as_ref().map(some).transpose()?,
            reference: self.reference.as_ref().map(some).transpose()?,
        })
    }
}

/// What is measured of several runs, in tensors of one shape; float64 and, ranks, int64. See [`Cell`].
#[derive(Debug)]
pub struct Measured {
    /// Logit of the answer
    pub logit: Tensor,
    /// 1 + the number of tokens with a higher logit
    pub rank: Tensor,
    /// logsumexp of all logits
    pub log_sum_exp: Tensor,
    /// Mean of all logits
    pub mean: Tensor,
    /// Mean of the logits of the tokens to compare with
    pub against: Tensor,
    /// KL(p_reference ‖ p) in nats
    pub kl: Tensor,
}

impl Measured {
    /// Measures logits, [row, d_vocab], by a target of as many samples. Where a row holds NaN, which has no rank, its
    /// logit is NaN.
    ///
    /// # Errors
    /// Too little memory on the logits' device.
    pub fn of_logits(logits: &Tensor, target: &Target) -> Result<Self> {
        let logits = logits.f_to_kind(wide(logits.kind()))?;
        let device = logits.device();
        let answer = logits.f_gather(1, &target.answers.f_to(device)?.f_unsqueeze(1)?, false)?;
        let higher = logits.f_gt_tensor(&answer)?.f_sum_dim_intlist(1, false, Kind::Int64)?;
        let has_nan = logits.f_amax([1].as_slice(), true)?.f_isnan()?;
        let answer = answer.f_masked_fill_tensor(&has_nan, &constant(f64::NAN)?)?;
        let log_sum_exp = logits.f_logsumexp([1].as_slice(), true)?;
        let none = || Tensor::f_zeros([logits.size()[0]], (Kind::Double, device));
        let against = match &target.against {
            None => none()?,
            Some(ids) => logits.f_gather(1, &ids.f_to(device)?, false)?.f_mean_dim(1, false, Kind::Double)?,
        };
        let kl = match &target.reference {
            None => none()?,
            Some(reference) => {
                let reference = reference.f_to_device_(device, logits.kind(), false, false)?;
                let ratio = reference.f_sub(&logits.f_sub(&log_sum_exp)?)?;
                reference.f_exp()?.f_mul(&ratio)?.f_sum_dim_intlist(1, false, Kind::Double)?
            }
        };
        Ok(Self {
            logit: answer.f_squeeze_dim(1)?.f_to_kind(Kind::Double)?,
            rank: higher.f_add(&Tensor::f_ones([1], (Kind::Int64, device))?)?,
            log_sum_exp: log_sum_exp.f_squeeze_dim(1)?.f_to_kind(Kind::Double)?,
            mean: logits.f_mean_dim(1, false, logits.kind())?.f_to_kind(Kind::Double)?,
            against,
            kl,
        })
    }

    /// Measures residuals after the last layer, [run · sample, d_model], by a target of the samples, and unembeds as
    /// many rows at once as memory allows.
    ///
    /// # Errors
    /// Too little memory; Ctrl-C.
    pub fn of_residuals(decoder: &Decoder, residuals: &Tensor, target: &Target) -> Result<Self> {
        let rows = residuals.size()[0];
        let samples = target.answers.size()[0];
        let step = (BLOCK / decoder.config.d_vocab).max(1);
        let mut parts = Vec::new();
        let mut start = 0;
        while start < rows {
            interrupt::check()?;
            let length = step.min(rows - start);
            let index: Vec<i64> = (start..start + length).map(|row| row % samples).collect();
            let target = target.select(&Tensor::f_from_slice(&index)?, decoder.device)?;
            let residual = residuals.f_narrow(0, start, length)?.f_unsqueeze(1)?;
            let logits = decoder.unembed(residual, Logits::Last, &mut Hooks::none())?.f_squeeze_dim(1)?;
            parts.push(Self::of_logits(&logits, &target)?);
            start += length;
        }
        Self::join(&parts)
    }

    /// Concatenates measurements.
    ///
    /// # Errors
    /// No measurements; too little memory.
    pub fn join(parts: &[Self]) -> Result<Self> {
        let all = |of: fn(&Self) -> &Tensor| Tensor::f_cat(&parts.iter().map(of).collect::<Vec<_>>(), 0);
        Ok(Self {
            logit: all(|part| &part.logit)?,
            rank: all(|part| &part.rank)?,
            log_sum_exp: all(|part| &part.log_sum_exp)?,
            mean: all(|part| &part.mean)?,
            against: all(|part| &part.against)?,
            kl: all(|part| &part.kl)?,
        })
    }

    /// The measurements on the CPU and in a shape.
    ///
    /// # Errors
    /// Another number of measurements; too little memory.
    pub fn shaped(&self, shape: &[i64]) -> Result<Self> {
        let shaped = |values: &Tensor| values.f_to(Device::Cpu)?.f_view(shape);
        Ok(Self {
            logit: shaped(&self.logit)?,
            rank: shaped(&self.rank)?,
            log_sum_exp: shaped(&self.log_sum_exp)?,
            mean: shaped(&self.mean)?,
            against: shaped(&self.against)?,
            kl: shaped(&self.kl)?,
        })
    }

    /// The measurements as numbers, in order.
    ///
    /// # Errors
    /// Too little memory.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        let numbers = |values: &Tensor| -> Result<Vec<f64>> {
            Ok(Vec::<f64>::try_from(&values.f_to(Device::Cpu)?.f_reshape([-1])?)?)
        };
        let ranks = Vec::<i64>::try_from(&self.rank.f_to(Device::Cpu)?.f_reshape([-1])?)?;
        let (logit, log_sum_exp, mean) = (numbers(&self.logit)?, numbers(&self.log_sum_exp)?, numbers(&self.mean)?);
        let (against, kl) = (numbers(&self.against)?, numbers(&self.kl)?);
        let cell = |(at, rank): (usize, i64)| Cell {
            logit: logit[at],
            rank,
            log_sum_exp: log_sum_exp[at],
            mean: mean[at],
            against: against[at],
            kl: kl[at],
        };
        Ok(ranks.into_iter().enumerate().map(cell).collect())
    }

    /// The measurements that cells hold, [cell].
    ///
    /// # Errors
    /// Too little memory.
    pub fn of_cells(cells: &[Cell]) -> Result<Self> {
        let all = |of: fn(&Cell) -> f64| Tensor::f_from_slice(&cells.iter().map(of).collect::<Vec<_>>());
        Ok(Self {
            logit: all(|cell| cell.logit)?,
            rank: Tensor::f_from_slice(&cells.iter().map(|cell| cell.rank).collect::<Vec<_>>())?,
            log_sum_exp: all(|cell| cell.log_sum_exp)?,
            mean: all(|cell| cell.mean)?,
            against: all(|cell| cell.against)?,
            kl: all(|cell| cell.kl)?,
        })
    }

    /// A metric's values, float64 in the shape of the measurements. Reciprocal ranks beyond `max_rank` are -1 (the
    /// paper's released code).
    ///
    /// # Errors
    /// Too little memory.
    pub fn values(&self, metric: Metric, max_rank: Option<i64>) -> Result<Tensor> {
        Ok(match metric {
            Metric::Logit => self.logit.shallow_clone(),
            Metric::LogitDifference => self.logit.f_sub(&self.against)?,
            Metric::CentredLogit => self.logit.f_sub(&self.mean)?,
            Metric::LogProbability => self.logit.f_sub(&self.log_sum_exp)?,
            Metric::Probability => self.logit.f_sub(&self.log_sum_exp)?.f_exp()?,
            Metric::Rank => self.rank.f_to_kind(Kind::Double)?,
            Metric::Kl => self.kl.shallow_clone(),
            Metric::ReciprocalRank => {
                let reciprocal = self.rank.f_to_kind(Kind::Double)?.f_reciprocal()?;
                match max_rank {
                    None => reciprocal,
                    Some(limit) => {
                        let beyond = self.rank.f_gt_tensor(&constant(limit)?)?;
                        reciprocal.f_masked_fill_tensor(&beyond, &constant(-1.0)?)?
                    }
                }
            }
        })
    }
}

/// The ids that answers are compared with, as one tensor [sample, token].
///
/// # Errors
/// Another number of samples, samples with different numbers of ids, none at all, or the answer among them.
pub fn against(answers: &[i64], ids: &[Vec<i64>]) -> Result<Tensor> {
    if ids.len() != answers.len() {
        return Err(Error::new(format!("`against` has ids for {} samples and there are {}", ids.len(), answers.len()))
            .hint("the same ids for all samples, or an array of ids per sample"));
    }
    let count = ids.first().map_or(0, Vec::len);
    if count == 0 || ids.iter().any(|own| own.len() != count) {
        return Err(Error::new("every sample must have as many ids in `against`, at least one"));
    }
    if let Some(sample) = answers.iter().zip(ids).position(|(answer, own)| own.contains(answer)) {
        return Err(Error::new(format!("`against` has the answer of sample {sample} itself, id {}", answers[sample])));
    }
    Ok(Tensor::f_from_slice(&ids.concat())?.f_view([ids.len() as i64, count as i64])?)
}
