//! Lancet: a scripting environment for mechanistic interpretability of language models.
//!
//! Data flows `cli → session ← source text`, `session → rhai → bind::* → {model, tensor, text, data, plot} → libtorch`.
//! Only `session`, `bind`, `catalog`, `diagnostics` and `repl` may name `rhai`; the other modules know nothing of
//! scripts.

pub mod access;
pub mod allocator;
pub mod attribution;
pub mod bind;
pub mod cache;
pub mod catalog;
pub mod chat_client;
pub mod cli;
pub mod cluster;
pub mod data;
pub mod device;
pub mod diagnostics;
pub mod doctor;
pub mod error;
pub mod file;
pub mod format;
pub mod gguf;
pub mod grid;
pub mod guard;
pub mod http;
pub mod hub;
pub mod identity;
pub mod interrupt;
pub mod libtorch;
pub mod limits;
pub mod linear;
pub mod memory;
pub mod model;
pub mod noted;
pub mod output;
pub mod parts;
pub mod plot;
pub mod progress;
pub mod repl;
pub mod sae;
pub mod session;
pub mod share;
pub mod shipped;
pub mod stat;
pub mod sweep;
pub mod syntax;
pub mod tensor;
pub mod text;
pub mod worker;
