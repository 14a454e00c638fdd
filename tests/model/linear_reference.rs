//! Locally linear maps and paths against autograd through transformers and explicit products of paths
//! (tests/fixtures/linear), in Rust and in scripts.

use std::rc::Rc;

use crate::support::{
    Expected, TINY, assert_contains, eval, eval_tensor, fixture, generator, load, max_difference, run_script,
    script_failure, session, tiny_path,
};
use lancet::linear::live::Through;
use lancet::linear::map::LinearMap;
use lancet::linear::path::graph::{Graph, Path};
use lancet::linear::path::request::{Edges, Granularity, GraphRequest, Mode};
use lancet::linear::path::score::Scorer;
use lancet::linear::path::walk::Walk;
use lancet::linear::readout::Scale;
use lancet::model::language_model::LanguageModel;
use serde_json::Value;
use tch::{Kind, Tensor};

fn double(name: &str) -> Rc<LanguageModel> {
    Rc::new(load(&tiny_path(name).display().to_string(), Kind::Double))
}

fn ids(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor).expect("ids")
}

#[test]
fn contributions_and_flows_are_those_of_autograd() {
    let _guard = tch::no_grad_guard();
    for name in TINY.iter().filter(|name| !name.starts_with("toy")) {
        let expected = Expected::open(&fixture(&format!("linear/{name}.safetensors")));
        let model = double(name);
        let map = LinearMap::freeze(model, &ids(expected.get("input_ids"))).expect("a map");
        let to = map.length() - 1;
        let answer = expected.get("answer_id").int64_value(&[]);
        let readout = map.readout(answer, Scale::Logit, to).expect("a readout");
        let flow = map.flow(&readout).expect("a flow");
        let compare = |what: &str, ours: &Tensor| {
            let difference = max_difference(ours, expected.get(what));
            assert!(difference < 1e-10, "{name} {what}: {difference:e}");
        };
        compare("logits", &map.logits(to).expect("logits"));
        compare("contributions", &map.totals(to).expect("totals"));
        compare("bias_contribution", &map.bias(to).expect("a bias"));
        compare("node_flow", &flow.node);
        compare("head_flow", &flow.head);
        let layers = &flow.attention_bias + &flow.mlp_bias;
        let last = Tensor::from_slice(&[flow.final_bias]).to_device(layers.device());
        let biases = Tensor::cat(&[layers, last], 0);
        compare("bias_flow", &biases.flip([0]).cumsum(0, Kind::Double).flip([0]));
    }
}

#[test]
fn paths_are_those_multiplied_out() {
    let _guard = tch::no_grad_guard();
    let text = std::fs::read_to_string(fixture("linear/paths.json")).expect("the fixture");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let mut compared = 0;
    for (name, expected) in expected.as_object().expect("models") {
        let model = double(name);
        let numbers = |value: &Value| -> Vec<i64> { serde_json::from_value(value.clone()).expect("integers") };
        let map = LinearMap::freeze(model, &numbers(&expected["input_ids"])).expect("a map");
        let answer = expected["answer_id"].as_i64().expect("an id");
        for (mode, key) in [(Mode::Eq3, "eq3"), (Mode::Released, "released")] {
            let Some(reference) = expected["argmax"][key].as_array() else { continue };
            let request = GraphRequest {
                from: (0..map.length()).collect(),
                to: map.length() - 1,
                edges: Edges::Argmax,
                mode,
                granularity: Granularity::Token,
                until: None,
                through: Through::Values,
            };
            let graph = Graph::new(&map, request).expect("a graph");
            let readout = map.readout(answer, Scale::Logit, graph.request.to).expect("a readout");
            let scorer = Scorer { map: &map, graph: &graph, readout: &readout, max_rank: None };
            let paths: Vec<Path> = Walk::new(&graph, graph.depth()).collect();
            assert_eq!(paths.len(), reference.len(), "{name} {key}");
            let scores = scorer.scores(&paths).expect("scores");
            for (path, score) in paths.iter().zip(&scores) {
                let positions: Vec<i64> = graph.positions(path).into_iter().map(i64::from).collect();
                let same = reference.iter().find(|other| numbers(&other["tokens"]) == positions);
                let same = same.unwrap_or_else(|| panic!("{name} {key}: {positions:?} is not in the reference"));
                for (layer, heads) in same["heads"].as_array().expect("heads").iter().enumerate() {
                    let edge = graph.edge(layer, path.edges[layer]);
                    assert_eq!(edge.heads().collect::<Vec<_>>(), numbers(heads), "{name} {key}");
                }
                let logit = same["answer_logit"].as_f64().expect("a logit");
                assert!((score.value - logit).abs() < 1e-10, "{name} {key}: {} for {logit}", score.value);
                assert_eq!(score.rank, same["rank"].as_i64(), "{name} {key}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared} paths were compared");
}

/// Defines `model`, `lin` and `prompt` of a tiny model in float64.
fn prepared(name: &str) -> lancet::session::Session {
    let mut session = session();
    let path = tiny_path(name).display().to_string();
    run_script(&mut session, &format!("let model = load_model(\"{path}\", #{{ dtype: \"f64\" }});"));
    run_script(&mut session, "let prompt = [3, 14, 15, 9, 2, 6]; let lin = model.linearize(prompt);");
    session
}

#[test]
fn a_prediction_of_a_change_of_the_input_is_the_map_itself() {
    // Without a change, map and model agree; and the effect of a change of the last residual is linear up to the final
    // norm.
    for name in ["olmo2", "gpt2", "gpt_neox", "gemma2"] {
        let mut session = prepared(name);
        run_script(&mut session, "let same = lin.predict([scale(\"blocks.1.hook_resid_post\", (), 1.0)]);");
        for pair in ["same.predicted - same.clean", "same.actual - same.clean"] {
            let difference = eval_tensor(&mut session, pair).abs().max().double_value(&[]);
            assert!(difference < 1e-12, "{name} {pair}: {difference}");
        }
        assert_eq!(eval(&mut session, "same.moved_share").as_float(), Ok(0.0));

        let turn = generator();
        run_script(&mut session, "let v = randn([model.cfg.d_model], #{ seed: 1 }).to(\"f64\");");
        drop(turn);
        run_script(&mut session, "let added = lin.predict([add(\"blocks.1.hook_resid_pre\", 2, v)]);");
        let through = eval_tensor(&mut session, "lin.apply(v, #{ from: [1, 2] })");
        let predicted = eval_tensor(&mut session, "added.predicted - added.clean");
        assert!(max_difference(&through, &predicted) < 1e-11, "{name}");
        let steps =
            eval_tensor(&mut session, "lin.validity(#{ direction: v, layer: 1, position: 2, steps: [0.5] }).change");
        let own = "lin.predict([add(\"blocks.1.hook_resid_pre\", 2, v * (0.5 * model.run_with_cache(prompt).cache[\"blocks.1.hook_resid_pre\"][0, 2].norm() / v.norm()))])";
        let actual = eval_tensor(&mut session, &format!("{{ let p = {own}; (p.actual - p.clean).norm() }}"));
        assert!((steps.double_value(&[0]) - actual.double_value(&[])).abs() < 1e-9, "{name}");
    }
}

#[test]
fn a_predicted_grid_is_one_prediction_per_cell() {
    for name in ["olmo2", "gpt2", "gpt_neox", "gemma2"] {
        let mut session = prepared(name);
        run_script(
            &mut session,
            "let source = [7, 8, 1];
             let answer = 5;
             let vectors = [];
             let run = model.run_with_cache(source);
             for l in 0..model.cfg.n_layers { vectors.push(run.cache[`blocks.${l}.hook_resid_post`][0, -1]); }
             let grid = lin.predict_grid(#{ source: source, answer: answer, position: 1 });
             let worst = 0.0;
             for i in 0..vectors.len() {
                 for j in i..vectors.len() {
                     let set = if i == j { [i] } else { [i, j] };
                     let p = lin.predict(set.map(|l| patch(`blocks.${l}.hook_resid_post`, 1, vectors[l])));
                     worst = max(worst, abs((p.predicted - p.clean)[answer].item() - grid[i, j].item()));
                 }
             }",
        );
        let worst = eval(&mut session, "worst").as_float().expect("a float");
        assert!(worst < 1e-11, "{name}: {worst}");
    }
}

#[test]
fn scripts_read_tables_of_paths() {
    let mut session = prepared("olmo2");
    run_script(&mut session, "let table = lin.paths(#{ answer: 5, edges: \"all\", quiet: true });");
    run_script(&mut session, "let rows = table.rows();");
    for law in [
        "rows.len() == table.len() && table.len() == lin.path_counts(#{ answer: 5, edges: \"all\" }).count",
        "abs(table.explained - 1.0) < 1e-12 && abs(table.remainder) < 1e-12",
        "abs(table.logit.sum().item() - lin.totals(#{ ids: [5] }).sum().item()) < 1e-11",
        "rows[3].positions == table.positions[3].to_array() && rows[3].rank == table.rank[3].item()",
        // A row is a path, on which `apply` and `matrix` agree.
        "(lin.apply(zeros([model.cfg.d_model]) + 1.0, #{ path: rows[9] }) - lin.matrix(rows[9]).sum(1)).abs().max().item() < 1e-12",
        "lin.paths(#{ answer: 5, keep: \"high_ranking\", max_rank: 10, edges: \"all\", quiet: true }).len()
             == rows.filter(|row| row.rank <= 10).len()",
        "(lin.paths(#{ answer: 5, highest: 3, edges: \"all\", quiet: true }).logit[0] - table.logit.max()).abs().item() < 1e-12",
        "lin.paths(#{ answer: 5, sample: 10, edges: \"all\", quiet: true }).len() == 10",
        "head_activity(table).shape == [model.cfg.n_layers, model.cfg.n_heads]",
        "lin.edge(0, 5, 5).residual && lin.edge(0, 2, 5).weights.shape == [model.cfg.n_heads]",
    ] {
        assert_eq!(eval(&mut session, law).as_bool(), Ok(true), "{law}");
    }
    // Per head: the number of its steps in high-ranking paths, counted from the rows.
    let counted = eval(
        &mut session,
        "{ let high = rows.filter(|row| row.rank <= 100 && row.positions[0] == 4);
           high.filter(|row| 1 in row.heads[2]).len().to_float() / high.len() }",
    );
    let share = eval_tensor(&mut session, "head_activity(table, 4)").double_value(&[2, 1]);
    assert!((counted.as_float().expect("a share") - share).abs() < 1e-12);
}

#[test]
fn files_of_paths_hold_the_table() {
    let mut session = prepared("olmo2");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display();
    run_script(
        &mut session,
        &format!(
            "let streamed = `{folder}/streamed.`;
             let saved = `{folder}/saved.`;
             let table = lin.paths(#{{ answer: 5, edges: \"all\", quiet: true }});
             let elsewhere = lin.paths(#{{ answer: 5, edges: \"all\", quiet: true, file: streamed + \"parquet\" }});
             lin.paths(#{{ answer: 5, edges: \"all\", quiet: true, file: streamed + \"csv\" }});
             table.save(saved + \"parquet\");
             table.save(saved + \"csv\");
             let rows = table.rows();
             let read = read_parquet(saved + \"parquet\");
             let lines = read_text(saved + \"csv\").split(\"\\n\");
             let along = |row| {{
                 let steps = [];
                 for (heads, step) in row.heads {{
                     if row.residual[step] {{ heads.push(\"r\"); }}
                     let words = heads.reduce(|text, head| if text == () {{ `${{head}}` }} else {{ `${{text}}+${{head}}` }});
                     steps.push(words);
                 }}
                 steps.reduce(|text, step| if text == () {{ step }} else {{ text + \" \" + step }})
             }};"
        ),
    );
    for law in [
        "read == read_parquet(streamed + \"parquet\") && read.len() == rows.len()",
        "read_text(saved + \"csv\") == read_text(streamed + \"csv\") && lines.len() == rows.len() + 2",
        "read.all(|row, i| row.positions == rows[i].positions && row.source == rows[i].positions[0])",
        "read.all(|row, i| row.logit == rows[i].logit && row.rank == rows[i].rank)",
        "read.all(|row, i| row.heads == along.call(rows[i]))",
        "lines[0] == \"source,positions,heads,logit,rank\"",
        "elsewhere.len() == rows.len() && `${elsewhere.starts}` == `${table.starts}`",
        "{ let cells = lines[8].split(\",\");
           cells[2] == read[7].heads && parse_float(cells[3]) == read[7].logit && cells[4] == `${read[7].rank}` }",
    ] {
        assert_eq!(eval(&mut session, law).as_bool(), Ok(true), "{law}");
    }
    for asked in
        ["elsewhere.rows()", "elsewhere.logit", "elsewhere.rank", "elsewhere.positions", "elsewhere.save(\"x.csv\")"]
    {
        let failure = script_failure(&mut session, asked);
        assert!(failure.contains("went to a file"), "{asked}: {failure}");
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    let mut session = prepared("olmo2");
    for (script, words) in [
        ("model.linearize([3]).paths(#{ answer: 5 })", &["one token"][..]),
        ("model.linearize([[1, 2], [3, 4]])", &["one prompt", "2 were given"]),
        ("lin.paths(#{ answer: 5, from: 4, to: 2 })", &["position 4", "before it", "only looks back"]),
        ("lin.paths(#{ answer: 5, limit: 0 })", &["`limit` is 0"]),
        ("lin.paths(#{ answer: 5, edges: \"all\", limit: 10 })", &["paths", "the limit is 10", "raise `limit`"]),
        ("lin.paths(#{ answer: 5, mode: \"released\" })", &["released mode needs one key-value head per head", "eq3"]),
        ("lin.paths(#{ answer: 5, edges: \"argmx\" })", &["argmx", "did you mean `argmax`"]),
        ("lin.paths(#{ answer: 5, top_p: 0.5 })", &["goes with"]),
        ("lin.paths(#{ answer: 5, edges: \"top_p\", top_p: 1.5 })", &["1.5"]),
        ("lin.paths(#{ })", &["needs `answer`"]),
        ("lin.paths(#{ answer: 100000 })", &["out of range"]),
        ("lin.paths(#{ answer: 5, file: \"paths.txt\" })", &["paths.txt", ".csv or .parquet"]),
        ("lin.matrix([0, 3, 1, 5, 5])", &["from position 3 back to 1"]),
        ("lin.matrix([0])", &["does not fit"]),
        ("lin.svd(#{ layer: 0, positions: [0, 1] }, 2)", &["before the last layer"]),
        ("lin.svd(0, 0)", &["0 singular values"]),
        ("lin.apply(zeros([3]), #{ from: [0, 0] })", &["[3]", "[d_model]"]),
        ("lin.apply(zeros([model.cfg.d_model]), #{ from: [9, 0] })", &["layer 9"]),
        ("lin.apply(zeros([model.cfg.d_model]), #{ from: [2, 4], to: [1, 5] })", &["nothing leads"]),
        ("lin.edge(0, 4, 2)", &["from position 4 back to 2"]),
        ("lin.edge(99, 0, 0)", &["layer 99"]),
        ("lin.predict([zero(\"blocks.0.attn.hook_pattern\", 0)])", &["is frozen", "hook_resid_post"]),
        ("lin.validity(#{ direction: zeros([model.cfg.d_model]) })", &["zero"]),
        ("lin.totals(#{ to: 6 })", &["position 6", "6 tokens"]),
        ("head_activity(lin.paths(#{ answer: 5, from: 2, quiet: true }), 3)", &["no paths from position 3"]),
    ] {
        assert_contains(&script_failure(&mut session, script), words);
    }
}
