//! How far a run is: what is done, who does the rest, what failed and why.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::Code;
use super::attempt::{Attempt, LOCAL, host};
use super::live::{Live, Worker};
use super::log;
use super::print::quoted;
use super::run::{Run, ranges};
use crate::error::Result;

/// How far a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shard {
    /// It is done.
    Done,
    /// It runs on these nodes; two, if one of them was taken for lost.
    Running(Vec<String>),
    /// It waits, for this reason.
    Waiting(String),
    /// It was begun on this host, which cannot be asked whether it goes on.
    Elsewhere(String),
    /// It failed, and nobody tries it again.
    Failed(String),
    /// Nobody does it.
    Missing,
}

/// How far the merge is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// It wrote these files.
    Done(Vec<PathBuf>),
    /// A job does it, or will do it.
    Submitted(String),
    /// Nobody does it.
    Missing,
}

/// How far a run is.
#[derive(Debug)]
pub struct Status {
    /// Each shard
    pub shards: Vec<Shard>,
    /// The merge
    pub merge: Merge,
    /// Why Slurm's jobs are not known, if they are not
    pub unknown: Option<String>,
    folder: PathBuf,
    tails: BTreeMap<usize, Vec<String>>,
}

/// The most failed shards whose last lines are shown.
const SHOWN: usize = 3;

impl Status {
    /// That of a run, by its files and Slurm's queue. Results are not read: the merge does that.
    ///
    /// # Errors
    /// Settings of the run that cannot be read; Ctrl-C.
    pub fn of(run: &Run) -> Result<Self> {
        let live = Live::of(run)?;
        let mut attempts: BTreeMap<usize, Vec<Attempt>> = BTreeMap::new();
        for attempt in run.attempts() {
            attempts.entry(attempt.shard).or_default().push(attempt);
        }
        let here = host();
        let shards: Vec<Shard> = (0..run.plan().shards)
            .map(|shard| {
                if run.is_noted(shard) {
                    return Shard::Done;
                }
                let tried = attempts.get(&shard).map_or(&[][..], Vec::as_slice);
                let last = tried.iter().max_by_key(|attempt| attempt.started);
                let open = last.filter(|attempt| attempt.ended.is_none());
                match (of_workers(live.workers(shard)), open) {
                    (Some(works), _) => works,
                    // Its job may run, for all that is known.
                    (None, Some(attempt)) if attempt.job != LOCAL && live.unknown.is_some() => Shard::Missing,
                    (None, Some(attempt)) if attempt.job == LOCAL && attempt.host != here => {
                        Shard::Elsewhere(attempt.host.clone())
                    }
                    (None, _) => failure(run, shard, last).map_or(Shard::Missing, Shard::Failed),
                }
            })
            .collect();
        let merge = match (run.results(), live.merges.first()) {
            (_, Some(job)) if job.is_waiting => Merge::Submitted(format!("waiting ({})", job.place)),
            (_, Some(job)) => Merge::Submitted(format!("running ({})", job.place)),
            (Some(files), None) => Merge::Done(files),
            (None, None) => Merge::Missing,
        };
        let failed = shards.iter().enumerate().filter(|(_, state)| matches!(state, Shard::Failed(_)));
        let tails = failed.take(SHOWN).map(|(shard, _)| (shard, log::tail(run, shard))).collect();
        let unknown = live.unknown.map(|error| error.to_string());
        Ok(Self { shards, merge, unknown, folder: run.folder().to_path_buf(), tails })
    }

    /// The shards of which `fits` is true.
    pub fn shards_that(&self, fits: impl Fn(&Shard) -> bool) -> Vec<usize> {
        self.shards.iter().enumerate().filter(|(_, state)| fits(state)).map(|(shard, _)| shard).collect()
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        matches!(self.merge, Merge::Done(_)) && self.shards.iter().all(|state| *state == Shard::Done)
    }

    /// Whether somebody works for the run, as far as is known.
    pub fn is_live(&self) -> bool {
        let works = |state: &Shard| matches!(state, Shard::Running(_) | Shard::Waiting(_));
        matches!(self.merge, Merge::Submitted(_)) || self.shards.iter().any(works)
    }

    /// The status in words: the counts in the first line.
    pub fn text(&self) -> String {
        let mut lines = vec![self.counts()];
        for (shard, state) in self.shards.iter().enumerate() {
            if let (Shard::Failed(why), Some(tail)) = (state, self.tails.get(&shard)) {
                lines.push(format!("shard {shard}: {why}"));
                lines.extend(tail.iter().map(|line| format!("  | {line}")));
            }
        }
        let failed = self.shards_that(|state| matches!(state, Shard::Failed(_)));
        if failed.len() > SHOWN {
            lines.push(format!("{} more failed: shards {}", failed.len() - SHOWN, ranges(&failed[SHOWN..])));
        }
        lines.push(match &self.merge {
            Merge::Done(files) => {
                let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
                format!(
                    "merge: done; it wrote {}",
                    if files.is_empty() { "no file".to_owned() } else { files.join(", ") }
                )
            }
            Merge::Submitted(state) => format!("merge: {state}"),
            Merge::Missing => "merge: not done".to_owned(),
        });
        if let Some(why) = &self.unknown {
            lines.push(format!("which jobs Slurm has is not known: {why}"));
        }
        lines.extend(self.next());
        lines.join("\n")
    }

    /// What to do next, if it is for the user to do.
    fn next(&self) -> Option<String> {
        let folder = quoted(&self.folder.display().to_string());
        let killed = |state: &Shard| matches!(state, Shard::Failed(why) if why.starts_with("exit 137") || why.contains("killed"));
        let is_final = |state: &Shard| matches!(state, Shard::Failed(why) if why.starts_with(FINAL));
        let lacks = |state: &Shard| matches!(state, Shard::Failed(_) | Shard::Missing);
        if self.unknown.is_some() || self.is_done() {
            None
        } else if self.shards.iter().any(is_final) {
            Some(format!(
                "next: the script is wrong; correct it and submit it with another `--run` (lancet logs {folder} SHARD)"
            ))
        } else if self.shards.iter().any(killed) {
            Some(format!("next: lancet resume {folder}; with more memory, if that was it: --slurm mem=64G"))
        } else if self.shards.iter().any(lacks) || !self.is_live() {
            Some(format!("next: lancet resume {folder}"))
        } else {
            None
        }
    }

    fn counts(&self) -> String {
        let mut parts = vec![format!("{} done", self.shards_that(|state| *state == Shard::Done).len())];
        let nodes = |shards: &[usize]| {
            let mut nodes: Vec<&str> = Vec::new();
            for shard in shards {
                if let Shard::Running(on) = &self.shards[*shard] {
                    nodes.extend(on.iter().map(String::as_str).filter(|node| !node.is_empty()));
                }
            }
            nodes.sort_unstable();
            nodes.dedup();
            nodes.join(" ")
        };
        let running = self.shards_that(|state| matches!(state, Shard::Running(_)));
        if !running.is_empty() {
            parts.push(format!("{} running ({})", running.len(), nodes(&running)));
        }
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        for state in &self.shards {
            if let Shard::Waiting(reason) = state {
                *waiting.entry(reason).or_default() += 1;
            }
        }
        parts.extend(waiting.into_iter().map(|(reason, count)| format!("{count} waiting ({reason})")));
        let failed = self.shards_that(|state| matches!(state, Shard::Failed(_)));
        if let [shard] = failed.as_slice() {
            if let Shard::Failed(why) = &self.shards[*shard] {
                parts.push(format!("1 failed (shard {shard}: {why})"));
            }
        } else if !failed.is_empty() {
            parts.push(format!("{} failed ({})", failed.len(), ranges(&failed)));
        }
        let missing = self.shards_that(|state| *state == Shard::Missing);
        if !missing.is_empty() {
            let words = if self.unknown.is_some() { "not done" } else { "with nobody" };
            parts.push(format!("{} {words} ({})", missing.len(), ranges(&missing)));
        }
        let elsewhere = self.shards_that(|state| matches!(state, Shard::Elsewhere(_)));
        if !elsewhere.is_empty() {
            let count = elsewhere.len();
            parts.push(format!("{count} begun on other machines ({}), which cannot be asked", ranges(&elsewhere)));
        }
        parts.join(", ")
    }
}

fn of_workers(workers: &[Worker]) -> Option<Shard> {
    let (waiting, running): (Vec<&Worker>, Vec<&Worker>) = workers.iter().partition(|worker| worker.is_waiting);
    if running.is_empty() {
        return waiting.first().map(|worker| Shard::Waiting(worker.place.clone()));
    }
    Some(Shard::Running(running.into_iter().map(|worker| worker.place.clone()).collect()))
}

const FINAL: &str = "the script's own error";

/// Why a shard failed that nobody does: by the file of failures, or by attempts that did not say how they ended.
fn failure(run: &Run, shard: usize, last: Option<&Attempt>) -> Option<String> {
    let text = fs::read_to_string(run.failures(shard)).unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (code, _time, _job) = (words.next()?.to_owned(), words.next()?, words.next()?);
        Some((code, words.collect::<Vec<_>>().join(" ")))
    };
    let entries: Vec<(String, String)> = text.lines().filter_map(entry).collect();
    if last.is_some_and(|attempt| attempt.code == Some(Code::FINAL)) {
        let host = last.map_or("", |attempt| attempt.host.as_str());
        return Some(format!("{FINAL}, on {host}"));
    }
    if let Some((code, host)) = entries.last() {
        let what = if code == "killed" { code.clone() } else { format!("exit {code}") };
        let times = entries.iter().rev().take_while(|(other, _)| other == code).count();
        let times = match times {
            1 => String::new(),
            2 => " twice".to_owned(),
            times => format!(" {times} times"),
        };
        return Some(format!("{what}{times} on {host}"));
    }
    match last {
        Some(Attempt { ended: None, host, .. }) => Some(format!("killed, or its node was lost: {host}")),
        Some(Attempt { code: Some(code), host, .. }) if *code != Code::STOPPED => {
            Some(format!("exit {code} on {host}"))
        }
        _ => None,
    }
}
