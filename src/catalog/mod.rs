//! Everything a script can call, read from the engine: help, search, completion, error hints, the printed reference and
//! the tests of the examples all derive from it.

mod page;
mod reference;
pub mod topic;
mod types;

use std::rc::Rc;

use rhai::{AST, Engine, FnAccess, FuncInfo, NativeCallContext, ScriptFnMetadata};

use topic::Topic;

pub use types::script_type;

/// The name of a function's last parameter that may be left out.
pub const OPTIONS: &str = "options";

/// The comment of functions that only the language itself calls; they are no entries.
pub const HIDDEN: &str = "/// Called by the language.";

/// How an entry is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `value.name`
    Property,
    /// `value.name = ...`
    Setter,
    /// `value[index]`
    Index,
    /// `value[index] = ...`
    IndexSetter,
    /// `name(...)`, or `first.name(...)`
    Function,
    /// `a + b`
    Operator,
}

/// A parameter and the script's name of its type; `any` if any will do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The type, such as `integer`, `tensor` or `any`.
    pub kind: String,
}

/// One signature of a function, property or operator.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name, with its module (`std::zip`) if it has to be named.
    pub name: String,
    /// How it is used.
    pub kind: Kind,
    /// What it takes; of a method the first is the value before the dot.
    pub parameters: Vec<Parameter>,
    /// Whether the last parameter, a map of options, may be left out.
    pub is_last_optional: bool,
    /// The type of what it gives; empty if nothing.
    pub returns: String,
    /// The text of its doc comment.
    pub doc: String,
    /// The title of the topic of the reference that it belongs to; empty if it belongs to none.
    pub topic: String,
    /// Whether it belongs to the Rhai language rather than to Lancet.
    pub language: bool,
}

impl Entry {
    /// The type of the first parameter, or nothing.
    pub fn receiver(&self) -> &str {
        self.parameters.first().map_or("", |parameter| &parameter.kind)
    }

    /// Whether a call may have that number of arguments, with the value before the dot.
    pub fn takes(&self, count: usize) -> bool {
        let most = self.parameters.len();
        count == most || (self.is_last_optional && count + 1 == most)
    }

    /// The first line of the doc comment.
    pub fn summary(&self) -> &str {
        self.doc.lines().next().unwrap_or_default()
    }

    /// The code of the ```` ```rhai ```` blocks in the doc comment.
    pub fn examples(&self) -> Vec<String> {
        page::code_blocks(&self.doc)
    }

    /// How it is written, with types.
    pub fn signature(&self) -> String {
        let typed = |parameter: &Parameter| match parameter.kind.as_str() {
            types::ANY => parameter.name.clone(),
            kind => format!("{}: {kind}", parameter.name),
        };
        let types: Vec<&str> = self.parameters.iter().map(|parameter| parameter.kind.as_str()).collect();
        let [first, rest @ ..] = types.as_slice() else {
            return format!("{}(){}", self.name, self.arrow());
        };
        let second = rest.first().copied().unwrap_or_default();
        match self.kind {
            Kind::Property => format!("{first}.{}{}", self.name, self.arrow()),
            Kind::Setter => format!("{first}.{} = {second}", self.name),
            Kind::Index => format!("{first}[{second}]{}", self.arrow()),
            Kind::IndexSetter => format!("{first}[{second}] = {}", rest.last().unwrap_or(&"any")),
            Kind::Operator if rest.is_empty() => format!("{}{first}{}", self.name, self.arrow()),
            Kind::Operator => format!("{first} {} {second}{}", self.name, self.arrow()),
            Kind::Function => {
                let parameters: Vec<String> = self.parameters.iter().map(typed).collect();
                let parameters = match parameters.split_last() {
                    Some((last, [])) if self.is_last_optional => format!("[{last}]"),
                    Some((last, rest)) if self.is_last_optional => format!("{} [, {last}]", rest.join(", ")),
                    _ => parameters.join(", "),
                };
                format!("{}({parameters}){}", self.name, self.arrow())
            }
        }
    }

    fn arrow(&self) -> String {
        if self.returns.is_empty() { String::new() } else { format!(" -> {}", self.returns) }
    }
}

/// All entries, in order of name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    registered: Rc<Vec<Entry>>,
    own: Vec<Entry>,
}

impl Catalog {
    /// What `engine` has registered; with a call's context, also what the calling script defines and imports.
    pub fn of(engine: &Engine, context: Option<&NativeCallContext>) -> Self {
        let mut all = engine.collect_fn_metadata(context, |info| entry(engine, &info), false);
        let everything = engine.collect_fn_metadata(context, |info| entry(engine, &info), true);
        let language = everything.into_iter().map(|entry| Entry { language: true, ..entry });
        // Lancet's own come first, so that of two alike the language's is dropped.
        all.extend(language);
        all.sort_by(|a, b| {
            (&a.name, a.kind, &a.parameters, a.language).cmp(&(&b.name, b.kind, &b.parameters, b.language))
        });
        all.dedup_by(|a, b| a.name == b.name && a.kind == b.kind && a.parameters == b.parameters);
        all.sort_by(|a, b| (&a.name, a.kind, a.parameters.len()).cmp(&(&b.name, b.kind, b.parameters.len())));
        join_options(&mut all);
        Self { registered: all.into(), own: Vec::new() }
    }

    /// The same with the functions of `ast`.
    pub fn with_functions(&self, ast: &AST) -> Self {
        let own = ast
            .iter_functions()
            .filter(|function| !function.name.starts_with("anon$"))
            .map(|function| script_entry("", &function));
        Self { registered: self.registered.clone(), own: own.collect() }
    }

    /// Every entry.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.own.iter().chain(self.registered.iter())
    }

    /// All signatures of `name`.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries().filter(move |entry| entry.name == name)
    }

    /// The properties and methods of values of type `kind`.
    pub fn members<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries().filter(move |entry| {
            matches!(entry.kind, Kind::Property | Kind::Function)
                && entry.receiver() == kind
                && !entry.name.contains("::")
        })
    }
}

/// Makes one entry of a function with options and the same function without them.
fn join_options(entries: &mut Vec<Entry>) {
    let shorter = |entry: &Entry| {
        let (last, required) = entry.parameters.split_last()?;
        let takes_options = entry.kind == Kind::Function && last.name == OPTIONS && last.kind == "map";
        let same = |other: &Entry| other.kind == entry.kind && other.name == entry.name && other.parameters == required;
        if takes_options { entries.iter().position(same) } else { None }
    };
    let found: Vec<(usize, usize)> =
        entries.iter().enumerate().filter_map(|(place, entry)| Some((place, shorter(entry)?))).collect();
    for (whole, short) in &found {
        entries[*whole].is_last_optional = true;
        if entries[*whole].doc.is_empty() {
            entries[*whole].doc = entries[*short].doc.clone();
        }
    }
    let mut place = 0;
    entries.retain(|_| {
        place += 1;
        !found.iter().any(|(_, short)| *short == place - 1)
    });
}

fn entry(engine: &Engine, info: &FuncInfo) -> Option<Entry> {
    if let Some(script) = &info.script {
        let hidden = script.access == FnAccess::Private || script.name.starts_with("anon$");
        return (!hidden).then(|| script_entry(&info.namespace, script));
    }
    let function = info.metadata;
    if function.comments.iter().any(|comment| comment.as_str() == HIDDEN) {
        return None;
    }
    let (kind, name) = kind_and_name(&function.name);
    let parameters: Vec<Parameter> = (0..function.num_params)
        .map(|index| {
            let text = function.params_info.get(index).map_or("", |text| text.as_str());
            let (name, kind) = text.split_once(':').unwrap_or((text, ""));
            let name = match name.trim().trim_start_matches("mut ").trim_start_matches('_') {
                "" => "value",
                name => name,
            };
            let kind = match function.param_types.get(index) {
                // Functions that Rhai registers by macro have no names for their types.
                Some(id) if kind.trim().is_empty() => types::of_id(*id).to_owned(),
                _ => types::of_parameter(engine, kind),
            };
            Parameter { name: name.to_owned(), kind }
        })
        .collect();
    let returns = types::of_result(engine, &function.return_type);
    if parameters.iter().any(|parameter| types::is_foreign(&parameter.kind)) || types::is_foreign(&returns) {
        return None;
    }
    let comments = || function.comments.iter().map(|text| text.as_str());
    Some(Entry {
        name: qualified(&info.namespace, name),
        kind,
        parameters,
        is_last_optional: false,
        returns,
        doc: page::doc_text(comments().filter(|comment| !Topic::is_comment(comment))),
        topic: Topic::of(comments()).map_or_else(String::new, |topic| topic.to_string()),
        language: false,
    })
}

fn script_entry(namespace: &str, function: &ScriptFnMetadata) -> Entry {
    let parameter = |name: &&str| Parameter { name: (*name).to_owned(), kind: types::ANY.to_owned() };
    Entry {
        name: qualified(namespace, function.name),
        kind: Kind::Function,
        parameters: function.params.iter().map(parameter).collect(),
        is_last_optional: false,
        returns: String::new(),
        doc: page::doc_text(function.comments.iter().copied()),
        topic: match namespace {
            // The prelude's functions are known without a name before them.
            "" => Topic::Utilities.to_string(),
            // What a module imports stands with the module that it comes from.
            _ if namespace.contains("::") => String::new(),
            _ => format!("Module {namespace}"),
        },
        language: false,
    }
}

fn qualified(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}::{name}") }
}

fn kind_and_name(name: &str) -> (Kind, &str) {
    if let Some(property) = name.strip_prefix("get$") {
        return (Kind::Property, property);
    }
    if let Some(property) = name.strip_prefix("set$") {
        return (Kind::Setter, property);
    }
    match name {
        "index$get$" => (Kind::Index, "[]"),
        "index$set$" => (Kind::IndexSetter, "[]"),
        _ if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => (Kind::Function, name),
        _ => (Kind::Operator, name),
    }
}
