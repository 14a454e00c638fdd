//! Patching grids: every set of places of a target's run, patched with a source's activations.
//!
//! `driver` runs a whole grid, from a `request` and its checked `sample`s to an `outcome`. `set` lists the places to patch, `digest` computes the
//! activations to patch in, `draw` draws at random. `tally` measures logits by a `target`; every `metric` is made of what
//! is `measured`. `tree`, `group` and `plan` divide the work so that nothing is computed twice; `run` does it. `plain`
//! computes single cells in runs of their own, `store` caches the cells of earlier grids, and `export` writes cells to a
//! file. `interaction` compares sets with their parts, `anova` shares out the variance over sets among the orders,
//! `frozen` predicts sets by linear maps.

pub mod anova;
pub mod digest;
pub mod draw;
pub mod driver;
pub mod export;
pub mod frozen;
pub mod group;
pub mod interaction;
pub mod measured;
pub mod memory;
pub mod metric;
pub mod objective;
pub mod outcome;
pub mod plain;
pub mod plan;
pub mod request;
pub mod run;
pub mod sample;
pub mod set;
pub mod store;
mod tally;
pub mod target;
pub mod tree;
