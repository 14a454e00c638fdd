//! A scanner that never fails: cuts script text into tokens, even if it is incomplete or wrong. It finds the token an
//! error points at, colours the prompt and serves completion; the parser itself is Rhai's.

use std::collections::HashSet;
use std::ops::Range;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word of the language.
    Keyword,
    /// A name.
    Name,
    /// A number.
    Number,
    /// A string or character, with its quotes; an unclosed one reaches to the end.
    Text,
    /// A comment.
    Comment,
    /// An operator or a bracket.
    Symbol,
}

/// A token and the bytes it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its kind.
    pub kind: Kind,
    /// Its place, in bytes.
    pub range: Range<usize>,
}

impl Token {
    /// The token's text.
    pub fn text<'a>(&self, source: &'a str) -> &'a str {
        source.get(self.range.clone()).unwrap_or_default()
    }
}

/// The words of the language.
pub const KEYWORDS: [&str; 29] = [
    "let", "const", "if", "else", "switch", "do", "while", "until", "loop", "for", "in", "continue", "break", "return",
    "throw", "try", "catch", "fn", "private", "import", "export", "as", "true", "false", "this", "global", "Fn",
    "call", "curry",
];

const SYMBOLS: [&str; 35] = [
    "<<=", ">>=", "**=", "..=", "==", "!=", "<=", ">=", "&&", "||", "=>", "::", "..", "+=", "-=", "*=", "/=", "%=",
    "??", "?.", "?[", "**", "<<", ">>", "#{", "->", "|=", "&=", "^=", "++", "--", "!in", "===", "!==", ":=",
];

/// The tokens of `source`, without the white space between them. Only ASCII's white space separates, as in Rhai.
pub fn scan(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = source.get(start..).and_then(|rest| rest.chars().next()) {
        if first.is_ascii_whitespace() {
            start += first.len_utf8();
            continue;
        }
        let rest = source.get(start..).unwrap_or_default();
        let (kind, length) = token(first, rest);
        let length = length.clamp(first.len_utf8(), rest.len());
        tokens.push(Token { kind, range: start..start + length });
        start += length;
    }
    tokens
}

fn token(first: char, rest: &str) -> (Kind, usize) {
    // Rhai allows `#!` only in the first line, for the shell.
    if rest.starts_with("//") || rest.starts_with("#!") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest).unwrap_or(rest.len()));
    }
    if let Some(length) = raw_string(rest) {
        return (Kind::Text, length);
    }
    match first {
        '"' => (Kind::Text, quoted(rest, '"')),
        '\'' => (Kind::Text, quoted(rest, '\'')),
        '`' => (Kind::Text, interpolated(rest)),
        _ if first.is_ascii_digit() => (Kind::Number, number(rest)),
        _ if first.is_alphabetic() || first == '_' => {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = rest.get(..length).unwrap_or_default();
            (if KEYWORDS.contains(&word) { Kind::Keyword } else { Kind::Name }, length)
        }
        _ => {
            let symbol = SYMBOLS.iter().filter(|symbol| rest.starts_with(**symbol)).map(|symbol| symbol.len()).max();
            (Kind::Symbol, symbol.unwrap_or(first.len_utf8()))
        }
    }
}

fn number(rest: &str) -> usize {
    let mut previous = ' ';
    for (at, c) in rest.char_indices() {
        let decimal_point =
            c == '.' && rest.get(at + 1..).is_some_and(|after| after.starts_with(|d: char| d.is_ascii_digit()));
        let exponent_sign = (c == '-' || c == '+') && matches!(previous, 'e' | 'E') && !rest.starts_with("0x");
        if !(c.is_ascii_alphanumeric() || c == '_' || decimal_point || exponent_sign) {
            return at;
        }
        previous = c;
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A back-quoted string; `${...}` inside it may hold further strings.
fn interpolated(rest: &str) -> usize {
    interpolations(rest).0
}

/// The length of a back-quoted string, and the bytes of each code inside its `${...}`.
pub fn interpolations(rest: &str) -> (usize, Vec<Range<usize>>) {
    let mut codes = Vec::new();
    let mut at = 1;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with('`') {
            return (at + 1, codes);
        }
        if tail.starts_with("${") {
            let length = embedded(tail.get(2..).unwrap_or_default());
            codes.push(at + 2..at + 1 + length);
            at += 2 + length;
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    (rest.len(), codes)
}

/// The length of the code inside `${...}`, with the closing brace.
fn embedded(code: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(first) = code.get(at..).and_then(|tail| tail.chars().next()) {
        let tail = code.get(at..).unwrap_or_default();
        match first {
            '}' if depth == 0 => return at + 1,
            '}' => depth -= 1,
            '{' => depth += 1,
            _ => {}
        }
        at += if first.is_ascii_whitespace() { first.len_utf8() } else { token(first, tail).1.max(first.len_utf8()) };
        if tail.starts_with("#{") {
            depth += 1;
        }
    }
    code.len()
}

/// The length of `#"..."#`, with the same number of `#` on both sides.
fn raw_string(rest: &str) -> Option<usize> {
    let marks = rest.len() - rest.trim_start_matches('#').len();
    let text = rest.get(marks..)?.strip_prefix('"').filter(|_| marks > 0)?;
    let end = format!("\"{}", "#".repeat(marks));
    Some(text.find(&end).map_or(rest.len(), |at| marks + 1 + at + end.len()))
}

/// The length of a comment, which may contain others. `None` if it is not closed.
fn block_comment(rest: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// The most brackets of a text that stand within each other.
pub fn nesting(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in scan(source) {
        match token.text(source) {
            "(" | "[" | "{" | "#{" | "?[" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The first byte of a block comment that is not closed.
pub fn unclosed_comment(source: &str) -> Option<usize> {
    // Only the last token can extend to the end.
    let last = scan(source).pop()?;
    let text = last.text(source);
    (text.starts_with("/*") && block_comment(text).is_none()).then_some(last.range.start)
}

/// The name of the function whose body holds the byte `offset`.
pub fn enclosing_function(source: &str, offset: usize) -> Option<String> {
    let mut depth = 0_usize;
    let mut pending: Option<String> = None;
    let mut open: Vec<(String, usize)> = Vec::new();
    let tokens = scan(source);
    for (index, token) in tokens.iter().enumerate() {
        if token.range.start >= offset {
            break;
        }
        match token.text(source) {
            "fn" => pending = tokens.get(index + 1).map(|name| name.text(source).to_owned()),
            "{" | "#{" => {
                depth += 1;
                if let Some(name) = pending.take() {
                    open.push((name, depth));
                }
            }
            "}" => {
                if open.last().is_some_and(|(_, at)| *at == depth) {
                    open.pop();
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    open.pop().map(|(name, _)| name)
}

/// The words of `source`, wherever they stand: every name that it uses is among them.
pub fn words(source: &str) -> HashSet<&str> {
    source.split(|character: char| !character.is_alphanumeric() && character != '_').collect()
}

/// The names that follow one of `words` (`let`, `const`, `fn`, ...) in `source`.
pub fn declared(source: &str, words: &[&str]) -> Vec<String> {
    let tokens = scan(source);
    tokens
        .windows(2)
        .filter(|pair| matches!(pair, [word, name] if words.contains(&word.text(source)) && name.kind == Kind::Name))
        .filter_map(|pair| pair.last().map(|name| name.text(source).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        scan(source).iter().map(|token| token.text(source)).collect()
    }

    #[test]
    fn cuts_ordinary_code() {
        assert_eq!(
            texts("let x = a.b(1.5e-3, 0..10);"),
            ["let", "x", "=", "a", ".", "b", "(", "1.5e-3", ",", "0", "..", "10", ")", ";"]
        );
    }

    #[test]
    fn strings_hold_code_and_need_not_be_closed() {
        assert_eq!(texts("`a ${ f(\"}\", `${x}`) } b` + c"), ["`a ${ f(\"}\", `${x}`) } b`", "+", "c"]);
        assert_eq!(texts("`${#{a: 1}.a}` x"), ["`${#{a: 1}.a}`", "x"]);
        assert_eq!(texts(r#""a\"b" c"#), [r#""a\"b""#, "c"]);
        assert_eq!(texts("\"open"), ["\"open"]);
        assert_eq!(texts("`open ${"), ["`open ${"]);
        assert_eq!(texts("/* a /* b */ c */ d"), ["/* a /* b */ c */", "d"]);
        assert_eq!(texts(r###"#"a\"# b ##"c"#/*"## d"###), [r###"#"a\"#"###, "b", r###"##"c"#/*"##"###, "d"]);
    }

    #[test]
    fn finds_the_comment_that_is_not_closed() {
        assert_eq!(unclosed_comment("1 /* a /* b */"), Some(2));
        for closed in ["", "1 /* a /* b */ */ 2", "// /*", "\"/*\"", "`${\"/*\"} /*`", "#\"/*\"#", "'/' * 2"] {
            assert_eq!(unclosed_comment(closed), None, "{closed}");
        }
    }

    #[test]
    fn knows_the_enclosing_function() {
        let source = "let a = 1; fn f(x) { if x { a } } a";
        assert_eq!(enclosing_function(source, source.find("{ a").unwrap_or(0) + 2), Some("f".to_owned()));
        assert_eq!(enclosing_function(source, source.len() - 1), None);
    }

    #[test]
    fn every_cut_of_a_text_can_be_scanned() {
        let source = "fn é(x) { `${x + \"ä\"}` } /* ü */ 'x' #{a: -1.0e5} ?? b";
        for (at, _) in source.char_indices() {
            let covered: usize = scan(&source[..at]).iter().map(|token| token.range.len()).sum();
            assert!(covered <= at);
        }
    }
}
