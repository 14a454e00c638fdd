//! `t[...]`, and the functions that pick or replace elements by position.

use std::ops::{Range, RangeInclusive};

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, EvalAltResult, Position};

use super::convert::{from_number, number, operand, positions};
use crate::bind::convert::{expected, integers};
use crate::bind::display::display;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::indexes::{Indexes, Slot};
use crate::bind::module;
use crate::bind::write_back::refuse_change;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::syntax::index_token::ELLIPSIS;
use crate::tensor::Tensor;
use crate::tensor::arithmetic::Operand;
use crate::tensor::index::Index;

/// Registers the indexers and the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(index_functions));
    module::register(engine, Topic::Tensors, exported_manifest!(range_operators));
}

/// The index of one dimension.
fn one(value: &Dynamic) -> Result<Index> {
    if let Ok(position) = value.as_int() {
        return Ok(Index::At(position));
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
    if is_ellipsis(value) {
        return Ok(Index::Ellipsis);
    }
    match value.read_lock::<Array>() {
        Some(list) => Ok(Index::List(integers("an index", &list)?)),
        None => {
            let error = expected("an index", "an integer, a range, an array of integers or a tensor", value);
            Err(if value.is_unit() { error.hint("`:` stands for all positions, as in `t[:, 0]`") } else { error })
        }
    }
}

fn is_ellipsis(value: &Dynamic) -> bool {
    value.is_string() && value.to_string() == ELLIPSIS
}

/// Fails for a text between the brackets: Rhai comes here with a property that tensors do not have.
fn not_a_property(index: &Dynamic) -> ScriptResult<()> {
    if index.is_string() && !is_ellipsis(index) {
        let text = format!("Unknown property '{index}' of '{}'", Tensor::NAME);
        return Err(EvalAltResult::ErrorDotExpr(text, Position::NONE).into());
    }
    Ok(())
}

/// What stands between the brackets.
fn indexes(value: &Dynamic) -> Result<Vec<Index>> {
    if let Some(several) = value.read_lock::<Indexes>() {
        return several.slots().iter().map(slot).collect();
    }
    if let Some(list) = value.read_lock::<Array>() {
        let listed = display(&Dynamic::from(list.clone())).replace("()", ":");
        let bare = listed.trim_start_matches('[').trim_end_matches(']');
        let rows =
            if list.iter().all(Dynamic::is_int) { format!("; rows are `t[{listed}, ...]`") } else { String::new() };
        return Err(Error::new("an array alone does not say whether it lists rows or has an index per dimension")
            .hint(format!("one index per dimension is `t[{bare}]`{rows}")));
    }
    Ok(vec![one(value)?])
}

fn slot(slot: &Slot) -> Result<Index> {
    match slot {
        Slot::All => Ok(Index::All),
        Slot::Below(end) => {
            let end = end.as_int().map_err(|_| expected("the end of a range", "an integer", end))?;
            Ok(Index::Range(0, Some(end)))
        }
        Slot::Value(value) => one(value),
    }
}

fn end(what: &str, value: &Dynamic) -> Result<Option<i64>> {
    match value.as_int() {
        Ok(end) => Ok(Some(end)),
        Err(_) if value.is_unit() => Ok(None),
        Err(_) => Err(expected(what, "an integer or ()", value)),
    }
}

/// The end of a range that a tensor of one integer gives.
fn range_end(value: &Dynamic) -> Result<i64> {
    let item = match value.read_lock::<Tensor>() {
        Some(tensor) => from_number(tensor.item()?),
        None => value.clone(),
    };
    item.as_int().map_err(|_| expected("the end of a range", "an integer", &item))
}

fn exclusive(start: &Dynamic, end: &Dynamic) -> ScriptResult<Range<i64>> {
    Ok(range_end(start)?..range_end(end)?)
}

#[export_module(manifest)]
mod range_operators {
    /// A range that ends at the only element of an integer tensor.
    #[rhai_fn(name = "..", return_raw)]
    pub fn to_tensor(start: i64, end: Tensor) -> ScriptResult<Range<i64>> {
        exclusive(&start.into(), &Dynamic::from(end))
    }

    /// A range that begins at the only element of an integer tensor.
    #[rhai_fn(name = "..", return_raw)]
    pub fn from_tensor(start: Tensor, end: i64) -> ScriptResult<Range<i64>> {
        exclusive(&Dynamic::from(start), &end.into())
    }

    /// A range between the only elements of two integer tensors.
    #[rhai_fn(name = "..", return_raw)]
    pub fn between_tensors(start: Tensor, end: Tensor) -> ScriptResult<Range<i64>> {
        exclusive(&Dynamic::from(start), &Dynamic::from(end))
    }

    /// A range from the only element of an integer tensor on.
    #[rhai_fn(name = "..", return_raw)]
    pub fn open_from_tensor(start: Tensor, _end: ()) -> ScriptResult<Range<i64>> {
        exclusive(&Dynamic::from(start), &i64::MAX.into())
    }
}

#[export_module(manifest)]
mod index_functions {
    /// The elements at one index per dimension, as in PyTorch: `t[0, -1]`, `t[:, 2:5]`, `t[..., 0]`, `t[[0, 2], :]`.
    ///
    /// An index is a position (negative from the end), a range (`1:3` or `1..3`, `1..=2`, `1:`, `:3`), `:` for all, an
    /// array or an integer tensor of positions, or a bool tensor, which picks where it is true. `...` stands for `:` in
    /// all dimensions that are left, and so do indexes left out at the end: `t[0]` is a row, `t[1:]` are rows. Rows from a
    /// list are `t[[0, 2], ...]`. An array alone, `t[[0, 2]]`, is an error, because it looks like both.
    ///
    /// # Errors
    /// A position or the end of a range that the dimension does not have, more indexes than dimensions.
    ///
    /// # Example
    /// ```rhai
    /// let t = arange(6).reshape([2, 3]);
    /// assert_eq(t[1, 2].item(), 5);
    /// assert_eq(t[:, -1].to_array(), [2, 5]);
    /// assert_eq(t[0, 1:].to_array(), [1, 2]);
    /// assert_eq(t[[1, 0], ...].to_array(), [[3, 4, 5], [0, 1, 2]]);
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
    /// b[:, 0] = 1.0;
    /// assert_eq(b.to_array(), [[1.0, 0.0], [1.0, 0.0]]);
    /// assert_eq(a.sum().item(), 0.0);
    /// ```
    #[rhai_fn(index_set, return_raw)]
    pub fn set(context: NativeCallContext, t: &mut Tensor, index: Dynamic, value: Dynamic) -> ScriptResult<()> {
        if index.is_string() && !is_ellipsis(&index) {
            return refuse_change(&context, t, &index, &value);
        }
        let indexes = indexes(&index)?;
        let value = operand("the value", &value)?;
        // Rhai writes back what a chain such as `t[0].to_array().map(..)` has read.
        if let Operand::Tensor(value) = &value {
            let before = t.index(&indexes)?;
            if before.holds_same_elements(value) && before.has_record_of(value)? {
                return Ok(());
            }
        }
        let changed = t.with_index(&indexes, &value)?;
        crate::bind::watch::note_change(t);
        *t = changed;
        Ok(())
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
