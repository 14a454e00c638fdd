//! Graphs of paths: their sums, their pruning, and the files for other programs.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use crate::support::svg::assert_well_formed;
use crate::support::{eval, load, logits, run_script, script_failure, session, tiny_path};
use lancet::linear::live::Through;
use lancet::linear::map::LinearMap;
use lancet::linear::path::method::Selection;
use lancet::linear::path::plan::Plan;
use lancet::linear::path::request::{Edges, Granularity, GraphRequest, Mode};
use lancet::linear::path::table::{PathTable, TableOptions};
use lancet::linear::path_graph::{Names, PathGraph, Pruning};
use lancet::linear::readout::Scale;
use tch::Kind;

const PROMPT: &[i64] = &[3, 14, 15, 9, 2, 6];
const ANSWER: i64 = 5;
const ALL: Pruning = Pruning { high_ranking_only: false, min_node: 0.0, min_edge: 0.0 };

fn table(name: &str, granularity: Granularity) -> PathTable {
    let _guard = tch::no_grad_guard();
    let model = load(&tiny_path(name).display().to_string(), Kind::Double);
    let map = LinearMap::freeze(Rc::new(model), PROMPT).expect("a map");
    let from = if granularity == Granularity::Head { vec![3, 4, 5] } else { (0..PROMPT.len() as i64).collect() };
    let edges = if granularity == Granularity::Head { Edges::Argmax } else { Edges::All };
    let request = GraphRequest {
        from,
        to: PROMPT.len() as i64 - 1,
        edges,
        mode: Mode::Eq3,
        granularity,
        until: None,
        through: Through::Values,
    };
    let options = TableOptions { selection: Selection::All, max_rank: 20, keep_low: true, hold: true };
    Plan::new(&map, request, ANSWER, Scale::Logit, options).expect("a plan").run(&mut |_| Ok(())).expect("paths")
}

/// Tokens that every format must escape.
fn names() -> Names {
    let tokens = ["\n", " \"quoted\\n\" <b>&amp;", " ", "$x$ -> }", "ü\u{0}\t", "end\\"];
    Names {
        model: "folder/tiny".to_owned(),
        prompt: tokens.concat(),
        tokens: tokens.map(str::to_owned).to_vec(),
        answer: " \"<&\\".to_owned(),
    }
}

fn graph(table: &PathTable, pruning: Pruning) -> PathGraph {
    PathGraph::new(table, names(), pruning).unwrap_or_else(|error| panic!("{error}"))
}

/// The text of the graph as saved under a name.
fn saved(graph: &PathGraph, name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    graph.save(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    std::fs::read(&path).expect("a file")
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-11
}

#[test]
fn before_pruning_every_layers_nodes_and_edges_hold_all_influence() {
    for (name, granularity) in
        [("olmo2", Granularity::Token), ("gpt_neox", Granularity::Token), ("gpt2", Granularity::Head)]
    {
        let table = table(name, granularity);
        let graph = graph(&table, ALL);
        let logit: f64 = table.held().expect("paths").iter().map(|(_, score)| score.value).sum();
        assert!(close(graph.explained, 1.0) && close(graph.total.value, logit), "{name}");
        for layer in 0..=graph.n_layers {
            let nodes: Vec<_> = graph.nodes.iter().filter(|node| node.layer == layer).collect();
            assert!(close(nodes.iter().map(|node| node.share.influence).sum(), 1.0), "{name} layer {layer}");
            assert!(close(nodes.iter().map(|node| node.share.value).sum(), logit), "{name} layer {layer}");
            assert_eq!(nodes.iter().map(|node| node.share.paths).sum::<u64>(), table.kept);
        }
        for node in &graph.nodes {
            let at = (node.layer, node.position);
            let into: f64 =
                graph.edges.iter().filter(|e| (e.layer + 1, e.target) == at).map(|e| e.share.influence).sum();
            let out: f64 = graph.edges.iter().filter(|e| (e.layer, e.source) == at).map(|e| e.share.influence).sum();
            assert!(node.layer == 0 || close(into, node.share.influence), "{name} {at:?}");
            assert!(node.layer == graph.n_layers || close(out, node.share.influence), "{name} {at:?}");
        }
        for edge in &graph.edges {
            let along: f64 = edge.heads.values().map(|share| share.influence).sum::<f64>() + edge.residual.influence;
            match granularity {
                // Each path takes a step along one head, or along all of the edge's at once.
                Granularity::Head => assert!(close(along, edge.share.influence), "{name}"),
                Granularity::Token => assert!(edge.heads.values().all(|share| *share == edge.share), "{name}"),
            }
        }
    }
}

#[test]
fn pruning_leaves_ways_from_start_to_end_and_says_what_they_explain() {
    let table = table("olmo2", Granularity::Token);
    let whole = graph(&table, ALL);
    let mut before = 1.0;
    for threshold in [0.0, 0.02, 0.05, 0.1] {
        let pruning = Pruning { min_node: threshold, min_edge: threshold, ..ALL };
        let graph = graph(&table, pruning);
        let nodes: HashSet<(usize, u32)> = graph.nodes.iter().map(|node| (node.layer, node.position)).collect();
        let edges: HashSet<_> = graph.edges.iter().map(|edge| (edge.layer, edge.source, edge.target)).collect();
        for edge in &graph.edges {
            assert!(edge.share.influence >= threshold && whole.edges.contains(edge));
            assert!(nodes.contains(&(edge.layer, edge.source)) && nodes.contains(&(edge.layer + 1, edge.target)));
        }
        for node in &graph.nodes {
            assert!(node.share.influence >= threshold && whole.nodes.contains(node));
            let (layer, position) = (node.layer, node.position);
            assert!(layer == 0 || graph.edges.iter().any(|edge| (edge.layer + 1, edge.target) == (layer, position)));
            assert!(
                layer == graph.n_layers
                    || graph.edges.iter().any(|edge| (edge.layer, edge.source) == (layer, position))
            );
        }
        let (mut left, mut sum) = (0.0, 0.0);
        for (path, score) in table.held().expect("paths") {
            let positions = table.graph.positions(path);
            let mut steps = positions.windows(2).enumerate();
            sum += score.value.abs();
            if steps.all(|(layer, step)| edges.contains(&(layer, step[0], step[1]))) {
                left += score.value.abs();
            }
        }
        assert!(close(graph.explained, left / sum), "{} for {}", graph.explained, left / sum);
        assert!(graph.explained <= before + 1e-12);
        before = graph.explained;
    }
    assert!(before < 0.9, "the thresholds leave out nothing: {before}");
}

#[test]
fn high_ranking_paths_alone_count_unless_all_are_wanted() {
    let table = table("olmo2", Granularity::Token);
    let high = graph(&table, Pruning { high_ranking_only: true, ..ALL });
    let counted: u64 = table.starts.iter().map(|start| start.high_ranking).sum();
    assert_eq!(high.total.paths, counted);
    assert!(counted > 0 && counted < table.kept);
}

#[test]
fn viewers_find_what_they_look_for_in_the_json() {
    let table = table("olmo2", Granularity::Token);
    let graph = graph(&table, Pruning { min_node: 0.02, min_edge: 0.02, ..ALL });
    let json: serde_json::Value = serde_json::from_slice(&saved(&graph, "my-graph.json")).expect("JSON");
    let keys = |value: &serde_json::Value| value.as_object().expect("a map").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["metadata", "qParams", "nodes", "links"]);
    assert_eq!(keys(&json["qParams"]), ["pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"]);
    let metadata = &json["metadata"];
    assert_eq!((&metadata["slug"], &metadata["scan"]), (&"my-graph".into(), &"tiny".into()));
    assert_eq!(metadata["schema_version"], 1);
    assert_eq!(metadata["prompt_tokens"][1], names().tokens[1].as_str());
    assert_eq!(metadata["prompt"], names().prompt.as_str());

    let nodes = json["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), graph.nodes.len() + 1);
    let mut layers = HashMap::new();
    for key in ["node_id", "jsNodeId"] {
        let ids: HashSet<&str> = nodes.iter().map(|node| node[key].as_str().expect("an id")).collect();
        assert_eq!(ids.len(), nodes.len(), "{key} are not unique");
    }
    for (node, ours) in nodes.iter().zip(&graph.nodes) {
        assert_eq!(
            keys(node),
            [
                "node_id",
                "feature",
                "layer",
                "ctx_idx",
                "feature_type",
                "token_prob",
                "is_target_logit",
                "run_idx",
                "reverse_ctx_idx",
                "jsNodeId",
                "clerp",
                "influence",
                "activation"
            ]
        );
        let position = ours.position;
        assert_eq!(node["ctx_idx"], position);
        let id = match ours.layer {
            0 => format!("E_{}_{position}", PROMPT[position as usize]),
            layer => format!("{}_{position}_{position}", layer - 1),
        };
        assert_eq!(node["node_id"], id.as_str());
        assert_eq!(node["layer"], id.split('_').next().expect("a layer"));
        assert_eq!(node["feature_type"], if ours.layer == 0 { "embedding" } else { "cross layer transcoder" });
        if let Some(layer) = (ours.layer as u64).checked_sub(1) {
            // The inverse of Cantor's pairing, as viewers compute it.
            let feature = node["feature"].as_u64().expect("a number");
            let diagonal = (((8.0 * feature as f64 + 1.0).sqrt() - 1.0) / 2.0).floor() as u64;
            let index = feature - diagonal * (diagonal + 1) / 2;
            assert_eq!((diagonal - index, index), (layer, u64::from(position)));
        }
        layers.insert(id, ours.layer);
    }
    // The most influential nodes first: a threshold keeps the fewest with that share.
    let mut order: Vec<_> =
        nodes.iter().zip(&graph.nodes).map(|(node, ours)| (node["influence"].as_f64(), ours)).collect();
    order.sort_by(|one, other| one.0.expect("a share").total_cmp(&other.0.expect("a share")));
    assert!(order.windows(2).all(|pair| pair[0].1.share.influence >= pair[1].1.share.influence));
    assert!(order.iter().all(|(share, _)| share.is_some_and(|share| share > 0.0 && share <= 1.0)));

    let logit = nodes.last().expect("a node");
    assert_eq!((&logit["feature_type"], &logit["is_target_logit"]), (&"logit".into(), &true.into()));
    let probability = {
        let _guard = tch::no_grad_guard();
        let model = load(&tiny_path("olmo2").display().to_string(), Kind::Double);
        let tokens = tch::Tensor::from_slice(PROMPT).unsqueeze(0);
        logits(&model, &tokens).get(0).get(-1).softmax(0, Kind::Double).double_value(&[ANSWER])
    };
    assert!(close(logit["token_prob"].as_f64().expect("a number"), probability));
    let clerp = logit["clerp"].as_str().expect("a label");
    assert!(clerp.contains(&format!("(p={probability:.3})")), "{clerp}");
    layers.insert(logit["node_id"].as_str().expect("an id").to_owned(), graph.n_layers + 1);

    let links = json["links"].as_array().expect("links");
    assert_eq!(links.len(), graph.edges.len() + 1);
    for link in links {
        let end = |key: &str| layers[link[key].as_str().expect("an id")];
        assert_eq!(end("source") + 1, end("target"));
        assert!(link["weight"].is_f64());
    }
}

#[test]
fn drawings_are_images_that_hold_every_node_and_edge() {
    let table = table("olmo2", Granularity::Token);
    let graph = graph(&table, Pruning { min_node: 0.02, min_edge: 0.02, ..ALL });
    let svg = String::from_utf8(saved(&graph, "graph.svg")).expect("text");
    assert_well_formed(&svg);
    let notes = svg.matches("<title>").count();
    assert_eq!(notes, graph.nodes.len() + graph.edges.len());
    for text in [">&quot;\\n&quot;<", ">&quot;quoted\\n&quot; &lt;b&gt;&amp;", ">end\\<"] {
        assert!(svg.contains(text), "{text} is not in\n{svg}");
    }
    assert!(saved(&graph, "graph.png").starts_with(b"\x89PNG"));
}

#[test]
fn graphviz_can_read_the_dot() {
    let table = table("olmo2", Granularity::Token);
    let graph = graph(&table, Pruning { min_node: 0.02, min_edge: 0.02, ..ALL });
    let text = String::from_utf8(saved(&graph, "graph.dot")).expect("text");
    let body = text.strip_prefix("digraph paths {\n").and_then(|rest| rest.strip_suffix("}\n")).expect("a digraph");
    let (mut nodes, mut edges) = (HashSet::new(), Vec::new());
    for line in body.lines() {
        let words = dot_tokens(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let open = words.iter().position(|word| *word == "[").unwrap_or_else(|| panic!("{line}"));
        let attributes = &words[open + 1..words.len() - 2];
        assert_eq!(&words[words.len() - 2..], ["]", ";"], "{line}");
        // name = value, ...
        for attribute in attributes.split(|word| *word == ",") {
            assert!(attribute.len() == 3 && attribute[1] == "=", "{attribute:?} in {line}");
        }
        match &words[..open] {
            ["graph" | "node" | "edge"] => {}
            [name] => assert!(nodes.insert((*name).to_owned())),
            [source, "->", target] => edges.push(((*source).to_owned(), (*target).to_owned())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((nodes.len(), edges.len()), (graph.nodes.len() + 1, graph.edges.len() + 1));
    assert!(edges.iter().all(|(source, target)| nodes.contains(source) && nodes.contains(target)));
    assert!(text.contains(r#"label="end\\""#) && text.contains(r#"label="\"quoted\\n\" <b>&amp;""#), "{text}");
}

/// The tokens of a line in the DOT language: names, numbers, quoted strings, signs.
fn dot_tokens(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let mut escaped = false;
                let end = rest[1..].find(|c| {
                    let is_end = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    is_end
                });
                end.unwrap_or_else(|| panic!("an open string in {line}")) + 2
            }
            '-' if rest.starts_with("->") => 2,
            '[' | ']' | '=' | ',' | ';' => 1,
            _ => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_.".contains(c)).unwrap_or(rest.len());
                assert!(end > 0, "{rest} in {line}");
                end
            }
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

#[test]
fn scripts_make_and_save_graphs() {
    let mut session = session();
    let path = tiny_path("olmo2").display().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display();
    run_script(
        &mut session,
        &format!(
            "let model = load_model(\"{path}\", #{{ dtype: \"f64\" }});
             let table = model.linearize([3, 14, 15, 9, 2, 6]).paths(#{{ answer: 5, edges: \"all\", max_rank: 20, quiet: true }});
             let graph = path_graph(table);
             let whole = path_graph(table, #{{ high_ranking_only: false, min_node: 0, min_edge: 0 }});
             for name in [\"g.svg\", \"g.png\", \"g.dot\", \"g.json\"] {{ graph.save(`{folder}/${{name}}`); }}"
        ),
    );
    for name in ["g.svg", "g.png", "g.dot", "g.json"] {
        assert!(Path::new(&format!("{folder}/{name}")).exists(), "{name}");
    }
    for law in [
        "whole.nodes.filter(|node| node.layer == 0).map(|node| node.influence).reduce(|sum, x| sum + x, 0.0) > 0.999999999",
        "abs(whole.explained - 1.0) < 1e-12 && graph.explained <= 1.0 && graph.explained > 0.0",
        "whole.nodes[1].token == \"14\" && whole.nodes[1].paths == table.rows().filter(|row| row.positions[0] == 1).len()",
        "graph.edges.filter(|edge| edge.heads.len() == 0 && edge.residual.paths == 0).len() == 0",
        "graph.to_string().contains(\"explained\")",
    ] {
        assert_eq!(eval(&mut session, law).as_bool(), Ok(true), "{law}");
    }
}

#[test]
fn what_cannot_be_made_is_explained() {
    let mut session = session();
    let path = tiny_path("olmo2").display().to_string();
    run_script(
        &mut session,
        &format!(
            "let lin = load_model(\"{path}\", #{{ dtype: \"f64\" }}).linearize([3, 14, 15, 9, 2, 6]);
             let table = lin.paths(#{{ answer: 5, quiet: true }});
             let graph = path_graph(table);"
        ),
    );
    let failures = [
        "path_graph(lin.paths(#{ answer: 5, max_rank: 1, keep: \"high_ranking\", from: 0, quiet: true }))",
        "path_graph(lin.paths(#{ answer: 5, max_rank: 1, from: 0, quiet: true }))",
        "path_graph(table, #{ min_node: 1.5 })",
        "path_graph(table, #{ min_edge: -0.1 })",
        "path_graph(table, #{ min_edge: 0.9 })",
        "path_graph(table, #{ minimum: 0.9 })",
        "graph.save(\"graph.pdf\")",
        "graph.save(\"graph\")",
    ]
    .map(|script| format!("{script}\n{}", script_failure(&mut session, script).trim_end()));
    insta::assert_snapshot!(failures.join("\n\n"));
}
