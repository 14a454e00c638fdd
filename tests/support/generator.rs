//! libtorch's generator of random numbers, shared by the tests of a process.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A turn at the generator: tests that seed it or draw from it take turns.
pub fn generator() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}
