//! Runs work on a thread of its own, so that Ctrl-C need not wait for a server, a library or a template.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::HumanBytes;

use crate::allocator;
use crate::error::{Error, Result};
use crate::guard;
use crate::interrupt::{self, GLANCE};

/// What the work may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of stack.
    pub stack: usize,
    /// Bytes besides.
    pub memory: usize,
    /// How long it takes.
    pub time: Duration,
}

impl Bounds {
    /// This much stack, and no other bound.
    pub const fn stack(stack: usize) -> Self {
        Self { stack, memory: usize::MAX, time: Duration::MAX }
    }
}

/// Does `work` on another thread and waits for it. After Ctrl-C, or beyond its bounds, the thread is left alone, so `work`
/// must have no effect but its result.
///
/// # Errors
/// Ctrl-C; work that takes more than its bounds or panics; no thread.
pub fn run<T: Send + 'static>(bounds: Bounds, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let start = Instant::now();
    let (done, outcome) = sync_channel(1);
    let full = done.clone();
    let confined = move || {
        // After Ctrl-C nobody receives the outcome.
        allocator::confine(bounds.memory, move || drop(full.send(None)));
        drop(done.send(Some(guard::catch(work))));
    };
    let started = thread::Builder::new().name("worker".to_owned()).stack_size(bounds.stack).spawn(confined);
    started.map_err(|error| Error::new(format!("no thread can be started: {error}")))?;
    loop {
        interrupt::check()?;
        match outcome.recv_timeout(GLANCE) {
            Ok(Some(Ok(value))) => return Ok(value),
            Ok(Some(Err(panic))) => return Err(Error::new(format!("an internal error: {panic}"))),
            Ok(None) => return Err(Error::new(format!("it takes more than {}", HumanBytes(bounds.memory as u64)))),
            Err(RecvTimeoutError::Timeout) if start.elapsed() < bounds.time => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::new(format!("it takes longer than {} seconds", bounds.time.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Error::new("a thread ended without its result")),
        }
    }
}

/// The next value from another thread, or `None` where no more will come.
///
/// # Errors
/// Ctrl-C.
pub fn receive<T>(values: &Receiver<T>) -> Result<Option<T>> {
    loop {
        interrupt::check()?;
        match values.recv_timeout(GLANCE) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_beyond_its_bounds_is_left_alone() {
        let bounds = Bounds { stack: 1 << 20, memory: 1 << 20, time: Duration::from_millis(200) };
        assert_eq!(run(bounds, || 3).unwrap(), 3);
        let error = run(bounds, || std::hint::black_box(vec![0u8; 1 << 30]).len()).unwrap_err();
        assert_eq!(error.to_string(), "it takes more than 1.00 MiB");
        let error = run(bounds, || thread::sleep(Duration::from_secs(60))).unwrap_err();
        assert!(error.to_string().starts_with("it takes longer than"), "{error}");
        let error = run::<()>(bounds, || panic!("broken")).unwrap_err();
        assert!(error.to_string().starts_with("an internal error: broken ("), "{error}");
    }
}
