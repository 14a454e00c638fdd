//! Rhai's errors in plain words.

use rhai::{Dynamic, EvalAltResult, Map};

use super::call::article;
use super::parse::lower_first;
use super::{Explanation, Site, call, nearest, parse, python};
use crate::bind::display::display;
use crate::catalog::{Kind, script_type};
use crate::syntax::scan;
use crate::syntax::standard_library;

/// Explains the root of an error.
pub fn explain(error: &EvalAltResult, site: &Site) -> Explanation {
    use EvalAltResult as E;
    match error {
        E::ErrorParsing(fault, _) => parse::explain(fault, site),
        E::ErrorFunctionNotFound(signature, _) => call::explain(signature, site),
        E::ErrorVariableNotFound(name, _) => unknown_variable(name, site),
        E::ErrorModuleNotFound(name, _) => unknown_module(name, site),
        E::ErrorPropertyNotFound(key, _) => missing_key(key, site),
        E::ErrorDotExpr(text, _) => property(text, site),
        E::ErrorIndexingType(text, _) => indexing(text),
        E::ErrorIndexNotFound(index, _) => Explanation::new(format!("there is nothing at `{index}`")),
        E::ErrorArrayBounds(length, index, _) => out_of_range("array", "item", *length, *index),
        E::ErrorStringBounds(length, index, _) => out_of_range("string", "character", *length, *index),
        E::ErrorBitFieldBounds(length, index, _) => out_of_range("bit field", "bit", *length, *index),
        E::ErrorFor(_) => Explanation::new("`for` cannot go through this value")
            .hint("it goes through arrays, ranges such as `0..10`, strings, and the `keys()` or `values()` of a map"),
        E::ErrorMismatchDataType(wanted, found, _) if is_index(site) => index_mismatch(wanted, found),
        E::ErrorMismatchDataType(wanted, found, _) => mismatch(&script_type(wanted), &script_type(found)),
        E::ErrorMismatchOutputType(wanted, found, _) => mismatch(&script_type(wanted), &script_type(found)),
        E::ErrorAssignmentToConstant(name, _) => {
            Explanation::new(format!("`{name}` is a constant and cannot be changed"))
                .hint("declare it with `let`; loop variables and captured module variables cannot be changed either")
        }
        E::ErrorNonPureMethodCallOnConstant(name, _) => {
            Explanation::new(format!("`{}` would change a constant", name.trim_start_matches("set$")))
        }
        E::ErrorArithmetic(text, _) => arithmetic(text),
        E::ErrorStackOverflow(_) => {
            Explanation::new(format!("functions call each other more than {} deep", site.context.depth))
                .hint("a function that calls itself needs a case in which it does not")
        }
        E::ErrorTooManyOperations(_) => Explanation::new("the script takes more operations than it may")
            .hint("raise the limit with `lancet --limit operations=NUMBER`"),
        E::ErrorUnboundThis(_) => Explanation::new("`this` is not known here")
            .hint("`this` is the value before the dot when a function is called as a method"),
        E::ErrorDataRace(name, _) => Explanation::new(format!("`{name}` is used while it is being changed"))
            .hint("a closure that captures a variable cannot be passed to a method of that same variable"),
        E::ErrorDataTooLarge(what, _) => Explanation::new(format!("{} is too large", lower_first(what))),
        E::ErrorVariableExists(name, _) => Explanation::new(format!("`{name}` exists already")),
        E::ErrorForbiddenVariable(name, _) => Explanation::new(format!("`{name}` cannot be the name of a variable")),
        E::LoopBreak(..) => Explanation::new("`break` or `continue` stands outside a loop"),
        E::ErrorRuntime(value, _) | E::ErrorTerminated(value, _) => thrown(value),
        other => Explanation::new(lower_first(&other.to_string())),
    }
}

/// Explains a thrown value: native functions throw a map of message and hint, scripts anything.
fn thrown(value: &Dynamic) -> Explanation {
    let text = |map: &Map, key: &str| map.get(key).filter(|value| value.is_string()).map(ToString::to_string);
    if let Some(map) = value.read_lock::<Map>()
        && let Some(error) = text(&map, "error")
    {
        // A Rhai error that was caught and thrown again has its kind and its message in separate fields. The message
        // ends with places as text, which here would read as the place of the `throw`.
        let message = text(&map, "message").map(|message| {
            let line = message.lines().next().unwrap_or_default();
            lower_first(line.split(" @ '").next().unwrap_or(line))
        });
        return Explanation::new(message.unwrap_or(error)).maybe_hint(text(&map, "hint"));
    }
    if value.is_unit() {
        return Explanation::new("the script stopped with `throw`");
    }
    Explanation::new(if value.is_string() { value.to_string() } else { format!("the script threw {}", display(value)) })
}

/// Explains a name that is not a variable where it is used.
pub fn unknown_variable(name: &str, site: &Site) -> Explanation {
    let explanation = Explanation::new(format!("there is no variable `{name}` here")).label("not known here");
    let after = site.span.as_ref().and_then(|span| site.text.get(span.end..)).unwrap_or_default();
    if let Some(hint) = python::name(name, site.before().trim_end(), after.trim_start()).or_else(|| python::word(name))
    {
        return explanation.hint(hint);
    }
    let variables = site.variables();
    let function = site.span.as_ref().and_then(|span| scan::enclosing_function(site.text, span.start));
    if variables.iter().any(|variable| variable == name) {
        let constant = scan::declared(site.text, &["const"]).iter().any(|constant| constant == name);
        return explanation.hint(match function {
            Some(_) if constant => format!("functions see a constant of their file as `global::{name}`"),
            Some(function) => {
                format!("functions see no variables from outside; pass `{name}` to `{function}` as an argument")
            }
            None => {
                format!("a variable is known from its `let` to the end of the block in braces; declare `{name}` before")
            }
        });
    }
    let callable = site.context.catalog.entries().filter(|entry| entry.kind == Kind::Function);
    if let Some(near) = nearest(name, variables.iter().map(String::as_str)) {
        return explanation.hint(format!("did you mean `{near}`?"));
    }
    match nearest(name, callable.map(|entry| entry.name.as_str())) {
        Some(near) if near == name => explanation.hint(format!("`{name}` is a function; call it as `{name}(...)`")),
        Some(near) => explanation.hint(format!("did you mean the function `{near}(...)`?")),
        None => explanation,
    }
}

/// Explains a missing module, named in `import` or before `::`.
pub fn unknown_module(name: &str, site: &Site) -> Explanation {
    let imported = site.token().starts_with(['"', '`']);
    if imported {
        let standard: Vec<String> = standard_library::names().map(|name| format!("std/{name}")).collect();
        let near = nearest(name, standard.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        return Explanation::new(format!("there is no module `{name}`")).label("not found").hint(near.unwrap_or_else(
            || {
                "it is looked for beside the importing file, in the folders of LANCET_PATH, and as `std/name`"
                    .to_owned()
            },
        ));
    }
    Explanation::new(format!("there is no module `{name}` here"))
        .label("not imported")
        .hint(format!("import it first: `import \"path/to/{name}\" as {name};`"))
}

fn missing_key(key: &str, site: &Site) -> Explanation {
    let explanation = Explanation::new(format!("the map has no key `{key}`"));
    let keys = receiver(site)
        .and_then(|name| site.context.scope.get(name))
        .and_then(|value| Some(value.read_lock::<Map>()?.keys().map(ToString::to_string).collect::<Vec<_>>()));
    let near = keys.as_ref().and_then(|keys| nearest(key, keys.iter().map(String::as_str)));
    explanation.hint(match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`.get(\"{key}\")` gives `()` where a key may be missing"),
    })
}

/// The variable whose member or item the error points at.
fn receiver<'a>(site: &'a Site) -> Option<&'a str> {
    let before = site.before().trim_end().trim_end_matches(['.', '[', '?']);
    let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    before.get(start..).filter(|name| !name.is_empty())
}

/// Rhai says which property of which type is missing only in its text.
fn property(text: &str, site: &Site) -> Explanation {
    let mut quoted = text.split('\'').skip(1).step_by(2);
    let (Some(name), Some(kind)) = (quoted.next(), quoted.next()) else { return Explanation::new(lower_first(text)) };
    let kind = script_type(kind);
    let catalog = site.context.catalog;
    if text.starts_with("No writable") {
        let readable = catalog.named(name).any(|entry| entry.kind == Kind::Property && entry.receiver() == kind);
        return Explanation::new(format!("the property `{name}` of {} cannot be set", article(&kind)))
            .maybe_hint((!readable).then(|| format!("{} has no property `{name}`", article(&kind))));
    }
    let explanation =
        Explanation::new(format!("{} has no property `{name}`", article(&kind))).label("unknown property");
    let method = |entry: &&crate::catalog::Entry| entry.kind == Kind::Function && entry.name == name;
    if catalog.members(&kind).any(|entry| method(&entry)) {
        return explanation.hint(format!("`{name}` is a method; write `{name}(...)`"));
    }
    if kind == "()" {
        return explanation.hint("`()` is nothing: the value was never set, or a function returned nothing");
    }
    if let Some(hint) = python::member(&kind, name) {
        return explanation.hint(hint);
    }
    let near = nearest(name, catalog.members(&kind).map(|entry| entry.name.as_str()));
    explanation.maybe_hint(near.map(|near| format!("did you mean `{near}`?")))
}

fn indexing(text: &str) -> Explanation {
    let (value, index) = text.split_once(" [").unwrap_or((text, ""));
    let index = index.split(']').next().unwrap_or_default();
    let value = article(&script_type(value));
    if text.contains("] = ") {
        return Explanation::new(format!("the items of {value} cannot be set this way"));
    }
    Explanation::new(match index {
        "" => format!("{value} has no items to index"),
        index => format!("{value} cannot be indexed with {}", article(&script_type(index))),
    })
}

fn out_of_range(what: &str, item: &str, length: usize, index: i64) -> Explanation {
    let explanation = Explanation::new(match length {
        0 => format!("index {index} is out of range: the {what} is empty"),
        1 => format!("index {index} is out of range: the {what} has 1 {item}"),
        _ => format!("index {index} is out of range: the {what} has {length} {item}s"),
    });
    match length {
        0 => explanation,
        _ => explanation.hint(format!("{item}s are numbered 0 to {}; -1 is the last", length - 1)),
    }
}

/// Whether the error points into the brackets of an index.
fn is_index(site: &Site) -> bool {
    let before = site.before();
    let open = before.rfind(['[', ']', '(', ')', '{', '}', ';']);
    open.is_some_and(|open| before.get(open..).is_some_and(|rest| rest.starts_with('[')))
}

/// Explains an index of the wrong type of an array or a string.
fn index_mismatch(wanted: &str, found: &str) -> Explanation {
    match script_type(found).as_str() {
        "indexes" => Explanation::new("only tensors take several indexes at once")
            .hint("items of nested arrays are `a[0][1]`; `tensor(a)[0, 1]` works for numbers"),
        "range" => Explanation::new("only tensors take a range as an index")
            .hint("a part of an array is `a.extract(1..3)`, of a text `text.sub_string(1..3)`"),
        found => mismatch(&script_type(wanted), found),
    }
}

fn mismatch(wanted: &str, found: &str) -> Explanation {
    let explanation = Explanation::new(format!("expected {}, not {}", article(wanted), article(found)));
    match wanted {
        "bool" if found == "tensor" => explanation.hint(
            "comparing tensors gives a bool tensor: `.item()` is its only element; or use `.all()`, `.any()`, `equal`, \
             `allclose`",
        ),
        "bool" => explanation.hint("a condition must be true or false; compare, as in `x != 0` or `x != ()`"),
        _ => explanation,
    }
}

fn arithmetic(text: &str) -> Explanation {
    let explanation = Explanation::new(lower_first(text));
    if text.starts_with("Division by zero") {
        return explanation.hint("integers cannot be divided by zero; `1.0 / 0.0` is infinite");
    }
    explanation
}
