//! Explains calls that match no function: which argument is wrong, or which name was meant.

use super::{Explanation, Site, nearest, python};
use crate::catalog::{Entry, Kind, script_type};

const SIGNATURES_SHOWN: usize = 6;

/// Explains a call for which Rhai gives only its own signature, `name (type, type)`.
pub fn explain(signature: &str, site: &Site) -> Explanation {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ""));
    let types: Vec<String> =
        types.trim_end_matches(')').split(", ").filter(|t| !t.is_empty()).map(script_type).collect();
    if name.starts_with("anon$") {
        return closure(name, &types, site);
    }
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return operator(name, &types, site);
    }
    let method = site.is_method();
    let entries: Vec<&Entry> = site
        .context
        .catalog
        .named(name)
        .filter(|entry| entry.kind == Kind::Function)
        // Leaves out methods of other types.
        .filter(|entry| {
            !method || entry.receiver() == "any" || types.first().is_some_and(|kind| kind == entry.receiver())
        })
        .collect();
    if entries.is_empty() { unknown(name, &types, site) } else { misfit(name, &types, &entries, method) }
}

fn closure(name: &str, types: &[String], site: &Site) -> Explanation {
    let given = plural(types.len(), "argument");
    let message = match site.context.sources.functions_named(name).next() {
        Some(closure) => {
            let wanted = plural(closure.parameters.len(), "parameter");
            format!("the closure has {wanted} ({}) but is called with {given}", closure.parameters.join(", "))
        }
        None => format!("the closure cannot be called with {given}"),
    };
    Explanation::new(message).hint(format!("it is called with ({})", types.join(", ")))
}

fn operator(name: &str, types: &[String], site: &Site) -> Explanation {
    let message = match types {
        [one] => format!("`{name}` does not work on {}", article(one)),
        [left, right] => format!("`{name}` does not work between {} and {}", article(left), article(right)),
        _ => format!("`{name}` does not work here"),
    };
    let takes = |entry: &&Entry| {
        let same = |index: usize| entry.parameters.get(index).map(|p| &p.kind) == types.get(index);
        let involved = same(0) || (!entry.language && types.len() > 1 && same(1));
        entry.kind == Kind::Operator && entry.parameters.len() == types.len() && involved
    };
    let fitting: Vec<String> = site.context.catalog.named(name).filter(takes).map(Entry::signature).collect();
    let hint = (!fitting.is_empty()).then(|| format!("there is {}", listed(&fitting)));
    let unit = types.iter().any(|kind| kind == "()");
    let missing = unit.then(|| "`()` is nothing: the value was never set, or a function returned nothing".to_owned());
    Explanation::new(message).maybe_hint(missing.or(hint))
}

fn unknown(name: &str, types: &[String], site: &Site) -> Explanation {
    let catalog = site.context.catalog;
    let method = site.is_method();
    let receiver = types.first().map_or("", String::as_str);
    let message = match name.rsplit_once("::") {
        Some((module, name)) => format!("the module `{module}` has no function `{name}`"),
        None if method => format!("{} has no method `{name}`", article(receiver)),
        None => format!("there is no function `{name}`"),
    };
    let explanation = Explanation::new(message).label(if method { "unknown method" } else { "unknown function" });
    if catalog.named(name).any(|entry| entry.kind == Kind::Property && entry.receiver() == receiver) {
        return explanation.hint(format!("`{name}` is a property; write it without parentheses"));
    }
    if site.variables().iter().any(|variable| variable == name) {
        return explanation
            .hint(format!("`{name}` is a variable; a function in it is called with `{name}.call(..)`, a model with `{name}.forward(..)`"));
    }
    let near = if method {
        nearest(name, catalog.members(receiver).map(|entry| entry.name.as_str()))
    } else {
        let prefix = name.rsplit_once("::").map_or("", |(module, _)| module);
        let callable = catalog.entries().filter(|entry| entry.kind == Kind::Function);
        nearest(
            name,
            callable.map(|entry| entry.name.as_str()).filter(|other| prefix.is_empty() || other.starts_with(prefix)),
        )
    };
    let known = if method { python::member(receiver, name) } else { None };
    match (near, known.or_else(|| python::word(name)).or_else(|| python::function(name))) {
        (_, Some(hint)) => explanation.hint(hint),
        (Some(near), None) => explanation.hint(format!("did you mean `{near}`?")),
        (None, None) => explanation,
    }
}

fn misfit(name: &str, types: &[String], entries: &[&Entry], method: bool) -> Explanation {
    let mut signatures: Vec<String> = entries.iter().map(|entry| entry.signature()).collect();
    signatures.dedup();
    let more = if signatures.len() > SIGNATURES_SHOWN { ", and others" } else { "" };
    signatures.truncate(SIGNATURES_SHOWN);
    let hint = format!("{}{more}", listed(&signatures));
    let same_length: Vec<&&Entry> = entries.iter().filter(|entry| entry.takes(types.len())).collect();
    if same_length.is_empty() {
        // The value before the dot is not counted.
        let counted = |length: usize| length - usize::from(method && length > 0);
        let lengths = entries.iter().flat_map(|entry| {
            let most = entry.parameters.len();
            (most - usize::from(entry.is_last_optional))..=most
        });
        let mut counts: Vec<usize> = lengths.map(counted).collect();
        counts.sort_unstable();
        counts.dedup();
        let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
        let noun = if counts == ["1"] { "argument" } else { "arguments" };
        let message = format!("`{name}` takes {} {noun}, not {}", counts.join(" or "), counted(types.len()));
        return Explanation::new(message).hint(hint);
    }
    let first_misfit = |entry: &Entry| {
        entry
            .parameters
            .iter()
            .zip(types)
            .position(|(p, kind)| p.kind != *kind && p.kind != "any")
            .unwrap_or(types.len())
    };
    let furthest = same_length.iter().map(|entry| first_misfit(entry)).max().unwrap_or(0);
    let closest: Vec<&&&Entry> = same_length.iter().filter(|entry| first_misfit(entry) == furthest).collect();
    let Some(given) = types.get(furthest) else {
        return Explanation::new(format!("`{name}` cannot be called with ({})", types.join(", "))).hint(hint);
    };
    let mut wanted: Vec<String> =
        closest.iter().filter_map(|entry| entry.parameters.get(furthest)).map(|p| article(&p.kind)).collect();
    wanted.sort();
    wanted.dedup();
    let parameter = closest.first().and_then(|entry| entry.parameters.get(furthest)).map_or("", |p| p.name.as_str());
    let message = format!("`{parameter}` of `{name}` must be {}, not {}", wanted.join(" or "), article(given));
    Explanation::new(message).label(format!("called with ({})", types.join(", "))).hint(hint)
}

fn listed(items: &[String]) -> String {
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A type with its article: `an integer`, `a tensor`, `()`.
pub fn article(kind: &str) -> String {
    match kind.chars().next() {
        Some('(') | None => kind.to_owned(),
        Some('a' | 'e' | 'i' | 'o') if kind != "any" => format!("an {kind}"),
        Some(_) if kind == "any" => "anything".to_owned(),
        Some(_) => format!("a {kind}"),
    }
}
