//! Explains syntax errors.

use rhai::{LexError, ParseErrorType};

use super::call::article;
use super::python;
use super::words::{unknown_module, unknown_variable};
use super::{Explanation, Site};
use crate::catalog::script_type;
use crate::syntax::scan;

/// Explains an error of the parser.
pub fn explain(error: &ParseErrorType, site: &Site) -> Explanation {
    match error {
        ParseErrorType::VariableUndefined(name) => return unknown_variable(name, site),
        ParseErrorType::ModuleUndefined(name) => return unknown_module(name, site),
        _ => {}
    }
    let mut explanation = Explanation::new(message(error, site)).maybe_hint(own_hint(error));
    if matches!(error, ParseErrorType::MissingToken(token, _) if token == ";") && !ended(site) {
        // The parser reports the next token, but the statement ends at the token before.
        let before = scan::scan(site.before()).into_iter().rev().find(|token| token.kind != scan::Kind::Comment);
        explanation.span = before.map(|token| token.range);
        explanation.label = Some("after this".to_owned());
    }
    // Words of other languages end up as names before the token that cannot follow them.
    let words = [site.token(), previous_word(site.before())];
    let hint = words.into_iter().find_map(python::word).or_else(|| python::syntax(site.token(), site.before()));
    explanation.maybe_hint(hint.map(str::to_owned))
}

/// Whether nothing follows the place of the error.
fn ended(site: &Site) -> bool {
    let rest = site.span.as_ref().and_then(|span| site.text.get(span.end..));
    rest.is_none_or(|rest| rest.trim().is_empty())
}

fn message(error: &ParseErrorType, site: &Site) -> String {
    match error {
        // At the end of the text only a statement inside a block lacks anything.
        ParseErrorType::MissingToken(token, _) if token == ";" && ended(site) => {
            "the text ends inside a block; a `}` is missing".to_owned()
        }
        ParseErrorType::UnexpectedEOF => "the text ends before the statement does".to_owned(),
        ParseErrorType::BadInput(LexError::UnterminatedString) => "this string has no closing quote".to_owned(),
        ParseErrorType::BadInput(LexError::Runtime(message)) => message.clone(),
        ParseErrorType::BadInput(LexError::UnexpectedInput(text)) => match invisible(text) {
            Some(character) => format!("the character U+{:04X} is not expected here", u32::from(character)),
            None => format!("`{text}` is not expected here"),
        },
        ParseErrorType::BadInput(LexError::MalformedEscapeSequence(text)) => {
            format!("`{text}` is not an escape sequence")
        }
        ParseErrorType::BadInput(LexError::MalformedNumber(text)) => format!("`{text}` is not a number"),
        ParseErrorType::BadInput(LexError::ImproperSymbol(symbol, _)) if !symbol.is_empty() => {
            format!("`{symbol}` is not an operator here")
        }
        ParseErrorType::UnknownOperator(symbol) => format!("`{symbol}` is not an operator"),
        ParseErrorType::MissingToken(token, _) if token == ";" => {
            "expected `;` at the end of this statement".to_owned()
        }
        ParseErrorType::MissingToken(token, why) => format!("expected `{token}` {why}").trim_end().to_owned(),
        ParseErrorType::ExprExpected(what) => format!("expected {}", article(&format!("{what} expression"))),
        ParseErrorType::Reserved(word) => format!("`{word}` is a word of the language and cannot be used here"),
        ParseErrorType::AssignmentToConstant(name) => format!("`{name}` is a constant and cannot be changed"),
        ParseErrorType::AssignmentToInvalidLHS(_) => "this cannot be assigned to".to_owned(),
        ParseErrorType::FnDuplicatedDefinition(name, count) => {
            format!("the function `{name}` with {count} parameters is defined twice")
        }
        ParseErrorType::FnDuplicatedParam(function, name) => {
            format!("two parameters of `{function}` are named `{name}`")
        }
        ParseErrorType::FnMissingParams(name) => format!("the function `{name}` has no list of parameters"),
        ParseErrorType::DuplicatedProperty(name) => format!("the key `{name}` is given twice"),
        ParseErrorType::WrongFnDefinition => "functions are defined at the top level, not inside others".to_owned(),
        ParseErrorType::MismatchedType(wanted, found) => {
            // Rhai gives a type here, or a phrase.
            let wanted = if wanted.contains(' ') { wanted.clone() } else { article(&script_type(wanted)) };
            format!("expected {wanted}, not {found}")
        }
        ParseErrorType::ExprTooDeep => "this expression is nested too deeply".to_owned(),
        ParseErrorType::LoopBreak => format!("`{}` stands outside a loop", site.token()),
        other => lower_first(&other.to_string().replace('\'', "`")),
    }
}

fn own_hint(error: &ParseErrorType) -> Option<String> {
    let text = match error {
        ParseErrorType::BadInput(LexError::UnterminatedString) => {
            "text over several lines goes between backquotes, `...`"
        }
        ParseErrorType::BadInput(LexError::Runtime(message)) if message.contains("function") => {
            "give one of them another name"
        }
        ParseErrorType::BadInput(LexError::Runtime(_)) => "a comment ends with `*/`, and so does each one inside it",
        ParseErrorType::BadInput(LexError::UnexpectedInput(text)) if invisible(text).is_some() => {
            "it looks like a space, or like nothing; between words stand only the space, the tab and line ends"
        }
        ParseErrorType::AssignmentToInvalidLHS(_) => {
            "nothing keeps a change of what a function returns; put it into a variable first: `let x = f();`"
        }
        ParseErrorType::AssignmentToConstant(_) => "declare it with `let` to change it later",
        ParseErrorType::WrongFnDefinition => {
            "inside a function, use a closure: `let f = |x| x + 1;`, called as `f.call(2)`"
        }
        ParseErrorType::BadInput(LexError::UnexpectedInput(text)) if text.starts_with(char::is_alphabetic) => {
            "names are made of the letters a to z, digits and `_`"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// The only character of `text`, if it is invisible.
fn invisible(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next().filter(|_| characters.next().is_none())?;
    (first.is_whitespace() || first.is_control() || console::measure_text_width(text) == 0).then_some(first)
}

fn previous_word(before: &str) -> &str {
    let before = before.trim_end();
    let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    before.get(start..).unwrap_or_default()
}

/// The text with a small first letter.
pub fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
