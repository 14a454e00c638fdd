//! Rearranging elements: reshaping, permuting, joining and splitting.

use super::place::all_together;
use super::{Tensor, named, refusal};
use crate::error::{Error, Result};

/// The shape that `left` and `right` broadcast to, if they do.
pub fn broadcast(left: &[i64], right: &[i64]) -> Option<Vec<i64>> {
    let length = left.len().max(right.len());
    let size = |shape: &[i64], position: usize| {
        (position + shape.len()).checked_sub(length).and_then(|offset| shape.get(offset).copied()).unwrap_or(1)
    };
    (0..length)
        .map(|position| match (size(left, position), size(right, position)) {
            (left, right) if left == right || right == 1 => Some(left),
            (1, right) => Some(right),
            _ => None,
        })
        .collect()
}

/// Joins tensors along an existing dimension.
///
/// # Errors
/// No tensors, or shapes that differ elsewhere than in `dim`.
pub fn cat(tensors: &[Tensor], dim: i64) -> Result<Tensor> {
    join("cat", tensors, |parts| tch::Tensor::f_cat(parts, dim))
}

/// Joins tensors of one shape along a new dimension.
///
/// # Errors
/// No tensors, or shapes that differ.
pub fn stack(tensors: &[Tensor], dim: i64) -> Result<Tensor> {
    join("stack", tensors, |parts| tch::Tensor::f_stack(parts, dim))
}

fn join(
    operation: &str,
    tensors: &[Tensor],
    apply: impl FnOnce(&[&tch::Tensor]) -> std::result::Result<tch::Tensor, tch::TchError>,
) -> Result<Tensor> {
    let tensors = all_together(tensors)?;
    let Some(first) = tensors.first() else {
        return Err(Error::new(format!("`{operation}` needs at least one tensor")));
    };
    let parts: Vec<&tch::Tensor> = tensors.iter().map(Tensor::tch).collect();
    let odd = tensors.iter().find(|tensor| tensor.shape() != first.shape()).unwrap_or(first);
    named(operation, &[first, odd], apply(&parts))
}

impl Tensor {
    /// The elements in another shape; one length may be -1 and is computed.
    ///
    /// # Errors
    /// A shape with another number of elements.
    pub fn reshape(&self, shape: &[i64]) -> Result<Self> {
        let known =
            shape.iter().filter(|&&length| length != -1).try_fold(1i64, |size, &length| size.checked_mul(length));
        let free = shape.iter().filter(|&&length| length == -1).count();
        let total = self.numel() as i64;
        let fits = match (known, free) {
            (Some(known), 0) => known == total,
            (Some(known), 1) => known > 0 && total % known == 0,
            _ => false,
        };
        if !fits || shape.iter().any(|&length| length < -1) {
            return Err(Error::new(format!(
                "a tensor of shape {:?} ({total} elements) cannot take the shape {shape:?}",
                self.shape()
            ))
            .hint("the lengths must multiply to the number of elements; one may be -1"));
        }
        named("reshape", &[self], self.tch().f_reshape(shape))
    }

    /// Joins the dimensions from `start` to `end` into one.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn flatten(&self, start: i64, end: i64) -> Result<Self> {
        named("flatten", &[self], self.tch().f_flatten(start, end))
    }

    /// Swaps two dimensions.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn transpose(&self, first: i64, second: i64) -> Result<Self> {
        named("transpose", &[self], self.tch().f_transpose(self.resolve_dim(first)?, self.resolve_dim(second)?))
    }

    /// A matrix with rows and columns swapped.
    ///
    /// # Errors
    /// A tensor that isn't a matrix.
    pub fn transposed(&self) -> Result<Self> {
        if self.ndim() != 2 {
            return Err(Error::new(format!("`T` needs a matrix, not {}", self.describe()))
                .hint("use `transpose(a, b)` or `permute(dims)`"));
        }
        self.transpose(0, 1)
    }

    /// Puts the dimensions in the order `dims`.
    ///
    /// # Errors
    /// Dimensions that do not name each of the tensor's exactly once.
    pub fn permute(&self, dims: &[i64]) -> Result<Self> {
        let mut order = dims.iter().map(|&dim| self.resolve_dim(dim)).collect::<Result<Vec<_>>>()?;
        order.sort_unstable();
        if !order.iter().copied().eq(0..self.ndim() as i64) {
            return Err(Error::new(format!(
                "{dims:?} does not order the dimensions of a tensor of shape {:?}",
                self.shape()
            ))
            .hint("name each dimension once"));
        }
        named("permute", &[self], self.tch().f_permute(dims))
    }

    /// Drops dimension `dim` if its length is 1; without `dim`, all such dimensions.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn squeeze(&self, dim: Option<i64>) -> Result<Self> {
        let result = match dim {
            Some(dim) => self.tch().f_squeeze_dim(self.resolve_dim(dim)?),
            None => self.tch().f_squeeze(),
        };
        named("squeeze", &[self], result)
    }

    /// Puts a dimension of length 1 at `dim`.
    ///
    /// # Errors
    /// A dimension beyond the tensor's last plus one.
    pub fn unsqueeze(&self, dim: i64) -> Result<Self> {
        named("unsqueeze", &[self], self.tch().f_unsqueeze(dim))
    }

    /// Repeats dimensions of length 1 to fill `shape`, where -1 keeps a length; no elements are copied.
    ///
    /// # Errors
    /// A shape that the tensor does not expand to.
    pub fn expand(&self, shape: &[i64]) -> Result<Self> {
        self.tch().f_expand(shape, false).map(Self::new).map_err(|_| {
            Error::new(format!("a tensor of shape {:?} does not expand to {shape:?}", self.shape()))
                .hint("aligned from the last dimension, a length must be equal, -1, or 1 in the tensor")
        })
    }

    /// Repeats the tensor `times` along each dimension.
    ///
    /// # Errors
    /// Fewer numbers than the tensor has dimensions.
    pub fn repeat(&self, times: &[i64]) -> Result<Self> {
        named("repeat", &[self], self.tch().f_repeat(times))
    }

    /// Reverses the order along `dims`.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn flip(&self, dims: &[i64]) -> Result<Self> {
        named("flip", &[self], self.tch().f_flip(dims))
    }

    /// Moves elements `shift` places forward along `dim`; those that leave at the end come in at the start.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn roll(&self, shift: i64, dim: i64) -> Result<Self> {
        named("roll", &[self], self.tch().f_roll(shift, self.resolve_dim(dim)?))
    }

    /// The part on and below a diagonal; the rest is zero.
    ///
    /// # Errors
    /// A tensor of fewer than two dimensions.
    pub fn tril(&self, diagonal: i64) -> Result<Self> {
        named("tril", &[self], self.tch().f_tril(diagonal))
    }

    /// The part on and above a diagonal; the rest is zero.
    ///
    /// # Errors
    /// A tensor of fewer than two dimensions.
    pub fn triu(&self, diagonal: i64) -> Result<Self> {
        named("triu", &[self], self.tch().f_triu(diagonal))
    }

    /// The diagonal of a matrix, or the matrix with this diagonal.
    ///
    /// # Errors
    /// A tensor of more than two dimensions.
    pub fn diag(&self) -> Result<Self> {
        named("diag", &[self], self.tch().f_diag(0))
    }

    /// The diagonal of the matrices in dimensions `first` and `second`, as a last dimension; `offset` counts the columns
    /// to its right.
    ///
    /// # Errors
    /// Dimensions that the tensor does not have, or the same twice.
    pub fn diagonal(&self, offset: i64, first: i64, second: i64) -> Result<Self> {
        let (first, second) = (self.resolve_dim(first)?, self.resolve_dim(second)?);
        if first == second {
            return Err(Error::new(format!("`diagonal` needs two dimensions, not {first} twice")));
        }
        named("diagonal", &[self], self.tch().f_diagonal(offset, first, second))
    }

    /// Each part along `dim` repeated `times` times, one after the other.
    ///
    /// # Errors
    /// A negative count, a dimension that the tensor does not have.
    pub fn repeat_interleave(&self, times: i64, dim: i64) -> Result<Self> {
        if times < 0 {
            return Err(Error::new(format!("`repeat_interleave` needs a count from 0 on, not {times}")));
        }
        let dim = self.resolve_dim(dim)?;
        named("repeat_interleave", &[self], self.tch().f_repeat_interleave_self_int(times, dim, None))
    }

    /// Pieces of `size` along `dim`; the last may be shorter.
    ///
    /// # Errors
    /// A length below 1, a dimension that the tensor does not have.
    pub fn split(&self, size: i64, dim: i64) -> Result<Vec<Self>> {
        if size < 1 {
            return Err(Error::new(format!("`split` needs a positive length, not {size}")));
        }
        self.pieces("split", self.tch().f_split(size, self.resolve_dim(dim)?))
    }

    /// Pieces of the given sizes along `dim`.
    ///
    /// # Errors
    /// Sizes that do not add up to the dimension.
    pub fn split_sizes(&self, sizes: &[i64], dim: i64) -> Result<Vec<Self>> {
        self.pieces("split", self.tch().f_split_sizes(sizes, self.resolve_dim(dim)?))
    }

    /// At most `count` pieces of equal length along `dim`; the last may be shorter.
    ///
    /// # Errors
    /// A count below 1, a dimension that the tensor does not have.
    pub fn chunk(&self, count: i64, dim: i64) -> Result<Vec<Self>> {
        self.pieces("chunk", self.tch().f_chunk(count, self.resolve_dim(dim)?))
    }

    fn pieces(
        &self,
        operation: &str,
        result: std::result::Result<Vec<tch::Tensor>, tch::TchError>,
    ) -> Result<Vec<Self>> {
        Ok(result.map_err(|error| refusal(operation, &[self], error))?.into_iter().map(Self::new).collect())
    }
}
