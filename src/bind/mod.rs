//! Thin glue between scripts and the domain modules, one file per script-visible type.
// What `export_module` generates unwraps the arguments that it has counted.
#![allow(clippy::unwrap_used)]
// Scripts read here when a function fails; the helpers beside them raise what they are given.
#![allow(clippy::missing_errors_doc)]

pub mod attribution;
pub mod chat_client;
mod collection;
pub mod compare;
pub mod convert;
pub mod display;
pub mod error;
pub mod file;
mod growth;
pub mod handle;
pub mod indexes;
pub mod linear;
mod map;
pub mod model;
pub mod module;
pub mod option;
pub mod plot;
pub mod progress;
pub mod sae;
pub mod script;
pub mod script_args;
pub mod stat;
pub mod table;
pub mod tensor;
pub mod utility;
pub mod watch;
mod work;
pub mod write_back;

/// Registers everything that scripts can call.
pub fn register(engine: &mut rhai::Engine) {
    handle::register(engine);
    attribution::register(engine);
    collection::register(engine);
    compare::register(engine);
    display::register(engine);
    chat_client::register(engine);
    file::register(engine);
    growth::register(engine);
    linear::register(engine);
    model::register(engine);
    plot::register(engine);
    progress::register(engine);
    sae::register(engine);
    script::register(engine);
    stat::register(engine);
    table::register(engine);
    tensor::register(engine);
    utility::register(engine);
    work::register(engine);
}
