//! A run of the tests' script: its folders, its commands, and what it left.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::daemons::{Cluster, tail};
use crate::wait::{until, until_some};

/// A run of `tests/slurm/words.rhai`, on a cluster or here.
pub struct Run {
    folder: tempfile::TempDir,
    items: usize,
}

/// What an attempt noted.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub shard: usize,
    pub host: String,
    pub process: u32,
    pub restart: String,
    pub started: u64,
}

impl Run {
    /// One of `items` items.
    pub fn new(items: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("lancet-run-").tempdir().unwrap();
        fs::write(folder.path().join("words.rhai"), include_str!("words.rhai")).unwrap();
        Self { folder, items }
    }

    /// The folder where the script and the run are.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The run's own folder.
    pub fn run(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The program, in a command that finds the cluster.
    pub fn lancet(&self, cluster: Option<&Cluster>) -> Command {
        let program = env!("CARGO_BIN_EXE_lancet");
        let mut command = cluster.map_or_else(|| Command::new(program), |cluster| cluster.command(program));
        command.current_dir(self.path()).env("LANCET_CACHE", self.path().join("cache"));
        command.env("XDG_CONFIG_HOME", self.path().join("config")).env("OMP_NUM_THREADS", "1");
        command
    }

    /// Submits the script; `options` are those of `submit`, `arguments` those of the script.
    pub fn submit(&self, cluster: Option<&Cluster>, options: &[&str], arguments: &[&str]) -> Output {
        let mut command = self.lancet(cluster);
        command.args(["submit", "words.rhai", "--run", "run", "--items", &self.items.to_string()]);
        command.args(options).arg("--").args(arguments).output().unwrap()
    }

    /// Calls `lancet COMMAND run OPTIONS`.
    pub fn call(&self, cluster: Option<&Cluster>, command: &str, options: &[&str]) -> Output {
        self.lancet(cluster).args([command, "run"]).args(options).output().unwrap()
    }

    /// Lets items that wait go on.
    pub fn open_gate(&self) {
        fs::write(self.path().join("gate"), "").unwrap();
    }

    /// The attempts at shards, in order of their start.
    pub fn attempts(&self) -> Vec<Attempt> {
        let entries = fs::read_dir(self.run().join("attempts")).into_iter().flatten().flatten();
        let read = |path: PathBuf| -> Option<Attempt> {
            let value: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
            Some(Attempt {
                shard: value["shard"].as_u64()? as usize,
                host: value["host"].as_str()?.to_owned(),
                process: value["process"].as_u64()? as u32,
                restart: value["restart"].as_str()?.to_owned(),
                started: value["started"].as_u64()?,
            })
        };
        let mut attempts: Vec<Attempt> = entries
            .filter(|entry| entry.path().extension() == Some(OsStr::new("json")))
            .filter_map(|entry| read(entry.path()))
            .collect();
        attempts.sort_by_key(|attempt| attempt.started);
        attempts
    }

    /// The attempts at one shard.
    pub fn attempts_at(&self, shard: usize) -> Vec<Attempt> {
        self.attempts().into_iter().filter(|attempt| attempt.shard == shard).collect()
    }

    /// Waits for an attempt at a shard.
    pub fn attempt_at(&self, shard: usize) -> Attempt {
        until_some("an attempt at the shard", || self.attempts_at(shard).pop())
    }

    /// The files of stored items.
    pub fn stored(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.run().join("store"), &mut files);
        files.retain(|path| path.extension() == Some(OsStr::new("json")));
        files
    }

    /// Waits until so many items are stored.
    pub fn until_stored(&self, count: usize) {
        until(&format!("{count} items are stored"), || self.stored().len() >= count);
    }

    /// What shards and merges said.
    pub fn log(&self) -> String {
        let mut files = Vec::new();
        collect(&self.run().join("log"), &mut files);
        files.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    /// How often an item was computed.
    pub fn times(&self, item: usize) -> usize {
        self.log().lines().filter(|line| *line == format!("item {item}")).count()
    }

    /// How many failures of a shard are noted.
    pub fn failures(&self, shard: usize) -> Vec<String> {
        let text = fs::read_to_string(self.run().join("fails").join(shard.to_string())).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The shards without a record.
    pub fn missing(&self, shards: usize) -> Vec<usize> {
        let record = |shard: &usize| self.run().join("shards").join(format!("{shard}.json"));
        (0..shards).filter(|shard| !record(shard).exists()).collect()
    }

    /// Whether the merge has ended well.
    pub fn is_merged(&self) -> bool {
        self.run().join("merged.json").exists()
    }

    /// Waits until the cluster has no more jobs and the run is merged; then its files are as those of a run without shards.
    pub fn check(&self, cluster: &Cluster) {
        until("the run is merged", || {
            assert!(
                !cluster.is_idle() || self.is_merged(),
                "nobody goes on:\n{}\n{}",
                self.status(cluster),
                self.log()
            );
            self.is_merged()
        });
        until("no job is left", || cluster.is_idle());
        self.check_files();
        assert!(self.status(cluster).contains("merge: done"), "{}", self.status(cluster));
    }

    /// What `lancet status` says.
    pub fn status(&self, cluster: &Cluster) -> String {
        let output = self.call(Some(cluster), "status", &[]);
        said(&output)
    }

    /// Compares the merged files, byte for byte, with those of the script run whole.
    pub fn check_files(&self) {
        let whole = self.path().join("whole");
        let mut command = self.lancet(None);
        command.args(["run", "words.rhai", "--items", &self.items.to_string(), "--out", "whole"]);
        let output = command.env("LANCET_CACHE", self.path().join("cache-of-whole")).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        for name in ["words.json", "report.txt"] {
            let (merged, alone) = (fs::read(self.path().join("out").join(name)), fs::read(whole.join(name)));
            assert_eq!(merged.unwrap(), alone.unwrap(), "{name}");
        }
    }

    /// Slurm's number of the first array that was submitted.
    pub fn array(&self) -> String {
        let text = fs::read_to_string(self.run().join("submitted.0.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        value["array"]["job"].as_str().unwrap().to_owned()
    }

    /// The hosts of the attempts.
    pub fn hosts(&self) -> BTreeSet<String> {
        self.attempts().into_iter().map(|attempt| attempt.host).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut files = Vec::new();
            collect(&self.run().join("log"), &mut files);
            files.iter().for_each(|path| eprintln!("--- {} ends\n{}", path.display(), tail(path, 8)));
        }
    }
}

/// Both streams of a program.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The text of a program that succeeded.
pub fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
    files.sort();
}
