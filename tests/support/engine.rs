//! An engine as sessions have it, for tests that give scripts variables and look at single values.

use lancet::limits::Limits;
use rhai::{Engine, EvalAltResult, Map};

/// An engine with the functions for scripts.
pub fn engine() -> Engine {
    lancet::session::engine::new(&Limits::default())
}

/// An error's message and hint, in one line.
pub fn message(error: &EvalAltResult) -> String {
    match error.unwrap_inner() {
        EvalAltResult::ErrorRuntime(value, _) => match value.read_lock::<Map>() {
            Some(map) => map.values().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            None => value.to_string(),
        },
        other => other.to_string(),
    }
}
