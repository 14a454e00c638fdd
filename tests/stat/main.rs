//! Statistics.

mod stats;
mod support;
