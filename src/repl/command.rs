//! The commands that start with a colon. One table names them; help and completion derive from it.

use std::path::{Path, PathBuf};

use super::{Flow, Repl};
use crate::bind::convert::type_name;
use crate::bind::display::literal;
use crate::error::nearest;
use crate::output;
use crate::session::{Options, Session};
use crate::syntax::scan;

/// A command of the prompt.
pub struct Command {
    /// Its name, without the colon.
    pub name: &'static str,
    /// Its arguments, for the help.
    arguments: &'static str,
    /// What it does, in a line.
    summary: &'static str,
    run: fn(&mut Repl, &str) -> Flow,
}

/// All commands.
pub const COMMANDS: [Command; 11] = [
    Command { name: "help", arguments: "[NAME]", summary: "explain a function, or list the commands", run: help },
    Command {
        name: "search",
        arguments: "WORD",
        summary: "find functions by a word of their name or text",
        run: search,
    },
    Command { name: "vars", arguments: "", summary: "list the variables", run: variables },
    Command { name: "load", arguments: "FILE", summary: "run a script in this session", run: load },
    Command {
        name: "reload",
        arguments: "",
        summary: "run the loaded scripts again, and re-read imports",
        run: reload,
    },
    Command { name: "save", arguments: "FILE", summary: "write the entries that succeeded as a script", run: save },
    Command { name: "time", arguments: "CODE", summary: "say how long an evaluation takes", run: time },
    Command { name: "history", arguments: "", summary: "list the entries that succeeded", run: history },
    Command { name: "reset", arguments: "", summary: "forget variables, functions and imports", run: reset },
    Command { name: "quit", arguments: "", summary: "leave (also Ctrl-D)", run: |_, _| Flow::Leave(0) },
    Command { name: "q", arguments: "", summary: "leave", run: |_, _| Flow::Leave(0) },
];

const VALUE_WIDTH: usize = 60;

/// Runs the command after the colon.
pub fn run(repl: &mut Repl, text: &str) -> Flow {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        let rest = rest.trim();
        if rest.is_empty() && !command.arguments.is_empty() && !command.arguments.starts_with('[') {
            return complain(&format!("`:{name}` needs {}", command.arguments), None);
        }
        return (command.run)(repl, rest);
    }
    let near = nearest(name, COMMANDS.iter().map(|command| command.name));
    let hint = near.map_or_else(|| "`:help` lists the commands".to_owned(), |near| format!("did you mean `:{near}`?"));
    complain(&format!("there is no command `:{name}`"), Some(&hint))
}

fn complain(message: &str, hint: Option<&str>) -> Flow {
    output::error_line(&format!("error: {message}"));
    if let Some(hint) = hint {
        output::error_line(&format!("hint: {hint}"));
    }
    Flow::Continue
}

fn help(repl: &mut Repl, name: &str) -> Flow {
    if name.is_empty() {
        for command in COMMANDS.iter().filter(|command| command.name != "q") {
            output::line(&format!("{:16} {}", format!(":{} {}", command.name, command.arguments), command.summary));
        }
        output::line("\n`help()` lists the topics of the reference, `:help TOPIC` a topic's functions.");
        output::line("`ans` is the last value; a `;` at the end keeps a value from being shown.");
        output::line("Tab completes. Enter continues an unfinished entry; on an empty line it submits.");
        return Flow::Continue;
    }
    if let Some(command) = COMMANDS.iter().find(|command| name.strip_prefix(':') == Some(command.name)) {
        output::line(&format!(":{} {}\n  {}", command.name, command.arguments, command.summary));
        return Flow::Continue;
    }
    let session = repl.session.borrow();
    let found = session.catalog().help(name);
    match (found, session.variable(name)) {
        (Ok(text), _) => output::line(&text),
        (Err(_), Some(value)) => {
            let kind = type_name(value);
            output::line(&format!("{name}: {kind}"));
            if let Some(text) = session.catalog().type_help(kind) {
                output::line(text.trim_end());
            }
        }
        (Err(near), None) => {
            let hint = near.map_or_else(
                || format!("`:search {name}` looks through the texts"),
                |near| format!("did you mean `{near}`?"),
            );
            return complain(&format!("there is no help on `{name}`"), Some(&hint));
        }
    }
    Flow::Continue
}

fn search(repl: &mut Repl, word: &str) -> Flow {
    let found = repl.session.borrow().catalog().search(word);
    if found.is_empty() {
        return complain(&format!("nothing mentions `{word}`"), None);
    }
    found.iter().for_each(|line| output::line(line));
    Flow::Continue
}

fn variables(repl: &mut Repl, _: &str) -> Flow {
    let session = repl.session.borrow();
    let rows: Vec<[String; 3]> = session
        .variables()
        .map(|(name, constant, value)| {
            let constant = if constant { " (const)" } else { "" };
            [name.to_owned(), format!("{}{constant}", type_name(value)), one_line(&literal(value))]
        })
        .collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let (first, second) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
    for [name, kind, value] in &rows {
        output::line(format!("{name:first$}  {kind:second$}  {value}").trim_end());
    }
    Flow::Continue
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(VALUE_WIDTH) {
        Some((at, _)) => format!("{}...", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

fn load(repl: &mut Repl, file: &str) -> Flow {
    let path = PathBuf::from(file.trim_matches('"'));
    let flow = run_file(repl, &path);
    if path.exists() && !repl.files.contains(&path) {
        repl.files.push(path);
    }
    flow
}

fn run_file(repl: &mut Repl, path: &Path) -> Flow {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return complain(&format!("`{}`: {error}", path.display()), None),
    };
    let result = repl.session.borrow_mut().eval(&path.display().to_string(), &text);
    if let Some(flow) = repl.finish(result, true) {
        return flow;
    }
    repl.log.push(text.trim_end().to_owned());
    Flow::Continue
}

fn reload(repl: &mut Repl, _: &str) -> Flow {
    repl.session.borrow_mut().forget_modules();
    for path in repl.files.clone() {
        if let Flow::Leave(code) = run_file(repl, &path) {
            return Flow::Leave(code);
        }
    }
    Flow::Continue
}

fn save(repl: &mut Repl, file: &str) -> Flow {
    let mut text = String::new();
    for entry in &repl.log {
        // An entry may stand without `;` at the prompt, but not between others in a script.
        let end = scan::scan(entry).into_iter().rev().find(|token| token.kind != scan::Kind::Comment);
        let (code, comment) = entry.split_at(end.as_ref().map_or(0, |token| token.range.end));
        let separator = if end.is_none_or(|token| token.text(entry) == ";") { "" } else { ";" };
        text.push_str(&format!("{code}{separator}{comment}\n"));
    }
    match std::fs::write(file.trim_matches('"'), text) {
        Ok(()) => Flow::Continue,
        Err(error) => complain(&format!("`{file}`: {error}"), None),
    }
}

fn time(repl: &mut Repl, code: &str) -> Flow {
    let (flow, elapsed) = repl.evaluate(code);
    output::error_line(&format!("{elapsed:.3?}"));
    flow
}

fn history(repl: &mut Repl, _: &str) -> Flow {
    repl.log.iter().for_each(|entry| output::line(entry));
    Flow::Continue
}

fn reset(repl: &mut Repl, _: &str) -> Flow {
    let completions = std::mem::take(&mut repl.session.borrow_mut().completions);
    match Session::new(Options::default()) {
        Ok(mut session) => {
            session.completions = completions;
            *repl.session.borrow_mut() = session;
            repl.log.clear();
            Flow::Continue
        }
        Err(_) => complain("the session cannot be started again", None),
    }
}
