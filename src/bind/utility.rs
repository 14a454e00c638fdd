//! Small functions for any script: number formats, defaults, assertions, the environment.

use std::time::Duration;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, Map, NativeCallContext};

use super::convert::{expected, number};
use super::display::literal;
use super::error::ScriptResult;
use super::module;
use crate::access;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::format::{Item, format};
use crate::interrupt;
use crate::tensor::Tensor;

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Utilities, exported_manifest!(utility_functions));
}

/// Whether two values are equal, all the way down: integers equal floats of the same value, tensors are equal in shape
/// and elements.
///
/// # Errors
/// Tensors that cannot be compared, such as ones on different devices.
pub fn same(left: &Dynamic, right: &Dynamic) -> Result<bool> {
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return Ok(left == right);
    }
    if let (Some(left), Some(right)) = (left.read_lock::<Array>(), right.read_lock::<Array>()) {
        return Ok(left.len() == right.len() && all(left.iter().zip(right.iter()))?);
    }
    if let (Some(left), Some(right)) = (left.read_lock::<Map>(), right.read_lock::<Map>()) {
        return Ok(left.keys().eq(right.keys()) && all(left.values().zip(right.values()))?);
    }
    if let (Some(left), Some(right)) = (left.read_lock::<Tensor>(), right.read_lock::<Tensor>()) {
        return left.equal(&right);
    }
    Ok(left.type_id() == right.type_id() && !left.is::<Tensor>() && left.to_string() == right.to_string())
}

fn all<'a>(mut pairs: impl Iterator<Item = (&'a Dynamic, &'a Dynamic)>) -> Result<bool> {
    pairs.try_fold(true, |equal, (left, right)| Ok(equal && same(left, right)?))
}

fn holds(condition: &Dynamic, message: Option<&Dynamic>) -> ScriptResult<()> {
    match condition.as_bool() {
        Ok(true) => Ok(()),
        Ok(false) => {
            let about = message.map(|message| format!(": {}", crate::bind::display::display(message)));
            Err(Error::new(format!("the assertion does not hold{}", about.unwrap_or_default())).into())
        }
        Err(_) => {
            let error = expected("the condition of `assert`", "true or false", condition);
            Err(if condition.is::<Tensor>() {
                error.hint("comparing tensors gives a bool tensor; use `.all()`, `.any()`, `equal` or `allclose`")
            } else {
                error
            }
            .into())
        }
    }
}

/// What a sort's function says: whether the first item stays before the second.
fn comes_first(result: &Dynamic) -> ScriptResult<bool> {
    let value = match result.read_lock::<Tensor>() {
        Some(tensor) => item(&tensor)?,
        None => result.clone(),
    };
    match (value.as_bool(), number(&value)) {
        (Ok(first), _) => Ok(first),
        (_, Some(order)) => Ok(order <= 0.0),
        _ => Err(expected("what the function of `sort` returns", "a number or a bool", result).into()),
    }
}

/// Merge sort: an inconsistent comparator gives some order instead of a panic.
fn merge_sort(
    mut items: Array,
    before: &mut impl FnMut(&Dynamic, &Dynamic) -> ScriptResult<bool>,
) -> ScriptResult<Array> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut left = merge_sort(items, before)?.into_iter().peekable();
    let mut right = merge_sort(right, before)?.into_iter().peekable();
    let mut merged = Array::with_capacity(left.len() + right.len());
    while let (Some(first), Some(second)) = (left.peek(), right.peek()) {
        // The second goes ahead only if it must, so that equal items keep their order.
        let keeps = before(first, second)? || !before(second, first)?;
        merged.extend(if keeps { left.next() } else { right.next() });
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}

#[export_module(manifest)]
mod utility_functions {
    /// A number or string laid out by a format: `[<>^][+][0][width][,][.digits][f|e|g|%]`.
    ///
    /// `.3` is three digits after the point, `8.3` the same in eight characters, `+.2` always with a sign, `.2e` with
    /// an exponent, `.4g` four significant digits, `.1%` a percentage, `,` commas between thousands. Strings take only
    /// alignment and width.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(fmt(3.14159, ".2"), "3.14");
    /// assert_eq(fmt(0.123, ".1%"), "12.3%");
    /// assert_eq(fmt("a", ">3"), "  a");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn fmt(value: Dynamic, specification: &str) -> ScriptResult<String> {
        let text = value.clone().into_string().ok();
        let single = value.read_lock::<Tensor>().map(|tensor| tensor.clone());
        match (value.as_int(), value.as_float(), text.as_deref(), single) {
            (Ok(integer), ..) => Ok(format(Item::Integer(integer), specification)?),
            (_, Ok(float), ..) => Ok(format(Item::Float(float), specification)?),
            (_, _, Some(text), _) => Ok(format(Item::Text(text), specification)?),
            (_, _, _, Some(tensor)) => fmt(super::item(&tensor)?, specification),
            _ => Err(expected("what `fmt` lays out", "a number or a string", &value).into()),
        }
    }

    /// The entry `key` of a map, or `fallback` if it has none.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(opt(#{a: 1}, "b", 2), 2);
    /// ```
    #[rhai_fn(pure)]
    pub fn opt(map: &mut Map, key: &str, fallback: Dynamic) -> Dynamic {
        match map.get(key) {
            Some(value) if !value.is_unit() => value.clone(),
            _ => fallback,
        }
    }

    /// Stops with an error unless the condition is true.
    ///
    /// # Example
    /// ```rhai
    /// assert(1 + 1 == 2);
    /// ```
    #[rhai_fn(name = "assert", return_raw)]
    pub fn assert(condition: Dynamic) -> ScriptResult<()> {
        holds(&condition, None)
    }

    /// Stops with an error that says `message` unless the condition is true.
    #[rhai_fn(name = "assert", return_raw)]
    pub fn assert_saying(condition: Dynamic, message: Dynamic) -> ScriptResult<()> {
        holds(&condition, Some(&message))
    }

    /// Stops with an error that shows both values unless they are equal.
    ///
    /// Arrays and maps are compared all the way down, tensors by shape and elements, and 1 equals 1.0.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq([1, #{a: "x"}], [1, #{a: "x"}]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn assert_eq(left: Dynamic, right: Dynamic) -> ScriptResult<()> {
        if super::same(&left, &right)? {
            return Ok(());
        }
        let error = Error::new(format!("the assertion does not hold: {} is not {}", literal(&left), literal(&right)));
        let is_mixed = left.is::<Tensor>() != right.is::<Tensor>();
        Err(if is_mixed { error.hint("a tensor's numbers are `t.item()`, `t.to_array()`") } else { error }.into())
    }

    /// The value of an environment variable.
    ///
    /// # Errors
    /// A variable that isn't set, or that the script may not read.
    #[rhai_fn(name = "env", return_raw, volatile)]
    pub fn env(name: &str) -> ScriptResult<String> {
        access::variable(name)?.ok_or_else(|| {
            Error::new(format!("the environment variable `{name}` is not set"))
                .hint("give a default, as in `env(\"NAME\", \"default\")`")
                .into()
        })
    }

    /// The square root of an integer, as a float.
    #[rhai_fn(name = "sqrt")]
    pub fn integer_sqrt(x: i64) -> f64 {
        (x as f64).sqrt()
    }

    /// e to the power of an integer.
    #[rhai_fn(name = "exp")]
    pub fn integer_exp(x: i64) -> f64 {
        (x as f64).exp()
    }

    /// The natural logarithm of an integer.
    #[rhai_fn(name = "ln")]
    pub fn integer_ln(x: i64) -> f64 {
        (x as f64).ln()
    }

    /// The natural logarithm of a number, as `log` of a tensor is.
    #[rhai_fn(name = "log")]
    pub fn float_log(x: f64) -> f64 {
        x.ln()
    }

    /// The natural logarithm of an integer.
    #[rhai_fn(name = "log")]
    pub fn integer_log(x: i64) -> f64 {
        (x as f64).ln()
    }

    /// Waits for a number of seconds. Ctrl-C ends the wait.
    #[rhai_fn(name = "sleep", return_raw, volatile)]
    pub fn sleep(seconds: f64) -> ScriptResult<()> {
        let time = Duration::try_from_secs_f64(seconds)
            .map_err(|_| Error::new(format!("`sleep` cannot wait for {seconds} seconds")))?;
        Ok(interrupt::sleep(time)?)
    }

    /// Waits for a number of seconds. Ctrl-C ends the wait.
    #[rhai_fn(name = "sleep", return_raw, volatile)]
    pub fn integer_sleep(seconds: i64) -> ScriptResult<()> {
        sleep(seconds as f64)
    }

    /// Sorts an array in place by a function of two items.
    ///
    /// The function returns a negative number (or true) if the first item comes first, a positive one (or false) if the
    /// second does, and 0 if it does not matter: an integer, a float, a bool, or a tensor of one. Equal items keep
    /// their order.
    ///
    /// # Example
    /// ```rhai
    /// let scores = [0.3, 0.1, 0.2];
    /// scores.sort(|a, b| a - b);
    /// assert_eq(scores, [0.1, 0.2, 0.3]);
    /// ```
    #[rhai_fn(name = "sort", return_raw)]
    pub fn sort_by(context: NativeCallContext, array: &mut Array, comparer: FnPtr) -> ScriptResult<()> {
        let mut before = |left: &Dynamic, right: &Dynamic| -> ScriptResult<bool> {
            let result = comparer.call_within_context::<Dynamic>(&context, (left.clone(), right.clone()))?;
            super::comes_first(&result)
        };
        *array = super::merge_sort(array.clone(), &mut before)?;
        Ok(())
    }

    /// The value of an environment variable, or `fallback` if it isn't set.
    ///
    /// # Errors
    /// A variable that the script may not read.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(env("NO_SUCH_VARIABLE", "none"), "none");
    /// ```
    #[rhai_fn(name = "env", return_raw, volatile)]
    pub fn env_or(name: &str, fallback: Dynamic) -> ScriptResult<Dynamic> {
        Ok(access::variable(name)?.map_or(fallback, Dynamic::from))
    }

    /// Whether an environment variable is set and not blank, which needs no permission to read its value.
    ///
    /// # Example
    /// ```rhai
    /// assert(!env_is_set("NO_SUCH_VARIABLE"));
    /// ```
    #[rhai_fn(volatile)]
    pub fn env_is_set(name: &str) -> bool {
        access::has_variable(name)
    }
}

fn item(tensor: &Tensor) -> Result<Dynamic> {
    tensor.item().map(super::tensor::convert::from_number)
}
