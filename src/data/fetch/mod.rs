//! Data sets that are fetched on request from the Python package index.

pub mod dataset;
mod index;
mod pip;
