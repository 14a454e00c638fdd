//! Standard output and standard error: a closed pipe ends the work quietly; only a terminal gets colours.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::progress;

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. If the reader has closed the pipe, asks the running evaluation to stop.
pub fn line(text: &str) {
    let written = progress::suspend(|| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
    });
    if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        CLOSED.store(true, Ordering::Relaxed);
        crate::interrupt::request();
    }
}

/// Writes a line to standard error; a failure to do so has nowhere to be reported.
pub fn error_line(text: &str) {
    progress::suspend(|| {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.write_all(b"\n"));
    });
}

/// Whether the reader of standard output has closed the pipe.
pub fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Whether to colour what goes to standard error.
pub fn color_errors() -> bool {
    color_wanted() && std::io::stderr().is_terminal()
}

/// Whether to colour what goes to standard output.
pub fn color_output() -> bool {
    color_wanted() && std::io::stdout().is_terminal()
}

fn color_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
