//! An attempt at a shard: which process ran it, where, and how it ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file;

/// A process that does or did a shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The number of the shard
    pub shard: usize,
    /// The scheduler's number of the job; `local` without one
    pub job: String,
    /// How often the scheduler had started the job before
    pub restart: String,
    /// The host, or the scheduler's name for it
    pub host: String,
    /// The process
    pub process: u32,
    /// What it computes on
    pub device: String,
    /// When it started, in seconds since 1970
    pub started: u64,
    /// When it ended
    pub ended: Option<u64>,
    /// Its exit code
    pub code: Option<u8>,
    #[serde(skip)]
    path: PathBuf,
}

impl Attempt {
    /// Notes in `folder` that this process starts a shard.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn start(folder: &Path, shard: usize, device: String) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let job = variable("SLURM_JOB_ID").unwrap_or_else(|| "local".to_owned());
        let restart = variable("SLURM_RESTART_COUNT").unwrap_or_else(|| "0".to_owned());
        let host = variable("SLURMD_NODENAME").unwrap_or_else(host);
        let process = std::process::id();
        let path = folder.join(format!("{job}.{restart}.{host}.{process}.json"));
        let attempt =
            Self { shard, job, restart, host, process, device, started: now(), ended: None, code: None, path };
        attempt.write()?;
        Ok(attempt)
    }

    /// Notes how it ended.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn end(mut self, code: u8) -> Result<()> {
        self.ended = Some(now());
        self.code = Some(code);
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text =
            serde_json::to_string(self).map_err(|error| Error::new(format!("an attempt is not noted: {error}")))?;
        file::write_text(&self.path, &text)
    }

    /// Those that are noted in a folder; damaged notes are left out, since they say nothing.
    pub fn all(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let read = |path: PathBuf| serde_json::from_str(&fs::read_to_string(path).ok()?).ok();
        entries.filter_map(|entry| read(entry.path())).collect()
    }
}

/// This host's name.
pub fn host() -> String {
    sysinfo::System::host_name().unwrap_or_else(|_| "?".to_owned())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
