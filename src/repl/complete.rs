//! Completes the text at the cursor: variables, functions, members of the value before a dot, keys of maps, commands,
//! files inside strings.

use rhai::{Dynamic, Map};
use rustyline::completion::{FilenameCompleter, Pair};

use super::command::COMMANDS;
use crate::bind::convert::type_name;
use crate::catalog::{Catalog, Entry, Kind};
use crate::session::Session;
use crate::syntax::scan::{self, KEYWORDS, Token};

/// The candidates for the word that ends at `position`, and where that word starts.
pub fn candidates(session: &Session, line: &str, position: usize) -> (usize, Vec<Pair>) {
    let typed = line.get(..position).unwrap_or(line);
    if let Some(command) = typed.strip_prefix(':') {
        return command_candidates(session, line, typed, command);
    }
    code_candidates(session, typed)
}

fn command_candidates(session: &Session, line: &str, typed: &str, command: &str) -> (usize, Vec<Pair>) {
    match command.split_once(char::is_whitespace).map(|(name, _)| name) {
        None => {
            let names = COMMANDS.iter().map(|command| command.name.to_owned()).filter(|name| name.len() > 1);
            (1, matching(names.collect(), command))
        }
        Some("load" | "save") => files(line, typed),
        Some(_) => code_candidates(session, typed),
    }
}

fn code_candidates(session: &Session, typed: &str) -> (usize, Vec<Pair>) {
    let tokens = scan::scan(typed);
    if let Some((token, before)) = tokens.split_last() {
        let text = token.text(typed);
        if token.kind == scan::Kind::Text && text.starts_with('"') && (text.len() == 1 || !text.ends_with('"')) {
            return string_candidates(session, typed, token, before);
        }
    }
    let start = typed
        .rfind(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(0, |at| at + typed.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
    let word = typed.get(start..).unwrap_or_default();
    let before: Vec<&Token> = tokens.iter().filter(|token| token.range.end <= start).collect();
    let catalog = session.catalog();
    let names = match before.split_last() {
        Some((last, rest)) if matches!(last.text(typed), "." | "?.") => member_names(session, &catalog, typed, rest),
        Some((last, rest)) if last.text(typed) == "::" => {
            let module = rest.last().map_or("", |name| name.text(typed));
            module_names(&catalog, module)
        }
        _ => plain_names(session, &catalog),
    };
    (start, matching(names, word))
}

/// A function as it is typed: with its opening parenthesis, and the closing one if it takes no more arguments.
fn call(entry: &Entry, name: &str, given: usize) -> String {
    match entry.kind {
        Kind::Function if entry.parameters.len() == given => format!("{name}()"),
        Kind::Function => format!("{name}("),
        _ => name.to_owned(),
    }
}

fn plain_names(session: &Session, catalog: &Catalog) -> Vec<String> {
    let functions = catalog.entries().filter(|entry| entry.kind == Kind::Function);
    let mut names: Vec<String> = session.variables().map(|(name, ..)| name.to_owned()).collect();
    names.extend(KEYWORDS.iter().map(ToString::to_string));
    for entry in functions {
        match entry.name.split_once("::") {
            Some((module, _)) => names.push(format!("{module}::")),
            None => names.push(call(entry, &entry.name, 0)),
        }
    }
    names
}

fn module_names(catalog: &Catalog, module: &str) -> Vec<String> {
    let prefix = format!("{module}::");
    catalog.entries().filter_map(|entry| Some(call(entry, entry.name.strip_prefix(&prefix)?, 0))).collect()
}

fn member_names(session: &Session, catalog: &Catalog, typed: &str, before: &[&Token]) -> Vec<String> {
    let mut names = Vec::new();
    let kind = match value(session, typed, before) {
        Some(value) => {
            if let Some(map) = value.read_lock::<Map>() {
                names.extend(map.keys().map(ToString::to_string));
            }
            type_name(&value).to_owned()
        }
        None => result_type(catalog, typed, before).unwrap_or_default(),
    };
    names.extend(catalog.members(&kind).map(|entry| call(entry, &entry.name, 1)));
    names
}

/// The value of `name` or `name.key.key` at the end of the tokens.
fn value(session: &Session, typed: &str, tokens: &[&Token]) -> Option<Dynamic> {
    let (last, rest) = tokens.split_last()?;
    let name = last.text(typed);
    if last.kind == scan::Kind::Text && last.range.len() > 1 {
        return Some(Dynamic::from(String::new()));
    }
    match rest.split_last() {
        Some((dot, receiver)) if dot.text(typed) == "." => {
            let receiver = value(session, typed, receiver)?;
            let map = receiver.read_lock::<Map>()?;
            map.get(name).cloned()
        }
        _ => session.variable(name).cloned(),
    }
}

/// The type that a call at the end of the tokens returns, if all functions of its name agree.
fn result_type(catalog: &Catalog, typed: &str, tokens: &[&Token]) -> Option<String> {
    if tokens.last()?.text(typed) == "]" {
        return None;
    }
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().rev() {
        match token.text(typed) {
            ")" => depth += 1,
            "(" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            let name = if token.text(typed) == "(" { tokens.get(index.checked_sub(1)?)? } else { token };
            let mut types = catalog.named(name.text(typed)).map(|entry| entry.returns.clone());
            let first = types.next()?;
            return types.all(|other| other == first).then_some(first);
        }
    }
    None
}

/// Inside a string: the completions that the session's values offer, otherwise files.
fn string_candidates(session: &Session, typed: &str, token: &Token, before: &[Token]) -> (usize, Vec<Pair>) {
    let start = token.range.start + 1;
    let word = typed.get(start..).unwrap_or_default();
    let before: Vec<&Token> = before.iter().collect();
    // The innermost call that is still open, past earlier arguments and brackets.
    let mut depth = 0_usize;
    let open = before.iter().rposition(|token| match token.text(typed) {
        ")" | "]" | "}" => {
            depth += 1;
            false
        }
        "(" if depth == 0 => true,
        "(" | "[" | "{" | "#{" => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => false,
    });
    if let Some([receiver @ .., dot, method]) = open.and_then(|open| before.get(..open))
        && dot.text(typed) == "."
        && let Some(value) = value(session, typed, receiver)
    {
        let offered: Vec<String> =
            session.completions.iter().flat_map(|offer| offer(&value, method.text(typed))).collect();
        if !offered.is_empty() {
            return (start, matching(offered, word));
        }
    }
    if let Some([.., name]) = before.get(..before.len().saturating_sub(1)) {
        // `map["`: the keys of the map.
        if before.last().is_some_and(|bracket| bracket.text(typed) == "[")
            && let Some(map) = session.variable(name.text(typed)).and_then(|value| value.read_lock::<Map>())
        {
            return (start, matching(map.keys().map(ToString::to_string).collect(), word));
        }
    }
    files(typed, typed)
}

fn files(line: &str, typed: &str) -> (usize, Vec<Pair>) {
    FilenameCompleter::new().complete_path(line, typed.len()).unwrap_or((typed.len(), Vec::new()))
}

fn matching(mut names: Vec<String>, word: &str) -> Vec<Pair> {
    names.retain(|name| name.starts_with(word));
    names.sort();
    names.dedup();
    // A name that can be called with and without arguments is offered once.
    let open: Vec<String> = names.iter().filter(|name| name.ends_with('(')).cloned().collect();
    names.retain(|name| name.strip_suffix(')').is_none_or(|bare| !open.iter().any(|other| other == bare)));
    names.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::handle::HANDLES;
    use crate::cluster::plan::{Plan, Work};
    use crate::session::{Options, ScriptError};

    fn complete(session: &Session, line: &str) -> Vec<String> {
        candidates(session, line, line.len()).1.into_iter().map(|pair| pair.replacement).collect()
    }

    fn session() -> Session {
        let mut session = Session::new(Options::default()).map_err(|_| ()).expect("session");
        let text = "let model_name = \"a\"; let config = #{ layers: 2, inner: #{ width: 3 } }; fn twice(x) { 2 * x } fn tock() {}";
        assert!(session.eval("test", text).is_ok());
        session
    }

    #[test]
    fn names_members_and_keys() {
        let session = session();
        assert_eq!(complete(&session, "let y = model_n"), ["model_name"]);
        assert_eq!(complete(&session, "twi"), ["twice("]);
        assert_eq!(complete(&session, "f(toc"), ["tock()"]);
        assert_eq!(complete(&session, "config.lay"), ["layers"]);
        assert_eq!(complete(&session, "config.inner.w"), ["width"]);
        assert_eq!(complete(&session, "config[\"lay"), ["layers"]);
        assert!(complete(&session, "model_name.to_up").contains(&"to_upper()".to_owned()));
        assert!(complete(&session, "\"x\".to_up").contains(&"to_upper()".to_owned()));
        assert_eq!(complete(&session, "nothing.to_up"), Vec::<String>::new());
    }

    /// A variable `the_NAME` for each type that Lancet adds, of a small model.
    fn handles() -> Session {
        let mut session = session();
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models/llama2");
        let run = tempfile::tempdir().expect("folder");
        let plan = Plan::new(Work::default(), 2, Vec::new()).and_then(|plan| plan.text());
        std::fs::write(run.path().join("plan.json"), plan.expect("a plan")).expect("written");
        let run = run.path().display();
        let text = format!(
            "let the_model = load_model(`{model}`);
            let the_cache = the_model.run_with_cache([1, 2]).cache;
            let the_intervention = zero(`blocks.0.hook_mlp_out`);
            let the_grid = the_model.patch_grid(
                #{{ source: [1, 2], target: [[3, 4]], answer: [5], sizes: [1], store: false, quiet: true }});
            let the_linear_map = the_model.linearize([1, 2]);
            let the_scores = the_linear_map.scores(#{{ layer: 1, head: 0, query: 1, key: 0 }});
            let runs = #{{ clean: [[1, 2]], corrupted: [[3, 2]], answer: 5 }};
            let the_attribution = the_model.attribute(runs);
            let the_edges = the_model.edges(runs);
            let the_circuit = circuit(the_edges, #{{ keep: 9 }});
            let the_paths = the_linear_map.paths(#{{ answer: 5, quiet: true }});
            let the_path_graph = path_graph(the_paths, #{{ high_ranking_only: false }});
            let the_figure = heatmap([[1.0]]);
            let the_progress = progress(1);
            let the_table = table([`layer`]);
            let the_tensor = zeros([1]);
            let the_prefix = the_model.prefix([1, 2]);
            let the_weights = the_model.blocks[0];
            let ones = #{{ W_enc: ones([2, 3]), b_enc: ones([3]), W_dec: ones([3, 2]), b_dec: ones([2]) }};
            let the_run = open_run(`{run}`);
            let the_texts = read_texts(`README.md`);
            let the_sae = new_sae(ones, #{{ apply_b_dec_to_input: true }});"
        );
        if let Err(ScriptError::Failed(wrong)) = session.eval("handles", &text) {
            panic!("{}", session.render(&wrong, false));
        }
        session
    }

    #[test]
    fn each_type_offers_its_members() {
        let session = handles();
        let first = [
            ("attribution", "top("),
            ("cache", "keys()"),
            ("circuit", "minimality("),
            ("edges", "curve("),
            ("figure", "svg()"),
            ("grid", "rank"),
            ("intervention", "to_string()"),
            ("linear_map", "totals("),
            ("model", "run_with_cache("),
            ("path_graph", "nodes"),
            ("paths", "starts"),
            ("prefix", "len()"),
            ("progress", "tick("),
            ("run", "status()"),
            ("sae", "encode("),
            ("scores", "by_query"),
            ("table", "row("),
            ("tensor", "shape"),
            ("texts", "to_array()"),
            ("weights", "keys()"),
        ];
        for handle in &HANDLES {
            let offered = complete(&session, &format!("the_{}.", handle.name));
            let (_, member) = first.iter().find(|(name, _)| *name == handle.name).expect(handle.name);
            assert!(offered.iter().any(|name| name == member), "{}: {offered:?}", handle.name);
        }
        // A call's result is known by what the function returns.
        assert!(complete(&session, "the_model.linearize([1]).tot").contains(&"totals(".to_owned()));
        assert!(complete(&session, "load_model(\"a\").run_with_h").contains(&"run_with_hooks(".to_owned()));
    }

    #[test]
    fn each_type_has_one_name() {
        let mut session = handles();
        for handle in &HANDLES {
            let help = session.catalog().help(handle.name).expect("help");
            assert!(help.contains(&format!("the type {}\n", handle.name)), "{help}");
            let name = format!("the_{}", handle.name);
            assert_eq!(type_name(session.variable(&name).expect("variable")), handle.name);
            let shown = session.eval("type", &format!("type_of({name})")).map(|value| value.to_string());
            assert_eq!(shown.ok().as_deref(), Some(handle.name));
            let Err(ScriptError::Failed(wrong)) = session.eval("wrong", &format!("{name}.absent()")) else {
                panic!("`{name}` has no method `absent`");
            };
            let message = session.render(&wrong, false);
            assert!(message.contains(&format!(" {} has no method `absent`", handle.name)), "{message}");
        }
    }

    #[test]
    fn commands_and_files() {
        let session = session();
        assert_eq!(complete(&session, ":sea"), ["search"]);
        assert_eq!(complete(&session, ":help twi"), ["twice("]);
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("words.txt"), "").expect("file");
        let line = format!("read(\"{}/wor", folder.path().display());
        assert!(complete(&session, &line)[0].ends_with("words.txt"));
    }

    #[test]
    fn values_offer_strings() {
        let mut session = session();
        session.completions.push(|value, method| match (value.is_map(), method) {
            (true, "capture") => vec!["blocks.0.out".to_owned(), "blocks.1.out".to_owned()],
            _ => Vec::new(),
        });
        assert_eq!(complete(&session, "config.capture(1, \"blocks.1"), ["blocks.1.out"]);
        assert_eq!(complete(&session, "config.capture([f(\"x\"), \"blocks.1"), ["blocks.1.out"]);
        assert_eq!(complete(&session, "other.capture(\"blocks.1"), Vec::<String>::new());
    }

    #[test]
    fn any_cut_of_a_line_can_be_completed() {
        let session = session();
        let line = "config.inner.f(\"é\", |x| [a[\"k\"], `${x.` + std::f(";
        for (at, _) in line.char_indices() {
            candidates(&session, line, at);
        }
    }
}
