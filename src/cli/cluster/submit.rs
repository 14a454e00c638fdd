//! `lancet submit`: runs the script up to where its work begins, writes the plan, and starts the shards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::submit_words::SubmitWords;
use super::words::Engine;
use super::{Ended, Script, complain, engine, finish, start, stopped};
use crate::access::{self, Access};
use crate::cache::Cache;
use crate::cli::{Bounds, Code};
use crate::cluster::input::Input;
use crate::cluster::plan::{Plan, Work};
use crate::cluster::run::Run;
use crate::cluster::settings::Settings;
use crate::cluster::slurm::{call, job_script};
use crate::error::{Error, Result};
use crate::session::ScriptError;
use crate::share::{self, Share};
use crate::{noted, output};

/// Does the command.
pub fn submit(words: Vec<String>, bounds: Bounds) -> Ended {
    let words = match SubmitWords::parse_words(words) {
        Ok(words) => words,
        Err(error) => {
            // A failure to print cannot be reported anywhere.
            let _ = error.print();
            return if error.use_stderr() { Err(Code::USAGE) } else { Ok(Code::SUCCESS) };
        }
    };
    // What is wrong with the options is said before the script runs.
    let settings = words.scheduler.changes().and_then(|changes| {
        let mut settings = Settings::of_site()?;
        settings.change(changes);
        Ok(settings)
    });
    let settings = settings.map_err(|error| complain(&error))?;
    let plan = match plan(&words, bounds)? {
        Planned::Plan(plan) => *plan,
        Planned::Ended(code) => return Ok(code),
    };
    hand_over(&words, plan, &settings).map_or_else(|error| stopped(&error), Ok)
}

/// What a run of the script without its work found.
enum Planned {
    /// The plan
    Plan(Box<Plan>),
    /// The script ended before, as for its own `--help`
    Ended(u8),
}

fn plan(words: &SubmitWords, bounds: Bounds) -> std::result::Result<Planned, u8> {
    let Some((file, arguments)) = words.script.split_first() else { return Err(Code::USAGE) };
    let script = Script::read(file)?;
    if script.path.is_none() {
        return Err(complain(&Error::new("a script on standard input cannot be submitted").hint("save it as a file")));
    }
    let folder = std::env::current_dir().map_err(|error| complain(&Error::io(Path::new("."), &error)))?;
    let (allow, limit) = bounds.typed.clone();
    let mut session = start(script.options(arguments.to_vec(), bounds)?)?;
    noted::start();
    let outcome = {
        let _nothing = share::enter(Share::Nothing);
        session.eval(&script.name, &script.text)
    };
    let read = noted::take().read;
    // The run's folder need not be the script's to write.
    access::enter(Access::all());
    match outcome {
        Err(ScriptError::Deferred) => {}
        Ok(_) => {
            let error = Error::new(format!("`{file}` ended without any work that can be divided"));
            return Err(complain(&error.hint(
                "work is divided by grids with a store, `kept::values` and `experiment::each`: see `lancet help work_part`",
            )));
        }
        Err(ScriptError::Exit(code)) => return Ok(Planned::Ended(code)),
        Err(other) => return finish(&session, Err(other)).map(Planned::Ended),
    }
    let work = Work {
        name: script.name.clone(),
        text: script.text.clone(),
        arguments: arguments.to_vec(),
        folder,
        allow,
        limit,
    };
    let inputs = inputs(&read).map_err(|error| complain(&error))?;
    let plan = Plan::new(work, words.shards as usize, inputs).map_err(|error| complain(&error))?;
    Ok(Planned::Plan(Box::new(plan)))
}

/// The files that the script read, without stored results.
fn inputs(read: &BTreeSet<PathBuf>) -> Result<Vec<Input>> {
    let store = std::path::absolute(Cache::from_env()?.store()).map_err(|error| Error::new(error.to_string()))?;
    let results = [store.join("cells"), store.join("values")];
    let is_input = |path: &&PathBuf| path.is_file() && !results.iter().any(|folder| path.starts_with(folder));
    read.iter().filter(is_input).map(|path| Input::of(path)).collect()
}

/// Makes the run's folder and starts its shards.
fn hand_over(words: &SubmitWords, plan: Plan, settings: &Settings) -> Result<u8> {
    let folder = match &words.run {
        Some(folder) => folder.clone(),
        None => Path::new("runs").join(format!("{}-{}", plan.work.stem(), &plan.id()?[..8])),
    };
    let engine = match words.scheduler.engine {
        Some(engine) => engine,
        None if call::is_here() => Engine::Slurm,
        None => {
            output::error_line("there is no Slurm here: the shards run on this machine (--engine local)");
            Engine::Local
        }
    };
    if words.dry_run {
        return announce(&Run::planned(&folder, plan)?, engine, settings);
    }
    let run = Run::create(&folder, plan)?;
    output::line(&run.announcement());
    engine::start(&run, engine, settings, words.scheduler.jobs)
}

/// Says what would be done.
fn announce(run: &Run, engine: Engine, settings: &Settings) -> Result<u8> {
    let Plan { work, shards, inputs, .. } = run.plan();
    output::line(&format!("script: {} {}", work.name, work.arguments.join(" ")));
    output::line(&run.announcement());
    let bytes: u64 = inputs.iter().map(|input| input.bytes).sum();
    output::line(&format!("it depends on {} files, {}", inputs.len(), indicatif::HumanBytes(bytes)));
    inputs.iter().for_each(|input| output::line(&format!("  {}", input.path.display())));
    match engine {
        Engine::Slurm => {
            let jobs = shards.div_ceil(settings.shards_per_job);
            let each = if settings.shards_per_job == 1 { "shard" } else { "group of shards" };
            output::line(&format!("Slurm gets {jobs} jobs, one for each {each}, and one behind them that merges"));
            output::line("\njob.sbatch:");
            output::text(&job_script::of_shards(run, settings, 0)?);
            output::line("\nmerge.sbatch:");
            output::text(&job_script::of_merge(run, settings)?);
        }
        Engine::Local => output::line("the shards run on this machine, a process each"),
        Engine::Print => output::line("the commands for other schedulers are printed"),
    }
    Ok(Code::SUCCESS)
}
