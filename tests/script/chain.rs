//! Chains such as `x.shape.len()` and `x[0].to_array().map(..)` mean what they mean step by step, whatever they are made
//! of: Rhai writes the parts of a chain back to where they were read, which must not fail where nothing changed.

use std::collections::BTreeSet;

use lancet::catalog::{Entry, Kind};
use lancet::cluster::plan::{Plan, Work};
use lancet::session::{ScriptError, Session};

use crate::support::{generator, session, small_model};

/// Values of every type of which something can be read.
const VALUES: &[(&str, &str)] = &[
    ("tensor", "x"),
    ("array", "[3, 1]"),
    ("map", "#{ a: [1, 2], b: x }"),
    ("string", "\"a b\""),
    ("range", "0..3"),
    ("model", "model"),
    ("cache", "run.cache"),
    ("map", "run"),
    ("weights", "model.blocks[0]"),
    ("prefix", "model.prefix(\"The\")"),
    ("intervention", "patch(\"blocks.0.hook_resid_post\", -1, x)"),
    ("grid", "grid"),
    ("linear_map", "linear"),
    ("paths", "paths"),
    ("path_graph", "graph"),
    ("figure", "heatmap(x)"),
    ("table", "table([\"a\", \"b\"])"),
    ("progress", "progress(3)"),
    ("attribution", "nodes"),
    ("edges", "edges"),
    ("circuit", "circuit"),
    ("scores", "scores"),
    ("sae", "own"),
    ("run", "submitted"),
    ("texts", "read_texts(\"README.md\")"),
];
const PREPARE: &str = r#"
    let x = tensor([[1.0, 2.0], [3.0, 4.0]]);
    let run = model.run_with_cache("The dog", ["blocks.*.hook_resid_post"]);
    let grid = model.patch_grid(#{ source: "The dog", target: ["a big"], answer: [7], sizes: [1], quiet: true });
    let linear = model.linearize("The dog");
    let paths = linear.paths(#{ answer: 7, edges: "argmax", quiet: true });
    let graph = path_graph(paths, #{ high_ranking_only: false });
    let pair = #{ clean: [[1, 2, 3]], corrupted: [[1, 4, 3]], answer: [7], metric: "logit" };
    let nodes = model.attribute(pair + #{ method: "atp" });
    let edges = model.edges(pair + #{ method: "eap" });
    let circuit = circuit(edges, #{ keep: 3 });
    let scores = linear.scores(#{ layer: 0, head: 0, query: -1, key: 0 });
    let weights = #{ W_enc: eye(32), b_enc: zeros([32]), W_dec: eye(32), b_dec: zeros([32]) };
    let own = new_sae(weights, #{ apply_b_dec_to_input: true, hook_name: "blocks.0.hook_resid_post" });
"#;
/// What is drawn anew each time, talks, waits or ends the session; `take` of Rhai empties even numbers.
const LEFT_OUT: &[&str] =
    &["print", "debug", "hash", "rand", "randn", "rand_like", "randn_like", "help", "sleep", "exit", "take"];
/// Types of the language whose values hold no others: few of their members stand for all.
const PLAIN: &[&str] = &["i64", "f64", "bool", "char", "string", "()"];
/// Steps that are not members.
const INDEXES: &[&str] = &["[0]", "[-1]", "[0, 0]", "[:1]", "[\"a\"]", "[\"blocks.0.hook_resid_post\"]", "[0][0]"];

/// Everything that can be read of a value of type `kind` without an argument, as it follows the value.
fn steps(entries: &[Entry], kind: &str) -> Vec<String> {
    let mut steps: Vec<String> = entries
        .iter()
        .filter(|entry| !entry.name.contains("::") && !LEFT_OUT.contains(&entry.name.as_str()))
        .filter(|entry| entry.receiver() == kind || entry.receiver() == "any")
        .filter_map(|entry| match entry.kind {
            Kind::Property => Some(format!(".{}", entry.name)),
            Kind::Function if entry.takes(1) => Some(format!(".{}()", entry.name)),
            _ => None,
        })
        .collect();
    match kind {
        "array" => steps.extend([".map(|item| item)", ".contains(3)", ".index_of(1)"].map(str::to_owned)),
        "tensor" => steps.extend(
            [".topk(1)", ".to(\"f64\")", ".sum(0)", ".argmax(-1)", ".mean(-1, #{ keepdim: true })"].map(str::to_owned),
        ),
        _ => {}
    }
    steps.extend(INDEXES.iter().map(|index| (*index).to_owned()));
    steps.sort();
    steps.dedup();
    if PLAIN.contains(&kind) { steps.into_iter().step_by(9).collect() } else { steps }
}

/// What a script gives, or the error's message.
fn outcome(session: &mut Session, script: &str) -> Result<String, String> {
    let text = format!("let outcome = {{ {script} }}; `${{type_of(outcome)}}|${{outcome.to_debug()}}`");
    match session.eval("chain", &text) {
        Ok(value) => Ok(value.to_string()),
        Err(ScriptError::Failed(diagnostic)) => Err(diagnostic.message),
        Err(other) => panic!("{script}: {other:?}"),
    }
}

#[test]
fn chains_of_two_and_three_steps_mean_what_their_steps_mean() {
    let _turn = generator();
    let folder = small_model();
    let mut session = session();
    let load = format!("let model = load_model({:?}, #{{ init: \"random\", seed: 1 }});", folder.path().join("small"));
    let plan = Plan::new(Work::default(), 2, Vec::new()).and_then(|plan| plan.text());
    std::fs::write(folder.path().join("plan.json"), plan.expect("a plan")).expect("written");
    let open = format!("let submitted = open_run({:?});", folder.path());
    for part in [load.as_str(), open.as_str(), PREPARE] {
        let outcome = session.eval("prepare", part);
        assert!(outcome.is_ok(), "{:?}", outcome.err());
    }
    let entries: Vec<Entry> = session.catalog().entries().cloned().collect();
    let covered = |name: &str| VALUES.iter().any(|(kind, _)| *kind == name);
    assert!(lancet::bind::handle::HANDLES.iter().all(|handle| covered(handle.name)), "a type is missing");
    let mut wrong = Vec::new();
    let mut count = 0;
    // Of the chains through the same types and members only the first is tried.
    let mut seen = BTreeSet::new();
    for (kind, value) in VALUES {
        assert!(outcome(&mut session, value).is_ok(), "{value}");
        for first in steps(&entries, kind) {
            let Ok(one) = outcome(&mut session, &format!("let v = {value}; let a = v{first}; a")) else { continue };
            let kind_of_first = one.split('|').next().unwrap_or_default().to_owned();
            for second in steps(&entries, &kind_of_first) {
                let stepwise = format!("let v = {value}; let a = v{first}; let b = a{second}; b");
                let two = outcome(&mut session, &stepwise);
                count += 1;
                compare(&mut session, &mut wrong, &format!("let v = {value}; v{first}{second}"), &two, &stepwise);
                let Ok(two) = two else { continue };
                let kind_of_second = two.split('|').next().unwrap_or_default().to_owned();
                // A method that may change its value makes Rhai write back everything before it.
                let ending = match kind_of_second.as_str() {
                    "tensor" => Some(".shape.map(|length| length)"),
                    "array" => Some(".map(|item| item)"),
                    "map" => Some(".keys()"),
                    _ => None,
                };
                if let Some(ending) = ending {
                    let stepwise = format!("{stepwise}{ending}");
                    let ended = outcome(&mut session, &stepwise);
                    let chain = format!("let v = {value}; v{first}{second}{ending}");
                    compare(&mut session, &mut wrong, &chain, &ended, &stepwise);
                }
                let key = (kind_of_first.clone(), second.clone(), kind_of_second.clone());
                if !seen.insert(key) {
                    continue;
                }
                for third in steps(&entries, &kind_of_second).into_iter().step_by(7) {
                    let stepwise = format!("let v = {value}; let a = v{first}; let b = a{second}; let c = b{third}; c");
                    let three = outcome(&mut session, &stepwise);
                    count += 1;
                    let chain = format!("let v = {value}; v{first}{second}{third}");
                    compare(&mut session, &mut wrong, &chain, &three, &stepwise);
                }
            }
        }
    }
    assert!(count > 5_000, "only {count} chains");
    assert!(wrong.is_empty(), "{} of {count} chains differ\n{}", wrong.len(), wrong.join("\n"));
}

fn compare(
    session: &mut Session,
    wrong: &mut Vec<String>,
    chain: &str,
    wanted: &Result<String, String>,
    stepwise: &str,
) {
    let got = outcome(session, chain);
    // A chain that would change what it has read is refused; step by step the change stays in a variable.
    let refused = matches!(&got, Err(message) if message.contains("cannot be set"));
    if got == *wanted || (refused && wanted.is_ok() && changes_what_it_read(stepwise)) {
        return;
    }
    // What differs from time to time cannot be compared.
    if outcome(session, stepwise) != *wanted {
        return;
    }
    wrong.push(format!("{chain}\n    {got:?}\n    {wanted:?}"));
}

/// Whether the script's last steps hold a method of the language that changes its array, map or string in place.
fn changes_what_it_read(stepwise: &str) -> bool {
    const CHANGING: &[&str] = &[
        ".clear()",
        ".pop()",
        ".shift()",
        ".reverse()",
        ".dedup()",
        ".sort_desc()",
        ".order()",
        ".order_desc()",
        ".sort()",
        ".make_lower()",
        ".make_upper()",
        ".trim()",
        ".drain(",
        ".retain(",
    ];
    CHANGING.iter().any(|method| stepwise.contains(method))
}
