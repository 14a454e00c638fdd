//! Path graphs as drawings: positions from left to right, layers from bottom to top.

use super::{PathGraph, label};
use crate::linear::readout::Target;
use crate::plot::{Labels, Lattice, Link, Point};

/// The drawing of a path graph.
pub fn lattice(graph: &PathGraph) -> Lattice {
    let answer = label(&graph.names.answer);
    let title =
        format!("{} paths to {answer}, {:.0}% of their influence shown", graph.total.paths, graph.explained * 100.0);
    let points = graph.nodes.iter().map(|node| Point {
        row: node.layer,
        column: node.position as usize,
        size: node.share.influence,
        value: node.share.value,
        note: format!("layer {}, {}: {}", node.layer, graph.label(node.position), node.share.words(&graph.target)),
    });
    let links = graph.edges.iter().map(|edge| Link {
        row: edge.layer,
        source: edge.source as usize,
        end: edge.layer + 1,
        target: edge.target as usize,
        size: edge.share.influence,
        value: edge.share.value,
        note: format!(
            "layer {}, {} to {}, along {}: {}",
            edge.layer,
            graph.label(edge.source),
            graph.label(edge.target),
            edge.along(graph.through),
            edge.share.words(&graph.target)
        ),
    });
    let adds = match graph.target {
        Target::Answer { .. } => format!("adds to the answer's {}", graph.target.words()),
        Target::Score { .. } => "adds to the score".to_owned(),
    };
    Lattice {
        labels: Labels { title, x: String::new(), y: "layer".to_owned() },
        columns: (0..=graph.to as u32).map(|position| graph.label(position)).collect(),
        rows: graph.n_layers + 1,
        row_names: Vec::new(),
        points: points.collect(),
        links: links.collect(),
        above: Some((graph.to as usize, answer)),
        signs: (adds, "takes from it".to_owned()),
        size_label: "share of influence".to_owned(),
    }
}
