//! The record of a finished shard: which results it left in the run's store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file;

/// What a shard has done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The id of the run's plan
    pub run: String,
    /// The number of the shard
    pub shard: usize,
    /// What computed it, such as the model of the GPU
    pub device: String,
    /// Its results
    pub results: Vec<Kept>,
}

/// A file of the run's store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Its path in the store
    pub path: PathBuf,
    /// Its SHA-256 in hexadecimal
    pub sha256: String,
}

impl Record {
    /// The record of a shard whose results are `files` of `store`.
    ///
    /// # Errors
    /// A file that cannot be read or is not in the store.
    pub fn of(run: String, shard: usize, device: String, store: &Path, files: &[PathBuf]) -> Result<Self> {
        let kept = |path: &PathBuf| {
            let within = path.strip_prefix(store).map_err(|_| {
                Error::new(format!("`{}` is not in the run's store", path.display()))
                    .hint("leave `store` of a grid as it is, and values to `kept`")
            })?;
            Ok(Kept { path: within.to_path_buf(), sha256: file::checksum(path)? })
        };
        Ok(Self { run, shard, device, results: files.iter().map(kept).collect::<Result<_>>()? })
    }

    /// The record in a file, if it is whole, of this run and shard, and all its results are as they were.
    pub fn read(path: &Path, run: &str, shard: usize, store: &Path) -> Option<Self> {
        let record: Self = serde_json::from_str(&file::read_text(path).ok()?).ok()?;
        let is_whole = |kept: &Kept| {
            kept.path.to_str().is_some_and(file::is_plain)
                && file::checksum(&store.join(&kept.path)).is_ok_and(|found| found == kept.sha256)
        };
        (record.run == run && record.shard == shard && record.results.iter().all(is_whole)).then_some(record)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::new(format!("the shard's record cannot be written: {error}")))?;
        file::write_text(path, &text)
    }
}
