//! Lancet: a scripting environment for mechanistic interpretability of language models.
//!
//! Data flows `cli → session ← source text`, `session → rhai → bind::* → {model, tensor, text, data, plot} → libtorch`.
//! Only `session`, `bind`, `catalog`, `diagnostics` and `repl` may name `rhai`; the other modules know nothing of scripts.

pub mod bind;
pub mod data;
pub mod device;
pub mod error;
pub mod file;
pub mod format;
pub mod interrupt;
pub mod model;
pub mod tensor;
