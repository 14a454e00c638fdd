//! Between nested arrays of a script and tensors.

use rhai::{Array, Dynamic};
use tch::{Device, Kind};

use super::convert::{from_number, number};
use crate::bind::convert::type_name;
use crate::error::{Error, Result};
use crate::tensor::element::{Elements, Number};
use crate::tensor::{Tensor, kind_name};
use crate::{interrupt, limits};

/// Deeper nesting is taken for a mistake.
const DEEPEST: usize = 64;

/// A tensor of a number or of nested arrays of numbers, bools and tensors of one element.
///
/// # Errors
/// Arrays of different lengths side by side, or something that isn't a number; the message says where.
pub fn from_nested(value: &Dynamic, kind: Option<Kind>, device: Device) -> Result<Tensor> {
    let mut walk = Walk::default();
    walk.visit(value)?;
    if let Some((kind, number)) =
        kind.and_then(|kind| Some((kind, walk.numbers.iter().find(|number| !number.fits(kind))?)))
    {
        return Err(Error::new(format!("a tensor of dtype {} cannot hold {number}", kind_name(kind))));
    }
    let shape: Vec<i64> = walk.shape.iter().map(|&length| length as i64).collect();
    Tensor::from_elements(&unify(&walk.numbers), &shape, kind, device)
}

#[derive(Default)]
struct Walk {
    shape: Vec<usize>,
    /// Whether a number has been met, which settles how deep the arrays go.
    settled: bool,
    numbers: Vec<Number>,
    place: Vec<usize>,
}

impl Walk {
    fn visit(&mut self, value: &Dynamic) -> Result<()> {
        match value.read_lock::<Array>() {
            Some(array) => self.visit_array(&array),
            None => self.visit_number(value),
        }
    }

    fn visit_array(&mut self, array: &Array) -> Result<()> {
        interrupt::check()?;
        let depth = self.place.len();
        match self.shape.get(depth) {
            Some(&length) if length != array.len() => {
                return Err(self.error(&format!("has {} items where its neighbours have {length}", array.len())));
            }
            Some(_) => {}
            None if self.settled => return Err(self.error("is an array where its neighbours are numbers")),
            None if depth >= DEEPEST => return Err(Error::new(format!("arrays nested more than {DEEPEST} deep"))),
            None => self.shape.push(array.len()),
        }
        for (position, item) in array.iter().enumerate() {
            self.place.push(position);
            self.visit(item)?;
            self.place.pop();
        }
        Ok(())
    }

    fn visit_number(&mut self, value: &Dynamic) -> Result<()> {
        let number = match (number(value), value.clone().try_cast::<Tensor>()) {
            (Some(number), _) => number,
            (None, Some(tensor)) if tensor.numel() == 1 => tensor.item()?,
            (None, Some(tensor)) => {
                return Err(self
                    .error(&format!("is a tensor of shape {:?}", tensor.shape()))
                    .hint("join tensors with `stack([a, b], 0)` or `cat([a, b], 0)`"));
            }
            (None, None) => return Err(self.error(&format!("must be a number or an array, not {}", type_name(value)))),
        };
        if self.place.len() != self.shape.len() {
            return Err(self.error("is a number where its neighbours are arrays"));
        }
        self.settled = true;
        self.numbers.push(number);
        Ok(())
    }

    fn error(&self, problem: &str) -> Error {
        match self.place.as_slice() {
            [] => Error::new(format!("the value {problem}")),
            place => Error::new(format!("the item at {place:?} {problem}")),
        }
    }
}

/// Floats if there is one, else integers if there is one, else bools; no numbers count as floats.
fn unify(numbers: &[Number]) -> Elements {
    let bools: Option<Vec<bool>> =
        numbers.iter().map(|number| if let Number::Bool(value) = number { Some(*value) } else { None }).collect();
    match bools {
        Some(bools) if !bools.is_empty() => return Elements::Bools(bools),
        _ => {}
    }
    let integers: Option<Vec<i64>> = numbers
        .iter()
        .map(|number| match number {
            Number::Bool(value) => Some(i64::from(*value)),
            Number::Integer(value) => Some(*value),
            Number::Float(_) => None,
        })
        .collect();
    match integers {
        Some(integers) if !integers.is_empty() => return Elements::Integers(integers),
        _ => {}
    }
    let float = |number: &Number| match number {
        Number::Bool(value) => f64::from(*value),
        Number::Integer(value) => *value as f64,
        Number::Float(value) => *value,
    };
    Elements::Floats(numbers.iter().map(float).collect())
}

/// The elements as nested arrays, or as one value where there are no dimensions.
pub fn to_nested(tensor: &Tensor) -> Result<Dynamic> {
    limits::reserve(tensor.numel().saturating_mul(size_of::<Dynamic>()))?;
    rows(&tensor.elements()?, &tensor.shape(), 0)
}

fn rows(elements: &Elements, shape: &[i64], start: usize) -> Result<Dynamic> {
    interrupt::check()?;
    let Some((&length, inner)) = shape.split_first() else {
        return Ok(elements.get(start).map_or(Dynamic::UNIT, from_number));
    };
    let step: usize = inner.iter().map(|&length| length as usize).product();
    let array: Result<Array> =
        (0..length as usize).map(|position| rows(elements, inner, start + position * step)).collect();
    Ok(array?.into())
}
