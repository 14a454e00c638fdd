//! Sweeps: one measurement under many interventions. `grid` patches every set of layers or heads and shares whatever work
//! the sets have in common. (Any other interventions run side by side as samples of one batch: `Hooks::add_for`.)
//!
//! `set` lists what is patched, `metric` measures, `group`, `tree` and `plan` compute a grid without repeating work, `plain`
//! computes single cells the plain way to check it, `store` keeps cells across runs.

pub mod driver;
pub mod group;
pub mod metric;
pub mod plain;
pub mod plan;
pub mod set;
pub mod store;
pub mod tree;
