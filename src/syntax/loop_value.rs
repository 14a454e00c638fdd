//! Gives each turn of a `for` loop a loop variable of its own, where a closure in the loop uses it: in Rhai all of them
//! would see the value of the last turn. The loop gets a copy of the variable, `let x = x;`, at its beginning.

use super::closure;
use super::insertion::Insertion;
use super::scan::{Kind, Token, scan, words};

/// The copies that `source` needs, in order.
pub fn copies(source: &str) -> Vec<Insertion> {
    let tokens: Vec<Token> = scan(source).into_iter().filter(|token| token.kind != Kind::Comment).collect();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let mut found = Vec::new();
    for (start, _) in tokens.iter().enumerate().filter(|(index, _)| text(*index) == "for") {
        // `for x in` or `for (x, count) in`
        let Some(length) = (1..=6).find(|ahead| text(start + ahead) == "in") else { continue };
        let names: Vec<&str> = (start + 1..start + length)
            .filter(|index| tokens.get(*index).is_some_and(|token| token.kind == Kind::Name))
            .map(text)
            .collect();
        let Some(open) = body(&tokens, source, start + length + 1) else { continue };
        let close = closure::closing(&tokens, source, open);
        if close == open + 1 {
            // Without a statement Rhai would not look at what is gone through, nor at its errors.
            let first = names.first().map_or("", |name| *name);
            found.extend(
                tokens
                    .get(open)
                    .map(|brace| Insertion { at: brace.range.end, text: format!(" let {first} = {first};") }),
            );
            continue;
        }
        let within = tokens.get(..close).unwrap_or_default();
        let Some(closure) = closure::first(within, source, open + 1) else { continue };
        // What stands behind the closure counts, too: a copy too many does no harm.
        let start = within.get(closure).map_or(source.len(), |token| token.range.start);
        let end = tokens.get(close).map_or(source.len(), |token| token.range.start);
        let used = words(source.get(start..end).unwrap_or_default());
        let own = names.iter().filter(|name| used.contains(**name));
        let copies: String = own.map(|name| format!(" let {name} = {name};")).collect();
        if let Some(brace) = tokens.get(open).filter(|_| !copies.is_empty()) {
            found.push(Insertion { at: brace.range.end, text: copies });
        }
    }
    found
}

/// The brace that opens the body of a loop whose iterated expression starts at the token `from`.
fn body(tokens: &[Token], source: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        match token.text(source) {
            "{" if depth == 0 => return Some(index),
            "(" | "[" | "{" | "#{" | "?[" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::insertion::inserted;

    fn changed(source: &str) -> String {
        inserted(source, &copies(source))
    }

    #[test]
    fn only_loops_whose_closures_use_the_variable_get_a_copy() {
        for source in [
            "for x in 0..3 { f(x) }",
            "for x in 0..3 { f(|y| y) }",
            "for x in 0..3 { if x == 1 || x == 2 { f(a | x) } }",
            "xs.for_each(|x| f(x)); // for x in y { |z| x }",
            "`for x in y { |z| x }`",
            "for x in [1, 2",
            "for",
        ] {
            assert_eq!(changed(source), source);
        }
    }

    #[test]
    fn copies_stand_at_the_beginning_of_the_loop() {
        assert_eq!(changed("for x in f({ 1 }) {\n  g(|y| x);\n}"), "for x in f({ 1 }) { let x = x;\n  g(|y| x);\n}");
        assert_eq!(changed("for x in f() {}"), "for x in f() { let x = x;}");
        assert_eq!(
            changed("for (é, i) in xs { for j in 0..i { hooks.push(|| print(`${i} ${j}`)); } }"),
            "for (é, i) in xs { let i = i; for j in 0..i { let j = j; hooks.push(|| print(`${i} ${j}`)); } }"
        );
    }
}
