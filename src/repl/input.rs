//! Where entries come from: a line editor on a terminal, or plain lines.

use std::cell::RefCell;
use std::io::BufRead;
use std::path::PathBuf;
use std::rc::Rc;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Cmd, ColorMode, CompletionType, Config, Editor, EventHandler, KeyCode, KeyEvent, Modifiers};

use super::entry::Entry;
use super::helper::PromptHelper;
use super::history;
use crate::output;
use crate::session::Session;

const PROMPT: &str = "> ";

/// The outcome of reading.
pub enum Line {
    /// A complete entry.
    Entry(String),
    /// Ctrl-C cleared what was typed.
    Cleared,
    /// The end of the input.
    End,
}

/// A source of entries.
pub enum Input {
    /// The line editor, and the file of its history.
    Terminal(Box<Editor<PromptHelper, DefaultHistory>>, Option<PathBuf>),
    /// Lines of standard input, joined until the parser finds them complete.
    Piped(Box<Entry>),
}

impl Input {
    /// A line editor, or plain lines if the terminal does not support one.
    pub fn terminal(session: Rc<RefCell<Session>>) -> Self {
        let color = if output::color_output() { ColorMode::Enabled } else { ColorMode::Disabled };
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .color_mode(color)
            .auto_add_history(false)
            .build();
        let mut editor = match Editor::with_config(config) {
            Ok(editor) => editor,
            Err(error) => {
                output::error_line(&format!("warning: no line editing on this terminal: {error}"));
                return Self::piped();
            }
        };
        editor.set_helper(Some(PromptHelper::new(session)));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), EventHandler::Simple(Cmd::Newline));
        let path = history::path();
        if let Some(path) = path.as_deref().filter(|path| path.exists())
            && let Err(error) = editor.load_history(path)
        {
            output::error_line(&format!("warning: the history `{}` cannot be read: {error}", path.display()));
        }
        Self::Terminal(Box::new(editor), path)
    }

    /// Lines of standard input.
    pub fn piped() -> Self {
        Self::Piped(Box::new(Entry::new()))
    }

    /// The next entry.
    pub fn read(&mut self) -> Line {
        match self {
            Self::Terminal(editor, path) => match editor.readline(PROMPT) {
                Ok(text) => {
                    remember(editor, path, &text);
                    Line::Entry(text)
                }
                Err(ReadlineError::Interrupted) => Line::Cleared,
                Err(ReadlineError::Eof) => Line::End,
                Err(error) => {
                    output::error_line(&format!("error: the terminal cannot be read: {error}"));
                    Line::End
                }
            },
            Self::Piped(entry) => read_lines(entry),
        }
    }
}

/// Adds an entry to the history at once, so that nothing is lost if the program is killed.
fn remember(editor: &mut Editor<PromptHelper, DefaultHistory>, path: &mut Option<PathBuf>, text: &str) {
    if text.trim().is_empty() || !editor.add_history_entry(text.trim_end()).unwrap_or(false) {
        return;
    }
    let failed =
        path.as_deref().and_then(|path| history::append(editor, path).err().map(|error| (path.to_path_buf(), error)));
    if let Some((file, error)) = failed {
        output::error_line(&format!("warning: the history `{}` cannot be written: {error}", file.display()));
        *path = None;
    }
}

fn read_lines(entry: &mut Entry) -> Line {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) if text.is_empty() => return Line::End,
            Ok(0) => return Line::Entry(text),
            Ok(_) => {}
            Err(error) => {
                output::error_line(&format!("error: standard input cannot be read: {error}"));
                return Line::End;
            }
        }
        text.push_str(&line);
        if entry.is_complete(&text) {
            return Line::Entry(text);
        }
    }
}
