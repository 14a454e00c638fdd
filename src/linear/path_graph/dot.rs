//! Path graphs for Graphviz: every node in its place on the grid, edges as wide as their influence.
//! <https://graphviz.org/doc/info/lang.html>

use super::{PathEdge, PathGraph, PathNode, label};
use crate::plot::graphviz::{number, quoted};
use crate::plot::short;

/// The graph in the DOT language.
pub fn text(graph: &PathGraph) -> String {
    let title = format!("{} to {:?}", graph.names.prompt, graph.names.answer);
    let mut lines = vec![
        "digraph paths {".to_owned(),
        format!("  graph [layout=neato, splines=true, outputorder=edgesfirst, label={}];", quoted(&title)),
        "  node [shape=ellipse, style=filled, fillcolor=white, fontsize=10, margin=0.03];".to_owned(),
        "  edge [arrowsize=0.4];".to_owned(),
    ];
    lines.extend(graph.nodes.iter().map(|node| node_line(graph, node)));
    lines.push(format!(
        "  answer [shape=box, label={}, pos=\"{},{}!\"];",
        quoted(&label(&graph.names.answer)),
        graph.to,
        graph.n_layers + 1
    ));
    lines.extend(graph.edges.iter().map(|edge| edge_line(graph, edge)));
    let end = graph.nodes.iter().filter(|node| node.layer == graph.n_layers);
    lines.extend(end.map(|node| format!("  {} -> answer [style=dashed];", name(node.layer, node.position))));
    lines.push("}\n".to_owned());
    lines.join("\n")
}

fn node_line(graph: &PathGraph, node: &PathNode) -> String {
    let text = match node.layer {
        0 => graph.label(node.position),
        layer => format!("{layer}: {}", graph.label(node.position)),
    };
    format!(
        "  {} [label={}, tooltip={}, pos=\"{},{}!\", layer_number={}, position={}, influence={}, {}={}, paths={}];",
        name(node.layer, node.position),
        quoted(&text),
        quoted(&node.share.words(&graph.target)),
        node.position,
        node.layer,
        node.layer,
        node.position,
        number(node.share.influence),
        graph.target.name(),
        number(node.share.value),
        node.share.paths
    )
}

fn edge_line(graph: &PathGraph, edge: &PathEdge) -> String {
    let color = if edge.share.value < 0.0 { "#2166ac" } else { "#b2182b" };
    format!(
        "  {} -> {} [penwidth={}, color={}, tooltip={}, heads={}, influence={}, {}={}, paths={}];",
        name(edge.layer, edge.source),
        name(edge.layer + 1, edge.target),
        short(0.3 + 6.0 * edge.share.influence),
        quoted(color),
        quoted(&format!("along {}: {}", edge.along(graph.through), edge.share.words(&graph.target))),
        quoted(&edge.along(graph.through)),
        number(edge.share.influence),
        graph.target.name(),
        number(edge.share.value),
        edge.share.paths
    )
}

fn name(layer: usize, position: u32) -> String {
    format!("n{layer}_{position}")
}
