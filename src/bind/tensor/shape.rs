//! Rearranging, joining and splitting.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};

use super::convert::{lengths, tensors};
use crate::bind::convert::{expected, integers};
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::tensor::pattern::Lengths;
use crate::tensor::{Tensor, shape};

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(shape_functions));
    module::register(engine, Topic::Tensors, exported_manifest!(join_functions));
}

fn pieces(result: Result<Vec<Tensor>>) -> ScriptResult<Array> {
    Ok(result?.into_iter().map(Dynamic::from).collect())
}

fn axis_lengths(lengths: Map) -> Result<Lengths> {
    let length = |(name, value): (rhai::Identifier, Dynamic)| match value.as_int() {
        Ok(length) if length >= 0 => Ok((name.to_string(), length)),
        _ => Err(expected(&format!("the length of `{name}`"), "an integer from 0 on", &value)),
    };
    lengths.into_iter().map(length).collect()
}

fn split_by(t: &Tensor, size: &Dynamic, dim: i64) -> Result<Vec<Tensor>> {
    match size.as_int() {
        Ok(size) => t.split(size, dim),
        Err(_) => t.split_sizes(&lengths("the sizes", size)?, dim),
    }
}

#[export_module(manifest)]
mod shape_functions {
    /// The elements in another shape; one length may be -1 and is worked out.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(6).reshape([2, -1]).shape, [2, 3]);
    /// ```
    #[rhai_fn(name = "reshape", name = "view", return_raw)]
    pub fn reshape(t: Tensor, shape: Dynamic) -> ScriptResult<Tensor> {
        Ok(lengths("the shape", &shape).and_then(|shape| t.reshape(&shape))?)
    }

    /// All elements in one dimension.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([2, 3]).flatten().shape, [6]);
    /// ```
    #[rhai_fn(name = "flatten", return_raw)]
    pub fn flatten(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.flatten(0, -1)?)
    }

    /// The dimensions from `start` to `end` joined into one.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([2, 3, 4]).flatten(1, 2).shape, [2, 12]);
    /// ```
    #[rhai_fn(name = "flatten", return_raw)]
    pub fn flatten_between(t: Tensor, start: i64, end: i64) -> ScriptResult<Tensor> {
        Ok(t.flatten(start, end)?)
    }

    /// Two dimensions swapped; for a matrix `t.T` does the same.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([2, 3, 4]).transpose(0, 2).shape, [4, 3, 2]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn transpose(t: Tensor, a: i64, b: i64) -> ScriptResult<Tensor> {
        Ok(t.transpose(a, b)?)
    }

    /// The dimensions in another order.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([2, 3, 4]).permute([2, 0, 1]).shape, [4, 2, 3]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn permute(t: Tensor, dims: Array) -> ScriptResult<Tensor> {
        Ok(integers("the dimensions", &dims).and_then(|dims| t.permute(&dims))?)
    }

    /// Without the dimensions of length 1.
    #[rhai_fn(name = "squeeze", return_raw)]
    pub fn squeeze(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.squeeze(None)?)
    }

    /// Without dimension `dim` if its length is 1.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([1, 3, 1]).squeeze(0).shape, [3, 1]);
    /// ```
    #[rhai_fn(name = "squeeze", return_raw)]
    pub fn squeeze_at(t: Tensor, dim: i64) -> ScriptResult<Tensor> {
        Ok(t.squeeze(Some(dim))?)
    }

    /// With a new dimension of length 1 at `dim`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([3]).unsqueeze(0).shape, [1, 3]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn unsqueeze(t: Tensor, dim: i64) -> ScriptResult<Tensor> {
        Ok(t.unsqueeze(dim)?)
    }

    /// Dimensions of length 1 repeated to fill a shape; -1 keeps a length. No elements are copied.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([3, 1]).expand([-1, 4]).shape, [3, 4]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn expand(t: Tensor, shape: Dynamic) -> ScriptResult<Tensor> {
        Ok(lengths("the shape", &shape).and_then(|shape| t.expand(&shape))?)
    }

    /// The tensor repeated `times` times along each dimension.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1, 2]).repeat(2).to_array(), [1, 2, 1, 2]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn repeat(t: Tensor, times: Dynamic) -> ScriptResult<Tensor> {
        Ok(lengths("the counts", &times).and_then(|times| t.repeat(&times))?)
    }

    /// The tensor with its dimensions split, moved and joined by a pattern of axes, as in einops.
    ///
    /// Names stand for dimensions, `(h d)` for one made of two axes, `...` for all dimensions that have no name, `1` for
    /// one of length 1. Lengths that the shape leaves open are given in a map.
    ///
    /// # Errors
    /// A pattern that does not fit the shape; an axis that stands on one side only.
    ///
    /// # Example
    /// ```rhai
    /// let heads = zeros([2, 5, 12]).rearrange("batch pos (head d) -> batch head pos d", #{ head: 3 });
    /// assert_eq(heads.shape, [2, 3, 5, 4]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn rearrange(t: Tensor, pattern: &str, lengths: Map) -> ScriptResult<Tensor> {
        Ok(axis_lengths(lengths).and_then(|lengths| t.rearrange(pattern, &lengths))?)
    }

    /// The tensor with its dimensions split, moved and joined by a pattern (see `rearrange` with lengths).
    #[rhai_fn(name = "rearrange", return_raw)]
    pub fn rearrange_plain(t: Tensor, pattern: &str) -> ScriptResult<Tensor> {
        Ok(t.rearrange(pattern, &Lengths::new())?)
    }

    /// As `rearrange`; over the axes that stand on the left only the mean, sum, max, min or prod is taken.
    ///
    /// # Example
    /// ```rhai
    /// let means = arange(6.0).reshape([2, 3]).reduce("row column -> row", "mean");
    /// assert_eq(means.to_array(), [1.0, 4.0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn reduce(t: Tensor, pattern: &str, reduction: &str) -> ScriptResult<Tensor> {
        Ok(t.reduce(pattern, reduction, &Lengths::new())?)
    }

    /// As `rearrange`; over the axes that stand on the left only the mean, sum, max, min or prod is taken.
    #[rhai_fn(name = "reduce", return_raw)]
    pub fn reduce_with(t: Tensor, pattern: &str, reduction: &str, lengths: Map) -> ScriptResult<Tensor> {
        Ok(axis_lengths(lengths).and_then(|lengths| t.reduce(pattern, reduction, &lengths))?)
    }

    /// As `rearrange`; along the axes that stand on the right only, the elements are repeated.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1, 2]).repeat("pos -> batch pos", #{ batch: 2 }).to_array(), [[1, 2], [1, 2]]);
    /// ```
    #[rhai_fn(name = "repeat", return_raw)]
    pub fn repeat_by(t: Tensor, pattern: &str, lengths: Map) -> ScriptResult<Tensor> {
        Ok(axis_lengths(lengths).and_then(|lengths| t.repeat_by(pattern, &lengths))?)
    }

    /// Each part along dimension `dim` repeated `times` times, one after the other.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1, 2]).repeat_interleave(2, 0).to_array(), [1, 1, 2, 2]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn repeat_interleave(t: Tensor, times: i64, dim: i64) -> ScriptResult<Tensor> {
        Ok(t.repeat_interleave(times, dim)?)
    }

    /// The diagonal of the matrices in the last two dimensions, as a last dimension.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(9).reshape([3, 3]).diagonal().to_array(), [0, 4, 8]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn diagonal(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.diagonal(0, -2, -1)?)
    }

    /// The diagonal `offset` columns to the right of the main one; negative offsets are below it.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(9).reshape([3, 3]).diagonal(-1).to_array(), [3, 7]);
    /// ```
    #[rhai_fn(name = "diagonal", return_raw)]
    pub fn diagonal_at(t: Tensor, offset: i64) -> ScriptResult<Tensor> {
        Ok(t.diagonal(offset, -2, -1)?)
    }

    /// The diagonal of the matrices in dimensions `dim1` and `dim2`.
    #[rhai_fn(name = "diagonal", return_raw)]
    pub fn diagonal_of(t: Tensor, offset: i64, dim1: i64, dim2: i64) -> ScriptResult<Tensor> {
        Ok(t.diagonal(offset, dim1, dim2)?)
    }

    /// The order reversed along a dimension, or along several in an array.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(3).flip(0).to_array(), [2, 1, 0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn flip(t: Tensor, dims: Dynamic) -> ScriptResult<Tensor> {
        Ok(lengths("the dimensions", &dims).and_then(|dims| t.flip(&dims))?)
    }

    /// The elements moved `shift` places on along dimension `dim`; those pushed out come in at the start.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(3).roll(1, 0).to_array(), [2, 0, 1]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn roll(t: Tensor, shift: i64, dim: i64) -> ScriptResult<Tensor> {
        Ok(t.roll(shift, dim)?)
    }

    /// The lower triangle of a matrix; the rest is zero.
    #[rhai_fn(name = "tril", return_raw)]
    pub fn tril(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.tril(0)?)
    }

    /// The part of a matrix on and below a diagonal, 0 the main one and 1 the one above it; the rest is zero.
    #[rhai_fn(name = "tril", return_raw)]
    pub fn tril_from(t: Tensor, diagonal: i64) -> ScriptResult<Tensor> {
        Ok(t.tril(diagonal)?)
    }

    /// The upper triangle of a matrix; the rest is zero.
    #[rhai_fn(name = "triu", return_raw)]
    pub fn triu(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.triu(0)?)
    }

    /// The part of a matrix on and above a diagonal, 0 the main one and 1 the one above it; the rest is zero.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(ones([2, 2]).triu(1).to_array(), [[0.0, 1.0], [0.0, 0.0]]);
    /// ```
    #[rhai_fn(name = "triu", return_raw)]
    pub fn triu_from(t: Tensor, diagonal: i64) -> ScriptResult<Tensor> {
        Ok(t.triu(diagonal)?)
    }

    /// The diagonal of a matrix, or the matrix that has a vector as its diagonal.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([[1, 2], [3, 4]]).diag().to_array(), [1, 4]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn diag(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.diag()?)
    }
}

#[export_module(manifest)]
mod join_functions {
    /// Tensors joined along the first dimension.
    #[rhai_fn(name = "cat", return_raw)]
    pub fn cat(tensors: Array) -> ScriptResult<Tensor> {
        cat_along(tensors, 0)
    }

    /// Tensors joined along dimension `dim`; the other lengths must be equal.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(cat([zeros([2, 3]), zeros([2, 1])], 1).shape, [2, 4]);
    /// ```
    #[rhai_fn(name = "cat", return_raw)]
    pub fn cat_along(tensors: Array, dim: i64) -> ScriptResult<Tensor> {
        Ok(super::tensors("`cat`", &tensors).and_then(|tensors| shape::cat(&tensors, dim))?)
    }

    /// Tensors of one shape joined along a new first dimension.
    #[rhai_fn(name = "stack", return_raw)]
    pub fn stack(tensors: Array) -> ScriptResult<Tensor> {
        stack_along(tensors, 0)
    }

    /// Tensors of one shape joined along a new dimension `dim`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stack([zeros(3), ones(3)], 1).shape, [3, 2]);
    /// ```
    #[rhai_fn(name = "stack", return_raw)]
    pub fn stack_along(tensors: Array, dim: i64) -> ScriptResult<Tensor> {
        Ok(super::tensors("`stack`", &tensors).and_then(|tensors| shape::stack(&tensors, dim))?)
    }

    /// An array of pieces along the first dimension: of one length (the last may be shorter), or of the lengths in an
    /// array.
    #[rhai_fn(name = "split", return_raw)]
    pub fn split(t: Tensor, size: Dynamic) -> ScriptResult<Array> {
        pieces(split_by(&t, &size, 0))
    }

    /// An array of pieces along dimension `dim`: of one length (the last may be shorter), or of the lengths in an
    /// array.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(5).split([1, 4], 0)[1].to_array(), [1, 2, 3, 4]);
    /// ```
    #[rhai_fn(name = "split", return_raw)]
    pub fn split_along(t: Tensor, size: Dynamic, dim: i64) -> ScriptResult<Array> {
        pieces(split_by(&t, &size, dim))
    }

    /// An array of at most `count` pieces of one length along dimension `dim`; the last may be shorter.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(5).chunk(2, 0).len(), 2);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn chunk(t: Tensor, count: i64, dim: i64) -> ScriptResult<Array> {
        pieces(t.chunk(count, dim))
    }
}
