//! Gives a method that only reads a copy of the variable it is called on, where a closure among its arguments uses that
//! variable, as in `names.map(|name| names.len())`: Rhai holds the variable while the method runs, so that the closure
//! could not read it. The copy is the variable in a call of `OWN`.

use super::closure;
use super::insertion::Insertion;
use super::scan::{Kind, Token, scan, words};

/// The function that copies a value.
pub const OWN: &str = "own_value";

/// The methods with a closure that change nothing.
const READERS: [&str; 8] = ["all", "filter", "find", "find_map", "map", "reduce", "reduce_rev", "some"];
/// The methods without one that may stand before them.
const STEPS: [&str; 11] =
    ["enumerate", "extract", "get", "items", "keys", "split", "to_array", "to_chars", "to_list", "topk", "values"];

/// The copies that `source` needs, in order.
pub fn copies(source: &str) -> Vec<Insertion> {
    let tokens: Vec<Token> = scan(source).into_iter().filter(|token| token.kind != Kind::Comment).collect();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let mut found = Vec::new();
    for (start, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Name) {
        let before = start.checked_sub(1).map_or("", text);
        if !matches!(before, "." | "?." | "::" | "let" | "const") && is_used_within(&tokens, source, start) {
            found.push(Insertion { at: token.range.start, text: format!("{OWN}(") });
            found.push(Insertion { at: token.range.end, text: ")".to_owned() });
        }
    }
    found
}

/// Whether a closure in the chain of methods on the variable `start` uses that variable.
fn is_used_within(tokens: &[Token], source: &str, start: usize) -> bool {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let mut at = start + 1;
    loop {
        match text(at) {
            "[" => at = closure::closing(tokens, source, at) + 1,
            "." | "?." if text(at + 2) == "(" => {
                let close = closure::closing(tokens, source, at + 2);
                let method = text(at + 1);
                if READERS.contains(&method) {
                    let arguments = tokens.get(..close).unwrap_or_default();
                    let uses = closure::first(arguments, source, at + 3).is_some_and(|closure| {
                        let end = tokens.get(close).map_or(source.len(), |token| token.range.start);
                        let from = tokens.get(closure).map_or(end, |token| token.range.start);
                        words(source.get(from..end).unwrap_or_default()).contains(text(start))
                    });
                    if uses {
                        return true;
                    }
                } else if !STEPS.contains(&method) {
                    return false;
                }
                at = close + 1;
            }
            "." | "?." => at += 2,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::insertion::inserted;

    fn changed(source: &str) -> String {
        inserted(source, &copies(source))
    }

    #[test]
    fn readers_whose_closures_use_the_variable_get_a_copy() {
        for (source, expected) in [
            ("xs.map(|x| xs.len())", "own_value(xs).map(|x| xs.len())"),
            (
                "let a = top.ids[0].to_array().map(|x, i| top.values[i]);",
                "let a = own_value(top).ids[0].to_array().map(|x, i| top.values[i]);",
            ),
            ("m.keys().filter(|k| m[k] > 1).map(|k| m[k])", "own_value(m).keys().filter(|k| m[k] > 1).map(|k| m[k])"),
            ("a.map(|x| b.all(|y| b == a))", "own_value(a).map(|x| own_value(b).all(|y| b == a))"),
        ] {
            assert_eq!(changed(source), expected);
        }
    }

    #[test]
    fn what_may_change_the_variable_stays() {
        for source in [
            "xs.map(|x| ys)",
            "xs.map(xs)",
            "xs.push(|x| xs)",
            "xs.drain(0, 2).map(|x| xs)",
            "xs.for_each(|x| xs)",
            "a.xs.map(|x| xs)",
            "a::xs.map(|x| a)",
            "xs.sort(|a, b| xs)",
            "xs.map(|x|",
            "xs.",
        ] {
            assert_eq!(changed(source), source);
        }
    }
}
