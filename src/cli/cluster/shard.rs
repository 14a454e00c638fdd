//! `lancet shard`: does one shard of a run, or the rest of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use signal_hook::consts::{SIGTERM, SIGUSR1};

use super::shard_number::number;
use super::{Ended, bounds_of, complain, script_of, start};
use crate::access::{self, Access};
use crate::cluster::Code;
use crate::cluster::run::Run;
use crate::error::{Error, Result};
use crate::interrupt::{self, GLANCE};
use crate::session::ScriptError;
use crate::share::{self, Piece, Share};
use crate::{device, noted, output};

/// The signal by which this process was told to stop; 0 if it was not.
static TOLD: AtomicI32 = AtomicI32::new(0);

/// Does the command.
pub fn shard(folder: &Path, shard: &str) -> Ended {
    stop_when_told();
    let done = || -> Result<Ended> {
        let run = Run::open(folder)?;
        let shard = number(shard)?;
        run.plan().check_shard(shard)?;
        if run.done(shard).is_some() {
            output::line(&format!("shard {shard} is done"));
            return Ok(Ok(Code::DONE));
        }
        run.plan().check_inputs()?;
        let before = run.attempts().into_iter().filter(|attempt| attempt.shard == shard);
        let before = before.filter_map(|attempt| attempt.results).max();
        let attempt = run.start(shard, device::processors())?;
        output::line(&format!("shard {shard}: process {} on {}", attempt.process, attempt.host));
        noted::start();
        let outcome = evaluate(&run, shard);
        let read = noted::take().read;
        let results: Vec<PathBuf> = share::take_results().into_iter().collect();
        let left = results.iter().filter(|path| path.exists()).count();
        let outcome = outcome.and_then(|()| finish(&run, shard, &read, &results));
        // One that gets nowhere in the time of its job would be started for ever.
        let outcome = match outcome {
            Err(Code::STOPPED) if TOLD.load(Ordering::Relaxed) == SIGUSR1 && left <= before.unwrap_or(0) => {
                output::error_line(&format!("shard {shard}: stopped before it had any new result; give it more time"));
                Err(crate::cli::Code::FAILURE)
            }
            Err(Code::STOPPED) => {
                output::line(&format!("shard {shard}: stopped; it goes on in the next attempt"));
                Err(Code::STOPPED)
            }
            other => other,
        };
        let (Ok(code) | Err(code)) = outcome;
        attempt.end(code, left)?;
        Ok(outcome)
    };
    done().unwrap_or_else(|error| match error {
        Error::Interrupted => Err(Code::STOPPED),
        error => {
            complain(&error);
            Err(if may_pass(&error.to_string()) { crate::cli::Code::FAILURE } else { Code::FINAL })
        }
    })
}

/// Evaluates the script with the shard's share of the work.
fn evaluate(run: &Run, shard: usize) -> std::result::Result<(), u8> {
    let plan = run.plan();
    let script = script_of(&plan.work)?;
    let mut session = start(script.options(plan.work.arguments.clone(), bounds_of(&plan.work)?)?)?;
    let outcome = {
        let _piece = share::enter(Share::Piece(Piece::of_shard(shard, plan.shards)));
        session.eval(&script.name, &script.text)
    };
    // The run's folder need not be the script's to write.
    access::enter(Access::all());
    match outcome {
        Ok(_) | Err(ScriptError::Deferred | ScriptError::Exit(0)) => Ok(()),
        Err(ScriptError::Interrupted) if TOLD.load(Ordering::Relaxed) != 0 || interrupt::is_pending() => {
            Err(Code::STOPPED)
        }
        Err(ScriptError::Failed(diagnostic)) => {
            let passes = may_pass(&diagnostic.message);
            output::error_line(&session.render(&diagnostic, output::color_errors()));
            Err(if passes { crate::cli::Code::FAILURE } else { Code::FINAL })
        }
        Err(ScriptError::Interrupted) => Err(crate::cli::Code::FAILURE),
        Err(ScriptError::Exit(_)) => Err(Code::FINAL),
    }
}

/// Records that the shard is done.
fn finish(run: &Run, shard: usize, read: &BTreeSet<PathBuf>, results: &[PathBuf]) -> Ended {
    match run.finish(shard, device::processors(), read, results) {
        Ok(()) => {
            output::line(&format!("shard {shard}: done, {} results", results.len()));
            Ok(Code::DONE)
        }
        Err(Error::Interrupted) => Err(Code::STOPPED),
        Err(error) => Err(complain(&error)),
    }
}

/// Whether the cause of an error may be gone in another attempt, on another machine: memory, a device, a disk. What is
/// not there, may not be touched or is no file or folder stays so.
fn may_pass(message: &str) -> bool {
    let stays = ["(os error 2)", "(os error 13)", "(os error 20)", "(os error 21)"];
    let passes = ["out of memory", "not enough free memory", "CUDA", "cuDNN", "CUBLAS", "os error"];
    !stays.iter().any(|word| message.contains(word)) && passes.iter().any(|word| message.contains(word))
}

/// Asks the evaluation to stop once SIGUSR1 (the end of the job's time is near) or SIGTERM comes.
fn stop_when_told() {
    match signal_hook::iterator::Signals::new([SIGUSR1, SIGTERM]) {
        Ok(mut signals) => {
            std::thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    TOLD.store(signal, Ordering::Relaxed);
                    // An evaluation that is about to start would forget a single request.
                    loop {
                        interrupt::request();
                        std::thread::sleep(GLANCE);
                    }
                }
            });
        }
        Err(error) => output::error_line(&format!("warning: signals will end the program: {error}")),
    }
}
