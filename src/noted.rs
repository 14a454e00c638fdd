//! Notes which files an evaluation reads and writes, for the plan and the records of a submitted run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The files since [`start`].
#[derive(Debug, Default)]
pub struct Noted {
    /// Files that were read to their end or opened for it.
    pub read: BTreeSet<PathBuf>,
    /// Files that were written.
    pub written: BTreeSet<PathBuf>,
}

/// It belongs to the process, so that no thread's files are missed.
static NOTED: Mutex<Option<Noted>> = Mutex::new(None);

fn noted() -> MutexGuard<'static, Option<Noted>> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts to note files.
pub fn start() {
    *noted() = Some(Noted::default());
}

/// Ends it; gives the files since the start.
pub fn take() -> Noted {
    noted().take().unwrap_or_default()
}

/// Notes that a file was read.
pub fn read(path: &Path) {
    if let Some(noted) = noted().as_mut() {
        noted.read.extend(std::path::absolute(path));
    }
}

/// Notes that a file was written.
pub fn written(path: &Path) {
    if let Some(noted) = noted().as_mut() {
        noted.written.extend(std::path::absolute(path));
    }
}
