//! Maps that native functions return.

/// A script's map: `map! { "name" => value, ... }`.
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        rhai::Map::from_iter([$(($key.into(), rhai::Dynamic::from($value))),*])
    };
}

pub(crate) use map;
