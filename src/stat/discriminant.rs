//! Linear discriminant analysis, by singular value decompositions as in scikit-learn's `solver="svd"` (1.9, which
//! divides the scatter within classes by the number of samples; earlier versions scale all components otherwise).

use tch::Kind;

use super::matrix::{accuracy, check_labels, constant, doubles, indices, one_hot, singular};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// Differences from a mean below this share of the numbers they are between are rounding.
const ROUNDING: f64 = 1e-14;

/// Singular values at most this are taken as zero (scikit-learn's `tol`).
const TOLERANCE: f64 = 1e-4;

/// The directions that best separate classes.
#[derive(Debug)]
pub struct Discriminant {
    /// The samples along the directions, [sample, component].
    pub transformed: Tensor,
    /// The share of the variance between classes that each component explains.
    pub explained_variance_ratio: Tensor,
    /// The directions, [feature, component].
    pub scalings: Tensor,
    /// The mean of each class, [class, feature].
    pub means: Tensor,
    /// The share of training samples assigned to their own class.
    pub accuracy: f64,
}

/// The first `count` discriminant directions of `x` [sample, feature], whose classes are `labels` below `classes`.
/// Their number is at most the number of classes less one.
///
/// # Errors
/// Not a matrix of finite numbers, labels that do not match it, fewer than two classes, no more samples than classes,
/// too many components, or samples that do not vary within or between classes.
pub fn lda(x: &Tensor, labels: &[usize], classes: usize, count: usize) -> Result<Discriminant> {
    let _guard = tch::no_grad_guard();
    let matrix = doubles("lda", x)?;
    check_labels("lda", &matrix, labels, classes)?;
    let (samples, features) = matrix.size2()?;
    check_count(samples, features, classes, count)?;
    let targets = indices(labels, &matrix)?;
    let one_hot = one_hot(&targets, classes)?;
    let sizes = one_hot.f_sum_dim_intlist([0].as_slice(), false, Kind::Double)?;
    if numbers(&sizes)?.contains(&0.0) {
        return Err(Error::new("`lda` got a class without samples"));
    }
    let means = one_hot.f_transpose(0, 1)?.f_matmul(&matrix)?.f_div(&sizes.f_unsqueeze(1)?)?;
    let centre = matrix.f_mean_dim([0].as_slice(), false, Kind::Double)?;
    let size = matrix.f_abs()?.f_amax([0].as_slice(), true)?.f_mul(&constant(ROUNDING, &matrix)?)?;
    let differing = |difference: tch::Tensor| -> Result<tch::Tensor> {
        let is_rounding = difference.f_abs()?.f_le_tensor(&size)?;
        Ok(difference.f_zeros_like()?.f_where_self(&is_rounding, &difference)?)
    };
    let whitening = whitening(&differing(matrix.f_sub(&means.f_index_select(0, &targets)?)?)?)?;
    let offsets = differing(means.f_sub(&centre)?)?;
    let (scalings, ratio) = between(&offsets, &sizes, &whitening)?;

    let projected = matrix.f_sub(&centre)?.f_matmul(&scalings)?;
    let centres = offsets.f_matmul(&scalings)?;
    let halves = constant(0.5, &matrix)?;
    let lengths = centres.f_square()?.f_sum_dim_intlist([1].as_slice(), false, Kind::Double)?.f_mul(&halves)?;
    let prior = sizes.f_div(&constant(samples as f64, &sizes)?)?.f_log()?;
    let scores = projected.f_matmul(&centres.f_transpose(0, 1)?)?.f_sub(&lengths)?.f_add(&prior)?;

    let components = (count as i64).min(scalings.size2()?.1);
    Ok(Discriminant {
        transformed: projected.f_narrow(1, 0, components)?.into(),
        explained_variance_ratio: ratio.f_narrow(0, 0, components)?.into(),
        scalings: scalings.f_narrow(1, 0, components)?.into(),
        means: means.into(),
        accuracy: accuracy(&scores, &targets)?,
    })
}

fn check_count(samples: i64, features: i64, classes: usize, count: usize) -> Result<()> {
    if classes < 2 {
        return Err(Error::new("`lda` needs at least 2 classes"));
    }
    if samples <= classes as i64 {
        return Err(Error::new(format!("`lda` of {classes} classes needs more samples than classes, not {samples}")));
    }
    let most = (classes as i64 - 1).min(features);
    if count < 1 || count as i64 > most {
        let message = format!("`lda` of {classes} classes and {features} features cannot give {count} components");
        return Err(Error::new(message).hint(format!("from 1 to {most}")));
    }
    Ok(())
}

/// The directions in which the scatter within classes has unit variance, [feature, direction], from the offsets
/// `within` [sample, feature] of the samples from the means of their classes.
fn whitening(within: &tch::Tensor) -> Result<tch::Tensor> {
    let deviation = within.f_square()?.f_mean_dim([0].as_slice(), false, Kind::Double)?.f_sqrt()?;
    let constant_features = deviation.f_eq_tensor(&deviation.f_zeros_like()?)?;
    let deviation = deviation.f_ones_like()?.f_where_self(&constant_features, &deviation)?;
    let scale = constant((within.size2()?.0 as f64).sqrt(), within)?;
    let (_, values, right) = singular(&within.f_div(&deviation)?.f_div(&scale)?)?;
    let rank = count_above(&values, TOLERANCE)?;
    if rank == 0 {
        return Err(Error::new("`lda` needs samples that vary within their classes"));
    }
    let directions = right.f_narrow(0, 0, rank)?.f_div(&deviation)?;
    Ok(directions.f_div(&values.f_narrow(0, 0, rank)?.f_unsqueeze(1)?)?.f_transpose(0, 1)?)
}

/// Among the directions of `whitening`, those in which the class means differ most, [feature, component], and the share
/// of the variance between classes that each explains. `offsets` [class, feature] are the means less the overall mean.
fn between(offsets: &tch::Tensor, sizes: &tch::Tensor, whitening: &tch::Tensor) -> Result<(tch::Tensor, tch::Tensor)> {
    let classes = offsets.size2()?.0;
    let weights = sizes.f_div(&constant(classes as f64 - 1.0, sizes)?)?.f_sqrt()?.f_unsqueeze(1)?;
    let (_, values, right) = singular(&offsets.f_mul(&weights)?.f_matmul(whitening)?)?;
    let largest = numbers(&values)?.first().copied().unwrap_or_default();
    let rank = count_above(&values, TOLERANCE * largest)?;
    if rank == 0 {
        return Err(Error::new("`lda` needs classes whose means differ"));
    }
    let scalings = whitening.f_matmul(&right.f_narrow(0, 0, rank)?.f_transpose(0, 1)?)?;
    let variance = values.f_square()?;
    Ok((scalings, variance.f_div(&variance.f_sum(Kind::Double)?)?))
}

fn count_above(values: &tch::Tensor, threshold: f64) -> Result<i64> {
    Ok(numbers(values)?.iter().filter(|value| **value > threshold).count() as i64)
}
