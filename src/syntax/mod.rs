//! The text of scripts, without an engine: its tokens, and the places of its compiled functions.

pub mod scan;
pub mod source;
