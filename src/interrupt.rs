//! The Ctrl-C flag. Set by the signal handler, read by the interpreter and by every native loop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static PENDING: AtomicBool = AtomicBool::new(false);

/// Asks the running evaluation to stop. Returns true if it had been asked already.
pub fn request() -> bool {
    PENDING.swap(true, Ordering::Relaxed)
}

/// Forgets an earlier request; called before each evaluation.
pub fn clear() {
    PENDING.store(false, Ordering::Relaxed);
}

/// Whether the running evaluation has been asked to stop.
pub fn is_pending() -> bool {
    PENDING.load(Ordering::Relaxed)
}

/// Fails when the evaluation has been asked to stop; native loops call this once a turn.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C.
pub fn check() -> Result<()> {
    if is_pending() { Err(Error::Interrupted) } else { Ok(()) }
}
