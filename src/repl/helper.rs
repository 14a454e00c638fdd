//! Answers the line editor while an entry is typed: completion, colour, hints from the history, whether it is complete.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use rhai::Engine;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::HistoryHinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Hinter, Result};

use super::{complete, highlight, input};
use crate::session::{Session, engine};

/// The line editor's view of the session.
#[derive(Helper, Hinter)]
pub struct PromptHelper {
    session: Rc<RefCell<Session>>,
    parser: Engine,
    #[rustyline(Hinter)]
    hinter: HistoryHinter,
}

impl PromptHelper {
    /// Helps with entries for `session`.
    pub fn new(session: Rc<RefCell<Session>>) -> Self {
        Self { session, parser: engine::parser(), hinter: HistoryHinter::new() }
    }
}

impl Completer for PromptHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        Ok(complete::candidates(&self.session.borrow(), line, position))
    }
}

impl Highlighter for PromptHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if line.starts_with(':') { Cow::Borrowed(line) } else { Cow::Owned(highlight::paint(line)) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}

impl Validator for PromptHelper {
    fn validate(&self, context: &mut ValidationContext) -> Result<ValidationResult> {
        let text = context.input();
        // Enter on an empty line submits an entry that the parser would never find complete.
        let emptied = text.contains('\n') && text.rsplit('\n').next().is_some_and(|line| line.trim().is_empty());
        Ok(if emptied || input::is_complete(&self.parser, text) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}
