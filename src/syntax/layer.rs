//! Keeps the functions of texts apart. Rhai looks for a function in all texts whose functions are being run, the latest
//! first, and keeps what it found in one cache, by name and number of arguments: a script's function and one of a module
//! would stand for one another from their second call on, and a closure of the script that a module calls would call the
//! module's. So the body of each function and closure has a cache of its own, and those of a script see its own
//! functions first.

use super::insertion::Insertion;
use super::scan::{Kind, Token, scan};

/// Whose functions a text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The script's that is run
    Script,
    /// A module's, of that number
    Module(usize),
}

impl Owner {
    /// The word in front of the body of a function or closure.
    pub fn word(self) -> &'static str {
        match self {
            Self::Script => SCRIPT,
            Self::Module(_) => MODULE,
        }
    }
}

/// In front of a block with a cache of its own that sees the script's functions first.
pub const SCRIPT: &str = "with_functions_of_script";
/// In front of a block with a cache of its own.
pub const MODULE: &str = "with_functions_of_module";

/// What to put into the bodies of the functions of `source`, in order.
pub fn marks(source: &str, owner: Owner) -> Vec<Insertion> {
    let tokens: Vec<Token> = scan(source).into_iter().filter(|token| token.kind != Kind::Comment).collect();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let closing = closing(&tokens, source);
    let mut found = Vec::new();
    for start in (0..tokens.len()).filter(|index| text(*index) == "fn") {
        // A name, after a type where there is one.
        let Some(open) = (start + 1..start + 5).find(|index| text(*index) == "(") else { continue };
        let body = closing.get(open).map_or(tokens.len(), |close| close + 1);
        let (Some(first), Some(end)) = (tokens.get(body).filter(|_| text(body) == "{"), closing.get(body)) else {
            continue;
        };
        if let Some(last) = tokens.get(*end) {
            found.push(Insertion { at: first.range.end, text: format!(" {} {{", owner.word()) });
            found.push(Insertion { at: last.range.start, text: "} ".to_owned() });
        }
    }
    // The ends of functions within one another come before what follows them.
    found.sort_by_key(|insertion| insertion.at);
    found
}

/// For each bracket that opens, the token that closes it, or the end; one pass, however many are never closed.
fn closing(tokens: &[Token], source: &str) -> Vec<usize> {
    let mut closing = vec![tokens.len(); tokens.len()];
    let mut open = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.text(source) {
            "(" | "[" | "{" | "#{" | "?[" => open.push(index),
            ")" | "]" | "}" => {
                if let Some(place) = open.pop().and_then(|start| closing.get_mut(start)) {
                    *place = index;
                }
            }
            _ => {}
        }
    }
    closing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::insertion::inserted;

    fn marked(source: &str) -> String {
        inserted(source, &marks(source, Owner::Module(0)))
    }

    #[test]
    fn each_function_has_its_own_cache() {
        for (source, expected) in [
            ("fn f() { g() }", "fn f() { with_functions_of_module { g() } }"),
            (
                "private fn f(a, b) { if a { b } } fn g(x) {}",
                "private fn f(a, b) { with_functions_of_module { if a { b } } } fn g(x) { with_functions_of_module {} }",
            ),
            ("fn int.twice() { this * 2 }", "fn int.twice() { with_functions_of_module { this * 2 } }"),
            ("fn f(a) {\n  a // }\n}", "fn f(a) { with_functions_of_module {\n  a // }\n} }"),
        ] {
            assert_eq!(marked(source), expected);
        }
    }

    #[test]
    fn other_words_and_broken_text_stay() {
        let many = format!("{}{}", "fn f() ".repeat(50_000), "} ".repeat(1000));
        assert_eq!(marked(&many), many);
        for source in [
            "let fnord = 1;",
            "// fn f() {}",
            "\"fn f() {}\"",
            "fn",
            "fn f",
            "fn f(",
            "fn f()",
            "fn f() {",
            "fn f() } }",
            "fn f)(",
            "} fn",
        ] {
            assert_eq!(marked(source), source);
        }
    }
}
