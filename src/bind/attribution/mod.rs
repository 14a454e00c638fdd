//! Components and edges in scripts: scores, circuits.

mod attribute;
mod attribute_request;
mod circuit;
mod circuit_table;
mod curve;
mod edges;
mod measure;
mod patch;
mod request;

pub use attribute::Attribution;
pub use circuit::CircuitHandle;
pub use edges::Edges;

use rhai::Engine;
use rhai::plugin::*;

use super::module;
use crate::catalog::topic::Topic;

/// Registers everything about components and edges.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Circuits, exported_manifest!(attribute::functions));
    module::register(engine, Topic::Circuits, exported_manifest!(edges::functions));
    module::register(engine, Topic::Circuits, exported_manifest!(curve::functions));
    module::register(engine, Topic::Circuits, exported_manifest!(circuit::functions));
    module::register(engine, Topic::Circuits, exported_manifest!(circuit_table::functions));
    module::register(engine, Topic::Circuits, exported_manifest!(patch::functions));
}
