//! Finds closures in the tokens of a text, and makes those of a module differ from the closures of every other text.
//! Rhai names a closure by its parameters and its body, so that two modules with the same closure, each of which calls
//! a function of its own, would share one of them. A statement that says the module's number goes into each body. A body
//! also gets a cache of its own (see `layer`).

use super::insertion::Insertion;
use super::layer::Owner;
use super::scan::{self, Kind, Token, scan};

/// What to put around and into the closures of a text, in order.
pub fn marks(source: &str, owner: Owner) -> Vec<Insertion> {
    let word = owner.word();
    let number = match owner {
        Owner::Script => String::new(),
        Owner::Module(number) => format!(" {number};"),
    };
    let tokens: Vec<Token> = scan(source).into_iter().filter(|token| token.kind != Kind::Comment).collect();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let ends = ends(&tokens, source);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = first(&tokens, source, from) {
        let Some((body, last)) = body(&tokens, source, &ends, start) else { break };
        from = body;
        let (Some(bar), Some(brace), Some(end)) = (tokens.get(body - 1), tokens.get(body), tokens.get(last)) else {
            break;
        };
        if text(from) == "{" {
            found.push(Insertion { at: bar.range.end, text: format!(" {word}") });
            if !number.is_empty() {
                found.push(Insertion { at: brace.range.end, text: number.clone() });
            }
        } else if last >= from {
            found.push(Insertion { at: bar.range.end, text: format!(" {word} {{{number}") });
            found.push(Insertion { at: end.range.end, text: " }".to_owned() });
        }
    }
    for text in tokens.iter().filter(|token| token.text(source).starts_with('`')) {
        for code in scan::interpolations(text.text(source)).1 {
            let start = text.range.start + code.start;
            let within = marks(source.get(start..text.range.start + code.end).unwrap_or_default(), owner);
            found.extend(within.into_iter().map(|mark| Insertion { at: start + mark.at, ..mark }));
        }
    }
    found.sort_by_key(|insertion| insertion.at);
    found
}

/// The token of the first closure's first bar, of the tokens at `from` and behind it.
pub fn first(tokens: &[Token], source: &str, from: usize) -> Option<usize> {
    let ends_value = |token: &Token| {
        matches!(token.kind, Kind::Name | Kind::Number | Kind::Text) || matches!(token.text(source), ")" | "]" | "this")
    };
    let begins = |index: &usize| {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        tokens.get(*index).is_some_and(|token| matches!(token.text(source), "|" | "||"))
            && !before.is_some_and(ends_value)
    };
    (from..tokens.len()).find(begins)
}

/// The token that closes the bracket `open`, or the end.
pub fn closing(tokens: &[Token], source: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text(source) {
            "(" | "[" | "{" | "#{" | "?[" => depth += 1,
            ")" | "]" | "}" if depth == 1 => return index,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The first and the last token of the body of the closure whose first bar is the token `start`; the last is the one
/// before the first if there is no body. `ends` are those of the tokens.
pub fn body(tokens: &[Token], source: &str, ends: &[usize], start: usize) -> Option<(usize, usize)> {
    let is_bar = |index: &usize| tokens.get(*index).is_some_and(|token| token.text(source) == "|");
    let bar = match tokens.get(start)?.text(source) {
        "||" => start,
        _ => (start + 1..tokens.len()).find(is_bar)?,
    };
    let end = ends.get(bar + 1).copied().unwrap_or(tokens.len());
    Some((bar + 1, end - 1))
}

/// For each token, the token at which an expression that begins there has ended: a comma, a semicolon or the bracket
/// around it. All at once, since each closure in a chain of closures ends where the last one does.
pub fn ends(tokens: &[Token], source: &str) -> Vec<usize> {
    let mut ends = vec![tokens.len(); tokens.len()];
    let mut around = vec![tokens.len()];
    for (index, token) in tokens.iter().enumerate().rev() {
        match token.text(source) {
            ")" | "]" | "}" => around.push(index),
            "(" | "[" | "{" | "#{" | "?[" if around.len() > 1 => {
                around.pop();
            }
            "," | ";" => {
                around.pop();
                around.push(index);
            }
            _ => {}
        }
        if let (Some(end), Some(last)) = (ends.get_mut(index), around.last()) {
            *end = *last;
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::insertion::inserted;

    fn marked(source: &str) -> String {
        inserted(source, &marks(source, Owner::Module(7)))
    }

    #[test]
    fn each_closure_says_its_module() {
        for (source, expected) in [
            ("xs.map(|x| f(x, [1]))", "xs.map(|x| with_functions_of_module { 7; f(x, [1]) })"),
            ("let f = || { a; b };", "let f = || with_functions_of_module { 7; a; b };"),
            (
                "[|x, y| x.y = y, |x| #{ a: x }]",
                "[|x, y| with_functions_of_module { 7; x.y = y }, |x| with_functions_of_module { 7; #{ a: x } }]",
            ),
            (
                "fn f(a) { |x| |y| g(x, y) // h\n}",
                "fn f(a) { |x| with_functions_of_module { 7; |y| with_functions_of_module { 7; g(x, y) } } // h\n}",
            ),
            (
                "`${f(|x| x)} | ${`${f(|| 1)}`}`",
                "`${f(|x| with_functions_of_module { 7; x })} | ${`${f(|| with_functions_of_module { 7; 1 })}`}`",
            ),
            (
                "return |x| if x > 1 { 1 } else { 2 };",
                "return |x| with_functions_of_module { 7; if x > 1 { 1 } else { 2 } };",
            ),
        ] {
            assert_eq!(marked(source), expected);
        }
    }

    #[test]
    fn other_bars_and_broken_text_stay() {
        for source in ["a | b || c", "1 | 2", "f(|x|)", "f(|x", "// |x| x", "|", "||", "let f = |x|"] {
            assert_eq!(marked(source), source);
        }
    }
}
