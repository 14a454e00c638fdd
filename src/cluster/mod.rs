//! Submitted runs: a script whose work is done in shards, by any scheduler that can start one command per shard. All
//! state is in the run's folder, and its files alone say what is done.

mod attempt;
pub mod input;
pub mod local;
pub mod plan;
pub mod print;
mod record;
pub mod run;

/// The exit codes of a shard's process.
pub struct Code;

impl Code {
    /// Everything of the shard is done.
    pub const DONE: u8 = 0;
    /// Some shards are missing, so nothing is merged.
    pub const MISSING: u8 = 3;
    /// The script itself is wrong, and would fail again.
    pub const FINAL: u8 = 64;
    /// It was asked to stop, and goes on in the next attempt.
    pub const STOPPED: u8 = 75;
}
