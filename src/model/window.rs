//! The positions that one pass of the decoder computes.

/// The positions `start .. start + length`. Negative positions count from the end of the first `prompt` ones; later
/// steps of a generation are beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First position of the pass
    pub start: i64,
    /// Number of positions in the pass
    pub length: i64,
    /// Number of positions in the prompt
    pub prompt: i64,
}
