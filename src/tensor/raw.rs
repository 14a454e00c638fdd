//! Helpers for code on libtorch's own tensors: numbers and ranges as tensors, arithmetic with a number, copies.
//!
//! A call that takes a libtorch scalar panics where it should fail, because tch frees the scalar before it looks for
//! the error. So a number enters every computation as a tensor without dimensions.

use tch::kind::Element;
use tch::{Device, Kind, TchError, Tensor};

use crate::error::Result;
use crate::limits;

/// A number as a tensor without dimensions, on the CPU. It computes beside tensors of every device, and a tensor that
/// has dimensions and the same kind of numbers keeps its dtype.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn constant<T: Element>(value: T) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&[value])?.f_squeeze()?)
}

/// The integers from `start` to just before `end`, i64.
///
/// # Errors
/// An `end` below `start`, a device that does not exist, no memory.
pub fn range(start: i64, end: i64, device: Device) -> Result<Tensor> {
    let ones = Tensor::f_ones([end - start], (Kind::Int64, device))?;
    Ok(ones.f_cumsum(0, Kind::Int64)?.f_add(&constant(start - 1)?)?)
}

/// `kind`, or float32 where that is wider: the dtype in which sums, norms and angles are computed.
pub fn wide(kind: Kind) -> Kind {
    match kind {
        Kind::Double => Kind::Double,
        _ => Kind::Float,
    }
}

/// The values in storage of their own.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn copy(tensor: &Tensor) -> Result<Tensor> {
    let mut new = tensor.f_empty_like()?;
    new.f_copy_(tensor)?;
    Ok(new)
}

/// All numbers of a tensor as float64, the last dimension fastest.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    values(tensor)
}

/// All numbers of a tensor as `T`, the last dimension fastest.
///
/// # Errors
/// Too little memory.
pub fn values<T: Element>(tensor: &Tensor) -> Result<Vec<T>>
where
    Vec<T>: for<'a> TryFrom<&'a Tensor, Error = TchError>,
{
    limits::reserve(tensor.numel().saturating_mul(size_of::<T>()))?;
    let tensor = tensor.f_to_device_(Device::Cpu, T::KIND, false, false)?;
    Ok(Vec::try_from(&tensor.f_reshape([-1])?)?)
}

/// Arithmetic of a tensor with one number. A tensor of floats that has dimensions keeps its dtype.
pub trait Arithmetic {
    /// x + number
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    fn plus(&self, number: f64) -> Result<Tensor>;

    /// x - number
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    fn minus(&self, number: f64) -> Result<Tensor>;

    /// x · number
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    fn times(&self, number: f64) -> Result<Tensor>;

    /// x / number
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    fn over(&self, number: f64) -> Result<Tensor>;
}

impl Arithmetic for Tensor {
    fn plus(&self, number: f64) -> Result<Tensor> {
        Ok(self.f_add(&constant(number)?)?)
    }

    fn minus(&self, number: f64) -> Result<Tensor> {
        Ok(self.f_sub(&constant(number)?)?)
    }

    fn times(&self, number: f64) -> Result<Tensor> {
        Ok(self.f_mul(&constant(number)?)?)
    }

    fn over(&self, number: f64) -> Result<Tensor> {
        Ok(self.f_div(&constant(number)?)?)
    }
}

/// Sums over a tensor's bits, plain and weighted by place. Integers, so that neither the device nor the order matters.
///
/// # Errors
/// A libtorch error, such as too little memory.
pub fn bit_sums(tensor: &Tensor) -> Result<Vec<i64>> {
    const CHUNK: i64 = 1 << 22;
    let bits = match tensor.kind() {
        Kind::Double => Kind::Int64,
        Kind::Float => Kind::Int,
        _ => Kind::Int16,
    };
    let flat = tensor.f_contiguous()?.f_view([-1])?.f_view_dtype(bits)?;
    let count = flat.numel() as i64;
    let places = range(1, CHUNK.min(count) + 1, tensor.device())?;
    let mut sums = Vec::new();
    let mut start = 0;
    while start < count {
        let length = CHUNK.min(count - start);
        let chunk = flat.f_narrow(0, start, length)?.f_to_kind(Kind::Int64)?;
        sums.push(chunk.f_sum(Kind::Int64)?.f_int64_value(&[])?);
        sums.push(chunk.f_mul(&places.f_narrow(0, 0, length)?)?.f_sum(Kind::Int64)?.f_int64_value(&[])?);
        start += length;
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_arange() {
        for (start, end) in [(0, 5), (3, 9), (-4, 2), (7, 7)] {
            let ours = range(start, end, Device::Cpu).unwrap();
            let theirs = Tensor::arange_start(start, end, (Kind::Int64, Device::Cpu));
            assert_eq!((ours.kind(), ours), (Kind::Int64, theirs));
        }
        assert!(range(2, 1, Device::Cpu).is_err());
    }

    #[test]
    fn numbers_leave_dtypes_alone() {
        for kind in [Kind::BFloat16, Kind::Half, Kind::Float, Kind::Double] {
            let x = Tensor::from_slice(&[1.5, -2.0]).to_kind(kind);
            for (ours, theirs) in [
                (x.plus(0.1).unwrap(), &x + 0.1),
                (x.minus(0.1).unwrap(), &x - 0.1),
                (x.times(0.1).unwrap(), &x * 0.1),
                (x.over(0.1).unwrap(), &x / 0.1),
            ] {
                assert_eq!((ours.kind(), ours), (kind, theirs));
            }
        }
    }

    #[test]
    fn a_device_that_does_not_exist_is_an_error() {
        let error = range(0, 3, Device::Cuda(99)).unwrap_err().to_string();
        assert!(!error.contains('\n') && !error.contains("Exception raised"), "{error}");
    }
}
