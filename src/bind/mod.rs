//! Thin glue between scripts and the domain modules, one file per script-visible type.

pub mod args;
pub mod model;
pub mod plot;
pub mod progress;
pub mod arguments;
pub mod display;
pub mod script;

/// Registers everything that scripts can call.
pub fn register(engine: &mut rhai::Engine) {
    script::register(engine);
}
