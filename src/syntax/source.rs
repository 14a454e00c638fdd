//! Every compiled text, by name, and the place of each function in it, so that errors can point at their cause.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use rhai::{AST, Position};

use super::scan;

/// A function of a compiled text.
#[derive(Debug, Clone)]
pub struct FunctionSite {
    /// Its name; closures have one that starts with `anon$`.
    pub name: String,
    /// The names of its parameters, captured variables of a closure first.
    pub parameters: Vec<String>,
    /// The name of the text that holds it.
    pub source: String,
    start: Position,
    end: Position,
}

impl FunctionSite {
    fn holds(&self, position: Position) -> bool {
        let key = |position: Position| (position.line(), position.position());
        position.is_none() || (key(self.start) <= key(position) && key(position) <= key(self.end))
    }
}

/// The texts of a session.
#[derive(Debug, Default)]
pub struct SourceMap {
    texts: HashMap<String, Rc<str>>,
    functions: Vec<FunctionSite>,
}

impl SourceMap {
    /// Stores `text` under `name`, in place of an earlier text of that name.
    pub fn insert(&mut self, name: &str, text: &str) {
        self.texts.insert(name.to_owned(), text.into());
    }

    /// The text of that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(AsRef::as_ref)
    }

    /// Stores the places of the functions in a compiled text.
    pub fn record(&mut self, name: &str, ast: &AST) {
        self.functions.retain(|site| site.source != name);
        self.functions.extend(ast.iter_fn_def().map(|function| FunctionSite {
            name: function.name.to_string(),
            parameters: function.params.iter().map(ToString::to_string).collect(),
            source: name.to_owned(),
            start: function.body.start_position(),
            end: function.body.end_position(),
        }));
    }

    /// The function `name` in which an error at `position` happened. Rhai's name of the text, `reported`, is correct
    /// only for named functions of modules, so the place decides among functions of one name.
    pub fn function(&self, name: &str, reported: &str, position: Position) -> Option<&FunctionSite> {
        let named = || self.functions.iter().rev().filter(|site| site.name == name);
        named()
            .find(|site| site.source == reported && site.holds(position))
            .or_else(|| named().find(|site| site.holds(position)))
            .or_else(|| named().next())
    }

    /// The functions of that name, latest first.
    pub fn functions_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a FunctionSite> {
        self.functions.iter().rev().filter(move |site| site.name == name)
    }

    /// The bytes of the token at `position`; past the end, those of the last character.
    pub fn span(&self, source: &str, position: Position) -> Option<Range<usize>> {
        let text = self.text(source)?;
        let offset = offset(text, position)?;
        if let Some(token) = scan::scan(text).into_iter().find(|token| token.range.contains(&offset)) {
            // A long token, such as an unclosed string, is marked where it starts.
            let line_end = text.get(offset..)?.find('\n').map_or(text.len(), |length| offset + length);
            return Some(token.range.start..token.range.end.min(line_end.max(token.range.start + 1)));
        }
        let last = text.trim_end().char_indices().next_back()?;
        if offset < last.0 { Some(offset..offset + 1) } else { Some(last.0..last.0 + last.1.len_utf8()) }
    }
}

/// The byte at which `position` lies; the end of the line if it is past that.
pub fn offset(text: &str, position: Position) -> Option<usize> {
    let line = position.line()?;
    let column = position.position().unwrap_or(1);
    let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
    let rest = text.get(start..)?.split('\n').next().unwrap_or_default();
    let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    Some(start + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let text = "é = 1\nlet ä = b;\n";
        assert_eq!(offset(text, Position::new(1, 3)).map(|at| &text[at..=at]), Some("="));
        assert_eq!(offset(text, Position::new(2, 9)).map(|at| &text[at..=at]), Some("b"));
        assert_eq!(offset(text, Position::new(2, 99)), Some(text.len() - 1));
        assert_eq!(offset(text, Position::new(9, 1)), Some(text.len()));
        assert_eq!(offset(text, Position::NONE), None);
    }

    #[test]
    fn a_point_widens_to_its_token() {
        let mut sources = SourceMap::default();
        sources.insert("a", "let value = other_value + 1;\n");
        assert_eq!(sources.span("a", Position::new(1, 13)), Some(12..23));
        assert_eq!(sources.span("a", Position::new(1, 200)), Some(27..28));
    }
}
