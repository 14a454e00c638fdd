//! What is measured of the last position's logits: the numbers that every metric is made of.

use std::fmt::{self, Display, Formatter};

use tch::{Device, Kind, Tensor};

use super::metric::Metric;
use super::target::Target;
use crate::error::Result;
use crate::interrupt;
use crate::model::decoder::{Decoder, Logits};
use crate::model::run::Hooks;
use crate::tensor::raw::{constant, wide};

/// The most logits held at once, in elements.
const BLOCK: i64 = 1 << 26;

/// What is measured in one run; every metric is made of these numbers. An answer of several ids counts as one token: its
/// logit is the logsumexp of theirs, its rank that of the best of them among all other tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
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
    /// What the caller's function gave; 0 without one
    pub closure: f64,
}

impl Cell {
    /// Whether the numbers come from a run: finite logits, and a rank of 1 or more. (A NaN logit has rank 1, since no
    /// logit is higher.)
    pub fn is_measured(self) -> bool {
        let Self { logit, rank, log_sum_exp, mean, against, kl, closure } = self;
        rank >= 1 && [logit, log_sum_exp, mean, against, kl, closure].iter().all(|number| number.is_finite())
    }
}

impl Display for Cell {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "logit {}, rank {}", self.logit, self.rank)
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
    /// What the caller's function gave
    pub closure: Tensor,
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
        let (answer, higher) = target.answer(&logits)?;
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
            rank: higher.f_squeeze_dim(1)?.f_add(&Tensor::f_ones([1], (Kind::Int64, device))?)?,
            log_sum_exp: log_sum_exp.f_squeeze_dim(1)?.f_to_kind(Kind::Double)?,
            mean: logits.f_mean_dim(1, false, logits.kind())?.f_to_kind(Kind::Double)?,
            against,
            kl,
            closure: target.closure(&logits)?,
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
            let own: Vec<usize> = (start..start + length).map(|row| (row % samples) as usize).collect();
            let target = target.select(&own, decoder.device)?;
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
            closure: all(|part| &part.closure)?,
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
            closure: shaped(&self.closure)?,
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
        let (against, kl, closure) = (numbers(&self.against)?, numbers(&self.kl)?, numbers(&self.closure)?);
        let cell = |(at, rank): (usize, i64)| Cell {
            logit: logit[at],
            rank,
            log_sum_exp: log_sum_exp[at],
            mean: mean[at],
            against: against[at],
            kl: kl[at],
            closure: closure[at],
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
            closure: all(|cell| cell.closure)?,
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
            Metric::Closure => self.closure.shallow_clone(),
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
