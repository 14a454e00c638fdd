//! The folder of a submitted run. It is the whole state: any process that sees it can do a shard, merge the results or
//! say what is missing.
//!
//! - `plan.json`: what to do; written once
//! - `bin/lancet`: a copy of the program, so that it may be built anew meanwhile
//! - `store/`: results, one file per unit, as in the user's cache
//! - `shards/K.json`: the record of a finished shard; `fails/K`: a line for each attempt that failed
//! - `attempts/`, `log/`: who ran what where, and what it said
//! - `merged.json`: the files that the merge wrote

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::plan::Plan;
use super::record::Record;
use crate::error::{Error, Result};
use crate::file;

/// A run's folder and its plan.
#[derive(Debug, Clone)]
pub struct Run {
    folder: PathBuf,
    plan: Plan,
    id: String,
}

/// What a merge left.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Merged {
    run: String,
    files: Vec<PathBuf>,
}

impl Run {
    /// Makes the folder of a plan; one that holds the same plan is opened.
    ///
    /// # Errors
    /// A folder that holds another plan or cannot be written; the program cannot be copied.
    pub fn create(folder: &Path, plan: Plan) -> Result<Self> {
        let folder = std::path::absolute(folder).map_err(|error| Error::io(folder, &error))?;
        for name in ["store", "shards", "fails", "attempts", "log"] {
            file::make_dir(&folder.join(name))?;
        }
        let text = plan.text()?;
        let path = folder.join("plan.json");
        if !create(&path, &text).map_err(|error| Error::io(&path, &error))? {
            let earlier = Self::open(&folder)?;
            if earlier.plan != plan {
                return Err(Error::new(format!("`{}` holds another run", folder.display()))
                    .hint("choose another folder with `--run`, or go on with that one: lancet resume"));
            }
            return Ok(earlier);
        }
        let run = Self { id: plan.id()?, folder, plan };
        run.copy_program()?;
        Ok(run)
    }

    /// Opens a run.
    ///
    /// # Errors
    /// No run in the folder, or one of another version of Lancet.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder).map_err(|error| Error::io(folder, &error))?;
        let path = folder.join("plan.json");
        if !path.is_file() {
            return Err(Error::new(format!("`{}` holds no run", folder.display()))
                .hint("`lancet submit` makes such a folder and prints its name"));
        }
        let plan = Plan::parse(&file::read_text(&path)?).map_err(|error| error.context(path.display()))?;
        Ok(Self { id: plan.id()?, folder, plan })
    }

    /// The folder, an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What identifies the run: the hash of its plan.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run's copy of the program.
    pub fn program(&self) -> PathBuf {
        self.folder.join("bin/lancet")
    }

    /// The command of the run's program, with the libtorch that the run was submitted with.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        if let Some(libraries) = &self.plan.libtorch {
            let others = std::env::var_os("LD_LIBRARY_PATH").filter(|others| !others.is_empty());
            let mut path = libraries.clone().into_os_string();
            if let Some(others) = others {
                path.push(":");
                path.push(others);
            }
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }

    /// The folder of results.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// The folder of what shards print.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The file of a shard's failed attempts, a line each: the exit code, the time, the job, the host.
    pub fn failures(&self, shard: usize) -> PathBuf {
        self.folder.join("fails").join(shard.to_string())
    }

    fn record(&self, shard: usize) -> PathBuf {
        self.folder.join("shards").join(format!("{shard}.json"))
    }

    /// What a shard left, if it is done and its results are as it left them.
    pub fn done(&self, shard: usize) -> Option<Record> {
        Record::read(&self.record(shard), &self.id, shard, &self.store())
    }

    /// The shards that are not done, in order.
    pub fn missing(&self) -> Vec<usize> {
        (0..self.plan.shards).filter(|shard| self.done(*shard).is_none()).collect()
    }

    /// Records that a shard is done with these results.
    ///
    /// # Errors
    /// A result that cannot be read; the record cannot be written.
    pub fn finish(&self, shard: usize, device: String, results: &[PathBuf]) -> Result<()> {
        Record::of(self.id.clone(), shard, device, &self.store(), results)?.write(&self.record(shard))
    }

    /// Records the files that the merge wrote.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn merged(&self, files: Vec<PathBuf>) -> Result<()> {
        let text = serde_json::to_string_pretty(&Merged { run: self.id.clone(), files })
            .map_err(|error| Error::new(format!("the record of the merge cannot be written: {error}")))?;
        file::write_text(&self.folder.join("merged.json"), &text)
    }

    /// The files that the merge wrote, if it is done and they are there.
    pub fn results(&self) -> Option<Vec<PathBuf>> {
        let merged: Merged = serde_json::from_str(&file::read_text(&self.folder.join("merged.json")).ok()?).ok()?;
        (merged.run == self.id && merged.files.iter().all(|path| path.exists())).then_some(merged.files)
    }

    /// Notes that this process starts a shard.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn start(&self, shard: usize, device: String) -> Result<Attempt> {
        Attempt::start(&self.folder.join("attempts"), shard, device)
    }

    /// All attempts at shards, in no order.
    pub fn attempts(&self) -> Vec<Attempt> {
        Attempt::all(&self.folder.join("attempts"))
    }

    fn copy_program(&self) -> Result<()> {
        let program = std::env::current_exe().map_err(|error| Error::new(format!("the program is gone: {error}")))?;
        let target = self.program();
        let copied = fs::create_dir_all(self.folder.join("bin")).and_then(|()| fs::copy(&program, &target));
        copied.map(|_| ()).map_err(|error| Error::io(&target, &error))
    }
}

/// Writes a file that does not exist yet; false if it does. Another process finds it whole or not at all.
fn create(path: &Path, text: &str) -> std::io::Result<bool> {
    let mut draft = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(text.as_bytes())?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Numbers as ranges: `0-2,5`.
pub fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|left, right| left + 1 == *right);
    let text = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[]), "");
    }
}
