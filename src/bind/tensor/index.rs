//! `t[...]`, and the functions that pick or replace elements by position.

use std::ops::{Range, RangeInclusive};

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, EvalAltResult, Position};

use super::convert::{number, operand, positions};
use crate::bind::convert::{expected, integers};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::tensor::index::Index;

/// Registers the indexers and the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(index_functions));
}

/// The index of one dimension.
fn one(value: &Dynamic) -> Result<Index> {
    if let Ok(position) = value.as_int() {
        return Ok(Index::At(position));
    }
    if value.is_unit() {
        return Ok(Index::All);
    }
    if let Some(range) = value.clone().try_cast::<Range<i64>>() {
        // Rhai gives an open range, `1..`, the largest number.
        let end = Some(range.end).filter(|end| *end != i64::MAX);
        return Ok(Index::Range(range.start, end));
    }
    if let Some(range) = value.clone().try_cast::<RangeInclusive<i64>>() {
        // What follows position -1 is the end, and no number stands for it.
        let end = Some(range.end().saturating_add(1)).filter(|&end| end != 0);
        return Ok(Index::Range(*range.start(), end));
    }
    if let Some(tensor) = value.clone().try_cast::<Tensor>() {
        return Ok(Index::Tensor(tensor));
    }
    match value.read_lock::<Array>() {
        Some(list) => Ok(Index::List(integers("an index", &list)?)),
        None => Err(expected("an index", "an integer, a range, (), an array or a tensor", value)),
    }
}

/// Fails for a text between the brackets: Rhai comes here with a property that tensors do not have.
fn not_a_property(index: &Dynamic) -> ScriptResult<()> {
    if index.is_string() {
        let text = format!("Unknown property '{index}' of '{}'", Tensor::NAME);
        return Err(EvalAltResult::ErrorDotExpr(text, Position::NONE).into());
    }
    Ok(())
}

fn each(items: &Array) -> Result<Vec<Index>> {
    items.iter().map(one).collect()
}

/// What stands between the brackets: an array that holds more than integers has one index per dimension.
fn indexes(value: &Dynamic) -> Result<Vec<Index>> {
    match value.read_lock::<Array>() {
        Some(items) if items.iter().any(|item| !item.is_int()) => each(&items),
        _ => Ok(vec![one(value)?]),
    }
}

fn end(what: &str, value: &Dynamic) -> Result<Option<i64>> {
    match value.as_int() {
        Ok(end) => Ok(Some(end)),
        Err(_) if value.is_unit() => Ok(None),
        Err(_) => Err(expected(what, "an integer or ()", value)),
    }
}

#[export_module(manifest)]
mod index_functions {
    /// The elements at a position, in a range, at listed positions or where a bool tensor is true.
    ///
    /// `t[0]` and `t[-1]` are rows, `t[0..2]`, `t[0..=1]` and `t[1..]` ranges of rows, `t[[0, 2]]` the rows listed. An
    /// array that holds anything but integers has one index per dimension, where `()` stands for all positions: `t[[(),
    /// -1]]` is the last column, `t[[0, 1..3]]` a part of row 0. For one element use `t.at([i, j])` or `t[i][j]`.
    ///
    /// # Errors
    /// A position that is out of range.
    ///
    /// # Example
    /// ```rhai
    /// let t = arange(6).reshape([2, 3]);
    /// assert_eq(t[[(), -1]].to_array(), [2, 5]);
    /// assert_eq(t[t > 3].to_array(), [4, 5]);
    /// ```
    #[rhai_fn(index_get, pure, return_raw)]
    pub fn get(t: &mut Tensor, index: Dynamic) -> ScriptResult<Tensor> {
        not_a_property(&index)?;
        Ok(indexes(&index).and_then(|indexes| t.index(&indexes))?)
    }

    /// Replaces the elements at an index (see reading) by a number or a tensor that broadcasts to their shape.
    ///
    /// The variable then holds a new tensor; other variables that held the old one keep it.
    ///
    /// # Example
    /// ```rhai
    /// let a = zeros([2, 2]);
    /// let b = a;
    /// b[[(), 0]] = 1.0;
    /// assert_eq(b.to_array(), [[1.0, 0.0], [1.0, 0.0]]);
    /// assert_eq(a.sum().item(), 0.0);
    /// ```
    #[rhai_fn(index_set, return_raw)]
    pub fn set(t: &mut Tensor, index: Dynamic, value: Dynamic) -> ScriptResult<()> {
        not_a_property(&index)?;
        let changed = operand("the value", &value).and_then(|value| t.with_index(&indexes(&index)?, &value))?;
        crate::bind::watch::note_change(t);
        *t = changed;
        Ok(())
    }

    /// The elements at one index per dimension: integers, ranges, `()` for all, arrays and tensors of positions.
    ///
    /// # Example
    /// ```rhai
    /// let t = arange(6).reshape([2, 3]);
    /// assert_eq(t.at([1, 2]).item(), 5);
    /// assert_eq(t.at([0, 1..3]).to_array(), [1, 2]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn at(t: Tensor, indexes: Array) -> ScriptResult<Tensor> {
        Ok(each(&indexes).and_then(|indexes| t.index(&indexes))?)
    }

    /// A copy in which the elements at one index per dimension (see `at`) are replaced by a number or a tensor.
    ///
    /// # Example
    /// ```rhai
    /// let t = zeros([2, 2]).with_at([0, 1], 5.0);
    /// assert_eq(t.to_array(), [[0.0, 5.0], [0.0, 0.0]]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn with_at(t: Tensor, indexes: Array, value: Dynamic) -> ScriptResult<Tensor> {
        Ok(operand("the value", &value).and_then(|value| t.with_index(&each(&indexes)?, &value))?)
    }

    /// The part from `start` to just before `end` along dimension `dim`.
    ///
    /// Negative ends count from the end, `()` stands for the very start or end, and what lies beyond the tensor is cut
    /// off, as in PyTorch.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(5).slice(0, -2, ()).to_array(), [3, 4]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn slice(t: Tensor, dim: i64, start: Dynamic, end: Dynamic) -> ScriptResult<Tensor> {
        Ok(super::end("the start", &start).and_then(|start| t.slice(dim, start, super::end("the end", &end)?))?)
    }

    /// The part at position `index` of dimension `dim`; the dimension goes.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(6).reshape([2, 3]).select(1, 0).to_array(), [0, 3]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn select(t: Tensor, dim: i64, index: i64) -> ScriptResult<Tensor> {
        Ok(t.select(dim, index)?)
    }

    /// The parts at the positions `ids`, an array or an integer tensor, of dimension `dim`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([5, 6, 7]).index_select(0, [2, 0]).to_array(), [7, 5]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn index_select(t: Tensor, dim: i64, ids: Dynamic) -> ScriptResult<Tensor> {
        Ok(positions("the positions", &ids).and_then(|ids| t.index_select(dim, &ids))?)
    }

    /// The elements whose position along `dim` is given by the integer tensor `index`; the result has its shape.
    ///
    /// # Example
    /// ```rhai
    /// let t = tensor([[1, 2], [3, 4]]);
    /// assert_eq(t.gather(1, tensor([[1], [0]])).to_array(), [[2], [3]]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn gather(t: Tensor, dim: i64, index: Tensor) -> ScriptResult<Tensor> {
        Ok(t.gather(dim, &index)?)
    }

    /// A copy in which the elements whose position along `dim` is given by `index` are those of `source`, a tensor or a
    /// number.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([1, 3]).scatter(1, tensor([[2]]), 1.0).to_array(), [[0.0, 0.0, 1.0]]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn scatter(t: Tensor, dim: i64, index: Tensor, source: Dynamic) -> ScriptResult<Tensor> {
        Ok(operand("the source", &source).and_then(|source| t.scatter(dim, &index, &source))?)
    }

    /// A copy in which the elements where the bool tensor `mask` is true are `value`.
    ///
    /// # Example
    /// ```rhai
    /// let t = tensor([1.0, -1.0]);
    /// assert_eq(t.masked_fill(t < 0, 0).to_array(), [1.0, 0.0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn masked_fill(t: Tensor, mask: Tensor, value: Dynamic) -> ScriptResult<Tensor> {
        Ok(number(&value)
            .ok_or_else(|| expected("the value", "a number", &value))
            .and_then(|value| t.masked_fill(&mask, value))?)
    }

    /// For each class number a row of `classes` elements, 1 at the class and 0 elsewhere, i64.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(one_hot(tensor([1, 0]), 3).to_array(), [[0, 1, 0], [1, 0, 0]]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn one_hot(ids: Tensor, classes: i64) -> ScriptResult<Tensor> {
        Ok(ids.one_hot(classes)?)
    }
}
