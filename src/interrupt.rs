//! The request to stop an evaluation: by Ctrl-C or at the end of its time. Read by the interpreter and by every native
//! loop.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const NONE: u8 = 0;
const CTRL_C: u8 = 1;
const TIME: u8 = 2;

static PENDING: AtomicU8 = AtomicU8::new(NONE);

/// Asks the running evaluation to stop, as Ctrl-C does. Returns true if Ctrl-C had asked already.
pub fn request() -> bool {
    PENDING.swap(CTRL_C, Ordering::Relaxed) == CTRL_C
}

/// Asks the running evaluation to stop because its time is over.
pub fn time_out() {
    // Ctrl-C stays what ended it.
    let _ = PENDING.compare_exchange(NONE, TIME, Ordering::Relaxed, Ordering::Relaxed);
}

/// Forgets an earlier request; called before each evaluation.
pub fn clear() {
    PENDING.store(NONE, Ordering::Relaxed);
}

/// Whether the running evaluation has been asked to stop.
pub fn is_pending() -> bool {
    PENDING.load(Ordering::Relaxed) != NONE
}

/// Whether the evaluation was asked to stop because its time is over.
pub fn is_timed_out() -> bool {
    PENDING.load(Ordering::Relaxed) == TIME
}

/// Fails when the evaluation has been asked to stop; native loops call this once a turn.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C or at the end of the time.
pub fn check() -> Result<()> {
    if is_pending() { Err(Error::Interrupted) } else { Ok(()) }
}

/// How often to check for Ctrl-C while waiting.
pub const GLANCE: Duration = Duration::from_millis(50);

/// Waits.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C or at the end of the time.
pub fn sleep(time: Duration) -> Result<()> {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()) {
        check()?;
        std::thread::sleep(left.min(GLANCE));
    }
    check()
}
