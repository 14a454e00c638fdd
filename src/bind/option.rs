//! Options of native functions: a trailing map, of which every key must be known.

use rhai::{Array, Dynamic, Map};

use super::convert::{expected, number};
use crate::error::{Error, Result, nearest, unknown};

/// The options of a call while they are read. What a function reads is what it allows.
pub struct Options {
    function: &'static str,
    map: Map,
    known: Vec<&'static str>,
}

impl Options {
    /// Reads the options of `function` with `read`, which must ask for every option it knows.
    ///
    /// # Errors
    /// What `read` finds wrong; an option that it did not ask for, with the nearest of those that it did.
    pub fn read<T>(function: &'static str, map: Map, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut options = Self { function, map, known: Vec::new() };
        let value = read(&mut options)?;
        match options.map.keys().next() {
            None => Ok(value),
            Some(key) => Err(options.not_known(key)),
        }
    }

    fn not_known(&self, key: &str) -> Error {
        let error = Error::new(format!("`{}` has no option `{key}`", self.function));
        let known = self.known.join(", ");
        match nearest(key, self.known.iter().copied()) {
            _ if self.known.is_empty() => error,
            Some(near) => error.hint(format!("did you mean `{near}`? The options are {known}")),
            None => error.hint(format!("the options are {known}")),
        }
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        convert: impl FnOnce(&Dynamic) -> Option<T>,
    ) -> Result<Option<T>> {
        let function = self.function;
        self.any(key)
            .map(|value| {
                convert(&value).ok_or_else(|| expected(&format!("option `{key}` of `{function}`"), wanted, &value))
            })
            .transpose()
    }

    /// An option of any type; `()` counts as not given.
    pub fn any(&mut self, key: &'static str) -> Option<Dynamic> {
        self.known.push(key);
        self.map.remove(key).filter(|value| !value.is_unit())
    }

    /// Whether an option is given and not yet read.
    pub fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_unit())
    }

    /// An option of any type that must be given; `hint` shows how.
    pub fn needed(&mut self, key: &'static str, hint: &str) -> Result<Dynamic> {
        self.any(key).ok_or_else(|| {
            // A name that is nearly this one is rather a slip than an option not known.
            let slip = self.map.keys().find(|given| nearest(given, [key]).is_some());
            match slip {
                Some(given) => Error::new(format!("`{}` has no option `{given}`", self.function))
                    .hint(format!("did you mean `{key}`?")),
                None => Error::new(format!("`{}` needs `{key}`", self.function)).hint(hint),
            }
        })
    }

    /// A string option.
    pub fn string(&mut self, key: &'static str) -> Result<Option<String>> {
        self.take(key, "a string", |value| value.clone().into_string().ok())
    }

    /// An option that is one of several words, each with its value.
    pub fn choice<T: Copy>(&mut self, key: &'static str, values: &[(&str, T)]) -> Result<Option<T>> {
        let Some(given) = self.string(key)? else { return Ok(None) };
        match values.iter().find(|(word, _)| *word == given) {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(unknown(key, &given, &values.iter().map(|(word, _)| *word).collect::<Vec<_>>())),
        }
    }

    /// An integer option.
    pub fn integer(&mut self, key: &'static str) -> Result<Option<i64>> {
        self.take(key, "an integer", |value| value.as_int().ok())
    }

    /// A number option, integer or float.
    pub fn number(&mut self, key: &'static str) -> Result<Option<f64>> {
        self.take(key, "a number", number)
    }

    /// A true-or-false option.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.take(key, "true or false", |value| value.as_bool().ok())
    }

    /// An array option.
    pub fn array(&mut self, key: &'static str) -> Result<Option<Array>> {
        self.take(key, "an array", |value| value.clone().into_array().ok())
    }

    /// A map option.
    pub fn map(&mut self, key: &'static str) -> Result<Option<Map>> {
        self.take(key, "a map", |value| value.clone().try_cast::<Map>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(map: Map) -> Result<(Option<i64>, Option<bool>)> {
        Options::read("f", map, |options| {
            Ok((options.integer("count")?, options.choice("mode", &[("on", true), ("never", false)])?))
        })
    }

    fn failure(map: Map) -> String {
        let error = read(map).expect_err("refused");
        format!("{error}; {}", error.hint_text().unwrap_or_default())
    }

    fn options(entries: &[(&str, Dynamic)]) -> Map {
        entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect()
    }

    #[test]
    fn what_is_read_is_what_is_allowed() {
        let given = options(&[("count", 3_i64.into()), ("mode", "never".into())]);
        assert_eq!(read(given).expect("read"), (Some(3), Some(false)));
        assert_eq!(read(options(&[("count", Dynamic::UNIT)])).expect("read"), (None, None));
        assert_eq!(
            failure(options(&[("coumt", 3_i64.into())])),
            "`f` has no option `coumt`; did you mean `count`? The options are count, mode"
        );
        assert_eq!(
            failure(options(&[("volume", 1_i64.into())])),
            "`f` has no option `volume`; the options are count, mode"
        );
        assert_eq!(
            failure(options(&[("count", "3".into())])),
            "option `count` of `f` must be an integer, not string; "
        );
        assert_eq!(
            failure(options(&[("mode", "nevr".into())])),
            "`mode` cannot be `nevr`; did you mean `never`? It can be on, never"
        );
    }

    #[test]
    fn a_needed_option_may_be_misspelled() {
        let needed = |entries: &[(&str, Dynamic)]| {
            let error = Options::read("f", options(entries), |options| options.needed("answer", "#{ answer: id }"));
            error.expect_err("refused").to_string()
        };
        assert_eq!(needed(&[("anwser", 1_i64.into())]), "`f` has no option `anwser`");
        assert_eq!(needed(&[]), "`f` needs `answer`");
    }
}
