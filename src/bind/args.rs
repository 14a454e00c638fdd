//! What scripts pass to native functions: numbers of either kind, option maps, and the way back for errors.

use rhai::{Array, Dynamic, EvalAltResult, Map, Position};

use crate::error::{Error, nearest};

/// Result of every function that a script can call.
pub type ScriptResult<T> = Result<T, Box<EvalAltResult>>;

/// Raises a domain error in the script: the thrown value is a map with `error` and, where there is one, `hint`.
pub fn raise(error: Error) -> Box<EvalAltResult> {
    if matches!(error, Error::Interrupted) {
        return EvalAltResult::ErrorTerminated("interrupted".into(), Position::NONE).into();
    }
    let mut map = Map::new();
    map.insert("error".into(), error.to_string().into());
    if let Some(hint) = error.hint_text() {
        map.insert("hint".into(), hint.to_owned().into());
    }
    EvalAltResult::ErrorRuntime(map.into(), Position::NONE).into()
}

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
        name if name.ends_with("Tensor") => "tensor",
        name => name.rsplit("::").next().unwrap_or(name),
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

/// An array of integers.
pub fn integers(what: &str, array: &Array) -> Result<Vec<i64>, Error> {
    array
        .iter()
        .map(|item| item.as_int().map_err(|_| expected(&format!("each item of {what}"), "an integer", item)))
        .collect()
}

/// Reads a trailing option map: unknown keys are an error that names the nearest known one.
pub struct Options {
    function: &'static str,
    map: Map,
}

impl Options {
    /// Takes the options of `function`; every key must be in `allowed`.
    pub fn new(function: &'static str, map: Map, allowed: &[&str]) -> Result<Self, Error> {
        for key in map.keys() {
            if !allowed.contains(&key.as_str()) {
                let error = Error::new(format!("`{function}` has no option `{key}`"));
                return Err(match nearest(key, allowed.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean `{near}`? The options are {}", allowed.join(", "))),
                    None => error.hint(format!("the options are {}", allowed.join(", "))),
                });
            }
        }
        Ok(Self { function, map })
    }

    fn take<T>(
        &mut self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(&Dynamic) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.map.remove(key) {
            Some(value) if !value.is_unit() => convert(&value)
                .map(Some)
                .ok_or_else(|| expected(&format!("option `{key}` of `{}`", self.function), wanted, &value)),
            _ => Ok(None),
        }
    }

    /// An option of any type; `()` counts as not given.
    pub fn any(&mut self, key: &str) -> Option<Dynamic> {
        self.map.remove(key).filter(|value| !value.is_unit())
    }

    /// A string option.
    pub fn string(&mut self, key: &str) -> Result<Option<String>, Error> {
        self.take(key, "a string", |value| value.clone().into_string().ok())
    }

    /// An integer option.
    pub fn integer(&mut self, key: &str) -> Result<Option<i64>, Error> {
        self.take(key, "an integer", |value| value.as_int().ok())
    }

    /// A number option, integer or float.
    pub fn number(&mut self, key: &str) -> Result<Option<f64>, Error> {
        self.take(key, "a number", number)
    }

    /// A true-or-false option.
    pub fn boolean(&mut self, key: &str) -> Result<Option<bool>, Error> {
        self.take(key, "true or false", |value| value.as_bool().ok())
    }

    /// An array option.
    pub fn array(&mut self, key: &str) -> Result<Option<Array>, Error> {
        self.take(key, "an array", |value| value.clone().into_array().ok())
    }

    /// A map option.
    pub fn map(&mut self, key: &str) -> Result<Option<Map>, Error> {
        self.take(key, "a map", |value| value.clone().try_cast::<Map>())
    }
}
