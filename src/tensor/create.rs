//! New tensors: constants, ranges and random numbers.

use tch::{Device, Kind};

use super::element::{Elements, Number};
use super::generator::Generator;
use super::{Tensor, kind_name};
use crate::error::{Error, Result};
use crate::interrupt;

/// The element type and the device of a new tensor.
pub type Place = (Kind, Device);

/// The distribution that random elements come from.
#[derive(Debug, Clone, Copy)]
pub enum Distribution {
    /// Uniform on [0, 1).
    Uniform,
    /// Normal with mean 0 and standard deviation 1.
    Normal,
    /// Uniform on the integers from the first to just below the second.
    Integers(i64, i64),
}

fn check_shape(shape: &[i64]) -> Result<()> {
    match shape.iter().find(|&&length| length < 0) {
        Some(length) => Err(Error::new(format!("a shape cannot hold {length}, as in {shape:?}"))),
        None => Ok(()),
    }
}

/// A tensor filled with `value`.
///
/// # Errors
/// A negative length, or more elements than memory holds.
pub fn full(shape: &[i64], value: Number, place: Place) -> Result<Tensor> {
    check_shape(shape)?;
    if !value.fits(place.0) {
        return Err(Error::new(format!("a tensor of dtype {} cannot hold {value}", kind_name(place.0))));
    }
    let mut tensor = tch::Tensor::f_empty(shape, place)?;
    Ok(tensor.f_fill_tensor_(value.to_tensor(place.0)?.tch())?.into())
}

/// The numbers from `start` to just before `end`, `step` apart.
///
/// # Errors
/// A step of zero, one that leads away from `end`, or more numbers than memory holds.
pub fn arange(start: Number, end: Number, step: Number, place: Place) -> Result<Tensor> {
    let float = |number| match number {
        Number::Bool(value) => f64::from(value),
        Number::Integer(value) => value as f64,
        Number::Float(value) => value,
    };
    let count = ((float(end) - float(start)) / float(step)).ceil();
    if !count.is_finite() || count < 0.0 {
        return Err(Error::new(format!("`arange`: steps of {step} do not lead from {start} to {end}")));
    }
    let elements = match (start, step) {
        (Number::Integer(start), Number::Integer(step)) if matches!(end, Number::Integer(_)) => {
            Elements::Integers(listed(count, |position| start.wrapping_add(step.wrapping_mul(position)))?)
        }
        _ => Elements::Floats(listed(count, |position| float(start) + float(step) * position as f64)?),
    };
    Tensor::from_elements(&elements, &[elements.len() as i64], Some(place.0), place.1)
}

/// `steps` numbers at equal distances from `start` to `end`, both included.
///
/// # Errors
/// A negative number of steps, or more than memory holds.
pub fn linspace(start: f64, end: f64, steps: i64, place: Place) -> Result<Tensor> {
    check_shape(&[steps])?;
    let step = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
    // From the nearer end, so that both ends are exact.
    let number = |position: i64| {
        if position < steps / 2 || steps == 1 {
            start + step * position as f64
        } else {
            end - step * (steps - 1 - position) as f64
        }
    };
    let elements = Elements::Floats(listed(steps as f64, number)?);
    Tensor::from_elements(&elements, &[steps], Some(place.0), place.1)
}

/// The values of `number` at the positions from 0 to just below `count`.
fn listed<T>(count: f64, number: impl Fn(i64) -> T) -> Result<Vec<T>> {
    let mut numbers = Vec::new();
    numbers
        .try_reserve_exact(count as usize)
        .map_err(|_| Error::new(format!("{count} numbers are more than memory holds")))?;
    for position in 0..count as i64 {
        if position % 1_000_000 == 0 {
            interrupt::check()?;
        }
        numbers.push(number(position));
    }
    Ok(numbers)
}

/// The identity matrix, [size, size].
///
/// # Errors
/// A negative size.
pub fn eye(size: i64, place: Place) -> Result<Tensor> {
    check_shape(&[size])?;
    Ok(tch::Tensor::f_eye(size, place)?.into())
}

/// Sets the seed of the random numbers, so that later ones can be repeated.
pub fn manual_seed(seed: i64) {
    tch::manual_seed(seed);
}

/// Random elements. They are drawn on the CPU, so that a seed gives the same numbers on every device. With a seed the
/// numbers depend on it alone, and the session's generator is left as it was.
///
/// # Errors
/// A negative length, an empty range of integers, or a dtype that the distribution does not have.
pub fn random(distribution: Distribution, shape: &[i64], place: Place, seed: Option<i64>) -> Result<Tensor> {
    check_shape(shape)?;
    let (kind, device) = place;
    let Some(seed) = seed else { return draw(distribution, shape, kind)?.to(None, Some(device)) };
    Generator::new(seed).draw(|| draw(distribution, shape, kind))?.to(None, Some(device))
}

fn draw(distribution: Distribution, shape: &[i64], kind: Kind) -> Result<Tensor> {
    let place = (kind, Device::Cpu);
    Ok(match distribution {
        Distribution::Uniform => tch::Tensor::f_rand(shape, place),
        Distribution::Normal => tch::Tensor::f_randn(shape, place),
        Distribution::Integers(low, high) if low < high => tch::Tensor::f_randint_low(low, high, shape, place),
        Distribution::Integers(low, high) => {
            return Err(Error::new(format!("there are no integers from {low} to just below {high}")));
        }
    }?
    .into())
}
