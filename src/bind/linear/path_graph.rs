//! Graphs of paths in scripts.

use std::path::Path;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use super::paths::{self, Paths};
use super::scores::root_label;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::Result;
use crate::linear::path::edge::Hop;
use crate::linear::path_graph::{Names, PathEdge, PathGraph, PathNode, Pruning, Share};
use crate::linear::readout::Target;

/// The script's handle of a graph of paths.
#[derive(Debug, Clone)]
pub struct PathGraphHandle(Rc<PathGraph>);

impl Handle for PathGraphHandle {
    const NAME: &'static str = "path_graph";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        let (nodes, edges, share) = (self.0.nodes.len(), self.0.edges.len(), self.0.explained * 100.0);
        let counts =
            format!("graph of {} paths: {nodes} nodes, {edges} edges, {share:.1}% explained", self.0.total.paths);
        paths::measured(counts, &self.0.target)
    }
}

fn make(paths: &Paths, options: Map) -> Result<PathGraphHandle> {
    let has_ranks = matches!(paths.table.target, Target::Answer { .. });
    let pruning = Options::read("path_graph", options, |options| {
        Ok(Pruning {
            high_ranking_only: options.boolean("high_ranking_only")?.unwrap_or(has_ranks),
            min_node: options.number("min_node")?.unwrap_or(0.01),
            min_edge: options.number("min_edge")?.unwrap_or(0.01),
        })
    })?;
    let hint = match paths.held()? {
        [] => "`keep: \"all\"` keeps low-ranking ones too; or raise `max_rank`, or sample more",
        _ => "`high_ranking_only: false` takes all of them; or trace with a larger `max_rank`",
    };
    let graph = PathGraph::new(&paths.table, names(paths)?, pruning).map_err(|error| error.hint(hint))?;
    Ok(PathGraphHandle(Rc::new(graph)))
}

/// Texts of the tokens; of a model without a tokenizer their ids.
fn names(paths: &Paths) -> Result<Names> {
    let (model, ids) = (paths.model.get(), &paths.table.tokens);
    let texts = |ids: &[i64]| {
        if model.has_tokenizer() { model.tokens(ids) } else { Ok(ids.iter().map(i64::to_string).collect()) }
    };
    let tokens = texts(ids)?;
    let prompt = if model.has_tokenizer() { model.decode(ids)? } else { tokens.join(" ") };
    let answer = match &paths.table.target {
        Target::Answer { id, .. } => texts(&[*id])?.concat(),
        Target::Score { place, side } => root_label(*place, *side),
    };
    Ok(Names { model: model.name.clone(), prompt, tokens, answer })
}

impl PathGraphHandle {
    /// The map with a share's fields besides.
    fn with_share(&self, mut map: Map, share: Share) -> Map {
        map.extend(map! { "influence" => share.influence, "paths" => share.paths as i64 });
        map.insert(self.0.target.name().into(), share.value.into());
        map
    }

    fn node(&self, node: &PathNode) -> Map {
        let token = self.0.names.tokens[node.position as usize].clone();
        let node_map = map! { "layer" => node.layer as i64, "position" => i64::from(node.position), "token" => token };
        self.with_share(node_map, node.share)
    }

    fn edge(&self, edge: &PathEdge) -> Map {
        let head = |((head, hop), share): (&(i64, Hop), &Share)| {
            let head_map = map! { "head" => *head, "hop" => hop.letter().to_string() };
            Dynamic::from(self.with_share(head_map, *share))
        };
        let edge_map = map! {
            "layer" => edge.layer as i64,
            "source" => i64::from(edge.source),
            "target" => i64::from(edge.target),
            "heads" => edge.heads.iter().map(head).collect::<Array>(),
            "residual" => self.with_share(Map::new(), edge.residual),
        };
        self.with_share(edge_map, edge.share)
    }
}

#[export_module(manifest)]
pub mod functions {
    /// The graph of the nodes and edges on a table's paths.
    ///
    /// The influence of a node or edge is the sum of |answer's logit|, or of |value| in the metric of the paths, over
    /// the paths through it, divided by the sum over all paths that count. It ranges from 0 to 1, and sums to 1 over
    /// the nodes, or the edges, of any layer before pruning. For a table of sampled paths it is an estimate.
    ///
    /// Options: `high_ranking_only` (true: only paths with a rank up to the table's `max_rank` count; paths to a head's
    /// score have none, and all count), `min_node` and
    /// `min_edge` (0.01: drops nodes and edges of less influence, and then those that no longer connect a source token
    /// with the end).
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("; big,");
    /// let paths = lin.paths(#{ answer: " bigger", highest: 100, quiet: true });
    /// let graph = path_graph(paths, #{ high_ranking_only: false, min_node: 0.05, min_edge: 0.05 });
    /// print(graph);
    /// print(graph.nodes.filter(|node| node.layer == 0));
    /// graph.save("paths.svg");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn path_graph(paths: Paths, options: Map) -> ScriptResult<PathGraphHandle> {
        Ok(make(&paths, options)?)
    }

    /// The nodes left, by layer and position, as maps.
    ///
    /// Each has `layer` (0 stands before the first block), `position`, `token` (its text), `influence`, `logit` (the
    /// sum of the answer's logits over the paths through it; of their values by the name of another metric) and `paths`
    /// (their number).
    #[rhai_fn(get = "nodes", pure)]
    pub fn graph_nodes(graph: &mut PathGraphHandle) -> Array {
        graph.0.nodes.iter().map(|node| Dynamic::from(graph.node(node))).collect()
    }

    /// The edges left, by layer, source and target, as maps.
    ///
    /// Each has `layer`, `source` and `target` (positions at that layer and the next), `influence`, `logit` and
    /// `paths`. `heads` holds maps of `head`, `hop` (V, Q or K: what of the head the paths pass) and the same three
    /// numbers for the paths along that head; `residual` holds them for the residual stream.
    #[rhai_fn(get = "edges", pure)]
    pub fn graph_edges(graph: &mut PathGraphHandle) -> Array {
        graph.0.edges.iter().map(|edge| Dynamic::from(graph.edge(edge))).collect()
    }

    /// The share of the paths' influence that lies on paths without a dropped node or edge.
    #[rhai_fn(get = "explained", pure)]
    pub fn graph_explained(graph: &mut PathGraphHandle) -> f64 {
        graph.0.explained
    }

    /// Writes the graph to a file, in the format that its name ends in:
    /// - `.svg`, `.png`: a drawing, positions from left to right, layers from bottom to top, edges as wide as their
    ///   influence
    /// - `.dot`: for Graphviz
    /// - `.json`: for attribution graph viewers, in schema version 1 of circuit-tracer's `graph_models.py` and
    ///   Neuronpedia's `graph-schema.json`. A node within the model (the residual stream after a block) is written as a
    ///   "cross layer transcoder" feature whose number is its position. A link's weight is the sum of the answer's
    ///   logits. A node's influence is cumulative, as viewers prune by it: its own and that of all more influential
    ///   nodes
    #[rhai_fn(name = "save", return_raw, pure)]
    pub fn graph_save(graph: &mut PathGraphHandle, path: &str) -> ScriptResult<()> {
        Ok(graph.0.save(Path::new(path))?)
    }
}
