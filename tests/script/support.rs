//! Shared by the tests of scripts.

#[path = "../support/engine.rs"]
mod engine;
#[path = "../support/fixture.rs"]
mod fixture;
#[path = "../support/generator.rs"]
mod generator;
#[path = "../support/session.rs"]
mod session;
#[path = "../support/simulated_gpu.rs"]
mod simulated_gpu;
#[path = "../support/svg.rs"]
pub mod svg;
#[path = "../support/text.rs"]
mod text;

pub use crate::small_model::{run, run_in, run_on_simulated_gpu, run_with, small_model, write_model};
pub use engine::{engine, message};
pub use fixture::fixture;
pub use generator::generator;
pub use session::session;
pub use simulated_gpu::with_simulated_gpus;
pub use text::{assert_contains, failure};
