//! Prompts of different lengths in one batch. Shorter ones are filled up on one side; each then gives what it gives alone,
//! because it keeps its own positions and no token attends to the filling.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::attention::hidden_keys;
use super::config::{Config, Rope};
use super::rope::Rotation;
use super::window::Window;
use crate::error::{Error, Result};
use crate::tensor::raw::{constant, range};

/// The side on which shorter prompts are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the prompt: the last position is the last token of each
    Left,
    /// After the prompt: the first position is the first token of each
    Right,
}

/// Where the filling of a batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Padding {
    side: Side,
    /// The number of tokens of each prompt
    lengths: Vec<i64>,
    longest: i64,
}

/// Prompts in one tensor.
#[derive(Debug)]
pub struct Batch {
    /// int64 [batch, pos]; the filling is token 0
    pub tokens: Tensor,
    /// None where all prompts have the same length
    pub padding: Option<Rc<Padding>>,
}

impl Batch {
    /// The prompts, which are not empty, side by side.
    ///
    /// # Errors
    /// No prompts; different lengths without a side to fill up.
    pub fn new(rows: &[Vec<i64>], side: Option<Side>) -> Result<Self> {
        let Some(first) = rows.first() else {
            return Err(Error::new("there are no prompts").hint("give at least one"));
        };
        let longest = rows.iter().map(Vec::len).fold(0, usize::max);
        let shorter = rows.iter().position(|row| row.len() != first.len());
        let padding = match (shorter, side) {
            (None, _) => None,
            (Some(_), Some(side)) => {
                let lengths = rows.iter().map(|row| row.len() as i64).collect();
                Some(Rc::new(Padding { side, lengths, longest: longest as i64 }))
            }
            (Some(index), None) => {
                return Err(Error::new(format!(
                    "prompts of different lengths: prompt 0 has {} tokens, prompt {index} has {}",
                    first.len(),
                    rows[index].len()
                ))
                .hint(
                    "run prompts of one length together, or fill up the shorter ones where there is the option \
                     `padding`: \"left\" makes -1 the last token of each, \"right\" 0 the first",
                ));
            }
        };
        let mut flat = Vec::with_capacity(longest * rows.len());
        for row in rows {
            let filling = std::iter::repeat_n(0, longest - row.len());
            match side {
                Some(Side::Left) => flat.extend(filling.chain(row.iter().copied())),
                _ => flat.extend(row.iter().copied().chain(filling)),
            }
        }
        let tokens = Tensor::f_from_slice(&flat)?.f_view([rows.len() as i64, longest as i64])?;
        Ok(Self { tokens, padding })
    }
}

impl From<Tensor> for Batch {
    fn from(tokens: Tensor) -> Self {
        Self { tokens, padding: None }
    }
}

impl Padding {
    /// The filling before each prompt.
    fn before(&self) -> impl Iterator<Item = i64> {
        self.lengths.iter().map(|length| if self.side == Side::Left { self.longest - length } else { 0 })
    }

    /// Whether later positions can follow: only those of filling before the prompts.
    pub fn can_go_on(&self) -> bool {
        self.side == Side::Left
    }

    /// The positions of one prompt in a pass over `window`, as it counts them itself.
    pub fn window(&self, row: usize, window: Window) -> Window {
        let length = self.lengths[row];
        match self.side {
            Side::Left => Window { start: window.start - (self.longest - length), prompt: length, ..window },
            Side::Right => Window { prompt: length, ..window },
        }
    }

    /// True at each prompt's own tokens, [batch, pos].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn mask(&self) -> Result<Tensor> {
        let place = range(0, self.longest, Device::Cpu)?.f_unsqueeze(0)?;
        let lengths = Tensor::f_from_slice(&self.lengths)?.f_unsqueeze(1)?;
        Ok(match self.side {
            Side::Left => place.f_ge_tensor(&lengths.f_neg()?.f_add(&constant(self.longest)?)?)?,
            Side::Right => place.f_lt_tensor(&lengths)?,
        })
    }

    /// The values of a pass over the prompts with NaN at the filling; positions are dimension `position_dim`.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn marked(&self, values: &Tensor, position_dim: i64) -> Result<Tensor> {
        let mut shape = vec![1; values.dim()];
        shape[0] = self.lengths.len() as i64;
        shape[position_dim as usize] = self.longest;
        let filling = self.mask()?.f_logical_not()?.f_view(shape.as_slice())?.f_to(values.device())?;
        Ok(values.f_masked_fill_tensor(&filling, &constant(f64::NAN)?)?)
    }

    /// The values at the last token of each prompt, [batch, 1, ..], of those at all positions, [batch, pos, ..].
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn last(&self, values: &Tensor) -> Result<Tensor> {
        if self.side == Side::Left {
            return Ok(values.f_narrow(1, -1, 1)?);
        }
        let rows = range(0, self.lengths.len() as i64, values.device())?;
        let places = Tensor::f_from_slice(&self.lengths)?.f_sub(&constant(1_i64)?)?.f_to(values.device())?;
        Ok(values.f_index(&[Some(rows), Some(places)])?.f_unsqueeze(1)?)
    }

    /// The numbers of learned positions, [batch, pos]; 0 at filling before a prompt.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn positions(&self, (start, length): (i64, i64), device: Device) -> Result<Tensor> {
        let before = Tensor::f_from_slice(&self.before().collect::<Vec<_>>())?.f_unsqueeze(1)?.f_to(device)?;
        let place = range(start, start + length, device)?.f_unsqueeze(0)?;
        Ok(place.f_sub(&before)?.f_clamp_min_tensor(&constant(0_i64)?)?)
    }

    /// The rotation of every prompt's positions.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn rotation(&self, rope: &Rope, window: Window, kind: Kind, device: Device) -> Result<Rotation> {
        let rows = (0..self.lengths.len()).map(|row| {
            let Window { start, length, prompt } = self.window(row, window);
            // Filling after a prompt does not make its text longer.
            let total = if self.can_go_on() { prompt.max(start + length) } else { prompt };
            rope.rotation(start, length, total, kind, device)
        });
        Rotation::stacked(rows.collect::<Result<Vec<_>>>()?)
    }

    /// True where a query must not see a key, [batch, 1, query, key]. Filling sees itself, so that its numbers are finite.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn hidden(
        &self,
        config: &Config,
        window: Window,
        sliding: Option<i64>,
        device: Device,
    ) -> Result<Option<Tensor>> {
        let hidden = hidden_keys(config, window, sliding, device)?;
        // Filling after a prompt comes after all that looks back only.
        if self.side == Side::Right && config.causal {
            return Ok(hidden);
        }
        let keys = window.start + window.length;
        let key = range(0, keys, device)?.f_view([1, 1, 1, keys])?;
        let column =
            |numbers: &[i64]| Ok::<_, Error>(Tensor::f_from_slice(numbers)?.f_view([-1, 1, 1, 1])?.f_to(device)?);
        let filling = match self.side {
            Side::Left => key.f_lt_tensor(&column(&self.before().collect::<Vec<_>>())?)?,
            Side::Right => key.f_ge_tensor(&column(&self.lengths)?)?,
        };
        let query = range(window.start, keys, device)?.f_view([1, 1, window.length, 1])?;
        let filling = filling.f_logical_and(&key.f_ne_tensor(&query)?)?;
        Ok(Some(match hidden {
            Some(hidden) => filling.f_logical_or(&hidden)?,
            None => filling,
        }))
    }

    /// Whether keys of `rope` are rotated differently where `seen` positions grow by `more`, in any prompt.
    pub fn is_outgrown(&self, rope: &Rope, seen: i64, more: i64) -> bool {
        self.before().any(|before| rope.is_changed_between(seen - before, seen + more - before))
    }
}
