//! Scores of heads and paths to them in scripts: what they hold, show and write, and what is refused.

use crate::support::{assert_contains, run_script, script_failure, session, tiny_path};
use lancet::session::Session;

/// Defines `model`, `lin` and `root` of a tiny model in float64.
fn prepared(name: &str) -> Session {
    let mut session = session();
    let path = tiny_path(name).display().to_string();
    run_script(&mut session, &format!("let model = load_model(\"{path}\", #{{ dtype: \"f64\" }});"));
    run_script(
        &mut session,
        "let lin = model.linearize([3, 14, 15, 9, 2, 6]);
         let root = #{ layer: 1, head: 2, query: -2, key: 1, side: \"key\" };",
    );
    session
}

#[test]
fn scripts_split_scores_and_show_the_largest_parts() {
    for name in ["olmo2", "gpt2", "gemma2"] {
        let mut session = prepared(name);
        run_script(
            &mut session,
            r#"
            let s = lin.scores(#{ layer: 1, head: 2, query: -2, key: 1 });
            assert((s.sum - s.score).abs() < 1e-10);
            assert_eq(s.parts.shape, [s.query_labels.len(), s.key_labels.len()]);
            assert((s.by_query.sum().item() - s.sum).abs() < 1e-10 && (s.by_key - s.parts.sum(0)).abs().max().item() < 1e-12);
            let cache = model.run_with_cache(lin.tokens).cache;
            assert((s.probability - cache["blocks.1.attn.hook_pattern"][0, 2, 4, 1].item()).abs() < 1e-12);
            assert(s.query_labels.contains("L0H3") && s.query_labels.contains("0_mlp_out"));
            let top = s.top(3);
            assert_eq(top.len, 3);
            let first = top.rows()[0];
            let place = |labels, label| labels.index_of(label);
            let part = s.parts[s.query_labels.index_of(first.query), s.key_labels.index_of(first.key)].item();
            assert_eq(part, first.part);
            assert_eq(first.part.abs(), s.parts.abs().max().item());
            assert(`${s}`.contains(first.query) && `${s}`.contains("L1H2 from 4"));
            assert_eq(type_of(s), "scores");
            "#,
        );
    }
}

#[test]
fn scripts_trace_paths_to_a_score() {
    let mut session = prepared("olmo2");
    let folder = tempfile::tempdir().expect("a folder");
    session.set_variable("folder", folder.path().display().to_string().into());
    run_script(
        &mut session,
        r#"
        let flow = lin.flow(#{ root: root });
        assert_eq(flow.score, flow.value);
        assert((flow.value - lin.scores(#{ layer: 1, head: 2, query: 4, key: 1 }).score).abs() < 1e-12);
        let totals = lin.totals(#{ root: root });
        assert((totals - flow.node[0]).abs().max().item() < 1e-12);
        let whole = #{ root: root, edges: "all", quiet: true };
        let paths = lin.paths(whole);
        assert_eq(paths.metric, "score");
        let biases = flow.attention_bias.sum() + flow.mlp_bias.sum() + flow.final_bias;
        assert(((paths.value.sum() + biases).item() - flow.score).abs() < 1e-10);
        assert((paths.explained - 1.0).abs() < 1e-9);
        assert((lin.path_counts(whole).score - totals[0..2]).abs().max().item() < 1e-10);
        assert(`${paths}`.contains("paths to the score L1H2 from 4 to 1 by its key"));
        let row = paths.rows()[0];
        assert(row.contains("score") && !row.contains("rank") && !row.contains("hops"));
        assert(!paths.starts[0].contains("hits"));
        paths.save(`${folder}/paths.csv`);
        assert_eq(read_csv(`${folder}/paths.csv`)[0].keys(), ["heads", "positions", "score", "source"]);
        paths.save(`${folder}/paths.parquet`);
        assert_eq(read_parquet(`${folder}/paths.parquet`).len(), paths.len());
        let graph = path_graph(paths);
        assert(graph.explained > 0.9);
        for format in ["svg", "dot"] {
            graph.save(`${folder}/paths.${format}`);
            assert(read_text(`${folder}/paths.${format}`).contains("L1H2"));
        }
        "#,
    );
    let message = script_failure(&mut session, "graph.save(`${folder}/paths.json`)");
    assert_contains(&message, &["end in a token's logit", ".dot"]);
    let message = script_failure(&mut session, "head_activity(paths)");
    assert_contains(&message, &["have no ranks"]);
    let message = script_failure(&mut session, "paths.rank");
    assert_contains(&message, &["has no rank"]);
}

#[test]
fn tables_files_and_drawings_show_the_letter_of_each_hop() {
    let mut session = prepared("gpt_neox");
    let folder = tempfile::tempdir().expect("a folder");
    session.set_variable("folder", folder.path().display().to_string().into());
    run_script(
        &mut session,
        r#"
        let paths = lin.paths(#{ answer: 7, from: [1, 2], edges: "all", through: "qkv", quiet: true });
        let letters = [];
        for row in paths.rows() {
            assert_eq(row.hops.len(), row.heads.len());
            letters += row.hops;
            // The row is a path that the map can follow.
            assert_eq(lin.apply(model.W_E[lin.tokens[row.positions[0]]], #{ path: row }).shape, [model.cfg.d_model]);
        }
        for letter in ["Q", "K", "V", "r"] { assert(letters.contains(letter)); }
        paths.save(`${folder}/paths.csv`);
        let heads = read_csv(`${folder}/paths.csv`).map(|row| row.heads).reduce(|all, one| `${all} ${one}`);
        for letter in ["Q", "K", "V", "r"] { assert(heads.contains(letter)); }
        let graph = path_graph(paths, #{ high_ranking_only: false, min_node: 0.0, min_edge: 0.0 });
        let hops = [];
        for edge in graph.edges { hops += edge.heads.map(|head| head.hop); }
        for letter in ["Q", "K", "V"] { assert(hops.contains(letter)); }
        graph.save(`${folder}/paths.svg`);
        graph.save(`${folder}/paths.dot`);
        for format in ["svg", "dot"] { assert(read_text(`${folder}/paths.${format}`).contains("0Q")); }
        let totals = lin.totals(#{ answer: 7, through: "qkv" });
        for start in paths.starts { assert((start.logit - totals[start.position].item()).abs() < 1e-9); }
        assert((paths.explained - paths.value.sum().item() / totals[1..3].sum().item()).abs() < 1e-9);
        // Through values alone nothing has a letter.
        assert(!lin.paths(#{ answer: 7, from: 1, quiet: true }).rows()[0].contains("hops"));
        "#,
    );
}

#[test]
fn what_has_no_score_is_refused() {
    let mut session = prepared("llama3");
    for (call, parts) in [
        ("lin.scores(#{ layer: 1, head: 2, query: 4 })", vec!["`scores` needs `key`"]),
        ("lin.scores(#{ layer: 1, head: 2, query: 4, key: 1, side: \"key\" })", vec!["no option `side`"]),
        ("lin.scores(#{ layer: 9, head: 2, query: 4, key: 1 })", vec!["layer 9 is out of range"]),
        ("lin.scores(#{ layer: 1, head: 4, query: 4, key: 1 })", vec!["head 4 is out of range", "0 to 3"]),
        ("lin.scores(#{ layer: 1, head: 2, query: 6, key: 1 })", vec!["position 6 is out of range"]),
        ("lin.scores(#{ layer: 1, head: 2, query: 1, key: 4 })", vec!["position 1 does not look at 4"]),
        ("lin.scores(#{ layer: 1, head: 2, query: 4, key: \"a\" })", vec!["`key` of a score", "an integer"]),
        ("lin.scores(#{ layer: 1, head: 2, query: 4, key: 1 }).top(0)", vec!["cannot show 0 parts"]),
        ("lin.paths(#{ root: root + #{ side: () } })", vec!["`root` needs `side`", "\"query\" or \"key\""]),
        ("lin.paths(#{ root: root + #{ side: \"value\" } })", vec!["value", "query"]),
        ("lin.paths(#{ root: root + #{ position: 1 } })", vec!["`root` has no option `position`"]),
        ("lin.paths(#{ root: root, answer: 7 })", vec!["`answer` is of a token's logit"]),
        ("lin.flow(#{ root: root, metric: \"logit\" })", vec!["`metric` is of a token's logit"]),
        ("lin.paths(#{ root: root, keep: \"high_ranking\" })", vec!["have no ranks", "leave `keep` out"]),
        ("lin.paths(#{ root: root, from: 3 })", vec!["from position 3 to 1"]),
        ("lin.totals(#{ root: root, ids: [3] })", vec!["either `ids`"]),
        ("lin.paths(#{ answer: 7, through: \"kv\" })", vec!["through", "qkv"]),
        ("lin.paths(#{ answer: 7, through: \"qkv\", granularity: \"token\" })", vec!["one head at a time", "\"head\""]),
        ("lin.paths(#{ answer: 7, through: \"qkv\", mode: \"released\" })", vec!["released mode"]),
        (
            "lin.apply(ones([model.cfg.d_model]), #{ path: #{ positions: [1, 2], heads: [[1]], hops: [\"Q\"] } })",
            vec!["stays at its position"],
        ),
        (
            "lin.apply(ones([model.cfg.d_model]), #{ path: #{ positions: [1, 2], heads: [[1, 2]], hops: [\"K\"] } })",
            vec!["passes one head"],
        ),
        (
            "lin.apply(ones([model.cfg.d_model]), #{ path: #{ positions: [1, 2], hops: [\"X\"] } })",
            vec!["each item of `hops`"],
        ),
    ] {
        let message = script_failure(&mut session, call);
        assert_contains(&message, &parts);
    }
    let mut session = prepared("olmo");
    let message = script_failure(&mut session, "lin.scores(#{ layer: 1, head: 2, query: 4, key: 1 })");
    assert_contains(&message, &["clips the query of head 2 in layer 1 at position 4"]);
    let message = script_failure(&mut session, "lin.paths(#{ answer: 7, through: \"qkv\", quiet: true })");
    assert_contains(&message, &["clips some queries of layer 0", "through: \"v\""]);
}

#[test]
fn the_origin_of_a_score_is_what_paths_to_it_say() {
    for name in ["olmo2", "gpt2", "gemma3"] {
        let mut session = prepared(name);
        run_script(
            &mut session,
            r#"
            let place = #{ layer: 1, head: 2, query: 4, key: 1 };
            let found = origin::shares(lin, place, 1);
            for side in ["query", "key"] {
                let paths = lin.paths(#{ root: place + #{ side: side }, edges: "all", quiet: true });
                let sizes = paths.starts.map(|start| start.score.abs());
                let sum = sizes.reduce(|sum, one| sum + one, 0.0);
                assert((found[side] - sizes[1] / sum).abs() < 1e-9);
            }
            let args = #{ edges: "argmax", mode: "eq3", max_rank: 60, limit: 100000, sample: 20, seed: 0 };
            let seen = 0;
            for from in 0..5 {
                let rows = lin.paths(#{ answer: 7, from: from, max_rank: 60, keep: "high_ranking", quiet: true }).rows();
                for step in origin::steps(lin, 7, from, args) {
                    let counts = #{};
                    for row in rows {
                        let source = row.positions[step.layer];
                        let target = row.positions[step.layer + 1];
                        if source != target && row.heads[step.layer].contains(step.head) {
                            let key = `${source} ${target}`;
                            counts[key] = (counts.get(key) ?? 0) + 1;
                        }
                    }
                    assert_eq(counts.get(`${step.key} ${step.query}`), step.paths);
                    assert(counts.values().all(|count| count <= step.paths));
                    seen += 1;
                }
            }
            assert(seen > 5, `${seen} steps`);
            "#,
        );
    }
    let mut session = prepared("olmo");
    run_script(&mut session, "assert_eq(origin::shares(lin, #{ layer: 1, head: 2, query: 4, key: 1 }, 1), ());");
}
