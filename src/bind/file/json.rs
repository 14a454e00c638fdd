//! Script values as JSON and back.

use rhai::{Array, Dynamic, Map};
use serde_json::Value;

use crate::bind::convert::type_name;
use crate::bind::tensor::{convert, to_nested};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::tensor::Tensor;
use crate::tensor::element::Number;

/// Deeper nesting is taken for a mistake.
const DEEPEST: usize = 64;

/// How much of a float is written.
#[derive(Clone, Copy, PartialEq)]
enum Digits {
    /// What tells it from other f64.
    Double,
    /// What tells it from other f32, so that 0.1 of an f32 tensor is not 0.10000000149.
    Single,
}

impl Digits {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Double => value,
            Self::Single => (value as f32).to_string().parse().unwrap_or(value),
        }
    }
}

/// A value as JSON. Numbers that JSON does not have, NaN and the infinities, become null.
///
/// # Errors
/// A value that JSON has nothing for, such as a function.
pub fn to_json(value: &Dynamic) -> Result<Value> {
    encode(value, Digits::Double, 0)
}

fn encode(value: &Dynamic, digits: Digits, depth: usize) -> Result<Value> {
    interrupt::check()?;
    if depth > DEEPEST {
        return Err(Error::new(format!("values nested more than {DEEPEST} deep cannot be written as JSON")));
    }
    if let Some(array) = value.read_lock::<Array>() {
        return array.iter().map(|item| encode(item, digits, depth + 1)).collect::<Result<Vec<_>>>().map(Value::Array);
    }
    if let Some(map) = value.read_lock::<Map>() {
        let entries = map.iter().map(|(key, value)| Ok((key.to_string(), encode(value, digits, depth + 1)?)));
        return entries.collect::<Result<serde_json::Map<_, _>>>().map(Value::Object);
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        let digits = if tensor.kind() == tch::Kind::Double { Digits::Double } else { Digits::Single };
        return encode(&to_nested(&tensor)?, digits, depth);
    }
    if let Ok(text) = value.clone().into_string() {
        return Ok(Value::String(text));
    }
    match convert::number(value) {
        Some(Number::Bool(value)) => Ok(Value::Bool(value)),
        Some(Number::Integer(value)) => Ok(Value::from(value)),
        Some(Number::Float(value)) => {
            Ok(serde_json::Number::from_f64(digits.of(value)).map_or(Value::Null, Value::Number))
        }
        None if value.is_unit() => Ok(Value::Null),
        None if value.is_char() => Ok(Value::String(value.to_string())),
        None => Err(Error::new(format!("a {} cannot be written as JSON", type_name(value)))
            .hint("maps, arrays, strings, numbers, bools, () and tensors can")),
    }
}

/// A JSON value as a script value; null becomes `()`.
pub fn from_json(value: Value) -> Result<Dynamic> {
    interrupt::check()?;
    Ok(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None if number.is_u64() => return Err(Error::new(format!("{number} is more than an integer can hold"))),
            None => number.as_f64().map_or(Dynamic::UNIT, Dynamic::from),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => items.into_iter().map(from_json).collect::<Result<Array>>()?.into(),
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| Ok((key.as_str().into(), from_json(value)?)));
            entries.collect::<Result<Map>>()?.into()
        }
    })
}
