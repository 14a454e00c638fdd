//! What was handed over for a run, and to whom: an array of jobs, the job that merges, or a process.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file;

/// Who does something for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Submission {
    /// An array of Slurm: job `index` does the shards of block `first + index`.
    Array {
        /// Slurm's number of the array
        job: String,
        /// The block of index 0
        first: usize,
        /// How many shards a block has
        shards_per_job: usize,
        /// The indexes
        jobs: Vec<usize>,
    },
    /// The job of Slurm that merges.
    Merge {
        /// Its number
        job: String,
    },
    /// A process that runs shards itself.
    Process {
        /// Its host
        host: String,
        /// Its number there
        process: u32,
        /// A time at which it ran, in seconds since 1970
        started: u64,
    },
}

impl Submission {
    /// Notes it in the run's folder. A number of Slurm's can come again, so it is no name for the file.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::new(format!("a submission: {error}")))?;
        let mut number = Self::files(folder).count();
        while !file::create_text(&path(folder, number), &text)? {
            number += 1;
        }
        Ok(())
    }

    /// Those of a run, in order; what is no note is left out.
    pub fn all(folder: &Path) -> Vec<Self> {
        Self::files(folder).filter_map(|path| serde_json::from_str(&file::read_text(&path).ok()?).ok()).collect()
    }

    fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
        let folder = folder.to_path_buf();
        (0..).map(move |number| path(&folder, number)).take_while(|path| path.exists())
    }
}

fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("submitted.{number}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let notes = [
            Submission::Array { job: "7".into(), first: 0, shards_per_job: 2, jobs: vec![0, 1] },
            Submission::Merge { job: "8".into() },
            Submission::Process { host: "h".into(), process: 3, started: 5 },
            Submission::Merge { job: "8".into() },
        ];
        for note in &notes {
            note.note(folder.path()).unwrap();
        }
        assert_eq!(Submission::all(folder.path()), notes);
    }
}
