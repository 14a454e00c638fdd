//! What scripts pass to native functions: the names of types, numbers of either kind, arrays of numbers.

use rhai::{Array, Dynamic};

use super::handle::HandleType;
use crate::error::Error;

/// The script's name of a value's type, for messages.
pub fn type_name(value: &Dynamic) -> &'static str {
    match value.type_name() {
        "i64" => "integer",
        "f64" => "float",
        "alloc::string::String" | "string" | "ImmutableString" => "string",
        "()" => "()",
        "bool" => "bool",
        "array" => "array",
        "map" => "map",
        "Fn" | "FnPtr" => "function",
        "core::ops::range::Range<i64>" | "range" | "core::ops::range::RangeInclusive<i64>" | "range=" => "range",
        name => HandleType::of_value(value).map_or(name, |handle| handle.name),
    }
}

/// A number given as an integer or a float.
pub fn number(value: &Dynamic) -> Option<f64> {
    value.as_float().ok().or_else(|| value.as_int().ok().map(|integer| integer as f64))
}

/// The error for a value of the wrong type.
pub fn expected(what: &str, wanted: &str, got: &Dynamic) -> Error {
    Error::new(format!("{what} must be {wanted}, not {}", type_name(got)))
}

/// An array of numbers.
pub fn numbers(what: &str, array: &Array) -> Result<Vec<f64>, Error> {
    array
        .iter()
        .map(|item| number(item).ok_or_else(|| expected(&format!("each item of {what}"), "a number", item)))
        .collect()
}

/// An array of integers.
pub fn integers(what: &str, array: &Array) -> Result<Vec<i64>, Error> {
    array
        .iter()
        .map(|item| item.as_int().map_err(|_| expected(&format!("each item of {what}"), "an integer", item)))
        .collect()
}
