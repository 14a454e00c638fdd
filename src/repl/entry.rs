//! Decides where an entry ends.

use rhai::Engine;

use crate::session::engine;
use crate::syntax::open::Open;

/// A longer entry with an open bracket is parsed again only when it has grown by an eighth, so that a long one does not
/// take a parse for each of its lines.
const SHORT: usize = 4096;

/// Follows an entry while its lines come in.
pub struct Entry {
    parser: Engine,
    open: Open,
    /// The length of the text that was parsed last.
    parsed: usize,
}

impl Entry {
    /// No lines yet.
    pub fn new() -> Self {
        Self { parser: engine::parser(), open: Open::default(), parsed: 0 }
    }

    /// Whether `text` is a complete entry: a command, or code that more lines cannot continue.
    pub fn is_complete(&mut self, text: &str) -> bool {
        if text.trim_start().starts_with(':') {
            return true;
        }
        let grown = self.parsed..self.parsed + self.parsed / 8;
        if self.open.is_open(text) && text.len() > SHORT && grown.contains(&text.len()) {
            return false;
        }
        self.parsed = text.len();
        !engine::is_incomplete(&self.parser, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_entry_ends_where_its_brackets_close() {
        let mut entry = Entry::new();
        let mut text = "fn long() {\n".to_owned();
        for line in 0..1000 {
            text.push_str(&format!("  let x = {line};\n"));
            assert!(!entry.is_complete(&text), "{line}");
        }
        text.push_str("}\n");
        assert!(entry.is_complete(&text));
        assert!(entry.is_complete("1 + 1"));
        assert!(entry.is_complete(&text));
    }

    #[test]
    fn a_wrong_entry_ends_before_it_has_grown_much() {
        let mut entry = Entry::new();
        let start = format!("f(\n{}", "  1,\n".repeat(2000));
        assert!(!entry.is_complete(&start));
        let wrong = (1..400).find(|lines| entry.is_complete(&format!("{start}let{}", "\n  1,".repeat(*lines))));
        assert!(wrong.is_some());
    }
}
