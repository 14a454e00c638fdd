//! Circuit files of the MIB track: JSON with every edge's score and whether it is in the circuit.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::circuit::Circuit;
use super::graph::Graph;
use crate::data::json;
use crate::error::{Error, Result};
use crate::file;

/// What a file holds: every edge's score, and the circuit.
#[derive(Debug)]
pub struct Scored {
    /// In the graph's order
    pub scores: Vec<f64>,
    /// The edges in the circuit
    pub circuit: Circuit,
}

/// Writes the scores and the circuit.
///
/// # Errors
/// An edge without a score; a file that cannot be written.
pub fn write(path: &Path, graph: &Graph, d_model: i64, scored: &Scored) -> Result<()> {
    check_scores(graph, scored, |_| true)?;
    let nodes = scored.circuit.nodes(graph);
    let mut node_map: Map<String, Value> = graph
        .sources
        .iter()
        .zip(&nodes)
        .map(|(source, is_in)| (source.to_string(), json!({ "in_graph": is_in })))
        .collect();
    node_map.insert("logits".to_owned(), json!({ "in_graph": true }));
    let edge = |(number, edge): (usize, &super::graph::Edge)| {
        let value = json!({ "score": scored.scores[number], "in_graph": scored.circuit.kept[number] });
        (graph.name(*edge), value)
    };
    let edges: Map<String, Value> = graph.edges.iter().enumerate().map(edge).collect();
    let mut cfg = config(graph, d_model);
    if graph.n_kv_heads < graph.n_heads {
        cfg.insert("n_key_value_heads".to_owned(), graph.n_kv_heads.into());
    }
    file::write_text(path, &json!({ "cfg": cfg, "nodes": node_map, "edges": edges }).to_string())
}

/// Fails where one of the edges chosen has no score.
///
/// # Errors
/// An edge without a score; it is named.
pub fn check_scores(graph: &Graph, scored: &Scored, chosen: impl Fn(usize) -> bool) -> Result<()> {
    match (0..scored.scores.len()).find(|edge| chosen(*edge) && !scored.scores[*edge].is_finite()) {
        None => Ok(()),
        Some(edge) => Err(Error::new(format!("`{}` has no score", graph.name(graph.edges[edge])))
            .hint("score all edges, without the option `edges`")),
    }
}

fn config(graph: &Graph, d_model: i64) -> Map<String, Value> {
    [
        ("n_layers", json!(graph.n_layers)),
        ("n_heads", json!(graph.n_heads)),
        ("parallel_attn_mlp", json!(graph.is_parallel)),
        ("d_model", json!(d_model)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

/// Reads a file for a model with this graph.
///
/// # Errors
/// A file that cannot be read or is not of this form; one of another model; an edge that is unknown, missing or given
/// twice; scores of neurons, which are not read.
pub fn read(path: &Path, graph: &Graph, d_model: i64) -> Result<Scored> {
    let whole = json::read(path)?;
    parse(&whole, graph, d_model).map_err(|error| error.context(format!("`{}`", path.display())))
}

fn parse(whole: &Value, graph: &Graph, d_model: i64) -> Result<Scored> {
    let part = |name: &str| -> Result<&Map<String, Value>> {
        whole.get(name).and_then(Value::as_object).ok_or_else(|| {
            Error::new(format!("a circuit file has the object `{name}`"))
                .hint("#{ cfg, nodes, edges }, as the MIB track's `to_json` writes it")
        })
    };
    let (cfg, nodes, edges) = (part("cfg")?, part("nodes")?, part("edges")?);
    for (name, ours) in config(graph, d_model) {
        if cfg.get(&name) != Some(&ours) {
            let theirs = cfg.get(&name).map_or_else(|| "missing".to_owned(), Value::to_string);
            return Err(Error::new(format!(
                "the circuit is of another model: `{name}` is {theirs} there and {ours} here"
            )));
        }
    }
    let shared = cfg.get("n_key_value_heads").and_then(Value::as_i64).unwrap_or(graph.n_heads);
    if shared != graph.n_kv_heads {
        return Err(Error::new(format!(
            "the circuit has {shared} key-value heads in a layer, and the model has {}: its {} query heads share them",
            graph.n_kv_heads, graph.n_heads
        ))
        .hint(
            "a file of an ungrouped model, with a key and a value for each query head, says more than one of shared ones \
             can; write the circuit with `edges.save` of this model",
        ));
    }
    for (name, node) in nodes {
        if name != "logits" {
            graph.node(name)?;
        }
        if node.get("neurons").is_some() {
            return Err(Error::new(format!("`{name}` has scores of neurons, which are not read"))
                .hint("circuits here are of edges"));
        }
    }
    let mut scored = Scored { scores: vec![f64::NAN; graph.edges.len()], circuit: Circuit::empty(graph) };
    let mut missing: BTreeSet<usize> = (0..graph.edges.len()).collect();
    for (name, value) in edges {
        let edge = graph.edge(name)?;
        let number = graph.number(edge);
        let score = value.get("score").and_then(Value::as_f64);
        let kept = value.get("in_graph").and_then(Value::as_bool);
        let (Some(score), Some(kept)) = (score, kept) else {
            return Err(Error::new(format!("the edge `{name}` has no number `score` or no true or false `in_graph`")));
        };
        scored.scores[number] = score;
        scored.circuit.kept[number] = kept;
        missing.remove(&number);
    }
    match missing.first() {
        None => Ok(scored),
        Some(number) => Err(Error::new(format!(
            "{} edges are missing, such as `{}`",
            missing.len(),
            graph.name(graph.edges[*number])
        ))),
    }
}
