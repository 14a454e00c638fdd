//! What is measured of the last position's logits: the numbers that every metric is made of.

use std::fmt::{self, Display, Formatter};

use tch::{Device, Kind, Tensor};

use super::metric::Metric;
use crate::error::{Error, Result};
use crate::tensor::raw::constant;

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

impl Cell {
    /// The error for a cell that is not measured: `whose` ("of sample 3") and in which `run`.
    pub fn refused(self, whose: &str, run: &str, hint: &'static str) -> Error {
        if (Self { closure: 0.0, ..self }).is_measured() {
            return Error::new(format!("the metric's function gives {} for the logits {whose} {run}", self.closure))
                .hint("a metric is a finite number");
        }
        Error::new(format!("the logits {whose} are not finite {run}")).hint(hint)
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
