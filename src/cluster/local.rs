//! Runs shards on this machine, a process each, some at once: the same protocol as on a cluster, without a scheduler.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::Code;
use super::attempt::{host, now};
use super::run::Run;
use crate::error::{Error, Result};
use crate::interrupt::{self, GLANCE};

/// How to run shards here.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    /// How many at once
    pub jobs: usize,
    /// How often a shard that failed is tried again
    pub retries: usize,
}

/// How a shard ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is done.
    Done,
    /// It failed with this exit code, none if a signal ended it, and is tried again.
    Again(Option<i32>),
    /// It failed for good.
    Failed(Option<i32>),
}

impl Local {
    /// Runs `shards`; calls `tell` when one ends.
    ///
    /// # Errors
    /// The run's program cannot be started, its logs cannot be written; Ctrl-C, which the shards' processes get too: each
    /// stops after what it computes just then.
    pub fn run(self, run: &Run, shards: &[usize], tell: &mut dyn FnMut(usize, End)) -> Result<()> {
        let mut waiting: Vec<(usize, usize)> = shards.iter().rev().map(|shard| (*shard, 0)).collect();
        let mut running: Vec<Running> = Vec::new();
        while !waiting.is_empty() || !running.is_empty() {
            while running.len() < self.jobs.max(1)
                && !interrupt::is_pending()
                && let Some((shard, failures)) = waiting.pop()
            {
                running.push(Running { shard, failures, child: self.start(run, shard)? });
            }
            if running.is_empty() {
                break;
            }
            std::thread::sleep(GLANCE);
            for mut one in std::mem::take(&mut running) {
                let Some(status) = one.child.try_wait().map_err(|error| Error::new(error.to_string()))? else {
                    running.push(one);
                    continue;
                };
                let code = status.code();
                if code == Some(Code::DONE.into()) {
                    tell(one.shard, End::Done);
                } else if code == Some(Code::FINAL.into()) {
                    tell(one.shard, End::Failed(code));
                } else if !interrupt::is_pending() {
                    note_failure(&run.failures(one.shard), code)?;
                    if one.failures < self.retries {
                        tell(one.shard, End::Again(code));
                        waiting.push((one.shard, one.failures + 1));
                    } else {
                        tell(one.shard, End::Failed(code));
                    }
                }
            }
        }
        interrupt::check()
    }

    fn start(self, run: &Run, shard: usize) -> Result<Child> {
        let log = run.logs().join(format!("{shard}.out"));
        let open = || -> std::io::Result<(File, File)> {
            let file = OpenOptions::new().create(true).append(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(|error| Error::io(&log, &error))?;
        let mut command = run.command();
        command.arg("shard").arg(run.folder()).arg(shard.to_string());
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        share_cores(&mut command, self.jobs);
        command.spawn().map_err(|error| Error::io(&run.program(), &error))
    }
}

/// A shard's process.
struct Running {
    shard: usize,
    failures: usize,
    child: Child,
}

/// Gives each of the processes that run at once its part of the cores, unless the user has said how many threads to use.
fn share_cores(command: &mut Command, jobs: usize) {
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.env("OMP_NUM_THREADS", (cores / jobs.max(1)).max(1).to_string());
    }
}

/// Adds a line to the file of a shard's failures, as the job scripts do.
fn note_failure(path: &Path, code: Option<i32>) -> Result<()> {
    let code = code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
    let write =
        || writeln!(OpenOptions::new().create(true).append(true).open(path)?, "{code} {} local {}", now(), host());
    write().map_err(|error| Error::io(path, &error))
}
