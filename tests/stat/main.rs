//! Statistics.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod inference;
mod nulls;
mod stats;
mod support;
