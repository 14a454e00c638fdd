//! Thin glue between scripts and the domain modules, one file per script-visible type.

pub mod args;
pub mod display;
pub mod file;
pub mod tensor;
pub mod utility;
