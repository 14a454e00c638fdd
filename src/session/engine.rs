//! The script engine: its limits, its output, and the compilation of text.

use std::rc::Rc;

use rhai::{AST, Dynamic, Engine, LexError, OptimizationLevel, ParseError, ParseErrorType, Position, Scope, Token};

use super::nesting::Nesting;
use crate::limits::{self, Limits};
use crate::syntax::index_token::IndexTokens;
use crate::syntax::{layer, scan, shadow, source};
use crate::{bind, interrupt, output};

const EXPRESSION_DEPTH: usize = 128;

/// The stack that calls of that depth need in a build without optimisation.
pub const STACK_BYTES: usize = 256 << 20;

/// An engine with everything that scripts can call, apart from the standard library.
pub fn new(limits: &Limits) -> Engine {
    let mut engine = Engine::new();
    configure(&mut engine);
    engine.set_max_call_levels(limits.depth).set_max_operations(limits.operations.unwrap_or(0));
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    engine.set_optimization_level(OptimizationLevel::Simple);
    engine.on_progress(|_| {
        if interrupt::is_pending() {
            return Some(bind::error::interruption());
        }
        limits::is_memory_full().then(|| bind::error::value(&limits::memory_error(None)))
    });
    engine.on_print(output::line);
    engine.on_debug(|text, source, position| output::error_line(&debug_line(text, source, position)));
    bind::register(&mut engine);
    let nesting = Nesting::default();
    // Rhai locks a captured variable while one of its methods runs, so a hook could not use the model that runs it.
    // Models and their results never change, so each method call gets a handle of its own.
    #[expect(deprecated, reason = "marked so only because it may change")]
    engine.on_var(move |name, _, context| {
        let Some(value) = context.scope().get(name) else { return Ok(None) };
        nesting.check(value)?;
        Ok((value.is_shared() && bind::handle::is_immutable(value)).then(|| value.flatten_clone()))
    });
    engine
}

/// An engine that can only parse, and knows no names.
pub fn parser() -> Engine {
    let mut engine = Engine::new_raw();
    configure(&mut engine);
    engine
}

fn configure(engine: &mut Engine) {
    // Rhai reserves these words without using them; option maps do.
    #[expect(deprecated, reason = "marked so only because it may change")]
    engine.on_parse_token({
        let index_tokens = IndexTokens::default();
        move |token, position, _| match index_tokens.map(token, position) {
            Token::Reserved(word) if matches!(word.as_str(), "default" | "null") => Token::Identifier(word),
            other => other,
        }
    });
    bind::indexes::register_syntax(engine);
    register_layers(engine);
    engine.set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
}

/// Registers the blocks that keep the functions of texts apart.
fn register_layers(engine: &mut Engine) {
    for word in [layer::SCRIPT, layer::MODULE] {
        let added = engine.register_custom_syntax([word, "$block$"], false, move |context, inputs| {
            let [body] = inputs else { return Ok(Dynamic::UNIT) };
            // The first functions are the script's.
            let own = match context.namespaces() {
                [own, .., last] if word == layer::SCRIPT && !Rc::ptr_eq(own, last) => Some(Rc::clone(own)),
                _ => None,
            };
            let frame = context.new_frame().with_new_caching_layer();
            let mut frame = match own {
                Some(own) => frame.with_namespace(own),
                None => frame,
            };
            frame.eval_expression_tree(body)
        });
        debug_assert!(added.is_ok());
    }
}

fn debug_line(text: &str, source: Option<&str>, position: Position) -> String {
    match position.line() {
        Some(line) => format!("{}:{line}: {text}", source.unwrap_or("script")),
        None => text.to_owned(),
    }
}

/// Compiles `text`. A variable it uses must be declared in it or be among `known`; functions count as variables, so that
/// they can be passed by name.
///
/// # Errors
/// The first error in the text.
pub fn compile<'a>(engine: &Engine, text: &str, known: impl Iterator<Item = &'a str>) -> Result<AST, ParseError> {
    let mut names = Scope::new();
    for name in known.map(str::to_owned).chain(scan::declared(text, &["fn"])).chain(["ARGS".to_owned()]) {
        names.push(name, ());
    }
    // A first line for the shell, `#!/usr/bin/env -S lancet run`, is a comment.
    let compiled = match text.strip_prefix("#!") {
        Some(rest) => engine.compile_with_scope(&names, format!("// {rest}")),
        None => engine.compile_with_scope(&names, text),
    };
    match unclosed_comment(text) {
        Some(comment) if compiled.as_ref().err().is_none_or(|error| error.position() >= comment.position()) => {
            Err(comment)
        }
        _ => compiled.and_then(|ast| mistaken_variable(text).map_or(Ok(ast), Err)),
    }
}

/// The error for a closure that would take a function for the variable of the same name.
fn mistaken_variable(text: &str) -> Option<ParseError> {
    let (offset, name) = shadow::mistaken(text)?;
    let said = format!("`{name}` is a variable and a function here, and the closure would take the function");
    let error = ParseErrorType::BadInput(LexError::Runtime(said));
    Some(ParseError(error.into(), source::position(text, offset)))
}

/// The error for a block comment that is not closed, which Rhai takes as the end of the text.
fn unclosed_comment(text: &str) -> Option<ParseError> {
    let position = source::position(text, scan::unclosed_comment(text)?);
    let error = ParseErrorType::BadInput(LexError::Runtime("this comment is not closed".to_owned()));
    Some(ParseError(error.into(), position))
}

/// Whether more lines could complete the text.
pub fn is_incomplete(parser: &Engine, text: &str) -> bool {
    let text = &*source::normalized(text);
    if scan::unclosed_comment(text).is_some() {
        return true;
    }
    let Err(error) = parser.compile(text) else { return false };
    match error.err_type() {
        ParseErrorType::UnexpectedEOF => true,
        ParseErrorType::BadInput(LexError::UnterminatedString) => {
            scan::scan(text).last().is_some_and(|token| token.text(text).starts_with('`'))
        }
        _ => {
            let last = text.trim_end();
            let line = last.lines().count();
            let column = last.lines().next_back().map_or(0, |line| line.chars().count());
            let position = error.position();
            position.line().is_some_and(|at| at > line || (at == line && position.position().unwrap_or(0) > column))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_input_is_what_more_lines_could_complete() {
        let parser = parser();
        let incomplete = [
            "/* a",
            "1 /* b */ + /* c",
            "fn f(x) {",
            "let x = [1,",
            "f(1,",
            "if a {\n  b",
            "`open",
            "x.map(|y| {",
            "let x =",
            "#{a: 1,",
            "1 +",
        ];
        for text in incomplete {
            assert!(is_incomplete(&parser, text), "{text}");
        }
        for text in ["1 + 1", "let x = 1;", "fn f(x) { x }", "\"open", "1 +* 2", "}", "let 3 = 4", "x.y(z)", ""] {
            assert!(!is_incomplete(&parser, text), "{text}");
        }
    }
}
