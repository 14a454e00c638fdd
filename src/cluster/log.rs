//! What a shard's attempts said.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::run::Run;
use super::submission::Submission;
use crate::error::Result;
use crate::file;

/// The files of a shard's output, the latest last. Under Slurm a file is a job's, which may do several shards.
pub fn of_shard(run: &Run, shard: usize) -> Vec<PathBuf> {
    let mut names: BTreeSet<String> = BTreeSet::from([shard.to_string()]);
    names.extend(run.attempts().into_iter().filter(|attempt| attempt.shard == shard).map(|attempt| attempt.job));
    // A job that ended before it came to the shard noted no attempt.
    for submission in Submission::all(run.folder()) {
        if let Submission::Array { job, first, shards_per_job, jobs } = submission {
            let index = (shard / shards_per_job.max(1)).checked_sub(first).filter(|index| jobs.contains(index));
            names.extend(index.map(|index| format!("{job}_{index}")));
        }
    }
    existing(run, names.into_iter())
}

/// The files of the merges' output, the latest last.
pub fn of_merge(run: &Run) -> Vec<PathBuf> {
    let merges = Submission::all(run.folder()).into_iter().filter_map(|submission| match submission {
        Submission::Merge { job } => Some(format!("merge-{job}")),
        _ => None,
    });
    let merges: BTreeSet<String> = merges.collect();
    existing(run, merges.into_iter())
}

fn existing(run: &Run, names: impl Iterator<Item = String>) -> Vec<PathBuf> {
    let paths = names.map(|name| run.logs().join(format!("{name}.out")));
    let mut paths: Vec<_> = paths.filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path))).collect();
    paths.sort();
    paths.into_iter().map(|(_, path)| path).collect()
}

/// The text of a log; what is no text in it is replaced.
///
/// # Errors
/// The file cannot be read.
pub fn text(path: &std::path::Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&file::read(path)?).into_owned())
}

/// What a shard's output ends with: three lines, from the last error on if there is one.
pub fn tail(run: &Run, shard: usize) -> Vec<String> {
    let Some(text) = of_shard(run, shard).last().and_then(|path| text(path).ok()) else { return Vec::new() };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let error = lines.iter().rposition(|line| line.starts_with("error"));
    // An error far above the end belongs to an earlier attempt.
    let start = error.filter(|place| lines.len() - place < 20).unwrap_or_else(|| lines.len().saturating_sub(3));
    lines.into_iter().skip(start).take(3).map(str::to_owned).collect()
}
