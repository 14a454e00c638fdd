//! Starts the missing shards of a run by an engine, and merges.

use super::words::Engine;
use crate::cli::Code as Exit;
use crate::cluster::live::Live;
use crate::cluster::local::{End, Local};
use crate::cluster::print::{self, quoted};
use crate::cluster::run::{Run, ranges};
use crate::cluster::settings::Settings;
use crate::cluster::slurm;
use crate::error::{Error, Result};
use crate::output;

/// Starts the shards that are missing and that nobody does; `jobs` of them at once here.
pub fn start(run: &Run, engine: Engine, settings: &Settings, jobs: u64) -> Result<u8> {
    match engine {
        Engine::Slurm => to_slurm(run, settings),
        Engine::Print => {
            output::text(&print::commands(run, &run.missing()));
            Ok(Exit::SUCCESS)
        }
        Engine::Local => {
            let live = Live::of(run)?;
            if let Some(error) = &live.unknown {
                output::error_line(&format!("warning: {error}; a shard that Slurm runs too is done twice"));
            }
            let missing = run.missing();
            let shards: Vec<usize> = missing.iter().copied().filter(|shard| live.workers(*shard).is_empty()).collect();
            if shards.len() < missing.len() {
                output::line(&format!("{} of the missing shards have somebody already", missing.len() - shards.len()));
            }
            let local = Local { jobs: jobs as usize, retries: settings.retries as usize };
            local.run(run, &shards, &mut |shard, end| tell(run, shard, end))?;
            merge_here(run)
        }
    }
}

fn to_slurm(run: &Run, settings: &Settings) -> Result<u8> {
    let folder = quoted(&run.folder().display().to_string());
    let handed = slurm::hand_over(run, settings).map_err(|error| match error {
        Error::Interrupted => error,
        error => error.context(format!("`{}`", run.folder().display())),
    })?;
    if !handed.shards.is_empty() {
        output::line(&format!("submitted: {} as job {}", named(&handed.shards), handed.arrays.join(", ")));
    }
    if handed.elsewhere > 0 {
        output::line(&format!("{} shards have jobs already", handed.elsewhere));
    }
    match (&handed.merge, run.results()) {
        (Some(merge), _) => output::line(&format!("submitted: the merge, as job {merge}")),
        (None, Some(_)) if handed.elsewhere == 0 => output::line("everything is done and merged"),
        (None, _) => output::line("the merge has a job already"),
    }
    output::line(&format!("next: lancet status {folder} --watch; lancet logs {folder} SHARD; lancet cancel {folder}"));
    Ok(Exit::SUCCESS)
}

fn named(shards: &[usize]) -> String {
    let many = if shards.len() == 1 { "shard" } else { "shards" };
    format!("{many} {}", ranges(shards))
}

fn tell(run: &Run, shard: usize, end: End) {
    let code = |code: Option<i32>| code.map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"));
    let log = run.logs().join(format!("{shard}.out"));
    match end {
        End::Done => output::error_line(&format!("shard {shard}: done")),
        End::Again(found) => output::error_line(&format!("shard {shard}: {}, starting again", code(found))),
        End::Failed(found) => output::error_line(&format!("shard {shard}: {}; see {}", code(found), log.display())),
    }
}

/// Merges in a process of its own, whose results are the run's.
fn merge_here(run: &Run) -> Result<u8> {
    let status = run.command().arg("merge").arg(run.folder()).status();
    let status = status.map_err(|error| Error::io(&run.program(), &error))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::FAILURE))
}
