//! Runs in shards from scripts: submitting one, and a handle of one that was submitted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};

use super::convert::expected;
use super::error::ScriptResult;
use super::handle::Handle;
use super::map::map;
use super::module;
use super::option::Options;
use crate::catalog::topic::Topic;
use crate::cluster::log;
use crate::cluster::run::Run;
use crate::cluster::slurm::call;
use crate::cluster::status::{Merge, Shard, Status};
use crate::error::{Error, Result};
use crate::share::{self, Share};
use crate::{access, interrupt};

/// How long `wait` waits before it asks again.
const PAUSE: Duration = Duration::from_secs(2);

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Cluster, exported_manifest!(functions));
}

/// The script's handle of a submitted run.
#[derive(Debug, Clone)]
pub struct RunHandle(Rc<Run>);

impl Handle for RunHandle {
    const NAME: &'static str = "run";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        format!("run of {} shards in {}", self.0.plan().shards, self.0.folder().display())
    }
}

/// Refuses what starts other programs, where a script may not do everything or is itself done in shards.
fn check(what: &str) -> Result<()> {
    if share::current() != Share::Whole {
        return Err(Error::new(format!("a shard cannot {what}")).hint("put it behind `leave_rest_to_merge()`"));
    }
    access::check_everything(what)
}

/// The options that `submit` and `resume` share, as words of the command line.
fn words(options: &mut Options) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut add = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("--{name}={value}")));
    add("engine", options.string("engine")?);
    add("slurm", options.string("slurm")?);
    add("merge-slurm", options.string("merge_slurm")?);
    add("set-up", options.string("set_up")?);
    let numbers = [
        ("max-running", "max_running"),
        ("shards-per-job", "shards_per_job"),
        ("retries", "retries"),
        ("jobs", "jobs"),
    ];
    for (name, option) in numbers {
        add(name, options.integer(option)?.map(|number| number.to_string()));
    }
    Ok(words)
}

/// Runs the program to its end; what it says on standard output.
fn finish(mut command: Command, words: &[String]) -> Result<String> {
    command.args(words);
    let said = call::finish(command, "lancet", Duration::MAX)?;
    if said.success {
        return Ok(said.output);
    }
    let line = |start: &str| said.error.lines().find_map(|line| line.strip_prefix(start));
    let error = Error::new(line("error: ").unwrap_or(&said.error));
    Err(match line("hint: ") {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

fn call(run: &Run, command: &str, words: &[String]) -> Result<String> {
    check(&format!("{command} a run"))?;
    let mut all = vec![command.to_owned(), run.folder().display().to_string()];
    all.extend_from_slice(words);
    finish(run.command(), &all)
}

fn paths(paths: Vec<PathBuf>) -> Array {
    paths.into_iter().map(|path| path.display().to_string().into()).collect()
}

/// A status as a script sees it.
fn describe(status: Status) -> Map {
    let named = |state: &Shard| match state {
        Shard::Done => ("done", String::new()),
        Shard::Running(nodes) => ("running", nodes.join(" ")),
        Shard::Waiting(why) => ("waiting", why.clone()),
        Shard::Elsewhere(host) => ("elsewhere", host.clone()),
        Shard::Failed(why) => ("failed", why.clone()),
        Shard::Missing => ("missing", String::new()),
    };
    let mut counts = Map::new();
    for name in ["done", "running", "waiting", "elsewhere", "failed", "missing"] {
        let shards = status.shards_that(|state| named(state).0 == name);
        let shards: Array = shards.into_iter().map(|shard| Dynamic::from(shard as i64)).collect();
        counts.insert(name.into(), shards.into());
    }
    let why: Map = status
        .shards
        .iter()
        .enumerate()
        .filter(|(_, state)| !named(state).1.is_empty())
        .map(|(shard, state)| (shard.to_string().into(), named(state).1.into()))
        .collect();
    let merge = match &status.merge {
        Merge::Done(_) => "done".to_owned(),
        Merge::Submitted(state) => state.clone(),
        Merge::Missing => "missing".to_owned(),
    };
    counts.extend(map! {
        "about" => why,
        "is_done" => status.is_done(),
        "is_live" => status.is_live(),
        "merge" => merge,
        "text" => status.text(),
    });
    counts
}

#[export_module(manifest)]
mod functions {
    /// Submits `script`, the path of a script whose work can be divided, with an array of `arguments`, as `lancet submit`
    /// does. Returns a handle of the run.
    ///
    /// Needed: `shards`. Options, as on the command line: `engine` (`"slurm"` where there is Slurm, else `"local"`; with
    /// that the call returns at the run's end), `run` (the run's folder), `slurm` and `merge_slurm` (options of sbatch, such
    /// as `"partition=gpu,gres=gpu:1,time=2:00:00"`), `max_running`, `shards_per_job`, `set_up`, `retries`, `jobs`.
    ///
    /// # Errors
    /// A script that fails or has no work to divide; Slurm refuses the jobs; with `"local"`, shards that fail. A script of
    /// `lancet run` needs the permission `--allow all`, because what it submits runs with permissions of its own.
    ///
    /// # Example
    /// ```rhai
    /// write_text("squares.rhai", `
    ///     let keys = [0, 1, 2].map(|n| #{ computation: "squares 1", number: n });
    ///     let squares = kept::values(keys, |n| n * n);
    ///     write_text("squares.json", json_encode(squares));
    /// `);
    /// let r = submit("squares.rhai", [], #{ shards: 2, engine: "local" });
    /// assert(r.status().is_done);
    /// assert_eq(read_text(r.files[0]), "[0,1,4]");
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn submit(script: &str, arguments: Array, request: Map) -> ScriptResult<RunHandle> {
        check("submit a run")?;
        let own = Options::read("submit", request, |options| {
            let shards = options.needed("shards", "#{ shards: 8 }")?;
            let shards = shards.as_int().map_err(|_| expected("option `shards` of `submit`", "an integer", &shards))?;
            let mut own = vec!["submit".to_owned(), format!("--shards={shards}")];
            own.extend(options.string("run")?.map(|folder| format!("--run={folder}")));
            own.extend(words(options)?);
            Ok(own)
        })?;
        let mut all = own;
        all.extend([script.to_owned(), "--".to_owned()]);
        for argument in &arguments {
            let text = argument.clone().into_string();
            all.push(text.map_err(|_| expected("an argument in `submit`", "a string", argument))?);
        }
        let program = std::env::current_exe().map_err(|error| Error::new(format!("the program is gone: {error}")))?;
        let said = finish(Command::new(program), &all)?;
        let folder = Run::announced(&said).ok_or_else(|| Error::new(format!("no run was submitted: {said}")))?;
        Ok(RunHandle(Rc::new(Run::open(&folder)?)))
    }

    /// The run in a folder that `lancet submit` made.
    ///
    /// # Example
    /// ```rhai
    /// try { open_run("runs/none"); } catch (error) { print(error.error); }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn open_run(folder: &str) -> ScriptResult<RunHandle> {
        Ok(RunHandle(Rc::new(Run::open(Path::new(folder))?)))
    }

    /// The run's folder.
    #[rhai_fn(get = "folder", pure)]
    pub fn folder(run: &mut RunHandle) -> String {
        run.0.folder().display().to_string()
    }

    /// The files that the merge wrote, an array of paths; empty before that.
    #[rhai_fn(get = "files", pure)]
    pub fn files(run: &mut RunHandle) -> Array {
        paths(run.0.results().unwrap_or_default())
    }

    /// How far the run is: a map with the numbers of shards that are `done`, `running`, `waiting`, `elsewhere`
    /// (begun on machines that cannot be asked), `failed` and `missing` (nobody does them), `about` (for each shard the nodes that run it, or why it waits or failed), `merge` (`"done"`,
    /// `"missing"`, or what its job does), `is_done`, `is_live` (whether somebody works for it) and `text`, the same in
    /// words.
    #[rhai_fn(return_raw, pure)]
    pub fn status(run: &mut RunHandle) -> ScriptResult<Map> {
        Ok(describe(Status::of(&run.0)?))
    }

    /// Waits until nobody works for the run any more, and returns its status.
    #[rhai_fn(return_raw, pure)]
    pub fn wait(run: &mut RunHandle) -> ScriptResult<Map> {
        loop {
            let status = Status::of(&run.0)?;
            if status.is_done() || (status.unknown.is_none() && !status.is_live()) {
                return Ok(describe(status));
            }
            interrupt::sleep(PAUSE)?;
        }
    }

    /// What the attempts at a shard said.
    #[rhai_fn(return_raw, pure)]
    pub fn logs(run: &mut RunHandle, shard: i64) -> ScriptResult<String> {
        let shard = usize::try_from(shard).map_err(|_| Error::new(format!("the run has no shard {shard}")))?;
        run.0.plan().check_shard(shard)?;
        let texts: Vec<String> =
            log::of_shard(&run.0, shard).iter().map(|path| log::text(path)).collect::<Result<_>>()?;
        Ok(texts.concat())
    }

    /// Submits the shards that are missing and that nobody does, then merges, as `lancet resume` does.
    #[rhai_fn(name = "resume", return_raw, pure)]
    pub fn resume(run: &mut RunHandle) -> ScriptResult<()> {
        resume_with(run, Map::new())
    }

    /// Submits the shards that are missing and that nobody does, then merges, as `lancet resume` does. Options: those of
    /// `submit` but `shards` and `run`; what is left out stays as it was.
    #[rhai_fn(name = "resume", return_raw, pure)]
    pub fn resume_with(run: &mut RunHandle, options: Map) -> ScriptResult<()> {
        let words = Options::read("resume", options, words)?;
        call(&run.0, "resume", &words)?;
        Ok(())
    }

    /// Cancels the run's jobs; what is done stays.
    #[rhai_fn(return_raw, pure)]
    pub fn cancel(run: &mut RunHandle) -> ScriptResult<()> {
        call(&run.0, "cancel", &[])?;
        Ok(())
    }

    /// Merges the results of all shards here, and returns the files that this wrote.
    ///
    /// # Errors
    /// Shards that are missing.
    #[rhai_fn(return_raw, pure)]
    pub fn merge(run: &mut RunHandle) -> ScriptResult<Array> {
        call(&run.0, "merge", &[])?;
        Ok(paths(run.0.results().unwrap_or_default()))
    }
}
