//! Script arguments, path, exit and help.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Engine, EvalAltResult, Map, NativeCallContext};

use super::error::ScriptResult;
use super::module;
use super::script_args::{self, Declaration, Parsed};
use crate::catalog::Catalog;
use crate::catalog::topic::Topic;
use crate::error::Error;
use crate::output;
use crate::syntax::source::normalized;

/// The script that is being run; carried by the engine as its tag.
#[derive(Debug, Clone)]
pub struct ScriptContext(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    path: Option<PathBuf>,
    command: String,
    arguments: Vec<String>,
    about: String,
    exit: Cell<Option<u8>>,
}

impl ScriptContext {
    /// The script at `path` with this text and these arguments; no path at the prompt. `command` is what runs it, `run`
    /// with its path if empty.
    pub fn new(path: Option<PathBuf>, command: String, arguments: Vec<String>, text: &str) -> Self {
        Self(Rc::new(Inner {
            path,
            command,
            arguments,
            about: script_args::about(&normalized(text)),
            exit: Cell::new(None),
        }))
    }

    /// The exit code that the script asked for since the last call.
    pub fn take_exit(&self) -> Option<u8> {
        self.0.exit.take()
    }

    fn of(context: &NativeCallContext) -> Option<Self> {
        context.tag().and_then(|tag| tag.read_lock::<Self>().map(|script| script.clone()))
    }

    fn command(&self) -> String {
        match &self.0.path {
            _ if !self.0.command.is_empty() => self.0.command.clone(),
            Some(path) => format!("run {}", path.display()),
            None => "run SCRIPT".to_owned(),
        }
    }

    fn stop<T>(&self, code: u8) -> ScriptResult<T> {
        self.0.exit.set(Some(code));
        Err(EvalAltResult::Exit(i64::from(code).into(), rhai::Position::NONE).into())
    }
}

/// Registers the functions about the running script.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Utilities, exported_manifest!(functions));
}

#[export_module(manifest)]
mod functions {
    /// Reads the script's options from its arguments and gives a map with a value for each.
    ///
    /// Every option is described by a map with `default` (the option takes values of its type: a string, an integer, a
    /// float, `true`/`false` for a flag, an array for one that may be repeated, `()` for text that may be left out)
    /// and, if wanted, `help`, `choices` (an array of the values allowed) and `required`. An option `max_tokens` is
    /// typed `--max-tokens 5` or `--max-tokens=5`, a flag `--fast` or `--no-fast`. `--help` prints the comment at the
    /// top of the script and the options, and ends it; a wrong option ends it with exit code 2.
    ///
    /// # Example
    ///
    /// ```rhai
    /// let args = parse_args(#{
    ///     model: #{ default: "smollm2", help: "the model to load" },
    ///     samples: #{ default: 20, help: "how many prompts" },
    ///     task: #{ default: "plural", choices: ["plural", "past"] },
    /// });
    /// assert(args.samples == 20);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn parse_args(context: NativeCallContext, declared: Map) -> ScriptResult<Map> {
        let declaration = Declaration::new(declared)?;
        let Some(script) = ScriptContext::of(&context) else {
            return Err(Error::new("no script is running").into());
        };
        match declaration.parse(&script.0.arguments) {
            Ok(Parsed::Values(values)) => Ok(values),
            Ok(Parsed::Help) => {
                output::line(&declaration.help(&script.command(), &script.0.about));
                script.stop(0)
            }
            Err(error) => {
                output::error_line(&format!("error: {error}"));
                if let Some(hint) = error.hint_text() {
                    output::error_line(&format!("hint: {hint}"));
                }
                script.stop(2)
            }
        }
    }

    /// The folder of the running script, for data beside it; `.` at the prompt.
    ///
    /// # Example
    ///
    /// ```rhai
    /// let words = script_dir() + "/words.txt";
    /// ```
    pub fn script_dir(context: NativeCallContext) -> String {
        let path = ScriptContext::of(&context).and_then(|script| script.0.path.clone());
        match path.as_deref().and_then(Path::parent) {
            Some(folder) if !folder.as_os_str().is_empty() => folder.display().to_string(),
            _ => ".".to_owned(),
        }
    }

    /// The path of the running script; empty at the prompt.
    pub fn script_path(context: NativeCallContext) -> String {
        let path = ScriptContext::of(&context).and_then(|script| script.0.path.clone());
        path.map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// Lancet's own version.
    pub fn lancet_version() -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    /// Ends the script. The exit code is 0, or the integer from 0 to 255 that is given.
    #[rhai_fn(return_raw)]
    pub fn exit(context: NativeCallContext) -> ScriptResult<()> {
        stop(&context, 0)
    }

    /// Ends the script. The exit code is 0, or the integer from 0 to 255 that is given.
    #[rhai_fn(return_raw, name = "exit")]
    pub fn exit_with(context: NativeCallContext, code: i64) -> ScriptResult<()> {
        stop(&context, code)
    }

    /// Prints the topics of the reference.
    pub fn help(context: NativeCallContext) {
        let topics = Catalog::of(context.engine(), Some(&context)).topics();
        output::line(&topics.join("\n"));
        output::line("\n`help(\"topic\")` lists a topic's functions, `help(\"name\")` explains a function or a type");
    }

    /// Explains a function, property, method or type, or lists the functions of a topic: `help("zip")`,
    /// `help("tensor.shape")`, `help("model")`, `help("Hooks and interventions")`.
    ///
    /// # Example
    ///
    /// ```rhai
    /// help("zip");
    /// help("Plots");
    /// ```
    #[rhai_fn(name = "help", return_raw)]
    pub fn help_on(context: NativeCallContext, name: &str) -> ScriptResult<()> {
        match Catalog::of(context.engine(), Some(&context)).help(name) {
            Ok(text) => output::line(&text),
            Err(near) => {
                let error = Error::new(format!("there is no help on `{name}`"));
                return Err(match near {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error,
                }
                .into());
            }
        }
        Ok(())
    }
}

fn stop(context: &NativeCallContext, code: i64) -> ScriptResult<()> {
    let Ok(code) = u8::try_from(code) else {
        return Err(Error::new(format!("{code} is not an exit code")).hint("an integer from 0 to 255").into());
    };
    match ScriptContext::of(context) {
        Some(script) => script.stop(code),
        None => Err(EvalAltResult::Exit(i64::from(code).into(), rhai::Position::NONE).into()),
    }
}
