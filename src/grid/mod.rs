//! Patching grids: every set of layers or heads of a target's run, patched with a source's activations.
//!
//! `request` says what is asked for and `outcome` what comes back; `driver` runs a whole grid. `set` lists what is
//! patched, `digest` has what is patched in, `metric` measures. `tree`, `group` and `plan` divide the work so that none
//! is done twice, `run` does it. `plain` computes single cells in runs of their own, `store` has the cells of earlier
//! grids, `export` writes them to a file.

pub mod digest;
pub mod driver;
pub mod export;
pub mod group;
pub mod metric;
pub mod outcome;
pub mod plain;
pub mod plan;
pub mod request;
pub mod run;
pub mod set;
pub mod store;
pub mod tree;
