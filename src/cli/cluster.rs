//! The commands about submitted runs: plans a run, does a shard of it, merges its results.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::submit_words::{Engine, SubmitWords};
use super::{Bounds, Script, complain, finish, start};
use crate::access::permission;
use crate::cache::Cache;
use crate::cluster::input::Input;
use crate::cluster::local::{End, Local};
use crate::cluster::plan::{Plan, Work};
use crate::cluster::run::{Run, ranges};
use crate::cluster::{Code, print};
use crate::error::{Error, Result};
use crate::interrupt::{self, GLANCE};
use crate::limits::Limits;
use crate::session::ScriptError;
use crate::share::{self, Piece, Share};
use crate::{device, noted, output};

/// `lancet submit`: runs the script up to where its work begins, writes the plan, and starts the shards.
pub fn submit(words: Vec<String>, bounds: Bounds) -> std::result::Result<u8, u8> {
    let words = match SubmitWords::parse_words(words) {
        Ok(words) => words,
        Err(error) => {
            // A failure to print cannot be reported anywhere.
            let _ = error.print();
            return if error.use_stderr() { Err(super::Code::USAGE) } else { Ok(super::Code::SUCCESS) };
        }
    };
    let (plan, stem) = match plan(&words, bounds)? {
        Planned::Plan(plan, stem) => (*plan, stem),
        Planned::Ended(code) => return Ok(code),
    };
    match hand_over(&words, plan, &stem) {
        Ok(code) => Ok(code),
        Err(error) => super::stopped(&error),
    }
}

/// What a run of the script without its work found.
enum Planned {
    /// The plan, and the script's name without its folder and extension
    Plan(Box<Plan>, String),
    /// The script ended before, as for its own `--help`
    Ended(u8),
}

fn plan(words: &SubmitWords, bounds: Bounds) -> std::result::Result<Planned, u8> {
    let Some((file, arguments)) = words.script.split_first() else { return Err(super::Code::USAGE) };
    let script = Script::read(file)?;
    let Some(path) = script.path.clone() else {
        return Err(complain(&Error::new("a script on standard input cannot be submitted").hint("save it as a file")));
    };
    let folder = std::env::current_dir().map_err(|error| complain(&Error::io(Path::new("."), &error)))?;
    let (allow, limit) = bounds.typed.clone();
    let mut session = start(script.options(arguments.to_vec(), bounds)?)?;
    noted::start();
    let outcome = {
        let _nothing = share::enter(Share::Nothing);
        session.eval(&script.name, &script.text)
    };
    let read = noted::take().read;
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
    let stem = path.file_stem().map_or_else(|| "script".to_owned(), |stem| stem.to_string_lossy().into_owned());
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
    Ok(Planned::Plan(Box::new(plan), stem))
}

/// The files that the script read, without stored results.
fn inputs(read: &std::collections::BTreeSet<PathBuf>) -> Result<Vec<Input>> {
    let store = std::path::absolute(Cache::from_env()?.store()).map_err(|error| Error::new(error.to_string()))?;
    let results = [store.join("cells"), store.join("values")];
    let is_input = |path: &&PathBuf| path.is_file() && !results.iter().any(|folder| path.starts_with(folder));
    read.iter().filter(is_input).map(|path| Input::of(path)).collect()
}

/// Makes the run's folder and starts its shards.
fn hand_over(words: &SubmitWords, plan: Plan, stem: &str) -> Result<u8> {
    let folder = match &words.run {
        Some(folder) => folder.clone(),
        None => Path::new("runs").join(format!("{stem}-{}", &plan.id()?[..8])),
    };
    let engine = words.engine.unwrap_or(Engine::Local);
    if words.dry_run {
        output::line(&plan.text()?);
        return Ok(Code::DONE);
    }
    let run = Run::create(&folder, plan)?;
    let shards = run.missing();
    output::line(&format!("run: {}, {} of {} shards to do", run.folder().display(), shards.len(), run.plan().shards));
    match engine {
        Engine::Slurm => Err(Error::new("not yet")),
        Engine::Print => {
            output::text(&print::commands(&run, &shards));
            Ok(Code::DONE)
        }
        Engine::Local => {
            let local = Local { jobs: words.jobs as usize, retries: words.retries as usize };
            local.run(&run, &shards, &mut |shard, end| tell(&run, shard, end))?;
            merge_here(&run)
        }
    }
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
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(super::Code::FAILURE))
}

/// `lancet shard`: does one shard, or the rest of it.
pub fn shard(folder: &Path, shard: &str) -> std::result::Result<u8, u8> {
    let done = || -> Result<std::result::Result<u8, u8>> {
        let run = Run::open(folder)?;
        let shard = number(shard)?;
        run.plan().check_shard(shard)?;
        if run.done(shard).is_some() {
            output::line(&format!("shard {shard} is done"));
            return Ok(Ok(Code::DONE));
        }
        run.plan().check_inputs()?;
        let attempt = run.start(shard, device::processors())?;
        let outcome = do_shard(&run, shard);
        let (Ok(code) | Err(code)) = outcome;
        attempt.end(code)?;
        Ok(outcome)
    };
    done().unwrap_or_else(|error| {
        complain(&error);
        Err(if may_pass(&error.to_string()) { super::Code::FAILURE } else { Code::FINAL })
    })
}

/// The number of a shard, typed or from the variable of the scheduler that runs this process.
fn number(text: &str) -> Result<usize> {
    let parse = |text: &str, what: &str| {
        text.parse::<usize>().map_err(|_| Error::new(format!("{what} is `{text}`")).hint("a number from 0"))
    };
    if text != "auto" {
        return parse(text, "the shard");
    }
    // The last two count from 1.
    let variables = [
        ("SLURM_ARRAY_TASK_ID", 0),
        ("HQ_TASK_ID", 0),
        ("JOB_COMPLETION_INDEX", 0),
        ("PBS_ARRAY_INDEX", 0),
        ("SGE_TASK_ID", 1),
        ("LSB_JOBINDEX", 1),
    ];
    let set = variables.into_iter().filter_map(|(name, first)| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty() && value != "undefined")?;
        Some((name, first, value))
    });
    let set: Vec<_> = set.collect();
    let [(name, first, value)] = set.as_slice() else {
        let names: Vec<&str> = set.iter().map(|(name, ..)| *name).collect();
        let found =
            if names.is_empty() { "none is set".to_owned() } else { format!("{} are set", names.join(" and ")) };
        let known = variables.map(|(name, _)| name).join(", ");
        return Err(Error::new(format!("`auto` needs one of the variables {known}; {found}")));
    };
    parse(value, name)?.checked_sub(*first).ok_or_else(|| Error::new(format!("{name} is {value}")))
}

fn do_shard(run: &Run, shard: usize) -> std::result::Result<u8, u8> {
    let stop = stop_when_told();
    let plan = run.plan();
    let script = script_of(&plan.work)?;
    let mut session = start(script.options(plan.work.arguments.clone(), bounds_of(&plan.work)?)?)?;
    let outcome = {
        let _piece = share::enter(Share::Piece(Piece::of_shard(shard, plan.shards)));
        session.eval(&script.name, &script.text)
    };
    let results: Vec<PathBuf> = share::take_results().into_iter().collect();
    match outcome {
        Ok(_) | Err(ScriptError::Deferred | ScriptError::Exit(0)) => {
            let finished = run.finish(shard, device::processors(), &results);
            finished.map_err(|error| {
                complain(&error);
                super::Code::FAILURE
            })?;
            output::line(&format!("shard {shard}: done, {} results", results.len()));
            Ok(Code::DONE)
        }
        Err(ScriptError::Interrupted) if stop.load(Ordering::Relaxed) || interrupt::is_pending() => {
            output::line(&format!("shard {shard}: stopped; it goes on in the next attempt"));
            Err(Code::STOPPED)
        }
        Err(ScriptError::Failed(diagnostic)) => {
            let passes = may_pass(&diagnostic.message);
            output::error_line(&session.render(&diagnostic, output::color_errors()));
            Err(if passes { super::Code::FAILURE } else { Code::FINAL })
        }
        Err(ScriptError::Interrupted) => Err(super::Code::FAILURE),
        Err(ScriptError::Exit(_)) => Err(Code::FINAL),
    }
}

/// Whether the cause of an error may be gone in another attempt, on another machine: memory, a device, a disk.
fn may_pass(message: &str) -> bool {
    ["memory", "CUDA", "cuDNN", "CUBLAS", "os error"].iter().any(|word| message.contains(word))
}

/// Asks the evaluation to stop once SIGUSR1 (the end of the job's time is near) or SIGTERM comes.
fn stop_when_told() -> &'static AtomicBool {
    static TOLD: AtomicBool = AtomicBool::new(false);
    use signal_hook::consts::{SIGTERM, SIGUSR1};
    match signal_hook::iterator::Signals::new([SIGUSR1, SIGTERM]) {
        Ok(mut signals) => {
            std::thread::spawn(move || {
                if signals.forever().next().is_some() {
                    TOLD.store(true, Ordering::Relaxed);
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
    &TOLD
}

/// `lancet merge`: runs the script with the results of all shards.
pub fn merge(folder: &Path) -> std::result::Result<u8, u8> {
    let run = Run::open(folder).map_err(|error| complain(&error))?;
    let plan = run.plan();
    let mut devices = std::collections::BTreeSet::new();
    let mut missing = Vec::new();
    for shard in 0..plan.shards {
        match run.done(shard) {
            Some(record) => drop(devices.insert(record.device)),
            None => missing.push(shard),
        }
    }
    if !missing.is_empty() {
        let many = if missing.len() == 1 { "shard is" } else { "shards are" };
        let text = format!("{} of {} {many} missing: {}", missing.len(), plan.shards, ranges(&missing));
        output::error_line(&format!("error: {text}"));
        output::error_line(&format!("hint: lancet resume {}", print::quoted(&folder.display().to_string())));
        return Err(Code::MISSING);
    }
    if devices.len() > 1 {
        let list = devices.into_iter().collect::<Vec<_>>().join("; ");
        output::error_line(&format!(
            "warning: the shards ran on different devices, whose numbers differ a little: {list}"
        ));
    }
    plan.check_inputs().map_err(|error| complain(&error))?;
    let script = script_of(&plan.work)?;
    let mut session = start(script.options(plan.work.arguments.clone(), bounds_of(&plan.work)?)?)?;
    noted::start();
    let result = session.eval(&script.name, &script.text);
    let written = noted::take().written;
    let ended = finish(&session, result.map(|_| ()))?;
    if ended == super::Code::SUCCESS {
        let is_result = |path: &PathBuf| !path.starts_with(run.store()) && path.exists();
        run.merged(written.into_iter().filter(is_result).collect()).map_err(|error| complain(&error))?;
    }
    Ok(ended)
}

/// The script of a run, in the folder where it was submitted.
fn script_of(work: &Work) -> std::result::Result<Script, u8> {
    std::env::set_current_dir(&work.folder).map_err(|error| complain(&Error::io(&work.folder, &error)))?;
    Ok(Script { name: work.name.clone(), path: Some(PathBuf::from(&work.name)), text: work.text.clone() })
}

/// What the script of a run may touch and take.
fn bounds_of(work: &Work) -> std::result::Result<Bounds, u8> {
    let parse = || -> Result<Bounds> {
        let mut permissions = Vec::new();
        for text in &work.allow {
            permissions.extend(permission::parse(text)?);
        }
        let limits = work.limit.as_deref().map(Limits::parse).transpose()?.unwrap_or_default();
        Ok(Bounds { permissions, limits, typed: (work.allow.clone(), work.limit.clone()) })
    };
    parse().map_err(|error| complain(&error))
}
