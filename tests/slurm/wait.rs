//! Waiting for a condition, with a limit that only a fault reaches.

use std::time::{Duration, Instant};

/// On a machine that is busy with other things too.
const LIMIT: Duration = Duration::from_secs(240);

/// Waits until something is true.
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    until_some(what, || is_true().then_some(()));
}

/// Waits until there is something.
pub fn until_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
