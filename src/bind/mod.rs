//! Thin glue between scripts and the domain modules, one file per script-visible type.

pub mod args;
pub mod model;
pub mod plot;
pub mod progress;
