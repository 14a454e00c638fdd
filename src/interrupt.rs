//! The request to stop an evaluation: by Ctrl-C or at the end of its time. Read by the interpreter and by every native
//! loop.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use indicatif::HumanBytes;

use crate::allocator;
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

/// What work on another thread may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of stack.
    pub stack: usize,
    /// Bytes besides.
    pub memory: usize,
    /// How long it takes.
    pub time: Duration,
}

/// Runs `work` on a thread of its own, so that Ctrl-C need not wait for it. After Ctrl-C, or beyond its bounds, the
/// thread is left alone.
///
/// # Errors
/// Ctrl-C; work that takes more than its bounds; no thread.
///
/// # Panics
/// As `work` does.
pub fn watched<T: Send + 'static>(bounds: Bounds, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let start = Instant::now();
    let (done, outcome) = sync_channel(1);
    let full = done.clone();
    let confined = move || {
        // After Ctrl-C nobody receives the outcome.
        allocator::confine(bounds.memory, move || drop(full.send(None)));
        drop(done.send(Some(work())));
    };
    let started = std::thread::Builder::new().stack_size(bounds.stack).spawn(confined);
    let thread = started.map_err(|error| Error::new(format!("no thread can be started: {error}")))?;
    loop {
        check()?;
        match outcome.recv_timeout(GLANCE) {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => return Err(Error::new(format!("it takes more than {}", HumanBytes(bounds.memory as u64)))),
            Err(RecvTimeoutError::Timeout) if start.elapsed() < bounds.time => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::new(format!("it takes longer than {} seconds", bounds.time.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => return Err(Error::new("a thread ended without its result")),
            },
        }
    }
}

/// The next value from another thread, or `None` where no more will come.
///
/// # Errors
/// Ctrl-C.
pub fn receive<T>(values: &Receiver<T>) -> Result<Option<T>> {
    loop {
        check()?;
        match values.recv_timeout(GLANCE) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}
