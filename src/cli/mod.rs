//! The command line: runs what it asks for and returns the exit code.

mod cluster;
mod submit_words;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::{Parser, Subcommand};

use crate::access::Access;
use crate::access::permission::{self, Permission};
use crate::cache::Cache;
use crate::data::fetch::dataset::{self, Datasets};
use crate::error::Error;
use crate::hub::Hub;
use crate::limits::Limits;
use crate::session::{self, Options, ScriptError, Session};
use crate::{bind, doctor, interrupt, libtorch, output, repl, shipped};

/// A scripting environment for mechanistic interpretability of language models.
///
/// Without a command: a prompt, or the script on standard input.
#[derive(Parser)]
#[command(name = "lancet", version, disable_help_subcommand = true)]
struct Cli {
    /// Use only models and data that were downloaded before
    #[arg(long)]
    offline: bool,
    /// Run CODE and print its value; the rest are its arguments
    #[arg(short = 'e', value_names = ["CODE", "ARGS"], num_args = 1.., allow_hyphen_values = true)]
    execute: Vec<String>,
    /// Run FILE, then show a prompt; the rest are its arguments
    #[arg(short = 'i', value_names = ["FILE", "ARGS"], num_args = 0.., allow_hyphen_values = true, conflicts_with = "execute")]
    interactive: Option<Vec<String>>,
    /// Let a script touch more: all, or a list such as read=PATH,write=PATH,net=HOST,env=NAME
    #[arg(long, value_name = "LIST", global = true, value_parser = permissions)]
    allow: Vec<Typed<std::sync::Arc<[Permission]>>>,
    /// Limit each evaluation, such as memory=2GiB,time=10m,operations=1000000,depth=64
    #[arg(long, value_name = "LIST", global = true, value_parser = limits)]
    limit: Option<Typed<Limits>>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What the value of an option means, with the value as it was typed.
#[derive(Debug, Clone)]
struct Typed<T> {
    text: String,
    meaning: T,
}

fn permissions(text: &str) -> Result<Typed<std::sync::Arc<[Permission]>>, String> {
    let meaning = permission::parse(text).map(Into::into).map_err(|error| in_a_line(&error))?;
    Ok(Typed { text: text.to_owned(), meaning })
}

fn limits(text: &str) -> Result<Typed<Limits>, String> {
    let meaning = Limits::parse(text).map_err(|error| in_a_line(&error))?;
    Ok(Typed { text: text.to_owned(), meaning })
}

fn in_a_line(error: &Error) -> String {
    error.hint_text().map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

#[derive(Subcommand)]
enum Command {
    /// Run a script; everything after FILE belongs to it
    Run {
        /// The script, or - for standard input
        #[arg(value_names = ["FILE", "ARGS"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        file: Vec<String>,
    },
    /// Examine what is said of instruction vectors on MODEL and TASK: one report with a verdict on each claim
    #[command(disable_help_flag = true)]
    Audit {
        /// The model, the task and the options; `lancet audit --help` explains them
        #[arg(value_names = ["MODEL", "TASK", "OPTIONS"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Divide SCRIPT's work into shards and hand them to Slurm, or run them here
    #[command(disable_help_flag = true)]
    Submit {
        /// The script, its arguments and the options; `lancet submit --help` explains them
        #[arg(value_names = ["SCRIPT", "OPTIONS"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Do one shard of a submitted run; schedulers call it
    Shard {
        /// The run's folder
        run: PathBuf,
        /// The number of the shard, or auto: the number that the scheduler's variable says
        shard: String,
    },
    /// Write the results of a submitted run, once all its shards are done
    Merge {
        /// The run's folder
        run: PathBuf,
    },
    /// Look for errors in a script without running it
    Check {
        /// The script, or - for standard input
        file: String,
    },
    /// Explain a function, or how to use this program
    Help {
        /// A function, property or method
        name: Option<String>,
    },
    /// Print the reference of all functions as Markdown
    Doc {
        /// Write one page for each topic instead, for mdBook, and print the lines of its summary that list them
        #[arg(long, value_name = "FOLDER")]
        book: Option<PathBuf>,
    },
    /// Fetch a data set; without NAME, list all
    Data {
        /// The data set
        name: Option<String>,
    },
    /// Check this machine: libraries, devices, memory
    Doctor {
        /// Compare every file of the hub's cache with its checksum
        #[arg(long)]
        verify: bool,
    },
}

/// How `lancet` ended.
struct Code;

impl Code {
    const SUCCESS: u8 = 0;
    const FAILURE: u8 = 1;
    const USAGE: u8 = 2;
    const INTERRUPTED: u8 = 130;
}

impl Command {
    /// The folder of the submitted run that it does a part of.
    fn run_folder(&self) -> Option<&Path> {
        match self {
            Self::Shard { run, .. } | Self::Merge { run } => Some(run),
            _ => None,
        }
    }
}

/// Reads the command line, does what it asks, and returns the exit code: 0 success, 1 the script failed, 2 the command
/// line is wrong, 130 interrupted, otherwise the script's argument of `exit`.
pub fn main() -> ExitCode {
    if let Err(problem) = libtorch::settle() {
        return ExitCode::from(complain(&problem));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // A failure to print the error cannot be reported anywhere.
            let _ = error.print();
            return ExitCode::from(Code::USAGE);
        }
        Err(help) => {
            let code = help.print().map_or_else(
                |error| {
                    output::fail(&error);
                    Code::SUCCESS
                },
                |()| Code::SUCCESS,
            );
            return ExitCode::from(written(code));
        }
    };
    let run_folder = cli.command.as_ref().and_then(Command::run_folder);
    // The models of a submitted run are there since it was submitted.
    if cli.offline || run_folder.is_some() {
        // SAFETY: no other thread has been started.
        unsafe { std::env::set_var("HF_HUB_OFFLINE", "1") };
    }
    if let Some(folder) = run_folder.and_then(|folder| std::path::absolute(folder).ok()) {
        // SAFETY: no other thread has been started.
        unsafe { std::env::set_var("LANCET_STORE", folder.join("store")) };
    }
    catch_interrupts();
    let thread = std::thread::Builder::new().name("script".into()).stack_size(session::engine::STACK_BYTES);
    let code = match thread.spawn(move || run(cli)).map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        _ => Code::FAILURE,
    };
    ExitCode::from(written(code))
}

/// The final exit code: a failure if standard output could not be written.
fn written(code: u8) -> u8 {
    match output::failure() {
        Some(error) => {
            output::error_line(&format!("error: standard output cannot be written: {error}"));
            Code::FAILURE
        }
        None => code,
    }
}

/// Ctrl-C stops the evaluation; a second one reports what the program waits for, a third one ends it.
fn catch_interrupts() {
    static PRESSED: AtomicU8 = AtomicU8::new(0);
    let installed = ctrlc::set_handler(|| {
        if !interrupt::request() {
            PRESSED.store(1, Ordering::Relaxed);
            return;
        }
        match PRESSED.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => output::error_line("waiting for a native call to finish; press Ctrl-C again to quit"),
            _ => std::process::exit(Code::INTERRUPTED.into()),
        }
    });
    if let Err(error) = installed {
        output::error_line(&format!("warning: Ctrl-C will end the program: {error}"));
    }
}

/// What the command line allows and limits.
struct Bounds {
    permissions: Vec<Permission>,
    limits: Limits,
    /// What was typed after `--allow` and `--limit`
    typed: (Vec<String>, Option<String>),
}

fn run(cli: Cli) -> u8 {
    let is_script = match (&cli.command, &cli.interactive) {
        (Some(command), _) => {
            matches!(command, Command::Run { .. } | Command::Audit { .. } | Command::Submit { .. })
        }
        (None, Some(words)) => !words.is_empty(),
        (None, None) => cli.execute.is_empty() && !std::io::stdin().is_terminal(),
    };
    if !is_script && !cli.allow.is_empty() {
        output::error_line("error: `--allow` is for scripts; the prompt and `-e` may do what you may");
        return Code::USAGE;
    }
    let bounds = Bounds {
        permissions: cli.allow.iter().flat_map(|allowed| allowed.meaning.iter().cloned()).collect(),
        typed: (
            cli.allow.iter().map(|allowed| allowed.text.clone()).collect(),
            cli.limit.as_ref().map(|limit| limit.text.clone()),
        ),
        limits: cli.limit.map(|limit| limit.meaning).unwrap_or_default(),
    };
    let outcome = match (cli.command, cli.interactive, cli.execute) {
        (Some(command), ..) => run_command(command, bounds),
        (None, Some(words), _) => prompt(words, bounds),
        (None, None, words) => match split_first(words) {
            Some((code, arguments)) => execute(&code, arguments, bounds),
            None if is_script => run_file("-", Vec::new(), bounds),
            None => prompt(Vec::new(), bounds),
        },
    };
    outcome.unwrap_or_else(|code| code)
}

fn run_command(command: Command, bounds: Bounds) -> Result<u8, u8> {
    match command {
        Command::Run { file } => match split_first(file) {
            Some((file, arguments)) => run_file(&file, arguments, bounds),
            None => Err(Code::USAGE),
        },
        Command::Audit { words } => audit(words, bounds),
        Command::Submit { words } => cluster::submit(words, bounds),
        Command::Shard { run, shard } => cluster::shard(&run, &shard),
        Command::Merge { run } => cluster::merge(&run),
        Command::Check { file } => {
            let script = Script::read(&file)?;
            let mut session = start(script.options(Vec::new(), bounds)?)?;
            let checked = session.check(&script.name, &script.text);
            finish(&session, checked)
        }
        Command::Help { name: None } => {
            use clap::CommandFactory;
            output::line(Cli::command().render_help().to_string().trim_end());
            Ok(Code::SUCCESS)
        }
        Command::Help { name: Some(name) } => match start(Options::default())?.catalog().help(&name) {
            Ok(text) => {
                output::line(&text);
                Ok(Code::SUCCESS)
            }
            Err(near) => {
                output::error_line(&format!("error: there is no help on `{name}`"));
                if let Some(near) = near {
                    output::error_line(&format!("hint: did you mean `{near}`?"));
                }
                Err(Code::FAILURE)
            }
        },
        Command::Doc { book } => {
            let catalog = start(Options::default())?.catalog();
            let text = match book {
                Some(folder) => catalog.write_book(&folder).map_err(|error| complain(&error))?,
                None => catalog.markdown(),
            };
            output::line(text.trim_end());
            Ok(Code::SUCCESS)
        }
        Command::Data { name } => data(name.as_deref()).map_or_else(|error| stopped(&error), |()| Ok(Code::SUCCESS)),
        Command::Doctor { verify } => match doctor::run(&mut output::Stdout, verify) {
            Ok(true) => Ok(Code::SUCCESS),
            Ok(false) => Err(Code::FAILURE),
            Err(error) => stopped(&error),
        },
    }
}

/// Reports what stopped a command other than a script, and returns the exit code.
fn stopped(error: &Error) -> Result<u8, u8> {
    match error {
        _ if output::is_closed() => Ok(Code::SUCCESS),
        Error::Interrupted => {
            output::error_line("interrupted");
            Err(Code::INTERRUPTED)
        }
        error => Err(complain(error)),
    }
}

/// Fetches a data set, if one is named, and lists all data sets.
fn data(name: Option<&str>) -> Result<(), Error> {
    let datasets = Datasets::from_env()?;
    if let Some(name) = name {
        datasets.fetch(dataset::named(name)?)?;
    }
    datasets.list(&mut output::Stdout).map_err(|error| Error::new(format!("the list cannot be written: {error}")))
}

fn run_file(file: &str, arguments: Vec<String>, bounds: Bounds) -> Result<u8, u8> {
    let script = Script::read(file)?;
    let mut session = start(script.options(arguments, bounds)?)?;
    let result = session.eval(&script.name, &script.text);
    finish(&session, result.map(|_| ()))
}

/// Runs the shipped script `audit.rhai`, wherever the program is.
fn audit(words: Vec<String>, bounds: Bounds) -> Result<u8, u8> {
    let is_help = |word: &String| word == "--help" || word == "-h";
    let arguments = match words.as_slice() {
        words if words.iter().any(is_help) => vec!["--help".to_owned()],
        [model, task, options @ ..] if !model.starts_with('-') && !task.starts_with('-') => {
            let named = ["--model", model, "--task", task].map(str::to_owned);
            named.into_iter().chain(options.iter().cloned()).collect()
        }
        _ => {
            output::error_line("error: `lancet audit` takes a model, a task and options");
            output::error_line("hint: lancet audit smollm2 adj_comp; `lancet audit --help` explains the options");
            return Err(Code::USAGE);
        }
    };
    let path = Cache::from_env().and_then(|cache| shipped::script(&cache, "audit.rhai"));
    let script = Script::read(&path.map_err(|error| complain(&error))?.display().to_string())?;
    let mut options = script.options(arguments, bounds)?;
    options.command = "audit MODEL TASK".to_owned();
    let mut session = start(options)?;
    let result = session.eval(&script.name, &script.text);
    finish(&session, result.map(|_| ()))
}

fn execute(code: &str, arguments: Vec<String>, bounds: Bounds) -> Result<u8, u8> {
    let mut session = start(Options { arguments, limits: bounds.limits, ..Options::default() })?;
    let result = session.eval("<command line>", code).map(|value| {
        if !value.is_unit() {
            output::line(&bind::display::display(&value));
        }
    });
    finish(&session, result)
}

fn prompt(words: Vec<String>, bounds: Bounds) -> Result<u8, u8> {
    let Some((file, arguments)) = split_first(words) else {
        return Ok(repl::run(start(Options { limits: bounds.limits, ..Options::default() })?));
    };
    let script = Script::read(&file)?;
    let mut session = start(script.options(arguments, bounds)?)?;
    match session.eval(&script.name, &script.text) {
        Err(ScriptError::Exit(code)) => Ok(code),
        result => {
            // The prompt follows a failure too, so that the script's variables can be inspected.
            let _ = finish(&session, result.map(|_| ()));
            session.set_access(Access::all());
            Ok(repl::run(session))
        }
    }
}

fn start(options: Options) -> Result<Session, u8> {
    Session::new(options).map_err(|error| {
        if let ScriptError::Failed(diagnostic) = error {
            output::error_line(&diagnostic.render(&Default::default(), output::color_errors()));
        }
        Code::FAILURE
    })
}

/// Reports a failure and returns the exit code.
fn finish(session: &Session, result: Result<(), ScriptError>) -> Result<u8, u8> {
    match result {
        Ok(()) => Ok(Code::SUCCESS),
        Err(ScriptError::Exit(code)) => Ok(code),
        Err(ScriptError::Interrupted) if output::is_closed() => Ok(Code::SUCCESS),
        // Outside of shards nothing is left to others.
        Err(ScriptError::Interrupted | ScriptError::Deferred) => {
            output::error_line("interrupted");
            Err(Code::INTERRUPTED)
        }
        Err(ScriptError::Failed(diagnostic)) => {
            output::error_line(&session.render(&diagnostic, output::color_errors()));
            Err(Code::FAILURE)
        }
    }
}

fn complain(error: &Error) -> u8 {
    output::error_line(&format!("error: {error}"));
    if let Some(hint) = error.hint_text() {
        output::error_line(&format!("hint: {hint}"));
    }
    Code::FAILURE
}

fn split_first(words: Vec<String>) -> Option<(String, Vec<String>)> {
    let mut words = words.into_iter();
    words.next().map(|first| (first, words.collect()))
}

/// The folders of Lancet's own files and of the hub's models; without a home folder there are none.
fn caches() -> Vec<PathBuf> {
    let own = Cache::from_env().map(|cache| [cache.folder().to_path_buf(), cache.store().to_path_buf()]);
    own.into_iter().flatten().chain(Hub::from_env().map(|hub| hub.cache)).collect()
}

/// A script's text and its name in errors.
struct Script {
    name: String,
    path: Option<PathBuf>,
    text: String,
}

impl Script {
    fn read(file: &str) -> Result<Self, u8> {
        let (name, path, text) = if file == "-" {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text).map(|_| text);
            ("<standard input>".to_owned(), None, read)
        } else {
            (file.to_owned(), Some(PathBuf::from(file)), std::fs::read_to_string(file))
        };
        match text {
            Ok(text) => Ok(Self { name, path, text }),
            Err(error) => {
                output::error_line(&format!("error: `{name}`: {error}"));
                Err(Code::FAILURE)
            }
        }
    }

    fn options(&self, arguments: Vec<String>, bounds: Bounds) -> Result<Options, u8> {
        let access = Access::of_script(self.path.as_deref(), &arguments, caches(), &bounds.permissions);
        Ok(Options {
            script: self.path.clone(),
            arguments,
            text: self.text.clone(),
            command: String::new(),
            access: access.map_err(|error| complain(&error))?,
            limits: bounds.limits,
        })
    }
}
