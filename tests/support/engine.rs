//! An engine with every function, for tests that give scripts variables and look at single values.

use lancet::bind;
use rhai::{Engine, EvalAltResult, Map};

/// An engine with the functions for scripts.
pub fn engine() -> Engine {
    let mut engine = Engine::new();
    engine.set_max_expr_depths(128, 128).set_max_call_levels(256);
    bind::register(&mut engine);
    engine
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
