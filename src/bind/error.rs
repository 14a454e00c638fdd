//! Errors on their way to scripts: what native functions return, and how a domain error is raised.

use rhai::{EvalAltResult, Map, Position};

use crate::error::Error;

/// Result of every function that a script can call.
pub type ScriptResult<T> = Result<T, Box<EvalAltResult>>;

impl From<Error> for Box<EvalAltResult> {
    /// The thrown value is a map with `error` and, where there is one, `hint`.
    fn from(error: Error) -> Self {
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
}
