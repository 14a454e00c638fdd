//! Standard output and standard error: a closed pipe ends the work quietly, a full disk ends it with an error; only a
//! terminal gets colours.

use std::io::{Error, ErrorKind, IsTerminal, Result, Write};
use std::sync::OnceLock;

use crate::{interrupt, progress};

/// The first failure to write to standard output, as kind and text.
static FAILURE: OnceLock<(ErrorKind, String)> = OnceLock::new();

/// Writes a line to standard output. If that fails, asks the running evaluation to stop.
pub fn line(text: &str) {
    self::text(&format!("{text}\n"));
}

/// Writes text to standard output, as [`line`] does.
pub fn text(text: &str) {
    // The failure is remembered and reported at the end of the program.
    let _ = Stdout.write_all(text.as_bytes());
}

/// Standard output for text in parts. A failure is remembered and stops the running evaluation.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = progress::suspend(|| {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        });
        written.map(|()| bytes.len()).inspect_err(fail)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Remembers that standard output cannot be written.
pub fn fail(error: &Error) {
    FAILURE.get_or_init(|| (error.kind(), error.to_string()));
    interrupt::request();
}

/// Writes a line to standard error; a failure cannot be reported anywhere.
pub fn error_line(text: &str) {
    progress::suspend(|| {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.write_all(b"\n"));
    });
}

/// Whether standard output cannot be written any more: its reader has closed the pipe, or the disk is full.
pub fn is_closed() -> bool {
    FAILURE.get().is_some()
}

/// The reason why standard output could not be written; `None` if its reader closed the pipe, as `head` does.
pub fn failure() -> Option<&'static str> {
    FAILURE.get().filter(|(kind, _)| *kind != ErrorKind::BrokenPipe).map(|(_, text)| text.as_str())
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
