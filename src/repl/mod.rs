//! The prompt.

use crate::session::Session;

/// Runs the prompt.
pub fn run(_session: Session) -> u8 {
    0
}
