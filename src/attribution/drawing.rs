//! Circuits as files: drawings with layers from bottom to top and heads from left to right, Graphviz, the MIB track's JSON.

use std::collections::BTreeMap;
use std::path::Path;

use super::graph::{Destination, Edge, Graph, Letter, Source};
use super::mib::{self, Scored};
use crate::error::{Error, Result};
use crate::file;
use crate::plot::graphviz::{number, quoted};
use crate::plot::{Format as Picture, Labels, Lattice, Link, Point, short};

/// The format of a circuit's file.
#[derive(Debug, Clone, Copy)]
enum Format {
    Drawing(Picture),
    Graphviz,
    Mib,
}

const FORMATS: &[(&str, Format)] = &[
    ("svg", Format::Drawing(Picture::Svg)),
    ("png", Format::Drawing(Picture::Png)),
    ("pdf", Format::Drawing(Picture::Pdf)),
    ("dot", Format::Graphviz),
    ("json", Format::Mib),
];

/// A place in a drawing: row and column.
type Place = (usize, usize);

/// All edges between two places, which may be a head's query, key and value.
#[derive(Default)]
struct Bundle {
    /// Letters and scores
    parts: Vec<(Option<Letter>, f64)>,
}

impl Bundle {
    fn sum(&self) -> f64 {
        self.parts.iter().map(|(_, score)| score).sum()
    }

    fn size(&self) -> f64 {
        self.parts.iter().map(|(_, score)| score.abs()).sum()
    }

    fn words(&self) -> String {
        let one = |(letter, score): &(Option<Letter>, f64)| match letter {
            Some(letter) => format!("{letter} {}", short(*score)),
            None => short(*score),
        };
        self.parts.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Writes a circuit and the scores of all edges, in the format of the file's extension: `.svg`, `.png` and `.pdf` (a drawing), `.dot`
/// (Graphviz) or `.json` (the MIB track's).
///
/// # Errors
/// An unknown extension; a model too large to draw; an empty circuit to draw; an I/O error.
pub fn save(path: &Path, graph: &Graph, d_model: i64, scored: &Scored) -> Result<()> {
    let format = file::format_of(path, FORMATS)?;
    if scored.circuit.is_empty() && !matches!(format, Format::Mib) {
        return Err(Error::new("the circuit keeps no edge, so there is nothing to draw"));
    }
    mib::check_scores(graph, scored, |edge| scored.circuit.kept[edge])?;
    match format {
        Format::Drawing(format) => {
            let bytes = lattice(graph, scored)
                .render(format)
                .map_err(|error| error.hint("`.dot` and `.json` files take circuits of any size"))?;
            file::write_atomic(path, |out| out.write_all(&bytes))
        }
        Format::Graphviz => file::write_text(path, &dot(graph, scored)),
        Format::Mib => mib::write(path, graph, d_model, scored),
    }
}

/// The kept edges between components, by name.
fn bundles(graph: &Graph, scored: &Scored) -> BTreeMap<(usize, String), Bundle> {
    let mut bundles: BTreeMap<(usize, String), Bundle> = BTreeMap::new();
    let kept = |(number, _): &(usize, &Edge)| scored.circuit.kept[*number];
    for (number, edge) in graph.edges.iter().enumerate().filter(kept) {
        let destination = graph.destinations[edge.destination];
        let bundle = bundles.entry((edge.source, destination.component())).or_default();
        bundle.parts.push((destination.letter(), scored.scores[number]));
    }
    bundles
}

fn lattice(graph: &Graph, scored: &Scored) -> Lattice {
    let heads = graph.n_heads as usize;
    let middle = heads / 2;
    let last = 1 + 2 * graph.n_layers as usize;
    let of_source = |source: Source| -> Place {
        match source {
            Source::Input => (0, middle),
            Source::Head { layer, head } => (1 + 2 * layer as usize, head as usize),
            Source::Mlp { layer } => (2 + 2 * layer as usize, heads),
        }
    };
    let place = |destination: usize| -> Vec<Place> {
        match graph.destinations[destination] {
            Destination::Logits => vec![(last, middle)],
            _ => graph.owners(destination).into_iter().map(|owner| of_source(graph.sources[owner])).collect(),
        }
    };
    let mut bundles: BTreeMap<(Place, Place), Bundle> = BTreeMap::new();
    for (number, edge) in graph.edges.iter().enumerate().filter(|(number, _)| scored.circuit.kept[*number]) {
        let letter = graph.destinations[edge.destination].letter();
        // What query heads share is drawn to each of them.
        for end in place(edge.destination) {
            let bundle = bundles.entry((of_source(graph.sources[edge.source]), end)).or_default();
            bundle.parts.push((letter, scored.scores[number]));
        }
    }
    let largest = bundles.values().map(Bundle::size).fold(f64::MIN_POSITIVE, f64::max);
    let name = |(row, column): Place| match row {
        0 => "input".to_owned(),
        row if row == last => "logits".to_owned(),
        row if row % 2 == 1 => format!("a{}.h{column}", row / 2),
        row => format!("m{}", row / 2 - 1),
    };
    let links = bundles.iter().map(|((start, end), bundle)| Link {
        row: start.0,
        source: start.1,
        end: end.0,
        target: end.1,
        size: bundle.size() / largest,
        value: bundle.sum(),
        note: format!("{} to {}: {}", name(*start), name(*end), bundle.words()),
    });
    let mut through: BTreeMap<Place, f64> = BTreeMap::new();
    for ((start, end), bundle) in &bundles {
        *through.entry(*start).or_default() += bundle.sum();
        through.entry(*end).or_default();
    }
    let most = through.values().map(|sum| sum.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let points = through.iter().map(|(at, sum)| Point {
        row: at.0,
        column: at.1,
        size: sum.abs() / most,
        value: *sum,
        note: format!("{}: {} over its edges out", name(*at), short(*sum)),
    });
    let rows = std::iter::once("input".to_owned())
        .chain((0..graph.n_layers).flat_map(|layer| [format!("a{layer}"), format!("m{layer}")]))
        .chain(["logits".to_owned()]);
    let title = format!("circuit of {} of {} edges", scored.circuit.len(), graph.edges.len());
    Lattice {
        labels: Labels { title, x: "head".to_owned(), y: "layer".to_owned() },
        columns: (0..heads).map(|head| format!("h{head}")).chain(["mlp".to_owned()]).collect(),
        rows: last + 1,
        row_names: rows.collect(),
        points: points.collect(),
        links: links.collect(),
        above: None,
        signs: ("corrupting it raises the metric".to_owned(), "corrupting it lowers it".to_owned()),
        size_label: "share of the largest |score|".to_owned(),
    }
}

/// The circuit in the DOT language.
fn dot(graph: &Graph, scored: &Scored) -> String {
    let mut lines = vec![
        "digraph circuit {".to_owned(),
        "  graph [rankdir=BT];".to_owned(),
        "  node [shape=box, style=filled, fillcolor=white, fontsize=10, margin=0.03];".to_owned(),
        "  edge [arrowsize=0.4];".to_owned(),
    ];
    let bundles = bundles(graph, scored);
    let largest = bundles.values().map(Bundle::size).fold(f64::MIN_POSITIVE, f64::max);
    for ((source, end), bundle) in &bundles {
        lines.push(format!(
            "  {} -> {} [penwidth={}, color={}, label={}, score={}];",
            quoted(&graph.sources[*source].to_string()),
            quoted(end),
            short(0.3 + 6.0 * bundle.size() / largest),
            quoted(if bundle.sum() < 0.0 { "#2166ac" } else { "#b2182b" }),
            quoted(&bundle.words()),
            number(bundle.sum())
        ));
    }
    // A shared key or value belongs to several heads.
    let is_drawn = |name: &String| bundles.keys().any(|(_, end)| end == name);
    for (number, destination) in graph.destinations.iter().enumerate() {
        let name = destination.component();
        if matches!(destination, Destination::Head { letter: Letter::Key, is_grouped: true, .. }) && is_drawn(&name) {
            for owner in graph.owners(number) {
                let head = graph.sources[owner].to_string();
                lines.push(format!("  {} -> {} [style=dashed];", quoted(&name), quoted(&head)));
            }
        }
    }
    lines.push("}\n".to_owned());
    lines.join("\n")
}
