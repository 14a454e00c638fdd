//! Path graphs as attribution graph files, schema version 1: what circuit-tracer
//! (`circuit_tracer/frontend/graph_models.py`, its viewer) and Neuronpedia (`graph-schema.json`, version 1.0.0) read.
//! <https://github.com/decoderesearch/circuit-tracer>
//!
//! That format describes features of transcoders, and paths have none. A source token is an `embedding` node, the
//! answer the `logit` node. Any node between, the residual stream after block l at a position, is written as feature
//! number `position` of layer l, of type `cross layer transcoder`: the only type for nodes within the model that
//! viewers neither relabel nor treat as an error. The label (`clerp`) says what the node is. A link's weight is the sum
//! of the values, such as the answer's logits, of the paths that take it. Viewers prune by `influence`: the share of
//! all nodes' influence that a node and the more influential ones hold together.

use std::path::Path as FilePath;

use serde::Serialize;

use super::{PathGraph, PathNode};
use crate::error::{Error, Result};
use crate::file;
use crate::linear::readout::Target;

const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document {
    metadata: Metadata,
    #[serde(rename = "qParams")]
    view: View,
    nodes: Vec<ViewerNode>,
    links: Vec<ViewerLink>,
}

#[derive(Serialize)]
struct Metadata {
    slug: String,
    scan: String,
    transcoder_list: Vec<String>,
    prompt_tokens: Vec<String>,
    prompt: String,
    /// Viewers first show nodes up to this `influence`: all of them, since they are pruned already
    node_threshold: f64,
    schema_version: u32,
    info: Info,
    pruning_settings: PruningSettings,
}

#[derive(Serialize)]
struct Info {
    generator: Generator,
}

#[derive(Serialize)]
struct Generator {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct PruningSettings {
    high_ranking_only: bool,
    min_node: f64,
    min_edge: f64,
    explained: f64,
}

/// A viewer's initial state.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    pinned_ids: Vec<String>,
    supernodes: Vec<Vec<String>>,
    link_type: &'static str,
    clicked_id: String,
    #[serde(rename = "sg_pos")]
    subgraph_positions: String,
}

#[derive(Serialize)]
struct ViewerNode {
    node_id: String,
    feature: u64,
    layer: String,
    ctx_idx: u32,
    feature_type: &'static str,
    token_prob: f64,
    is_target_logit: bool,
    run_idx: u32,
    reverse_ctx_idx: u32,
    #[serde(rename = "jsNodeId")]
    js_node_id: String,
    clerp: String,
    influence: Option<f64>,
    activation: Option<f64>,
}

#[derive(Serialize)]
struct ViewerLink {
    source: String,
    target: String,
    weight: f64,
}

/// Writes the graph; its slug, by which viewers find it, is the file's name.
///
/// # Errors
/// Paths to a head's score, which the format cannot end in; an I/O error.
pub fn write(path: &FilePath, graph: &PathGraph) -> Result<()> {
    let (Target::Answer { id, .. }, Some(probability)) = (&graph.target, graph.answer_probability) else {
        return Err(Error::new("attribution graph files end in a token's logit, and these paths in a head's score")
            .hint("`.svg`, `.png` and `.dot` files take them"));
    };
    let slug = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let document = document(graph, End { id: *id, probability }, slug);
    file::write_atomic(path, |out| {
        serde_json::to_writer_pretty(&mut *out, &document)?;
        out.write_all(b"\n")
    })
}

/// The token that a graph's paths lead to, and its probability.
#[derive(Clone, Copy)]
struct End {
    id: i64,
    probability: f64,
}

fn document(graph: &PathGraph, answer: End, slug: String) -> Document {
    let cumulative = cumulative(graph);
    let inner = graph.nodes.iter().zip(cumulative).map(|(node, influence)| ViewerNode::of(graph, node, influence));
    let end = graph.nodes.iter().filter(|node| node.layer == graph.n_layers);
    let to_answer = end.map(|node| ViewerLink {
        source: node_id(graph, node.layer, node.position),
        target: logit_id(graph, answer),
        weight: node.share.value,
    });
    let links = graph.edges.iter().map(|edge| ViewerLink {
        source: node_id(graph, edge.layer, edge.source),
        target: node_id(graph, edge.layer + 1, edge.target),
        weight: edge.share.value,
    });
    let generator = Generator { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };
    let pruning = graph.pruning;
    Document {
        metadata: Metadata {
            slug,
            scan: scan(&graph.names.model).to_owned(),
            transcoder_list: Vec::new(),
            prompt_tokens: graph.names.tokens.clone(),
            prompt: graph.names.prompt.clone(),
            node_threshold: 1.0,
            schema_version: SCHEMA_VERSION,
            info: Info { generator },
            pruning_settings: PruningSettings {
                high_ranking_only: pruning.high_ranking_only,
                min_node: pruning.min_node,
                min_edge: pruning.min_edge,
                explained: graph.explained,
            },
        },
        view: View {
            pinned_ids: Vec::new(),
            supernodes: Vec::new(),
            link_type: "both",
            clicked_id: String::new(),
            subgraph_positions: String::new(),
        },
        nodes: inner.chain([ViewerNode::logit(graph, answer)]).collect(),
        links: links.chain(to_answer).collect(),
    }
}

/// The model's name for viewers; for a model loaded from a folder, the folder's name.
fn scan(model: &str) -> &str {
    model.rfind(['/', '\\']).map_or(model, |place| &model[place + 1..])
}

/// For every node, the share of all nodes' influence that it and the more influential ones hold. Each layer's nodes
/// hold 1.
fn cumulative(graph: &PathGraph) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = graph.nodes.iter().map(|node| node.share.influence).enumerate().collect();
    order.sort_by(|one, other| other.1.total_cmp(&one.1));
    let mut held = 0.0;
    let mut shares = vec![0.0; order.len()];
    for (place, influence) in order {
        held += influence;
        shares[place] = (held / (graph.n_layers + 1) as f64).min(1.0);
    }
    shares
}

fn node_id(graph: &PathGraph, layer: usize, position: u32) -> String {
    match layer.checked_sub(1) {
        None => format!("E_{}_{position}", token(graph, position)),
        Some(block) => format!("{block}_{position}_{position}"),
    }
}

fn logit_id(graph: &PathGraph, answer: End) -> String {
    format!("{}_{}_{}", graph.n_layers + 1, answer.id, graph.to)
}

fn token(graph: &PathGraph, position: u32) -> i64 {
    graph.tokens[position as usize]
}

/// One number for a layer and a feature.
fn cantor_pairing(layer: u64, feature: u64) -> u64 {
    (layer + feature) * (layer + feature + 1) / 2 + feature
}

impl ViewerNode {
    fn of(graph: &PathGraph, node: &PathNode, influence: f64) -> Self {
        let position = node.position;
        let node_id = node_id(graph, node.layer, position);
        let common = |feature, layer: String, feature_type, js_node_id, clerp| Self {
            node_id,
            feature,
            layer,
            ctx_idx: position,
            feature_type,
            token_prob: 0.0,
            is_target_logit: false,
            run_idx: 0,
            reverse_ctx_idx: 0,
            js_node_id,
            clerp,
            influence: Some(influence),
            activation: None,
        };
        match node.layer.checked_sub(1) {
            None => {
                let js_node_id = format!("E_{}-{position}", token(graph, position));
                common(u64::from(position), "E".to_owned(), "embedding", js_node_id, String::new())
            }
            Some(block) => common(
                cantor_pairing(block as u64, u64::from(position)),
                block.to_string(),
                "cross layer transcoder",
                format!("{block}_{position}-0"),
                format!("residual stream at {}: {}", graph.label(position), node.share.words(&graph.target)),
            ),
        }
    }

    fn logit(graph: &PathGraph, answer: End) -> Self {
        let position = graph.to;
        Self {
            node_id: logit_id(graph, answer),
            feature: answer.id.unsigned_abs(),
            layer: (graph.n_layers + 1).to_string(),
            ctx_idx: position as u32,
            feature_type: "logit",
            token_prob: answer.probability,
            is_target_logit: true,
            run_idx: 0,
            reverse_ctx_idx: 0,
            js_node_id: format!("L_{}-{position}", answer.id),
            // Viewers read the probability from between these words.
            clerp: format!("Output \"{}\" (p={:.3})", graph.names.answer, answer.probability),
            influence: None,
            activation: None,
        }
    }
}
