//! Matrices of samples by features, in double precision.

use tch::Kind;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The samples as a matrix [sample, feature] of doubles on their device, without gradient.
///
/// # Errors
/// Not a matrix, no samples or features, or numbers that are not finite.
pub fn doubles(function: &str, x: &Tensor) -> Result<tch::Tensor> {
    let shape = x.shape();
    if shape.len() != 2 {
        return Err(Error::new(format!("`{function}` needs a matrix [sample, feature], not {}", x.describe())));
    }
    if shape.contains(&0) {
        return Err(Error::new(format!("`{function}` needs samples and features, not {}", x.describe())));
    }
    let matrix = x.tch().f_detach()?.f_to_kind(Kind::Double)?;
    if Vec::<bool>::try_from(&matrix.f_isfinite()?.f_all()?.f_reshape([1])?)? != [true] {
        return Err(Error::new(format!("`{function}` needs finite numbers, but some are NaN or infinite")));
    }
    Ok(matrix)
}

/// One number as a tensor on the device of `other`.
///
/// # Errors
/// A libtorch error.
pub fn constant(value: f64, other: &tch::Tensor) -> Result<tch::Tensor> {
    Ok(tch::Tensor::f_from_slice(&[value])?.f_to_device(other.device())?)
}

/// The left singular vectors in columns, the singular values, descending, and the right singular vectors in rows.
///
/// # Errors
/// A libtorch error.
pub fn singular(matrix: &tch::Tensor) -> Result<(tch::Tensor, tch::Tensor, tch::Tensor)> {
    let (left, values, right) = matrix.f_svd(true, true)?;
    Ok((left, values, right.f_transpose(0, 1)?))
}

/// Integers as a tensor on the device of `other`.
///
/// # Errors
/// A libtorch error.
pub fn indices(values: &[usize], other: &tch::Tensor) -> Result<tch::Tensor> {
    let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    Ok(tch::Tensor::f_from_slice(&values)?.f_to_device(other.device())?)
}

/// A row for each label [sample, class], 1 in its class and 0 elsewhere.
///
/// # Errors
/// A libtorch error.
pub fn one_hot(labels: &tch::Tensor, classes: usize) -> Result<tch::Tensor> {
    Ok(labels.f_one_hot(classes as i64)?.f_to_kind(Kind::Double)?)
}

/// The share of rows [sample, class] whose largest score is that of their label.
///
/// # Errors
/// A libtorch error.
pub fn accuracy(scores: &tch::Tensor, labels: &tch::Tensor) -> Result<f64> {
    let right = scores.f_argmax(1, false)?.f_eq_tensor(labels)?;
    Ok(right.f_to_kind(Kind::Double)?.f_mean(Kind::Double)?.f_double_value(&[])?)
}

/// Fails unless every sample has a label below `classes`.
///
/// # Errors
/// A different number of labels, or one out of range.
pub fn check_labels(function: &str, x: &tch::Tensor, labels: &[usize], classes: usize) -> Result<()> {
    let samples = x.size().first().copied().unwrap_or_default();
    if samples != labels.len() as i64 {
        return Err(Error::new(format!("`{function}` got {samples} samples but {} labels", labels.len())));
    }
    match labels.iter().all(|label| *label < classes) {
        true => Ok(()),
        false => Err(Error::new(format!("`{function}` got a label beyond its {classes} classes"))),
    }
}
