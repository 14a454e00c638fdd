//! Statistics.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod stats;
mod support;
