//! Follows a text that grows line by line: whether a bracket, a string or a comment is open at its end. A line is
//! scanned once, unless it is within a string or comment of several lines.

use super::scan;

/// What is open at the end of a text.
#[derive(Debug, Default)]
pub struct Open {
    /// The lines so far.
    text: String,
    /// How many of their bytes are counted in `brackets`: all, or those before an open string or comment.
    counted: usize,
    brackets: usize,
}

impl Open {
    /// Whether something is open at the end of `text`, which is usually that of the last call with more lines. False if
    /// the text closes a bracket that was not open.
    pub fn is_open(&mut self, text: &str) -> bool {
        if !text.starts_with(&self.text) {
            *self = Self::default();
        }
        self.text.push_str(&text[self.text.len()..]);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
        let rest = &self.text[self.counted..];
        let mut tokens = scan::scan(rest);
        // Only an open string or comment goes beyond the end of its line.
        let unclosed = tokens.pop_if(|token| token.range.end == rest.len());
        let mut balanced = true;
        for token in tokens {
            match token.text(rest) {
                "(" | "[" | "{" | "#{" | "?[" => self.brackets += 1,
                ")" | "]" | "}" if self.brackets == 0 => balanced = false,
                ")" | "]" | "}" => self.brackets -= 1,
                _ => {}
            }
        }
        self.counted += unclosed.as_ref().map_or(rest.len(), |token| token.range.start);
        balanced && (self.brackets > 0 || unclosed.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether something is open after each line.
    fn after_lines(text: &str) -> Vec<bool> {
        let mut open = Open::default();
        let ends = text.match_indices('\n').map(|(end, _)| end).chain([text.len()]);
        ends.map(|end| open.is_open(&text[..end])).collect()
    }

    #[test]
    fn brackets_strings_and_comments_are_followed_over_lines() {
        assert_eq!(after_lines("fn f(x) {\n  \"}\" // }\n  x\n}\n1"), [true, true, true, false, false]);
        assert_eq!(
            after_lines("let a = [ #{ b: `\n]} ${\n1 }`,\n}, m?[\n0]\n]"),
            [true, true, true, true, true, false]
        );
        assert_eq!(after_lines("/* { /*\n*/ }\n*/\n(`)`"), [true, true, false, true]);
        assert_eq!(after_lines("f(\n)) (\n1"), [true, false, true]);
    }

    #[test]
    fn another_text_starts_anew() {
        let mut open = Open::default();
        assert!(open.is_open("f(["));
        assert!(open.is_open("f(\n"));
        assert!(!open.is_open("f()"));
        assert!(open.is_open("f()\n{"));
    }
}
