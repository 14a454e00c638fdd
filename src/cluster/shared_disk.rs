//! Disks that several machines see: NFS may show a file some seconds after another machine wrote it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::NFS_SUPER_MAGIC;

use crate::error::Result;
use crate::interrupt;

/// The longest that NFS keeps to itself that a file is there now, with its usual settings.
const LAG: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(2);

/// Looks until `look` finds everything, once on disks that show a file at once.
///
/// # Errors
/// Ctrl-C.
pub fn wait_for(folder: &Path, look: &mut dyn FnMut() -> bool) -> Result<()> {
    let lag = if is_nfs(folder) { LAG } else { Duration::ZERO };
    look_for(lag, PAUSE, look)
}

fn is_nfs(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|found| found.f_type == NFS_SUPER_MAGIC)
}

fn look_for(lag: Duration, pause: Duration, look: &mut dyn FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !look() && start.elapsed() < lag {
        interrupt::sleep(pause)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_late_is_found() {
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            looks == 3
        };
        look_for(Duration::from_secs(10), Duration::from_millis(1), &mut third).unwrap();
        assert_eq!(looks, 3);
        let mut looks = 0;
        let folder = tempfile::tempdir().unwrap();
        wait_for(folder.path(), &mut || {
            looks += 1;
            false
        })
        .unwrap();
        assert_eq!(looks, 1, "a disk of this machine is asked once");
    }
}
