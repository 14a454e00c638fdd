//! Random inputs for everything that reads what it does not know: none may panic, abort, hang or allocate without bound.
//!
//! `make test` tries a few thousand for each target, `make fuzz` tries new ones until it is stopped. Libraries for fuzzing
//! on stable Rust make up random bytes; ours change valid files, since random bytes fail at the first check.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod campaign;
mod json;
mod mutation;
mod seed;
mod support;
mod token;

mod data;
mod function;
mod model_file;
mod script;
mod store;
mod tokenizer;
