//! The text of scripts, without an engine: its tokens, the places of its compiled functions, the standard library.

pub mod closure;
pub mod index_token;
pub mod insertion;
pub mod layer;
pub mod loop_value;
pub mod open;
pub mod receiver;
pub mod scan;
pub mod shadow;
pub mod source;
pub mod standard_library;

/// Largest depth of nested calls.
pub const CALL_LEVELS: usize = 256;
