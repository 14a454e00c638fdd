//! Colours of the text at the prompt.

use std::fmt::Write;

use crate::syntax::scan::{self, Kind};

/// `line` with its tokens coloured for a terminal.
pub fn paint(line: &str) -> String {
    let mut text = String::with_capacity(line.len() * 2);
    let mut done = 0;
    for token in scan::scan(line) {
        text.push_str(line.get(done..token.range.start).unwrap_or_default());
        let word = token.text(line);
        let _ = match style(token.kind) {
            Some(style) => write!(text, "\x1b[{style}m{word}\x1b[0m"),
            None => write!(text, "{word}"),
        };
        done = token.range.end;
    }
    text.push_str(line.get(done..).unwrap_or_default());
    text
}

fn style(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Keyword => Some("35"),
        Kind::Text => Some("32"),
        Kind::Number => Some("36"),
        Kind::Comment => Some("2"),
        Kind::Name | Kind::Symbol => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_are_added() {
        let line = "let s = `a${x}`; // é";
        let painted = paint(line);
        assert!(painted.contains("\x1b[35mlet\x1b[0m"));
        let mut plain = painted;
        for style in ["35", "32", "36", "2", "0"] {
            plain = plain.replace(&format!("\x1b[{style}m"), "");
        }
        assert_eq!(plain, line);
    }
}
