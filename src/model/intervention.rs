//! Interventions as plain data: replace, zero, add or scale at given positions, samples and heads of a hook.

use tch::Tensor;

use super::hook::HookPoint;
use super::layer::constant;
use super::run::{Window, copy};
use crate::error::{Error, Result};

/// What happens to the selected values.
#[derive(Debug)]
pub enum Change {
    /// They become this.
    Patch(Tensor),
    /// They become 0.
    Zero,
    /// This is added to them.
    Add(Tensor),
    /// They are multiplied with this.
    Scale(f64),
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Self::Patch(_) => "patch",
            Self::Zero => "zero",
            Self::Add(_) => "add",
            Self::Scale(_) => "scale",
        }
    }
}

/// Which positions are meant; negative ones count from the end of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// Every position, those generated later included
    All,
    /// One; the value then has no position dimension
    One(i64),
    /// Several; the value has a position dimension of that length, or broadcasts
    Several(Vec<i64>),
}

/// One change at one hook point.
#[derive(Debug)]
pub struct Intervention {
    /// Where
    pub point: HookPoint,
    /// At which positions (for scores and pattern: query positions)
    pub positions: Positions,
    /// In which samples of the batch; None for all
    pub rows: Option<Vec<i64>>,
    /// In which head; None for all. The value then has no head dimension
    pub head: Option<i64>,
    /// What
    pub change: Change,
}

fn resolve(what: &str, index: i64, size: i64) -> Result<i64> {
    let resolved = if index < 0 { index + size } else { index };
    if (0..size).contains(&resolved) {
        return Ok(resolved);
    }
    Err(Error::new(format!("{what} {index} is out of range"))
        .hint(format!("there are {size}: 0 to {}, or -1 to -{size} from the end", size - 1)))
}

impl Intervention {
    /// Applies the change to `value`, the activation of the positions in `window`. None where it touches none of them.
    ///
    /// # Errors
    /// A position, sample or head out of range; a value that does not fit the selection (both shapes are named).
    pub fn apply(&self, value: &Tensor, window: Window) -> Result<Option<Tensor>> {
        self.try_apply(value, window)
            .map_err(|error| error.context(format!("`{}` at `{}`", self.change.name(), self.point.name())))
    }

    fn try_apply(&self, value: &Tensor, window: Window) -> Result<Option<Tensor>> {
        let site = self.point.site;
        let positions = match &self.positions {
            Positions::All => None,
            Positions::One(position) => Some(vec![*position]),
            Positions::Several(positions) => Some(positions.clone()),
        };
        let positions = match positions {
            None => None,
            Some(positions) => {
                let mut inside = Vec::with_capacity(positions.len());
                for position in &positions {
                    let position = resolve("position", *position, window.prompt)?;
                    if (window.start..window.start + window.length).contains(&position) {
                        inside.push(position - window.start);
                    }
                }
                if inside.is_empty() {
                    return Ok(None);
                }
                if inside.len() < positions.len() {
                    return Err(Error::new("the positions are split between two steps of a generation")
                        .hint("give each position an intervention of its own"));
                }
                Some(inside)
            }
        };
        if self.rows.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let mut whole = copy(value)?;
        // The views below share storage with `whole`, except where samples or several positions are picked out.
        let head_dim = match self.head {
            Some(_) => Some(site.head_dim().ok_or_else(|| {
                Error::new("the hook has no heads").hint("`head` goes with q, k, v, z, scores and pattern")
            })?),
            None => None,
        };
        let picked_rows = match &self.rows {
            Some(rows) => {
                let batch = value.size().first().copied().unwrap_or(0);
                let rows = rows.iter().map(|row| resolve("sample", *row, batch)).collect::<Result<Vec<_>>>()?;
                Some(Tensor::f_from_slice(&rows)?.f_to(value.device())?)
            }
            None => None,
        };
        let rows = match &picked_rows {
            Some(rows) => whole.f_index_select(0, rows)?,
            None => whole.shallow_clone(),
        };
        let position_dim = site.position_dim();
        let mut headed = rows.shallow_clone();
        let mut headed_position_dim = position_dim;
        if let (Some(head), Some(dim)) = (self.head, head_dim) {
            let count = headed.size().get(dim as usize).copied().unwrap_or(0);
            headed = headed.f_select(dim, resolve("head", head, count)?)?;
            if dim < position_dim {
                headed_position_dim -= 1;
            }
        }
        match (&self.positions, positions) {
            (Positions::One(_), Some(inside)) => {
                let mut selected = headed.f_select(headed_position_dim, inside.first().copied().unwrap_or(0))?;
                let changed = self.changed(&selected)?;
                selected.f_copy_(&changed)?;
            }
            (_, Some(inside)) => {
                let index = Tensor::f_from_slice(&inside)?.f_to(value.device())?;
                let changed = self.changed(&headed.f_index_select(headed_position_dim, &index)?)?;
                let _ = headed.f_index_copy_(headed_position_dim, &index, &changed)?;
            }
            (_, None) => {
                let changed = self.changed(&headed)?;
                headed.f_copy_(&changed)?;
            }
        }
        match picked_rows {
            Some(index) => {
                let _ = whole.f_index_copy_(0, &index, &rows)?;
                Ok(Some(whole))
            }
            None => Ok(Some(whole)),
        }
    }

    /// The selected values after the change, in their shape and dtype.
    fn changed(&self, selected: &Tensor) -> Result<Tensor> {
        let fit = |value: &Tensor| -> Result<Tensor> {
            let value = value.f_to_device_(selected.device(), selected.kind(), false, false)?;
            value.f_expand(selected.size(), false).map_err(|_| {
                Error::new(format!(
                    "a value of shape {:?} does not fit a selection of {:?}",
                    value.size(),
                    selected.size()
                ))
                .hint("shapes are matched from the last dimension on, as in broadcasting")
            })
        };
        Ok(match &self.change {
            Change::Patch(value) => fit(value)?.f_contiguous()?,
            Change::Zero => selected.f_zeros_like()?,
            Change::Add(value) => selected.f_add(&fit(value)?)?,
            Change::Scale(factor) => selected.f_mul(&constant(*factor)?)?,
        })
    }
}
