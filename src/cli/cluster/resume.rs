//! `lancet resume`: submits what is missing of a run and merges; `lancet cancel`: takes back what was submitted.

use std::path::Path;

use super::words::{Engine, SchedulerWords};
use super::{Ended, engine, stopped};
use crate::cli::Code as Exit;
use crate::cluster::run::Run;
use crate::cluster::settings::Settings;
use crate::cluster::slurm;
use crate::error::{Error, Result};
use crate::output;

/// Does `lancet resume`, with the run's settings but for what `words` change.
pub fn resume(folder: &Path, words: &SchedulerWords) -> Ended {
    let resume = || -> Result<u8> {
        let changes = words.changes()?;
        let run = Run::open(folder)?;
        run.plan().check_inputs()?;
        let kept = run.settings()?;
        let engine = match (words.engine, &kept) {
            (Some(engine), _) => engine,
            (None, Some(_)) => Engine::Slurm,
            (None, None) => {
                output::error_line("the run was not given to Slurm: the shards run on this machine (--engine local)");
                Engine::Local
            }
        };
        let mut settings = kept.map_or_else(Settings::of_site, Ok)?;
        settings.change(changes);
        output::line(&run.announcement());
        engine::start(&run, engine, &settings, words.jobs)
    };
    resume().map_or_else(|error| stopped(&error), Ok)
}

/// Does `lancet cancel`: all shards, or those of a list.
pub fn cancel(folder: &Path, shards: Option<&str>) -> Ended {
    let cancel = || -> Result<u8> {
        let run = Run::open(folder)?;
        let shards = shards.map(|text| parse(text, &run)).transpose()?;
        if run.settings()?.is_none() {
            return Err(Error::new("the run was not given to Slurm").hint("Ctrl-C stops shards that run here"));
        }
        let count = slurm::cancel(&run, shards.as_deref().unwrap_or_default())?;
        output::line(&format!("cancelled: {count} jobs; what is done stays, and lancet resume goes on with the rest"));
        Ok(Exit::SUCCESS)
    };
    cancel().map_or_else(|error| stopped(&error), Ok)
}

/// Shards as numbers and ranges: `3,5-8`.
fn parse(text: &str, run: &Run) -> Result<Vec<usize>> {
    let wrong = || Error::new(format!("`{text}` names no shards")).hint("such as 3 or 0-4,7");
    let mut shards = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last {
            return Err(wrong());
        }
        run.plan().check_shard(last)?;
        shards.extend(first..=last);
    }
    Ok(shards)
}
