//! Runs work that cannot be stopped, such as a call of a library, on a thread of its own, which Ctrl-C leaves behind.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use crate::error::{Error, Result};
use crate::{guard, interrupt};

/// Drawing libraries may recurse into what they draw.
const STACK_BYTES: usize = 64 << 20;

/// Does `work` on another thread and waits for it. After Ctrl-C nothing waits for it any more: it runs to its end, and its
/// result is dropped. So `work` must have no effect but its result. A panic in it is an error that starts with `failure`.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C; an error of `work`, or a panic in it.
pub fn run<T: Send + 'static>(failure: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    let body = move || {
        // Nobody receives what comes after Ctrl-C.
        let _ = sender.send(guard::catch(work));
    };
    thread::Builder::new()
        .name("worker".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body)
        .map_err(|error| Error::new(format!("no thread can be started: {error}")))?;
    loop {
        interrupt::check()?;
        match receiver.recv_timeout(interrupt::PAUSE) {
            Ok(Ok(result)) => return result,
            Ok(Err(panic)) => return Err(Error::new(format!("{failure}: {panic}"))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::new(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_errors_and_panics_come_back() {
        assert_eq!(run("failed", || Ok(3)).unwrap(), 3);
        assert_eq!(run::<()>("failed", || Err(Error::new("wrong"))).unwrap_err().to_string(), "wrong");
        let panic = run::<()>("failed", || panic!("broken")).unwrap_err().to_string();
        assert!(panic.starts_with("failed: broken ("), "{panic}");
    }
}
