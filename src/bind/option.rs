//! Options of native functions: a trailing map, of which every key must be known.

use rhai::{Array, Dynamic, Map};

use super::convert::{expected, number};
use crate::error::{Error, nearest};

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
