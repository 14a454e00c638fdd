//! Finds closures that would take a function for a variable: in Rhai a closure does not capture a variable whose name a
//! function has that stands before it, and reads the function instead.

use super::closure;
use super::scan::{Kind, Token, scan};

/// The place, in bytes, and the name of the first variable that a closure would take for a function.
pub fn mistaken(source: &str) -> Option<(usize, &str)> {
    let tokens: Vec<Token> = scan(source).into_iter().filter(|token| token.kind != Kind::Comment).collect();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let functions: Vec<usize> = (0..tokens.len()).filter(|index| text(*index) == "fn").collect();
    let ends = closure::ends(&tokens, source);
    let mut from = 0;
    while let Some(start) = closure::first(&tokens, source, from) {
        let (body, end) = closure::body(&tokens, source, &ends, start)?;
        from = body;
        let outer = functions.iter().rev().find(|function| contains(&tokens, source, **function, start));
        for index in body..=end {
            let name = text(index);
            let is_name = tokens.get(index).is_some_and(|token| token.kind == Kind::Name);
            let is_member = matches!(text(index - 1), "." | "?." | "::");
            let is_call = matches!(text(index + 1), "(" | "::");
            let is_key = matches!(text(index - 1), "#{" | ",") && text(index + 1) == ":";
            let is_variable = is_name && !is_member && !is_call && !is_key;
            // A function is known from its end on.
            let stands_before = |function: usize| function < start && !contains(&tokens, source, function, start);
            let is_function =
                || functions.iter().any(|function| text(function + 1) == name && stands_before(*function));
            if is_variable
                && is_function()
                && is_bound(&tokens, source, name, &functions, outer.copied(), start)
                && !binds(&tokens, source, name, start..index)
            {
                return tokens.get(index).map(|token| (token.range.start, name));
            }
        }
    }
    None
}

/// Whether the body of the function at the token `function` holds the token `inner`.
fn contains(tokens: &[Token], source: &str, function: usize, inner: usize) -> bool {
    let open = (function..inner).find(|index| tokens.get(*index).is_some_and(|token| token.text(source) == "{"));
    open.is_some_and(|open| closure::closing(tokens, source, open) > inner)
}

/// Whether `name` is a variable at the token `at`: of the function that begins at `function`, or of the text outside all
/// functions.
fn is_bound(
    tokens: &[Token],
    source: &str,
    name: &str,
    functions: &[usize],
    function: Option<usize>,
    at: usize,
) -> bool {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let Some(function) = function else {
        let mut from = 0;
        for function in functions.iter().copied().filter(|function| *function < at) {
            if binds(tokens, source, name, from..function) {
                return true;
            }
            let open = (function..at).find(|index| text(*index) == "{");
            from = open.map_or(at, |open| closure::closing(tokens, source, open));
        }
        return from < at && binds(tokens, source, name, from..at);
    };
    let close = closure::closing(tokens, source, function + 2);
    (function + 3..close).any(|index| text(index) == name) || binds(tokens, source, name, close..at)
}

/// Whether the tokens of a range declare `name`: by `let`, `const` or `for`, or as a closure's parameter.
fn binds(tokens: &[Token], source: &str, name: &str, range: std::ops::Range<usize>) -> bool {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text(source));
    let before = |index: usize| index.checked_sub(1).map_or("", text);
    range.clone().filter(|index| text(*index) == name).any(|index| {
        matches!(before(index), "let" | "const" | "for")
            || (text(index + 1) == ")" || text(index + 1) == ",")
                && (range.start..index).rev().take(4).any(|at| text(at) == "for")
            || matches!(before(index), "|" | ",")
                && matches!(text(index + 1), "|" | ",")
                && in_parameters(tokens, source, index)
    })
}

/// Whether the token `index` stands between the bars of a closure.
fn in_parameters(tokens: &[Token], source: &str, index: usize) -> bool {
    let bar = (0..index).rev().find(|at| tokens.get(*at).is_some_and(|token| token.text(source) == "|"));
    bar.is_some_and(|bar| closure::first(tokens, source, bar) == Some(bar))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_with_the_name_of_a_function_is_found() {
        for (source, name) in [
            ("fn scale(x) { x } fn f() { let scale = 3; xs.map(|x| x * scale) }", "scale"),
            ("fn scale(x) { x } let scale = 3; xs.map(|x| { x * scale });", "scale"),
            ("fn a(x) { x } fn f(a, b) { |x| a + b }", "a"),
            ("fn a(x) { x } for a in xs { ys.map(|y| a + y) }", "a"),
            ("fn a(x) { x } |a| |y| a + y", "a"),
        ] {
            assert_eq!(mistaken(source).map(|(_, name)| name), Some(name), "{source}");
        }
    }

    #[test]
    fn functions_and_other_variables_are_as_they_seem() {
        for source in [
            "fn scale(x) { x } xs.map(|x| scale(x))",
            "fn scale(x) { x } xs.map(|x| ys.map(scale))",
            "fn scale(x) { x } xs.map(|scale| scale * 2)",
            "fn scale(x) { x } xs.map(|x| { let scale = 2; scale * x })",
            "fn scale(x) { x } fn f() { let scale = 3; scale } xs.map(|x| ys.map(scale))",
            "fn f() { let scale = 3; xs.map(|x| x * scale) } fn scale(x) { x }",
            "fn scale(x) { x } let scale = 3; xs.map(|x| x.scale)",
            "fn scale(scale) { xs.map(|x| x * scale) }",
            "fn scale(x) { x } let scale = 3; xs.map(|x| #{ scale: x })",
        ] {
            assert_eq!(mistaken(source), None, "{source}");
        }
    }
}
