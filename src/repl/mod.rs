//! The prompt: reads entries, evaluates them, shows their values.

mod command;
mod complete;
mod entry;
pub mod helper;
mod highlight;
mod history;
mod input;

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rhai::Dynamic;

use crate::bind::display;
use crate::output;
use crate::session::{ScriptError, Session};
use crate::syntax::scan;
use input::{Input, Line};

/// What to do after an entry.
enum Flow {
    Continue,
    Leave(u8),
}

/// A session at the prompt.
struct Repl {
    session: Rc<RefCell<Session>>,
    /// The entries that succeeded, as typed.
    log: Vec<String>,
    /// The files loaded with `:load`, oldest first.
    files: Vec<PathBuf>,
    entries: usize,
}

/// Reads and evaluates entries until the end of the input; returns the exit code.
pub fn run(session: Session) -> u8 {
    let session = Rc::new(RefCell::new(session));
    let mut input = if std::io::stdin().is_terminal() {
        output::error_line(&format!(
            "lancet {}  :help for help, :quit to leave; what runs here may do what you may: read, write, connect",
            env!("CARGO_PKG_VERSION")
        ));
        Input::terminal(session.clone())
    } else {
        Input::piped()
    };
    let mut repl = Repl { session, log: Vec::new(), files: Vec::new(), entries: 0 };
    loop {
        match input.read() {
            Line::Entry(text) => {
                if let Flow::Leave(code) = repl.submit(&text) {
                    return code;
                }
                if output::is_closed() {
                    return 0;
                }
            }
            Line::Cleared => {}
            Line::End => return 0,
        }
    }
}

impl Repl {
    fn submit(&mut self, text: &str) -> Flow {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Flow::Continue;
        }
        if let Some(command) = trimmed.strip_prefix(':') {
            return command::run(self, command);
        }
        self.evaluate(trimmed).0
    }

    /// Evaluates an entry and shows its value; also returns how long the evaluation took.
    fn evaluate(&mut self, text: &str) -> (Flow, Duration) {
        self.entries += 1;
        let name = format!("<repl:{}>", self.entries);
        let start = Instant::now();
        let result = self.session.borrow_mut().eval(&name, text);
        let elapsed = start.elapsed();
        let flow = self.finish(result, !ends_with_semicolon(text));
        if flow.is_some() {
            return (flow.unwrap_or(Flow::Continue), elapsed);
        }
        self.log.push(text.to_owned());
        (Flow::Continue, elapsed)
    }

    /// Shows a value or an error. `None` after a value.
    fn finish(&mut self, result: Result<Dynamic, ScriptError>, echo: bool) -> Option<Flow> {
        match result {
            Ok(value) => {
                if !value.is_unit() {
                    if echo {
                        output::line(&display::echo(&value));
                    }
                    self.session.borrow_mut().set_variable("ans", value);
                }
                None
            }
            Err(ScriptError::Exit(code)) => Some(Flow::Leave(code)),
            Err(ScriptError::Interrupted) if output::is_closed() => Some(Flow::Leave(0)),
            // At the prompt there are no other shards.
            Err(ScriptError::Interrupted | ScriptError::Deferred) => {
                output::error_line("interrupted");
                Some(Flow::Continue)
            }
            Err(ScriptError::Failed(diagnostic)) => {
                output::error_line(&self.session.borrow().render(&diagnostic, output::color_errors()));
                Some(Flow::Continue)
            }
        }
    }
}

fn ends_with_semicolon(text: &str) -> bool {
    let tokens = scan::scan(text);
    tokens.iter().rev().find(|token| token.kind != scan::Kind::Comment).is_some_and(|token| token.text(text) == ";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_may_be_followed_by_a_comment() {
        assert!(ends_with_semicolon("x; // done"));
        assert!(!ends_with_semicolon("x // done;"));
        assert!(!ends_with_semicolon("\"a;\""));
    }
}
