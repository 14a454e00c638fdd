//! Sorting, ranking and counting.

use rhai::plugin::*;
use rhai::{Dynamic, Engine, Map};

use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::tensor::order::Ranked;

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(order_functions));
}

fn ranked(result: Result<Ranked>) -> ScriptResult<Map> {
    let Ranked { values, indices } = result?;
    Ok(Map::from([("values".into(), Dynamic::from(values)), ("indices".into(), Dynamic::from(indices))]))
}

#[export_module(manifest)]
mod order_functions {
    /// The `k` largest elements along the last dimension, largest first, as `#{values, indices}`.
    ///
    /// # Example
    /// ```rhai
    /// let top = tensor([3, 9, 5]).topk(2);
    /// assert_eq(top.values.to_array(), [9, 5]);
    /// assert_eq(top.indices.to_array(), [1, 2]);
    /// ```
    #[rhai_fn(name = "topk", return_raw)]
    pub fn topk(t: Tensor, k: i64) -> ScriptResult<Map> {
        ranked(t.topk(k, -1))
    }

    /// The `k` largest elements along dimension `dim`, largest first, as `#{values, indices}`.
    #[rhai_fn(name = "topk", return_raw)]
    pub fn topk_along(t: Tensor, k: i64, dim: i64) -> ScriptResult<Map> {
        ranked(t.topk(k, dim))
    }

    /// The elements sorted along the last dimension, as `#{values, indices}`.
    #[rhai_fn(name = "sort", return_raw)]
    pub fn sort(t: Tensor) -> ScriptResult<Map> {
        ranked(t.sort(-1, false))
    }

    /// The elements sorted along dimension `dim`, as `#{values, indices}`.
    #[rhai_fn(name = "sort", return_raw)]
    pub fn sort_along(t: Tensor, dim: i64) -> ScriptResult<Map> {
        ranked(t.sort(dim, false))
    }

    /// The elements sorted along dimension `dim`, largest first if `descending`, as `#{values, indices}`; equal
    /// elements keep their order.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([3, 9, 5]).sort(0, true).values.to_array(), [9, 5, 3]);
    /// ```
    #[rhai_fn(name = "sort", return_raw)]
    pub fn sort_as(t: Tensor, dim: i64, descending: bool) -> ScriptResult<Map> {
        ranked(t.sort(dim, descending))
    }

    /// The positions that sort the last dimension.
    #[rhai_fn(name = "argsort", return_raw)]
    pub fn argsort(t: Tensor) -> ScriptResult<Tensor> {
        argsort_as(t, -1, false)
    }

    /// The positions that sort dimension `dim`.
    #[rhai_fn(name = "argsort", return_raw)]
    pub fn argsort_along(t: Tensor, dim: i64) -> ScriptResult<Tensor> {
        argsort_as(t, dim, false)
    }

    /// The positions that sort dimension `dim`, largest first if `descending`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([3, 9, 5]).argsort(0, true).to_array(), [1, 2, 0]);
    /// ```
    #[rhai_fn(name = "argsort", return_raw)]
    pub fn argsort_as(t: Tensor, dim: i64, descending: bool) -> ScriptResult<Tensor> {
        Ok(t.sort(dim, descending).map(|ranked| ranked.indices)?)
    }

    /// The different elements, sorted.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([3, 1, 3]).unique().to_array(), [1, 3]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn unique(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.unique()?)
    }

    /// How often each of 0, 1, 2, ... occurs in a list of integers that are not negative.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([0, 2, 2]).bincount().to_array(), [1, 0, 2]);
    /// ```
    #[rhai_fn(name = "bincount", return_raw)]
    pub fn bincount(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.bincount(0)?)
    }

    /// How often each of 0, 1, 2, ... occurs in a list of integers, at least `length` counts.
    #[rhai_fn(name = "bincount", return_raw)]
    pub fn bincount_to(t: Tensor, length: i64) -> ScriptResult<Tensor> {
        Ok(t.bincount(length)?)
    }

    /// The positions of the elements that are not zero, one row each.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([0, 7, 8]).nonzero().to_array(), [[1], [2]]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn nonzero(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.nonzero()?)
    }
}
