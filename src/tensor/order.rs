//! Sorting, ranking and counting.

use super::{Tensor, named, refusal};
use crate::error::{Error, Result};

/// Elements, and their positions along the ranked dimension.
pub struct Ranked {
    /// The elements.
    pub values: Tensor,
    /// Their positions, i64.
    pub indices: Tensor,
}

impl Tensor {
    /// The `count` largest elements along `dim` and their positions, largest first.
    ///
    /// # Errors
    /// A count larger than the dimension.
    pub fn topk(&self, count: i64, dim: i64) -> Result<Ranked> {
        let size = self.size_of(dim)?;
        if !(0..=size).contains(&count) {
            return Err(Error::new(format!("`topk` cannot take {count} of the {size} elements of dimension {dim}")));
        }
        self.ranked("topk", self.tch().f_topk(count, dim, true, true))
    }

    /// The elements sorted along `dim`, and their old positions; equal ones keep their order.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn sort(&self, dim: i64, descending: bool) -> Result<Ranked> {
        self.ranked("sort", self.tch().f_sort_stable(true, self.resolve_dim(dim)?, descending))
    }

    fn ranked(
        &self,
        operation: &str,
        result: std::result::Result<(tch::Tensor, tch::Tensor), tch::TchError>,
    ) -> Result<Ranked> {
        let (values, indices) = result.map_err(|error| refusal(operation, &[self], error))?;
        Ok(Ranked { values: values.into(), indices: indices.into() })
    }

    /// The different elements, sorted.
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn unique(&self) -> Result<Self> {
        let (values, _, _) =
            self.tch().f_internal_unique2(true, false, false).map_err(|error| refusal("unique", &[self], error))?;
        Ok(values.into())
    }

    /// How often each of the numbers 0, 1, 2, ... occurs in a list of integers, at least `length` counts.
    ///
    /// # Errors
    /// Elements that are not integers from 0 on.
    pub fn bincount(&self, length: i64) -> Result<Self> {
        named("bincount", &[self], self.tch().f_bincount(None::<&tch::Tensor>, length))
    }

    /// The positions of the elements that are not zero, [count, ndim].
    ///
    /// # Errors
    /// A libtorch error, such as too little memory.
    pub fn nonzero(&self) -> Result<Self> {
        named("nonzero", &[self], self.tch().f_nonzero())
    }
}
