//! The Ctrl-C flag. Set by the signal handler, read by the interpreter and by every native loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The time from one look at the flag to the next while nothing else is to be done.
pub const PAUSE: Duration = Duration::from_millis(50);

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

/// Waits.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C.
pub fn sleep(time: Duration) -> Result<()> {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()) {
        check()?;
        std::thread::sleep(left.min(PAUSE));
    }
    check()
}
