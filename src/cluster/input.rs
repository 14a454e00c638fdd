//! Files that a submitted run depends on: its script's modules and data, and the files of its models.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file;

/// A file as it was when the run was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where it is
    pub path: PathBuf,
    /// Its size
    pub bytes: u64,
    /// When it was last changed, in nanoseconds since 1970
    pub modified: u64,
    /// Its SHA-256 in hexadecimal
    pub sha256: String,
}

impl Input {
    /// A file as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let (bytes, modified) = stamp(path)?;
        Ok(Self { path: path.to_path_buf(), bytes, modified, sha256: file::checksum(path)? })
    }

    /// Refuses a file that is not as it was. One with the same size and time of change is taken as the same; another is
    /// compared by its hash.
    ///
    /// # Errors
    /// A file that has changed or cannot be read.
    pub fn check(&self) -> Result<()> {
        if stamp(&self.path)? == (self.bytes, self.modified) || file::checksum(&self.path)? == self.sha256 {
            return Ok(());
        }
        Err(Error::new(format!("`{}` has changed since the run was submitted", self.path.display()))
            .hint("submit the run again, in another folder"))
    }
}

/// The size of a file and when it was last changed.
fn stamp(path: &Path) -> Result<(u64, u64)> {
    let failed = |error: std::io::Error| Error::io(path, &error);
    let metadata = fs::metadata(path).map_err(failed)?;
    let since = metadata.modified().map_err(failed)?.duration_since(UNIX_EPOCH);
    let modified = since.ok().and_then(|time| u64::try_from(time.as_nanos()).ok());
    let unknown = || Error::new(format!("`{}` was last changed at an impossible time", path.display()));
    Ok((metadata.len(), modified.ok_or_else(unknown)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_refused_and_a_touched_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.json");
        fs::write(&path, "one").unwrap();
        let input = Input::of(&path).unwrap();
        input.check().unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        input.check().unwrap();
        fs::write(&path, "two").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert!(input.check().unwrap_err().to_string().contains("task.json` has changed"));
        fs::remove_file(&path).unwrap();
        assert!(input.check().is_err());
    }
}
