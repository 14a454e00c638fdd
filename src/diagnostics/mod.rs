//! Reports why a script failed: what was wrong, where, what would be right, and which calls led there.

mod call;
mod parse;
mod python;
mod report;
mod trace;
mod words;

use std::ops::Range;

use rhai::{EvalAltResult, Position, Scope};

use crate::catalog::Catalog;
use crate::syntax::source::{SourceMap, line_and_column};

/// The input of explanations.
pub struct Context<'a> {
    /// The texts compiled so far.
    pub sources: &'a SourceMap,
    /// What can be called.
    pub catalog: &'a Catalog,
    /// The session's variables.
    pub scope: &'a Scope<'a>,
    /// How deep functions may call each other.
    pub depth: usize,
}

/// An error, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What was wrong.
    pub message: String,
    /// The text beside the marked place.
    pub label: Option<String>,
    /// What would be right.
    pub hint: Option<String>,
    /// Where it happened.
    pub place: Option<Place>,
    /// The calls that led there, innermost first.
    pub calls: Vec<Call>,
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The text's name: a path, or `<repl:3>`.
    pub source: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The bytes of the token there.
    pub span: Range<usize>,
}

/// A call on the way to an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was called, in words.
    pub function: String,
    /// Where the call stands.
    pub place: Option<Place>,
}

/// An error in words: the parts that do not depend on where it happened.
#[derive(Debug, Default, Clone)]
struct Explanation {
    message: String,
    label: Option<String>,
    hint: Option<String>,
    /// The bytes to mark, where Rhai's own place is not the right one.
    span: Option<Range<usize>>,
}

impl Explanation {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    fn label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    fn maybe_hint(mut self, text: Option<String>) -> Self {
        self.hint = text.or(self.hint);
        self
    }
}

/// The root of an error and its surroundings, for the explanations.
struct Site<'a> {
    context: &'a Context<'a>,
    /// The text it is in.
    text: &'a str,
    /// The bytes of the token it points at.
    span: Option<Range<usize>>,
}

impl Site<'_> {
    /// The token the error points at.
    fn token(&self) -> &str {
        self.span.clone().and_then(|span| self.text.get(span)).unwrap_or_default()
    }

    /// The text before the token.
    fn before(&self) -> &str {
        self.span.as_ref().and_then(|span| self.text.get(..span.start)).unwrap_or_default()
    }

    /// Whether the token is called as a method, `value.token(...)`.
    fn is_method(&self) -> bool {
        let before = self.before().trim_end();
        before.ends_with('.') && !before.ends_with("..")
    }

    /// The variables that the text or the session declares, visible or not.
    fn variables(&self) -> Vec<String> {
        let declared = crate::syntax::scan::declared(self.text, &["let", "const", "for"]);
        self.context.scope.iter_raw().map(|(name, ..)| name.to_owned()).chain(declared).collect()
    }
}

/// Explains `error`, raised while evaluating the text `source`.
pub fn explain(source: &str, error: &EvalAltResult, context: &Context) -> Diagnostic {
    let trace = trace::walk(source, error, context.sources);
    let place = place(&trace.source, trace.position, context.sources);
    let site = Site {
        context,
        text: context.sources.text(&trace.source).unwrap_or_default(),
        span: place.as_ref().map(|place| place.span.clone()),
    };
    let Explanation { message, label, hint, span } = words::explain(trace.root, &site);
    let place = match (span, place) {
        (Some(span), Some(place)) => Some(moved(place, site.text, span)),
        (_, place) => place,
    };
    Diagnostic { message, label, hint, place, calls: trace.calls }
}

/// The report of a panic in native code.
pub fn internal_error(panic: &str) -> Diagnostic {
    Diagnostic {
        message: format!("an internal error in Lancet: {panic}"),
        label: None,
        hint: Some(
            "this is a bug in Lancet, not in the script; please report it with the script. Variables are kept"
                .to_owned(),
        ),
        place: None,
        calls: Vec::new(),
    }
}

/// The place that `position` in the text `source` stands for.
fn place(source: &str, position: Position, sources: &SourceMap) -> Option<Place> {
    let position = sources.written(source, position);
    Some(Place {
        source: source.to_owned(),
        line: position.line()?,
        column: position.position().unwrap_or(1),
        span: sources.span(source, position)?,
    })
}

/// The same place with other bytes marked.
fn moved(place: Place, text: &str, span: Range<usize>) -> Place {
    let (line, column) = line_and_column(text, span.start);
    Place { line, column, span, ..place }
}

/// The candidate that was probably meant: few edits away and similar as a whole, which short names often are not; or a
/// name where one abbreviates the other, as `len` does `length`.
fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let abbreviates = |short: &str, long: &str| short.len() >= 3 && long.starts_with(short);
    crate::error::nearest(name, candidates.iter().copied())
        .filter(|near| strsim::jaro_winkler(name, near) >= ALIKE)
        .or_else(|| candidates.into_iter().find(|other| abbreviates(name, other) || abbreviates(other, name)))
}
