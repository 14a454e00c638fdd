//! New tensors: constants, ranges and random numbers.

use tch::{Device, Kind};

use super::element::Number;
use super::{Tensor, kind_name};
use crate::error::{Error, Result};

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
        return Err(Error::new(format!("a tensor of dtype {} cannot hold {value:?}", kind_name(place.0))));
    }
    Ok(tch::Tensor::f_full(shape, value.scalar(), place)?.into())
}

/// The numbers from `start` to just before `end`, `step` apart.
///
/// # Errors
/// A step of zero, or one that leads away from `end`.
pub fn arange(start: Number, end: Number, step: Number, place: Place) -> Result<Tensor> {
    Ok(tch::Tensor::f_arange_start_step(start.scalar(), end.scalar(), step.scalar(), place)
        .map_err(|error| Error::from(error).context("`arange`"))?
        .into())
}

/// `steps` numbers at equal distances from `start` to `end`, both included.
///
/// # Errors
/// A negative number of steps.
pub fn linspace(start: f64, end: f64, steps: i64, place: Place) -> Result<Tensor> {
    Ok(tch::Tensor::f_linspace(start, end, steps, place)
        .map_err(|error| Error::from(error).context("`linspace`"))?
        .into())
}

/// The identity matrix, [size, size].
///
/// # Errors
/// A negative size.
pub fn eye(size: i64, place: Place) -> Result<Tensor> {
    check_shape(&[size])?;
    Ok(tch::Tensor::f_eye(size, place)?.into())
}

/// Restarts the random numbers, so that what follows can be repeated.
pub fn manual_seed(seed: i64) {
    tch::manual_seed(seed);
}

/// Random elements. They are drawn on the CPU, so that a seed gives the same numbers on every device. With a seed the
/// numbers depend on it alone, and the numbers drawn without one do not repeat because of it.
///
/// # Errors
/// A negative length, an empty range of integers, or a dtype that the distribution does not have.
pub fn random(distribution: Distribution, shape: &[i64], place: Place, seed: Option<i64>) -> Result<Tensor> {
    check_shape(shape)?;
    let (kind, device) = place;
    let Some(seed) = seed else { return draw(distribution, shape, kind)?.to(None, Some(device)) };
    let onward = tch::Tensor::f_randint(i64::MAX, [1i64], (Kind::Int64, Device::Cpu))?.f_int64_value(&[0])?;
    tch::manual_seed(seed);
    let drawn = draw(distribution, shape, kind);
    tch::manual_seed(onward);
    drawn?.to(None, Some(device))
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
