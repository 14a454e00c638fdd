//! How strongly the last position's logits favour an answer: its logit and its rank.

use std::fmt::{self, Display, Formatter};

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::interrupt;
use crate::model::decoder::{Decoder, Logits};
use crate::model::run::Hooks;
use crate::tensor::raw::{constant, wide};

/// The most logits held at once, in elements.
const BLOCK: i64 = 1 << 26;

/// The answer's logit and rank in one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Logit of the answer
    pub logit: f64,
    /// 1 + the number of tokens with a higher logit
    pub rank: i64,
}

impl Cell {
    /// Whether the numbers come from a run: a finite logit, and a rank of 1 or more. (A NaN logit has rank 1, since no
    /// logit is higher.)
    pub fn is_measured(self) -> bool {
        self.logit.is_finite() && self.rank >= 1
    }
}

impl Display for Cell {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "logit {}, rank {}", self.logit, self.rank)
    }
}

/// The answer's logit (float64) and rank (int64), each [row].
#[derive(Debug)]
pub struct Measured {
    /// Logit of the answer
    pub logit: Tensor,
    /// 1 + the number of tokens with a higher logit
    pub rank: Tensor,
}

impl Measured {
    /// Measures logits, [row, d_vocab], against one answer id per row, int64 [row]. Where a row holds NaN, which has no
    /// rank, its logit is NaN.
    ///
    /// # Errors
    /// Too little memory on the logits' device.
    pub fn of_logits(logits: &Tensor, answers: &Tensor) -> Result<Self> {
        let logits = logits.f_to_kind(wide(logits.kind()))?;
        let answer = logits.f_gather(1, &answers.f_to(logits.device())?.f_unsqueeze(1)?, false)?;
        let higher = logits.f_gt_tensor(&answer)?.f_sum_dim_intlist(1, false, Kind::Int64)?;
        let has_nan = logits.f_amax([1].as_slice(), true)?.f_isnan()?;
        let answer = answer.f_masked_fill_tensor(&has_nan, &constant(f64::NAN)?)?;
        Ok(Self {
            logit: answer.f_squeeze_dim(1)?.f_to_kind(Kind::Double)?,
            rank: higher.f_add(&Tensor::f_ones([1], (Kind::Int64, higher.device()))?)?,
        })
    }

    /// Measures residuals after the last layer, [row, d_model], and unembeds as many rows at once as memory allows.
    ///
    /// # Errors
    /// Too little memory; Ctrl-C.
    pub fn of_residuals(decoder: &Decoder, residuals: &Tensor, answers: &Tensor) -> Result<Self> {
        let rows = residuals.size()[0];
        let step = (BLOCK / decoder.config.d_vocab).max(1);
        let mut parts = Vec::new();
        let mut start = 0;
        while start < rows {
            interrupt::check()?;
            let length = step.min(rows - start);
            let residual = residuals.f_narrow(0, start, length)?.f_unsqueeze(1)?;
            let logits = decoder.unembed(residual, Logits::Last, &mut Hooks::none())?.f_squeeze_dim(1)?;
            parts.push(Self::of_logits(&logits, &answers.f_narrow(0, start, length)?)?);
            start += length;
        }
        Self::join(&parts)
    }

    /// Concatenates measurements.
    ///
    /// # Errors
    /// No measurements; too little memory.
    pub fn join(parts: &[Self]) -> Result<Self> {
        let logits: Vec<&Tensor> = parts.iter().map(|part| &part.logit).collect();
        let ranks: Vec<&Tensor> = parts.iter().map(|part| &part.rank).collect();
        Ok(Self { logit: Tensor::f_cat(&logits, 0)?, rank: Tensor::f_cat(&ranks, 0)? })
    }

    /// The measurements as numbers, in the order of the rows.
    ///
    /// # Errors
    /// Too little memory.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        let logits = Vec::<f64>::try_from(&self.logit.f_to(Device::Cpu)?)?;
        let ranks = Vec::<i64>::try_from(&self.rank.f_to(Device::Cpu)?)?;
        Ok(logits.into_iter().zip(ranks).map(|(logit, rank)| Cell { logit, rank }).collect())
    }
}
