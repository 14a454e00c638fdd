//! The nodes (layer, position) and edges that a table's paths pass, with the influence of each, pruned; and its files.

mod attribution;
mod dot;
mod drawing;
mod pruning;

use std::collections::BTreeMap;
use std::path::Path as FilePath;

pub use pruning::Pruning;

use super::live::Through;
use super::path::edge::Hop;
use super::path::graph::Path;
use super::path::table::PathTable;
use super::readout::Target;
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::plot::{self, short};

/// Paths between two checks for Ctrl-C.
const BLOCK: usize = 4096;

/// The texts that a graph is labelled with.
#[derive(Debug, Clone)]
pub struct Names {
    /// The id that the model was loaded by
    pub model: String,
    /// The whole prompt
    pub prompt: String,
    /// Each of the prompt's tokens
    pub tokens: Vec<String>,
    /// The answer token, or the score that paths lead to
    pub answer: String,
}

/// What some of the paths contribute to the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Sum of |value| over these paths, divided by the sum over all
    pub influence: f64,
    /// Sum of their values: answer's logits, unless the paths are measured in another metric
    pub value: f64,
    /// Number of paths
    pub paths: u64,
}

/// A node that paths pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathNode {
    /// 0 before the first block
    pub layer: usize,
    /// Position in the prompt
    pub position: u32,
    /// The paths through it
    pub share: Share,
}

/// A step that paths take, from a node of `layer` to one of the next.
#[derive(Debug, Clone, PartialEq)]
pub struct PathEdge {
    /// The layer of the node where it starts
    pub layer: usize,
    /// Position where it starts
    pub source: u32,
    /// Position where it arrives
    pub target: u32,
    /// The paths along it
    pub share: Share,
    /// The paths on which each head takes part in this step, by the vector that they pass it by; several heads can take
    /// part in a step from token to token
    pub heads: BTreeMap<(i64, Hop), Share>,
    /// The paths on which the residual stream takes part
    pub residual: Share,
}

/// A pruned graph of paths.
#[derive(Debug)]
pub struct PathGraph {
    /// The texts that it is labelled with
    pub names: Names,
    /// The prompt
    pub tokens: Vec<i64>,
    /// What the paths lead to, and are measured in
    pub target: Target,
    /// The run's own probability of the answer; None of a head's score
    pub answer_probability: Option<f64>,
    /// What of a head the paths may pass
    pub through: Through,
    /// Number of layers that paths pass
    pub n_layers: usize,
    /// Position where paths end
    pub to: i64,
    /// Which paths counted, and the thresholds it was pruned by
    pub pruning: Pruning,
    /// All paths that count, before pruning
    pub total: Share,
    /// By layer, then position
    pub nodes: Vec<PathNode>,
    /// By layer, source, target
    pub edges: Vec<PathEdge>,
    /// The influence of the paths that pruning left whole
    pub explained: f64,
}

type NodeKey = (usize, u32);
type EdgeKey = (usize, u32, u32);

/// The format of a graph's file.
#[derive(Debug, Clone, Copy)]
enum Format {
    Drawing(plot::Format),
    Graphviz,
    Attribution,
}

const FORMATS: &[(&str, Format)] = &[
    ("svg", Format::Drawing(plot::Format::Svg)),
    ("png", Format::Drawing(plot::Format::Png)),
    ("dot", Format::Graphviz),
    ("json", Format::Attribution),
];

impl PathGraph {
    /// The graph of a table's paths.
    ///
    /// # Errors
    /// A threshold outside 0 to 1; no paths that count, or all of them with a value of 0; nothing left.
    pub fn new(table: &PathTable, names: Names, pruning: Pruning) -> Result<Self> {
        pruning.check()?;
        let paths = counted(table, pruning.high_ranking_only)?;
        let Sums { mut total, mut nodes, mut edges } = Sums::over(table, &paths)?;
        let whole = total.influence;
        if !(whole > 0.0 && whole.is_finite()) {
            return Err(Error::new(format!("the paths' values sum to {} in size", short(whole)))
                .hint("influence is a share of that sum, which must be a number above 0"));
        }
        total.divide(whole);
        nodes.values_mut().for_each(|share| share.divide(whole));
        edges.values_mut().for_each(|edge| edge.divide(whole));
        pruning.prune(&mut nodes, &mut edges, table.graph.depth())?;
        let left = paths.iter().filter(|(path, _)| is_left(table, path, &edges));
        let explained = left.map(|(_, value)| value.abs() / whole).sum();
        Ok(Self {
            names,
            tokens: table.tokens.clone(),
            target: table.target.clone(),
            answer_probability: table.answer_probability,
            through: table.graph.request.through,
            n_layers: table.graph.depth(),
            to: table.graph.request.to,
            pruning,
            total,
            nodes: nodes.into_iter().map(|((layer, position), share)| PathNode { layer, position, share }).collect(),
            edges: edges.into_values().collect(),
            explained,
        })
    }

    /// Writes the graph to a file, in the format of its extension: `.svg` and `.png` (a drawing), `.dot` (Graphviz) or
    /// `.json` (for attribution graph viewers, see `attribution`).
    ///
    /// # Errors
    /// An unknown file extension; a prompt too long to draw; an I/O error.
    pub fn save(&self, path: &FilePath) -> Result<()> {
        match file::format_of(path, FORMATS)? {
            Format::Drawing(format) => {
                let bytes = drawing::lattice(self)
                    .render(format)
                    .map_err(|error| error.hint("`.dot` and `.json` files take graphs of any size"))?;
                file::write_atomic(path, |out| out.write_all(&bytes))
            }
            Format::Graphviz => file::write_text(path, &dot::text(self)),
            Format::Attribution => attribution::write(path, self),
        }
    }

    /// A token of the prompt as a label, without the space before it and without invisible characters.
    fn label(&self, position: u32) -> String {
        label(&self.names.tokens[position as usize])
    }
}

/// `text` without spaces around it, control characters written out; quoted if it is all white space.
fn label(text: &str) -> String {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return format!("{text:?}");
    }
    let shown = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    trimmed.chars().map(shown).collect()
}

/// The paths that count, with their values.
fn counted(table: &PathTable, high_ranking_only: bool) -> Result<Vec<(&Path, f64)>> {
    let held = table.held()?;
    if held.is_empty() {
        return Err(Error::new("the table holds no paths"));
    }
    let most = table.options.max_rank;
    let counts = |rank: Option<i64>| !high_ranking_only || rank.is_some_and(|rank| rank <= most);
    let paths: Vec<(&Path, f64)> =
        held.iter().filter(|(_, score)| counts(score.rank)).map(|(path, score)| (path, score.value)).collect();
    if paths.is_empty() {
        let kept = held.len();
        return Err(Error::new(format!("none of the table's {kept} paths has a rank up to {most}")));
    }
    Ok(paths)
}

/// Whether pruning left all edges, and so all nodes, of a path.
fn is_left(table: &PathTable, path: &Path, edges: &BTreeMap<EdgeKey, PathEdge>) -> bool {
    let mut steps = table.graph.edges_of(path).enumerate();
    steps.all(|(layer, edge)| edges.contains_key(&(layer, edge.source, edge.target)))
}

/// Sums over paths, by the nodes and edges that they pass.
#[derive(Default)]
struct Sums {
    total: Share,
    nodes: BTreeMap<NodeKey, Share>,
    edges: BTreeMap<EdgeKey, PathEdge>,
}

impl Sums {
    fn over(table: &PathTable, paths: &[(&Path, f64)]) -> Result<Self> {
        let mut sums = Self::default();
        for block in paths.chunks(BLOCK) {
            interrupt::check()?;
            for (path, value) in block {
                sums.add(table, path, *value);
            }
        }
        Ok(sums)
    }

    fn add(&mut self, table: &PathTable, path: &Path, value: f64) {
        self.total.add(value);
        self.nodes.entry((0, path.source)).or_default().add(value);
        for (layer, edge) in table.graph.edges_of(path).enumerate() {
            self.nodes.entry((layer + 1, edge.target)).or_default().add(value);
            let (source, target) = (edge.source, edge.target);
            let sums = self.edges.entry((layer, source, target)).or_insert_with(|| PathEdge {
                layer,
                source,
                target,
                share: Share::default(),
                heads: BTreeMap::new(),
                residual: Share::default(),
            });
            sums.share.add(value);
            edge.heads().for_each(|head| sums.heads.entry((head, edge.hop)).or_default().add(value));
            if edge.residual {
                sums.residual.add(value);
            }
        }
    }
}

impl Share {
    fn add(&mut self, value: f64) {
        self.influence += value.abs();
        self.value += value;
        self.paths += 1;
    }

    fn divide(&mut self, whole: f64) {
        self.influence /= whole;
    }

    /// In words, for labels; the paths lead to `target`.
    fn words(&self, target: &Target) -> String {
        let (influence, value) = (self.influence * 100.0, short(self.value));
        format!("{influence:.1}% of the influence, {} {value}, paths: {}", target.words(), self.paths)
    }
}

impl PathEdge {
    fn divide(&mut self, whole: f64) {
        self.share.divide(whole);
        self.residual.divide(whole);
        self.heads.values_mut().for_each(|share| share.divide(whole));
    }

    fn from(&self) -> NodeKey {
        (self.layer, self.source)
    }

    fn to(&self) -> NodeKey {
        (self.layer + 1, self.target)
    }

    /// What goes along it, for labels: heads by number, with a letter where paths may pass queries and keys, then r for
    /// the residual stream.
    fn along(&self, through: Through) -> String {
        let residual = (self.residual.paths > 0).then(|| "r".to_owned());
        self.heads.keys().map(|(head, hop)| hop.label(*head, through)).chain(residual).collect::<Vec<_>>().join("+")
    }
}
