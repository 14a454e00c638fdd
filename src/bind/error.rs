//! Errors on their way to scripts: what native functions return, and how a domain error is raised.

use rhai::{EvalAltResult, Position};

use super::map::map;
use crate::error::Error;

/// Result of every function that a script can call.
pub type ScriptResult<T> = Result<T, Box<EvalAltResult>>;

impl From<Error> for Box<EvalAltResult> {
    /// The thrown value is a map with `error` and, where there is one, `hint`.
    fn from(error: Error) -> Self {
        if matches!(error, Error::Interrupted) {
            return EvalAltResult::ErrorTerminated("interrupted".into(), Position::NONE).into();
        }
        let text = error.to_string();
        let map = match error.hint_text() {
            Some(hint) => map! { "error" => text, "hint" => hint.to_owned() },
            None => map! { "error" => text },
        };
        EvalAltResult::ErrorRuntime(map.into(), Position::NONE).into()
    }
}
