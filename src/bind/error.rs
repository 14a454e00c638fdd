//! Errors on their way to scripts: what native functions return, and how a domain error is raised.

use rhai::{Dynamic, EvalAltResult, ImmutableString, Position};

use super::map::map;
use crate::error::Error;
use crate::interrupt;

/// Result of every function that a script can call.
pub type ScriptResult<T> = Result<T, Box<EvalAltResult>>;

impl From<Error> for Box<EvalAltResult> {
    fn from(error: Error) -> Self {
        match error {
            Error::Interrupted => EvalAltResult::ErrorTerminated(interruption(), Position::NONE).into(),
            Error::Deferred => EvalAltResult::ErrorTerminated(DEFERRED.into(), Position::NONE).into(),
            error => EvalAltResult::ErrorRuntime(value(&error), Position::NONE).into(),
        }
    }
}

/// The value that an error throws: a map with `error` and, where there is one, `hint`.
pub fn value(error: &Error) -> Dynamic {
    let text = error.to_string();
    let map = match error.hint_text() {
        Some(hint) => map! { "error" => text, "hint" => hint.to_owned() },
        None => map! { "error" => text },
    };
    map.into()
}

/// What ends a part of a script's work that lacks results of other shards. No script can catch it.
const DEFERRED: &str = "deferred to other shards";

/// Whether an error is the end of a part that lacks results of other shards.
pub fn is_deferral(error: &EvalAltResult) -> bool {
    matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(value, _)
        if value.read_lock::<ImmutableString>().is_some_and(|text| text.as_str() == DEFERRED))
}

/// What ends an evaluation that was asked to stop.
pub fn interruption() -> Dynamic {
    if interrupt::is_timed_out() {
        value(&Error::new("the time for the script is over").hint("raise it with `lancet --limit time=DURATION`"))
    } else {
        "interrupted".into()
    }
}
