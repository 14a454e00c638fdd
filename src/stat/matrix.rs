//! Matrices of samples by features, in double precision.

use ndarray::Array2;
use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The samples as a matrix [sample, feature] of doubles where they lie, apart from any gradient.
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

/// All numbers of a tensor of doubles, the last dimension fastest.
pub fn numbers(tensor: &tch::Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(&tensor.f_to_device(Device::Cpu)?.f_reshape([-1])?)?)
}

/// The same numbers as a matrix in main memory.
pub fn to_array(matrix: &tch::Tensor) -> Result<Array2<f64>> {
    let shape = match matrix.size().as_slice() {
        &[rows, columns] => (rows as usize, columns as usize),
        shape => return Err(Error::new(format!("a matrix has two dimensions, not {shape:?}"))),
    };
    Array2::from_shape_vec(shape, numbers(matrix)?).map_err(|error| Error::new(error.to_string()))
}

/// A matrix in main memory as a tensor of doubles.
pub fn from_array(matrix: &Array2<f64>) -> Result<Tensor> {
    let values: Vec<f64> = matrix.iter().copied().collect();
    let shape = [matrix.nrows() as i64, matrix.ncols() as i64];
    Ok(tch::Tensor::f_from_slice(&values)?.f_reshape(shape)?.into())
}

/// One number, as a tensor to compute with beside `other`.
pub fn constant(value: f64, other: &tch::Tensor) -> Result<tch::Tensor> {
    Ok(tch::Tensor::f_from_slice(&[value])?.f_to_device(other.device())?)
}

/// The left singular vectors in columns, the singular values, descending, and the right singular vectors in rows.
pub fn singular(matrix: &tch::Tensor) -> Result<(tch::Tensor, tch::Tensor, tch::Tensor)> {
    let (left, values, right) = matrix.f_svd(true, true)?;
    Ok((left, values, right.f_transpose(0, 1)?))
}

/// How often the largest score of a row [sample, class] is that of its label.
pub fn accuracy(scores: &tch::Tensor, labels: &[usize]) -> Result<f64> {
    let chosen = Vec::<i64>::try_from(&scores.f_argmax(1, false)?.f_to_device(Device::Cpu)?)?;
    let right = chosen.iter().zip(labels).filter(|(chosen, label)| **chosen == **label as i64).count();
    Ok(right as f64 / labels.len().max(1) as f64)
}

/// Fails unless there is a label below `classes` for every sample.
///
/// # Errors
/// Another number of labels, or one out of range.
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
