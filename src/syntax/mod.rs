//! The text of scripts, without an engine: its tokens, and where compiled functions lie in it.

pub mod scan;
pub mod source;
