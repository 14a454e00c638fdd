//! The folder of a submitted run. It is the whole state: any process that sees it can do a shard, merge the results or
//! say what is missing.
//!
//! - `plan.json`: what to do; written once
//! - `bin/lancet`: a copy of the program, so that it may be built anew meanwhile
//! - `job.sbatch`, `merge.sbatch`: the scripts of Slurm's jobs; `slurm.json`: the settings that they were made with
//! - `submitted.N.json`: who was asked to do shards or to merge
//! - `store/`: results, one file per unit, as in the user's cache
//! - `shards/K.json`: the record of a finished shard; `fails/K`: a line for each attempt that failed
//! - `attempts/`, `log/`: who ran what where, and what it said
//! - `merged.json`: the files that the merge wrote

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::input::Input;
use super::plan::Plan;
use super::record::Record;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file;

/// A run's folder and its plan.
#[derive(Debug, Clone)]
pub struct Run {
    folder: PathBuf,
    plan: Plan,
    id: String,
}

/// Begins the line of `lancet submit` that names the folder.
const ANNOUNCED: &str = "run: ";

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
        let run = Self::planned(folder, plan)?;
        for name in ["bin", "store", "shards", "fails", "attempts", "log"] {
            file::make_dir(&run.folder.join(name))?;
        }
        let path = run.folder.join("plan.json");
        if !path.exists() {
            run.copy_program()?;
        }
        if !file::create_text(&path, &run.plan.text()?)? && Self::open(folder)?.plan != run.plan {
            return Err(Error::new(format!("`{}` holds another run", run.folder.display()))
                .hint("choose another folder with `--run`, or go on with that one: lancet resume"));
        }
        Ok(run)
    }

    /// A run whose folder may not exist.
    ///
    /// # Errors
    /// No working folder; a path that is not UTF-8.
    pub fn planned(folder: &Path, plan: Plan) -> Result<Self> {
        let folder = std::path::absolute(folder).map_err(|error| Error::io(folder, &error))?;
        Ok(Self { id: plan.id()?, folder, plan })
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

    /// What `lancet submit` says first.
    pub fn announcement(&self) -> String {
        format!("{ANNOUNCED}{}, {} shards", self.folder.display(), self.plan.shards)
    }

    /// The folder in what `lancet submit` says.
    pub fn announced(text: &str) -> Option<PathBuf> {
        let line = text.lines().find_map(|line| line.strip_prefix(ANNOUNCED))?;
        line.rsplit_once(", ").map(|(folder, _)| PathBuf::from(folder))
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What identifies the run: the hash of its plan.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of its jobs: that of the script, and what tells the run from others, also of the same plan.
    pub fn name(&self) -> String {
        let stem = self.plan.work.stem();
        let own = file::text_checksum(&format!("{} {}", self.id, self.folder.display()));
        format!("{stem}-{}", &own[..8])
    }

    /// The name of the job that merges.
    pub fn merge_name(&self) -> String {
        format!("{}-merge", self.name())
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

    /// Whether a shard has said that it is done; unlike [`Run::done`] this reads no results.
    pub fn is_noted(&self, shard: usize) -> bool {
        self.record(shard).exists()
    }

    /// The shards that are not done, in order.
    pub fn missing(&self) -> Vec<usize> {
        (0..self.plan.shards).filter(|shard| self.done(*shard).is_none()).collect()
    }

    /// Records that a shard is done, which files it `read`, and its results.
    ///
    /// # Errors
    /// A result that cannot be read; the record cannot be written.
    pub fn finish(&self, shard: usize, device: String, read: &BTreeSet<PathBuf>, results: &[PathBuf]) -> Result<()> {
        let is_planned = |path: &PathBuf| self.plan.inputs.iter().any(|input| input.path == *path);
        let is_input = |path: &&PathBuf| path.is_file() && !path.starts_with(&self.folder) && !is_planned(path);
        let inputs = read.iter().filter(is_input).map(|path| Input::of(path)).collect::<Result<_>>()?;
        Record::of(self.id.clone(), shard, device, inputs, &self.store(), results)?.write(&self.record(shard))
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
        let draft = target.with_extension(std::process::id().to_string());
        let copied = fs::copy(&program, &draft).and_then(|_| fs::rename(&draft, &target));
        copied.map_err(|error| Error::io(&target, &error))
    }

    /// The settings of the run's jobs, if it was handed to Slurm.
    ///
    /// # Errors
    /// Settings that cannot be read.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let path = self.folder.join("slurm.json");
        path.exists().then(|| Settings::parse(&file::read_text(&path)?)).transpose()
    }

    /// Keeps the settings of the run's jobs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_settings(&self, settings: &Settings) -> Result<()> {
        file::write_text(&self.folder.join("slurm.json"), &settings.text()?)
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
