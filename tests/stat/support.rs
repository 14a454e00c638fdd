//! Shared by the tests of statistics.

#[path = "../support/engine.rs"]
mod engine;
#[path = "../support/fixture.rs"]
mod fixture;

pub use engine::{engine, message};
pub use fixture::fixture;
