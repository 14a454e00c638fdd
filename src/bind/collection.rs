//! Arrays, ranges and maps in scripts, where the language lacks what users of NumPy expect.

use std::ops::{Range, RangeInclusive};

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, FuncRegistration, Map, NativeCallContext};

use super::convert::{expected, number};
use super::display::display;
use super::error::ScriptResult;
use super::module;
use crate::catalog::HIDDEN;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::limits::reserve;
use crate::syntax::receiver::OWN;
use crate::tensor::Tensor;

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Utilities, exported_manifest!(collection_functions));
    let copy = FuncRegistration::new(OWN).with_comments([HIDDEN]);
    copy.register_into_engine(engine, |value: Dynamic| value.flatten_clone());
}

/// The only element of a tensor; any other value itself.
fn plain(value: &Dynamic) -> Result<Dynamic> {
    match value.read_lock::<Tensor>() {
        Some(tensor) => Ok(super::tensor::convert::from_number(tensor.item()?)),
        None => Ok(value.clone()),
    }
}

/// The numbers of an array, each as a float.
fn numbers(operation: &str, array: &Array) -> Result<Vec<f64>> {
    if array.is_empty() && operation != "sum" {
        return Err(Error::new(format!("`{operation}` of an empty array is not defined")));
    }
    array
        .iter()
        .map(|item| {
            let item = plain(item)?;
            number(&item).ok_or_else(|| expected(&format!("each item that `{operation}` takes"), "a number", &item))
        })
        .collect()
}

/// The item of an array that `is_better` than all others; NaN wins, as in PyTorch.
fn best(operation: &str, array: &Array, is_better: fn(f64, f64) -> bool) -> Result<Dynamic> {
    let values = numbers(operation, array)?;
    let mut place = 0;
    for (index, value) in values.iter().enumerate() {
        if !values[place].is_nan() && (value.is_nan() || is_better(*value, values[place])) {
            place = index;
        }
    }
    plain(&array[place])
}

fn each(
    context: &NativeCallContext,
    items: impl Iterator<Item = i64>,
    function: &FnPtr,
    mut keep: impl FnMut(i64, Dynamic) -> ScriptResult<()>,
) -> ScriptResult<()> {
    for item in items {
        interrupt::check()?;
        keep(item, function.call_within_context::<Dynamic>(context, (item,))?)?;
    }
    Ok(())
}

fn mapped(context: &NativeCallContext, items: impl Iterator<Item = i64>, function: &FnPtr) -> ScriptResult<Array> {
    let mut results = Array::new();
    each(context, items, function, |_, result| {
        results.push(result);
        Ok(())
    })?;
    Ok(results)
}

fn filtered(context: &NativeCallContext, items: impl Iterator<Item = i64>, function: &FnPtr) -> ScriptResult<Array> {
    let mut kept = Array::new();
    each(context, items, function, |item, result| {
        let keep = plain(&result)?;
        if keep.as_bool().map_err(|_| expected("what the function of `filter` returns", "true or false", &keep))? {
            kept.push(item.into());
        }
        Ok(())
    })?;
    Ok(kept)
}

fn listed(items: impl Iterator<Item = i64>, count: u64) -> ScriptResult<Array> {
    let bytes = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(size_of::<Dynamic>());
    reserve(bytes)?;
    Ok(items.map(Dynamic::from).collect())
}

#[export_module(manifest)]
mod collection_functions {
    /// The sum of an array's numbers: an integer if all of them are.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq([1, 2, 3].sum(), 6);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn sum(array: &mut Array) -> ScriptResult<Dynamic> {
        let mut total = Some(0_i64);
        for item in array.iter() {
            total = total.zip(plain(item)?.as_int().ok()).and_then(|(total, item)| total.checked_add(item));
        }
        let floats = numbers("sum", array)?;
        Ok(total.map_or_else(|| floats.iter().sum::<f64>().into(), Dynamic::from))
    }

    /// The mean of an array's numbers.
    ///
    /// # Errors
    /// An empty array.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq([1, 2].mean(), 1.5);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn mean(array: &mut Array) -> ScriptResult<f64> {
        let values = numbers("mean", array)?;
        Ok(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The largest number of an array.
    ///
    /// # Errors
    /// An empty array.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq([1, 3, 2].max(), 3);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn max(array: &mut Array) -> ScriptResult<Dynamic> {
        Ok(best("max", array, |value, best| value > best)?)
    }

    /// The smallest number of an array.
    ///
    /// # Errors
    /// An empty array.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq([1.5, 0.5].min(), 0.5);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn min(array: &mut Array) -> ScriptResult<Dynamic> {
        Ok(best("min", array, |value, best| value < best)?)
    }

    /// The items of an array as one text, with `between` between them.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(["a", 1].join(", "), "a, 1");
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn join(array: &mut Array, between: &str) -> ScriptResult<String> {
        let texts: Vec<String> = array.iter().map(display).collect();
        let length: usize = texts.iter().map(|text| text.len() + between.len()).fold(0, usize::saturating_add);
        reserve(length)?;
        Ok(texts.join(between))
    }

    /// An array's items `count` times over.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq([0, 1] * 2, [0, 1, 0, 1]);
    /// ```
    #[rhai_fn(name = "*", return_raw, pure)]
    pub fn repeated(array: &mut Array, count: i64) -> ScriptResult<Array> {
        let count = usize::try_from(count).unwrap_or(0);
        let items = array.len().saturating_mul(count);
        reserve(items.saturating_mul(size_of::<Dynamic>()))?;
        Ok(array.iter().cycle().take(items).cloned().collect())
    }

    /// The entries of a map in the order of its keys: `[[key, value], ...]`.
    ///
    /// # Example
    /// ```rhai
    /// for entry in #{ a: 1, b: 2 }.items() { print(`${entry[0]} is ${entry[1]}`); }
    /// ```
    #[rhai_fn(pure)]
    pub fn items(map: &mut Map) -> Array {
        map.iter().map(|(key, value)| Dynamic::from(vec![key.as_str().into(), value.clone()])).collect()
    }

    /// What a function makes of each number of a range.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq((0..3).map(|i| i * 2), [0, 2, 4]);
    /// ```
    #[rhai_fn(name = "map", return_raw)]
    pub fn map_range(context: NativeCallContext, range: Range<i64>, function: FnPtr) -> ScriptResult<Array> {
        mapped(&context, range, &function)
    }

    /// What a function makes of each number of a range.
    #[rhai_fn(name = "map", return_raw)]
    pub fn map_inclusive(
        context: NativeCallContext,
        range: RangeInclusive<i64>,
        function: FnPtr,
    ) -> ScriptResult<Array> {
        mapped(&context, range, &function)
    }

    /// The numbers of a range for which a function returns true.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq((0..5).filter(|i| i % 2 == 0), [0, 2, 4]);
    /// ```
    #[rhai_fn(name = "filter", return_raw)]
    pub fn filter_range(context: NativeCallContext, range: Range<i64>, function: FnPtr) -> ScriptResult<Array> {
        filtered(&context, range, &function)
    }

    /// The numbers of a range for which a function returns true.
    #[rhai_fn(name = "filter", return_raw)]
    pub fn filter_inclusive(
        context: NativeCallContext,
        range: RangeInclusive<i64>,
        function: FnPtr,
    ) -> ScriptResult<Array> {
        filtered(&context, range, &function)
    }

    /// The numbers of a range.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq((0..3).to_array(), [0, 1, 2]);
    /// ```
    #[rhai_fn(name = "to_array", return_raw)]
    pub fn range_to_array(range: Range<i64>) -> ScriptResult<Array> {
        let count = range.end.checked_sub(range.start).unwrap_or(i64::MAX).max(0);
        listed(range, count.unsigned_abs())
    }

    /// The numbers of a range.
    #[rhai_fn(name = "to_array", return_raw)]
    pub fn inclusive_to_array(range: RangeInclusive<i64>) -> ScriptResult<Array> {
        let count = range.end().checked_sub(*range.start()).and_then(|count| count.checked_add(1)).unwrap_or(i64::MAX);
        listed(range, count.max(0).unsigned_abs())
    }
}
