//! Principal component analysis, by the singular value decomposition of the centred samples.

use tch::Kind;

use super::matrix::{constant, doubles, singular};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// The principal components of samples. Signs are scikit-learn's: each component's largest entry is positive.
#[derive(Debug)]
pub struct Principal {
    /// The samples along the components, [sample, component].
    pub transformed: Tensor,
    /// The components, [component, feature].
    pub components: Tensor,
    /// The variance along each component.
    pub explained_variance: Tensor,
    /// Its share of the total variance.
    pub explained_variance_ratio: Tensor,
    /// The mean of the samples, [feature].
    pub mean: Tensor,
}

/// The first `count` principal components of `x` [sample, feature].
///
/// # Errors
/// Not a matrix of finite numbers, fewer than two samples, more components than samples or features, or no variance.
pub fn pca(x: &Tensor, count: usize) -> Result<Principal> {
    let _guard = tch::no_grad_guard();
    let matrix = doubles("pca", x)?;
    let (samples, features) = matrix.size2()?;
    let most = samples.min(features);
    let kept = count as i64;
    if samples < 2 {
        return Err(Error::new("`pca` needs at least 2 samples"));
    }
    if kept < 1 || kept > most {
        return Err(Error::new(format!("`pca` of {} cannot give {count} components", x.describe()))
            .hint(format!("from 1 to {most}")));
    }
    let mean = matrix.f_mean_dim([0].as_slice(), false, Kind::Double)?;
    let (left, values, right) = singular(&matrix.f_sub(&mean)?)?;
    let largest = right.f_abs()?.f_argmax(1, true)?;
    let signs = right.f_gather(1, &largest, false)?.f_sign()?;
    let variance = values.f_square()?.f_div(&constant(samples as f64 - 1.0, &values)?)?;
    let total = variance.f_sum(Kind::Double)?;
    if numbers(&total)?.iter().all(|total| *total <= 0.0) {
        return Err(Error::new("`pca` needs samples that differ"));
    }
    let first = |tensor: &tch::Tensor, dim: i64| tensor.f_narrow(dim, 0, kept);
    let transformed = left.f_mul(&values)?.f_mul(&signs.f_transpose(0, 1)?)?;
    Ok(Principal {
        transformed: first(&transformed, 1)?.into(),
        components: first(&right.f_mul(&signs)?, 0)?.into(),
        explained_variance: first(&variance, 0)?.into(),
        explained_variance_ratio: first(&variance.f_div(&total)?, 0)?.into(),
        mean: mean.into(),
    })
}
