//! Every compiled text, by name, and the place of each function in it, so that errors can point at their cause.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use rhai::{AST, Position};

use super::insertion::{Insertion, inserted};
use super::layer::Owner;
use super::{closure, layer, loop_value, receiver, scan};

/// More brackets within each other than Rhai parses.
const DEEPEST: usize = 512;

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
    /// What was put into a text before it was compiled.
    insertions: HashMap<String, Vec<Insertion>>,
    /// The names of modules: the place of one is its number.
    modules: Vec<String>,
    /// The names of the texts whose functions are known.
    recorded: HashSet<String>,
    functions: Vec<FunctionSite>,
}

impl SourceMap {
    /// Stores `text` under `name`, in place of an earlier text of that name. Gives the text to compile.
    pub fn insert(&mut self, name: &str, text: &str) -> String {
        self.insert_with(name, text, Owner::Script)
    }

    /// Does the same with the text of a module, whose closures become its own.
    pub fn insert_module(&mut self, name: &str, text: &str) -> String {
        let known = self.modules.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            self.modules.push(name.to_owned());
            self.modules.len() - 1
        });
        self.insert_with(name, text, Owner::Module(number))
    }

    fn insert_with(&mut self, name: &str, text: &str, owner: Owner) -> String {
        let mut insertions = Vec::new();
        // Text nested deeper does not parse, and would take long to look through.
        if scan::nesting(text) <= DEEPEST {
            insertions.extend(layer::marks(text, owner));
            insertions.extend(closure::marks(text, owner));
            insertions.extend(loop_value::copies(text));
            insertions.extend(receiver::copies(text));
            insertions.sort_by_key(|insertion| insertion.at);
        }
        let compiled = inserted(text, &insertions);
        self.texts.insert(name.to_owned(), text.into());
        if insertions.is_empty() {
            self.insertions.remove(name);
        } else {
            self.insertions.insert(name.to_owned(), insertions);
        }
        compiled
    }

    /// The place in the text as it was written of a place in what was compiled.
    pub fn written(&self, source: &str, position: Position) -> Position {
        let (Some(text), Some(insertions)) = (self.text(source), self.insertions.get(source)) else { return position };
        let (Some(line), Some(column)) = (position.line(), position.position()) else { return position };
        let mut before = 0;
        for Insertion { at, text: added } in insertions {
            let (inserted_line, inserted_column) = line_and_column(text, *at);
            let length = added.chars().count();
            if inserted_line == line && inserted_column + before < column {
                before += length.min(column - inserted_column - before);
            }
        }
        let column = u16::try_from(column - before).unwrap_or(u16::MAX);
        Position::new(u16::try_from(line).unwrap_or(u16::MAX), column)
    }

    /// The text of that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(AsRef::as_ref)
    }

    /// Stores the places of the functions in a compiled text.
    pub fn record(&mut self, name: &str, ast: &AST) {
        if !self.recorded.insert(name.to_owned()) {
            self.functions.retain(|site| site.source != name);
        }
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
        let last = text.trim_ascii_end().char_indices().next_back()?;
        let (at, marked) = match text.get(offset..).and_then(|rest| rest.chars().next()) {
            Some(here) if offset < last.0 => (offset, here),
            _ => last,
        };
        Some(at..at + marked.len_utf8())
    }
}

/// A script's text to compile and show: without a byte order mark, and with line feeds as line ends. Rhai counts a lone
/// carriage return as a line end in comments only, so later places would be wrong.
pub fn normalized(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() }
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

/// The line and column of the byte `offset`, both from 1.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

/// The place of the byte `offset` as Rhai counts, which ends at line and column 65,535.
pub fn position(text: &str, offset: usize) -> Position {
    let (line, column) = line_and_column(text, offset);
    let counted = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    Position::new(counted(line), counted(column))
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
    fn every_line_end_is_a_line_feed() {
        assert_eq!(normalized("\u{FEFF}a\r\nb\rc\n\u{FEFF}"), "a\nb\nc\n\u{FEFF}");
    }

    #[test]
    fn places_are_those_of_the_written_text() {
        let mut sources = SourceMap::default();
        let text = "for x in y { f(|| x); b }\nb";
        let compiled = sources.insert("a", text);
        assert_eq!(compiled, "for x in y { let x = x; f(|| with_functions_of_script { x }); b }\nb");
        let place = |line, column| sources.written("a", Position::new(line, column));
        assert_eq!(place(1, 12), Position::new(1, 12));
        assert_eq!(place(1, 18), Position::new(1, 13));
        assert_eq!(place(1, 57), Position::new(1, 19));
        assert_eq!(place(1, 63), Position::new(1, 23));
        assert_eq!(place(2, 1), Position::new(2, 1));
    }

    #[test]
    fn a_point_widens_to_its_token() {
        let mut sources = SourceMap::default();
        sources.insert("a", "let value = other_value + 1;\n");
        assert_eq!(sources.span("a", Position::new(1, 13)), Some(12..23));
        assert_eq!(sources.span("a", Position::new(1, 200)), Some(27..28));
    }
}
