//! Answers the line editor while an entry is typed: completion, colour, hints from the history, whether it is complete.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::HistoryHinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Hinter, Result};

use super::entry::Entry;
use super::{complete, highlight};
use crate::session::Session;

/// The bytes of the longest text in colours.
const LONGEST_PAINTED: usize = 10_000;

/// The line editor's view of the session.
#[derive(Helper, Hinter)]
pub struct PromptHelper {
    session: Rc<RefCell<Session>>,
    entry: RefCell<Entry>,
    #[rustyline(Hinter)]
    hinter: HistoryHinter,
}

impl PromptHelper {
    /// Helps with entries for `session`.
    pub fn new(session: Rc<RefCell<Session>>) -> Self {
        Self { session, entry: RefCell::new(Entry::new()), hinter: HistoryHinter::new() }
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
        if is_plain(line) { Cow::Borrowed(line) } else { Cow::Owned(highlight::paint(line)) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }

    fn highlight_char(&self, line: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor && !is_plain(line)
    }
}

/// Whether a text is shown without colours: a command, or one so long that painting it for each key takes long.
fn is_plain(line: &str) -> bool {
    line.starts_with(':') || line.len() > LONGEST_PAINTED
}

impl Validator for PromptHelper {
    fn validate(&self, context: &mut ValidationContext) -> Result<ValidationResult> {
        let text = context.input();
        // Enter on an empty line submits an entry that the parser would never find complete.
        let emptied = text.contains('\n') && text.rsplit('\n').next().is_some_and(|line| line.trim().is_empty());
        Ok(if emptied || self.entry.borrow_mut().is_complete(text) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}
