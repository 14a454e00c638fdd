//! The outcome of a patching grid: the measured cells, their effects, and the check of some of them.

use tch::{Kind, Tensor};

use super::measured::{Cell, Measured};
use super::metric::{Asked, Metric};
use super::plan::Plan;
use super::request::{Direction, Reference, Setting, Sizes};
use super::set::{self, Element, Set};
use crate::error::{Error, Result};

/// The two runs that a normalised effect lies between: [sample] each.
#[derive(Debug)]
pub struct Ends {
    /// The target alone: 0
    pub corrupted: Measured,
    /// Source and target together: 1
    pub clean: Measured,
}

/// A computed grid; tensors on the CPU.
#[derive(Debug)]
pub struct Grid {
    /// The sets of places, in the order of the rows
    pub sets: Vec<Set>,
    /// The places that sets are made of, in order
    pub elements: Vec<Element>,
    /// Which sets of them these are
    pub sizes: Sizes,
    /// The patched runs, [set, sample]
    pub patched: Measured,
    /// The baseline runs, [sample]
    pub baseline: Measured,
    /// The runs that are patched, without their patches, [sample]
    pub unpatched: Measured,
    /// The runs to normalise by, where the request asks for them
    pub ends: Option<Ends>,
    /// Which runs are patched
    pub direction: Direction,
    /// What the baseline runs are
    pub setting: Setting,
    /// The metrics asked for
    pub metrics: Vec<Asked>,
    /// Whether tokens were given to compare the answer with
    pub has_against: bool,
    /// The reference run, where there was one
    pub reference: Option<Reference>,
    /// Whether the request had a metric of its own
    pub has_closure: bool,
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
        self.baseline.rank.numel()
    }

    /// The patched run of one set and sample.
    ///
    /// # Errors
    /// No such cell.
    pub fn cell(&self, set: usize, sample: usize) -> Result<Cell> {
        let number = |values: &Tensor| values.f_double_value(&[set as i64, sample as i64]);
        let Measured { logit, rank, log_sum_exp, mean, against, kl, closure } = &self.patched;
        Ok(Cell {
            logit: number(logit)?,
            rank: rank.f_int64_value(&[set as i64, sample as i64])?,
            log_sum_exp: number(log_sum_exp)?,
            mean: number(mean)?,
            against: number(against)?,
            kl: number(kl)?,
            closure: number(closure)?,
        })
    }

    /// The values of a metric in measured runs of this grid, float64.
    ///
    /// # Errors
    /// A metric that needs what the request did not give; too little memory.
    pub fn values(&self, measured: &Measured, metric: Metric) -> Result<Tensor> {
        if metric == Metric::LogitDifference && !self.has_against {
            return Err(Error::new("`logit_difference` has no tokens to compare the answer with")
                .hint("metric: #{ kind: \"logit_difference\", against: \" Rome\" }"));
        }
        if metric == Metric::Closure && !self.has_closure {
            return Err(Error::new("this grid was not given a function as its metric")
                .hint("metric: |logits| logits[:, 5] - logits[:, 7]"));
        }
        if metric == Metric::Kl && self.reference.is_none() {
            return Err(Error::new("`kl` has no reference run")
                .hint("metric: #{ kind: \"kl\", reference: \"clean\" }, or \"target\""));
        }
        measured.values(metric, self.max_rank)
    }

    /// How a metric is given: normalised where it was asked for so only.
    pub fn given(&self, asked: Asked) -> Asked {
        let normalised = Asked { normalised: true, ..asked };
        let is_only = self.metrics.contains(&normalised) && !self.metrics.contains(&Asked::plain(asked.metric));
        if is_only { normalised } else { asked }
    }

    /// The effects as asked for, float64 [set, sample]: normalised where the metric was asked for so only.
    ///
    /// # Errors
    /// As for [`Grid::values`] and [`Grid::levels`].
    pub fn asked(&self, asked: Asked) -> Result<Tensor> {
        let asked = self.given(asked);
        if asked.normalised { self.levels(&self.patched, asked) } else { self.effect(asked.metric) }
    }

    /// Patched minus baseline, float64 [set, sample].
    ///
    /// # Errors
    /// As for [`Grid::values`].
    pub fn effect(&self, metric: Metric) -> Result<Tensor> {
        Ok(self.values(&self.patched, metric)?.f_sub(&self.values(&self.baseline, metric)?)?)
    }

    /// A metric's values in measured runs of this grid, [.., sample]: as they are, or normalised, (m - corrupted) / (clean -
    /// corrupted), 0 where the patch does nothing, 1 where it restores.
    ///
    /// # Errors
    /// As for [`Grid::values`]; a normalised metric of a request that did not ask for one; a sample whose clean and corrupted
    /// values are equal.
    pub fn levels(&self, measured: &Measured, asked: Asked) -> Result<Tensor> {
        let values = self.values(measured, asked.metric)?;
        if !asked.normalised {
            return Ok(values);
        }
        let Some(ends) = &self.ends else {
            return Err(Error::new("this grid has no clean runs to normalise by")
                .hint("metric: #{ kind: \"log_probability\", normalised: true }"));
        };
        let (corrupted, clean) = match self.direction {
            Direction::Denoise => (&self.unpatched, &ends.clean),
            Direction::Noise => (&ends.corrupted, &self.unpatched),
        };
        let corrupted = self.values(corrupted, asked.metric)?;
        let width = self.values(clean, asked.metric)?.f_sub(&corrupted)?;
        if let Some(sample) = Vec::<f64>::try_from(&width)?.iter().position(|width| *width == 0.0) {
            return Err(Error::new(format!("sample {sample} has the same value with and without its source"))
                .hint("leave it out, or take effects that are not normalised"));
        }
        Ok(values.f_sub(&corrupted)?.f_div(&width)?)
    }

    /// Mean effects of sets of one and two layers, float64 [layer, layer], NaN where there is no set.
    ///
    /// # Errors
    /// Sets of three layers or of heads.
    pub fn matrix(&self, asked: Asked) -> Result<Tensor> {
        let means = Vec::<f64>::try_from(&self.asked(asked)?.f_mean_dim(1, false, Kind::Double)?)?;
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
    /// Largest absolute difference of any number but the rank: see [`Cell`]
    pub max_difference: f64,
    /// Number of cells whose rank differs
    pub rank_differences: usize,
}

impl Verified {
    /// Compares one cell with its measurement in a run of its own.
    ///
    /// # Errors
    /// A cell not measured in the grid or in its own run; a difference that is not finite.
    pub fn compare(&mut self, set: &[Element], sample: usize, grid: Cell, own: Cell) -> Result<()> {
        let numbers = |cell: Cell| [cell.logit, cell.log_sum_exp, cell.mean, cell.against, cell.kl, cell.closure];
        let differences = numbers(grid).into_iter().zip(numbers(own)).map(|(grid, own)| (grid - own).abs());
        let largest = differences.fold(0.0, f64::max);
        if !grid.is_measured() || !own.is_measured() || !largest.is_finite() {
            return Err(Error::new(format!(
                "set {} of sample {sample} cannot be verified: {grid} in the grid, {own} in a run of its own",
                set::name(set)
            )));
        }
        self.cells += 1;
        self.max_logit_difference = self.max_logit_difference.max((grid.logit - own.logit).abs());
        self.max_difference = self.max_difference.max(largest);
        self.rank_differences += usize::from(grid.rank != own.rank);
        Ok(())
    }
}
