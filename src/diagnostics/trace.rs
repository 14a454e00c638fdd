//! Follows a nested error to its root, the text that contains it, and the calls on the way.

use rhai::{EvalAltResult, Position};

use super::{Call, place};
use crate::syntax::source::SourceMap;

/// The root of an error.
pub struct Trace<'a> {
    /// What happened.
    pub root: &'a EvalAltResult,
    /// The text it happened in.
    pub source: String,
    /// Where in that text.
    pub position: Position,
    /// The calls that led there, innermost first.
    pub calls: Vec<Call>,
}

/// Follows `error`, raised by the text `source`, to its root.
pub fn walk<'a>(source: &str, error: &'a EvalAltResult, sources: &SourceMap) -> Trace<'a> {
    let mut root = error;
    let mut source = source.to_owned();
    let mut calls: Vec<Call> = Vec::new();
    // Where the innermost call seen so far stands: errors without a place of their own are shown there.
    let mut fallback = (source.clone(), Position::NONE);
    let mut native: Option<String> = None;
    loop {
        match root {
            EvalAltResult::ErrorInFunctionCall(name, reported, inner, position) => {
                let here = place(&source, *position, sources);
                if here.is_some() {
                    fallback = (source.clone(), *position);
                }
                let site = sources.function(name, reported, inner.position());
                if site.is_none() {
                    native = Some(name.clone());
                }
                let function = match (&site, name.starts_with("anon$")) {
                    (Some(_), false) | (None, _) => format!("`{name}`"),
                    (Some(_), true) => match native.take() {
                        Some(caller) => {
                            calls.pop();
                            format!("the closure given to `{caller}`")
                        }
                        None => "a closure".to_owned(),
                    },
                };
                calls.push(Call { function, place: here });
                if let Some(site) = site {
                    native = None;
                    source.clone_from(&site.source);
                }
                root = inner;
            }
            EvalAltResult::ErrorInModule(name, inner, position) => {
                let here = place(&source, *position, sources);
                if here.is_some() {
                    fallback = (source.clone(), *position);
                }
                calls.push(Call { function: format!("`{name}`"), place: here });
                source.clone_from(name);
                root = inner;
            }
            _ => break,
        }
    }
    // In code given to `eval` a position counts from the start of that code, which is in no text.
    let evaluated = native.as_deref() == Some("eval");
    let position = if evaluated { Position::NONE } else { root.position() };
    calls.reverse();
    if position.is_none() {
        let (source, position) = fallback;
        return Trace { root, source, position, calls };
    }
    Trace { root, source, position, calls }
}
