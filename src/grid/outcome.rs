//! The outcome of a patching grid: the measured cells, their effects, and the check of some of them.

use tch::{Kind, Tensor};

use super::metric::Cell;
use super::plan::Plan;
use super::set::{self, Element, Set};
use crate::error::{Error, Result};

/// The quantity whose change is an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The answer's logit
    Logit,
    /// The answer's reciprocal rank
    ReciprocalRank,
}

/// A computed grid; tensors on the CPU.
#[derive(Debug)]
pub struct Grid {
    /// The sets of places, in the order of the rows
    pub sets: Vec<Set>,
    /// Answer's logit in the patched run, float64 [set, sample]
    pub patched_logit: Tensor,
    /// Answer's rank in the patched run, int64 [set, sample]
    pub rank: Tensor,
    /// Answer's logit in the baseline, float64 [sample]
    pub baseline_logit: Tensor,
    /// Answer's rank in the baseline, int64 [sample]
    pub baseline_rank: Tensor,
    /// See [`super::request::Request::max_rank`]
    pub max_rank: Option<i64>,
    /// The plan of the work
    pub plan: Plan,
    /// The outcome of [`super::request::Request::verify`]
    pub verified: Option<Verified>,
}

impl Grid {
    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.baseline_rank.numel()
    }

    /// The patched run of one set and sample.
    ///
    /// # Errors
    /// No such cell.
    pub fn cell(&self, set: usize, sample: usize) -> Result<Cell> {
        let at = [set as i64, sample as i64];
        Ok(Cell { logit: self.patched_logit.f_double_value(&at)?, rank: self.rank.f_int64_value(&at)? })
    }

    /// Reciprocals of `rank`, in its shape; -1 for ranks beyond `max_rank`.
    ///
    /// # Errors
    /// Too little memory.
    pub fn reciprocal(&self, rank: &Tensor) -> Result<Tensor> {
        let reciprocal = rank.f_to_kind(Kind::Double)?.f_reciprocal()?;
        match self.max_rank {
            None => Ok(reciprocal),
            Some(limit) => {
                let beyond = rank.f_gt_tensor(&Tensor::f_from_slice(&[limit])?)?;
                Ok(reciprocal.f_masked_fill_tensor(&beyond, &Tensor::f_from_slice(&[-1.0])?.f_squeeze()?)?)
            }
        }
    }

    /// Patched minus baseline, float64 [set, sample].
    ///
    /// # Errors
    /// Too little memory.
    pub fn effect(&self, effect: Effect) -> Result<Tensor> {
        Ok(match effect {
            Effect::Logit => self.patched_logit.f_sub(&self.baseline_logit)?,
            Effect::ReciprocalRank => self.reciprocal(&self.rank)?.f_sub(&self.reciprocal(&self.baseline_rank)?)?,
        })
    }

    /// Mean effects of sets of one and two layers, float64 [layer, layer], NaN where there is no set.
    ///
    /// # Errors
    /// Sets of three layers or of heads.
    pub fn matrix(&self, effect: Effect) -> Result<Tensor> {
        let means = Vec::<f64>::try_from(&self.effect(effect)?.f_mean_dim(1, false, Kind::Double)?)?;
        let size = self.sets.iter().flatten().map(|element| element.layer + 1).max().unwrap_or(0);
        let mut matrix = vec![f64::NAN; (size * size) as usize];
        for (set, mean) in self.sets.iter().zip(means) {
            let [Element { layer: first, head: None }, rest @ ..] = set.as_slice() else {
                return Err(Error::new("sets of heads do not make a matrix of layers"));
            };
            let last = match rest {
                [] => first,
                [element] => &element.layer,
                _ => return Err(Error::new("only sets of one or two layers make a matrix")),
            };
            matrix[(first * size + last) as usize] = mean;
        }
        Ok(Tensor::f_from_slice(&matrix)?.f_view([size, size])?)
    }
}

/// The differences between the grid's cells and separate runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verified {
    /// Number of cells that were compared
    pub cells: usize,
    /// Largest absolute difference of an answer's logit
    pub max_logit_difference: f64,
    /// Number of cells whose rank differs
    pub rank_differences: usize,
}

impl Verified {
    /// Compares one cell with its measurement in a run of its own.
    ///
    /// # Errors
    /// A cell not measured in the grid or in its own run; a difference that is not finite.
    pub fn compare(&mut self, set: &[Element], sample: usize, grid: Cell, own: Cell) -> Result<()> {
        let difference = (grid.logit - own.logit).abs();
        if !grid.is_measured() || !own.is_measured() || !difference.is_finite() {
            return Err(Error::new(format!(
                "set {} of sample {sample} cannot be verified: {grid} in the grid, {own} in a run of its own",
                set::name(set)
            )));
        }
        self.cells += 1;
        self.max_logit_difference = self.max_logit_difference.max(difference);
        self.rank_differences += usize::from(grid.rank != own.rank);
        Ok(())
    }
}
