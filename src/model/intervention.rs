//! Interventions as plain data: replace, zero, add or scale at given positions, samples and heads of a hook.

use tch::Tensor;

use super::hook::{HookPoint, Site};
use super::padding::Padding;
use super::window::Window;
use crate::error::{Error, Result};
use crate::tensor::raw::{Arithmetic, copy};

/// The change to the selected values.
#[derive(Debug)]
pub enum Change {
    /// Replaces them by this.
    Patch(Tensor),
    /// Sets them to 0.
    Zero,
    /// Adds this to them.
    Add(Tensor),
    /// Multiplies them by this.
    Scale(f64),
}

impl Change {
    /// The name of the change: `patch`, `zero`, `add`, `scale`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Patch(_) => "patch",
            Self::Zero => "zero",
            Self::Add(_) => "add",
            Self::Scale(_) => "scale",
        }
    }

    /// The change of one of `count` selected samples, whose values have `rank` dimensions.
    fn of_sample(&self, number: i64, count: i64, rank: usize) -> Result<Self> {
        let part = |value: &Tensor| -> Result<Tensor> {
            if value.dim() == rank && value.size()[0] == count {
                return Ok(value.f_narrow(0, number, 1)?);
            }
            Ok(value.shallow_clone())
        };
        Ok(match self {
            Self::Patch(value) => Self::Patch(part(value)?),
            Self::Add(value) => Self::Add(part(value)?),
            other => other.clone(),
        })
    }

    /// The selected values after the change, in their shape and dtype.
    fn apply(&self, selected: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Patch(value) => fit(value, selected)?.f_contiguous()?,
            Self::Zero => selected.f_zeros_like()?,
            Self::Add(value) => selected.f_add(&fit(value, selected)?)?,
            Self::Scale(factor) => selected.times(*factor)?,
        })
    }
}

impl Clone for Change {
    /// The copy shares the values.
    fn clone(&self) -> Self {
        match self {
            Self::Patch(value) => Self::Patch(value.shallow_clone()),
            Self::Zero => Self::Zero,
            Self::Add(value) => Self::Add(value.shallow_clone()),
            Self::Scale(factor) => Self::Scale(*factor),
        }
    }
}

/// `value` in the shape, dtype and place of `selected`.
fn fit(value: &Tensor, selected: &Tensor) -> Result<Tensor> {
    let value = value.f_to_device_(selected.device(), selected.kind(), false, false)?;
    value.f_expand(selected.size(), false).map_err(|_| {
        Error::new(format!("a value of shape {:?} does not fit a selection of {:?}", value.size(), selected.size()))
            .hint("shapes are matched from the last dimension, as in broadcasting")
    })
}

/// Where the samples of an activation are in their texts.
#[derive(Debug, Clone, Copy)]
pub struct Positions<'a> {
    /// The positions of the activation
    pub window: Window,
    /// Of prompts of different lengths
    pub padding: Option<&'a Padding>,
    /// The first sample's number in the batch
    pub first: i64,
}

impl Positions<'_> {
    /// The positions of one sample, as its prompt counts them.
    fn of(&self, row: i64) -> Window {
        match self.padding {
            Some(padding) => padding.window((self.first + row) as usize, self.window),
            None => self.window,
        }
    }
}

/// The positions of an intervention; negative ones count from the end of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// Every position, those generated later included
    All,
    /// One; the value then has no position dimension
    One(i64),
    /// Several; the value has a position dimension of that length, or broadcasts
    Several(Vec<i64>),
}

impl At {
    /// The positions inside `window`, counted from its start. None if all are outside it.
    fn inside(&self, window: Window) -> Result<Option<Self>> {
        let place = |position: &i64| -> Result<Option<i64>> {
            let place = resolve("position", *position, window.prompt)? - window.start;
            Ok(Some(place).filter(|place| (0..window.length).contains(place)))
        };
        match self {
            Self::All => Ok(Some(Self::All)),
            Self::One(position) => Ok(place(position)?.map(Self::One)),
            Self::Several(positions) => {
                let places = positions.iter().map(place).collect::<Result<Vec<_>>>()?;
                let inside: Vec<i64> = places.iter().flatten().copied().collect();
                if inside.is_empty() {
                    return Ok(None);
                }
                if inside.len() < places.len() {
                    return Err(Error::new("the positions are split between two steps of a generation")
                        .hint("give each position an intervention of its own"));
                }
                Ok(Some(Self::Several(inside)))
            }
        }
    }
}

/// One change at one hook point.
#[derive(Debug)]
pub struct Intervention {
    /// Where
    pub point: HookPoint,
    /// At which positions (for scores and pattern: query positions)
    pub positions: At,
    /// In which samples of the batch; None for all
    pub rows: Option<Vec<i64>>,
    /// In which head, or neuron at `mlp.hook_post`; None for all. The value then has no such dimension
    pub head: Option<i64>,
    /// What
    pub change: Change,
}

/// `index` counted from the start, of `size` things.
pub(super) fn resolve(what: &str, index: i64, size: i64) -> Result<i64> {
    let resolved = if index < 0 { index.saturating_add(size) } else { index };
    if (0..size).contains(&resolved) {
        return Ok(resolved);
    }
    Err(Error::new(format!("{what} {index} is out of range"))
        .hint(format!("there are {size}: 0 to {}, or -1 to -{size} from the end", size - 1)))
}

impl Intervention {
    /// Applies the change to `value`, an activation at `positions`. None if it affects none of them.
    ///
    /// # Errors
    /// A position, sample or head out of range; a value that does not fit the selection (both shapes are named).
    pub fn apply(&self, value: &Tensor, positions: Positions) -> Result<Option<Tensor>> {
        self.try_apply(value, positions)
            .map_err(|error| error.context(format!("`{}` at `{}`", self.change.name(), self.point.name())))
    }

    fn try_apply(&self, value: &Tensor, positions: Positions) -> Result<Option<Tensor>> {
        if positions.padding.is_some() {
            return self.apply_by_sample(value, positions);
        }
        let Some(places) = self.positions.inside(positions.window)? else { return Ok(None) };
        let Some(rows) = &self.rows else {
            let whole = copy(value)?;
            self.write(&whole, &places, &self.change)?;
            return Ok(Some(whole));
        };
        if rows.is_empty() {
            return Ok(None);
        }
        if !self.point.site.has_samples() {
            return Err(Error::new("the activation is the same for all samples").hint("leave `rows` out"));
        }
        let batch = value.size()[0];
        let rows = rows.iter().map(|row| resolve("sample", *row, batch)).collect::<Result<Vec<_>>>()?;
        let index = Tensor::f_from_slice(&rows)?.f_to(value.device())?;
        let part = value.f_index_select(0, &index)?;
        self.write(&part, &places, &self.change)?;
        Ok(Some(value.f_index_copy(0, &index, &part)?))
    }

    /// The same where each sample has positions of its own.
    fn apply_by_sample(&self, value: &Tensor, positions: Positions) -> Result<Option<Tensor>> {
        let batch = value.size()[0];
        let rows = match &self.rows {
            Some(rows) => rows.iter().map(|row| resolve("sample", *row, batch)).collect::<Result<Vec<_>>>()?,
            None => (0..batch).collect(),
        };
        let whole = copy(value)?;
        let mut acted = false;
        for (number, row) in (0..).zip(&rows) {
            let in_prompt = |error: Error| error.context(format!("prompt {}", positions.first + row));
            let Some(places) = self.positions.inside(positions.of(*row)).map_err(in_prompt)? else { continue };
            let part = whole.f_narrow(0, *row, 1)?;
            let rank = part.dim() - usize::from(self.head.is_some()) - usize::from(matches!(places, At::One(_)));
            self.write(&part, &places, &self.change.of_sample(number, rows.len() as i64, rank)?)?;
            acted = true;
        }
        Ok(acted.then_some(whole))
    }

    /// Makes `change` in `part`, the selected samples, in place at `places`.
    fn write(&self, part: &Tensor, places: &At, change: &Change) -> Result<()> {
        let (mut headed, position_dim) = self.head_of(part)?;
        match places {
            At::All => headed.f_copy_(&change.apply(&headed)?)?,
            At::One(place) => {
                let mut selected = headed.f_select(position_dim, *place)?;
                selected.f_copy_(&change.apply(&selected)?)?;
            }
            At::Several(places) => {
                let index = Tensor::f_from_slice(places)?.f_to(part.device())?;
                let changed = change.apply(&headed.f_index_select(position_dim, &index)?)?;
                let _ = headed.f_index_copy_(position_dim, &index, &changed)?;
            }
        }
        Ok(())
    }

    /// A view of the selected head, or of all heads without one, and its position dimension.
    fn head_of(&self, part: &Tensor) -> Result<(Tensor, i64)> {
        let (site, rank) = (self.point.site, part.dim());
        let position_dim = site.position_dim(rank);
        let Some(head) = self.head else { return Ok((part.shallow_clone(), position_dim)) };
        let dim =
            site.head_dim(rank).or_else(|| (site == Site::MlpPost).then_some(rank as i64 - 1)).ok_or_else(|| {
                Error::new("the hook has no heads")
                    .hint("`head` goes with q, k, v, z, result, scores, pattern and their like")
            })?;
        let headed = part.f_select(dim, resolve("head", head, part.size()[dim as usize])?)?;
        Ok((headed, if dim < position_dim { position_dim - 1 } else { position_dim }))
    }
}
