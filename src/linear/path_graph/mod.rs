//! The graph of nodes (layer, position) and edges that a table's paths pass, with the influence of each, pruned.

mod attribution;
mod dot;
mod drawing;

use std::collections::{BTreeMap, HashSet};
use std::path::Path as FilePath;

use super::graph::Path;
use super::table::PathTable;
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::plot::{Format, short};

/// Paths between two looks for Ctrl-C.
const BLOCK: usize = 4096;

/// Which paths count, and what is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Only paths with a rank up to the table's `max_rank`
    pub high_ranking_only: bool,
    /// Nodes of less influence are left out
    pub min_node: f64,
    /// Edges of less influence are left out
    pub min_edge: f64,
}

/// What the reader of a graph calls things.
#[derive(Debug, Clone)]
pub struct Names {
    pub model: String,
    pub prompt: String,
    /// Text of each of the prompt's tokens
    pub tokens: Vec<String>,
    pub answer: String,
}

/// What some of the paths contribute to the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Sum of |answer's logit| over these paths, divided by the sum over all
    pub influence: f64,
    /// Sum of the answer's logits
    pub logit: f64,
    pub paths: u64,
}

/// A node that paths pass; layer 0 stands before the first block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    pub layer: usize,
    pub position: u32,
    pub share: Share,
}

/// A step that paths take, from a node of `layer` to one of the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    pub layer: usize,
    pub source: u32,
    pub target: u32,
    pub share: Share,
    /// The paths on which each head takes part in this step. Where steps are from token to token several heads do so at once.
    pub heads: BTreeMap<i64, Share>,
    /// The paths on which the residual stream does
    pub residual: Share,
}

/// A pruned graph of paths.
#[derive(Debug)]
pub struct PathGraph {
    pub names: Names,
    /// The prompt
    pub tokens: Vec<i64>,
    pub answer: i64,
    /// The model's own probability of the answer
    pub answer_probability: f64,
    pub n_layers: usize,
    /// Where paths end
    pub to: i64,
    pub options: Options,
    /// All paths that count, before pruning
    pub total: Share,
    /// By layer, then position
    pub nodes: Vec<Node>,
    /// By layer, source, target
    pub edges: Vec<Edge>,
    /// The influence of the paths all of whose nodes and edges are left
    pub explained: f64,
}

type NodeKey = (usize, u32);
type EdgeKey = (usize, u32, u32);

impl PathGraph {
    /// The graph of a table's paths.
    ///
    /// # Errors
    /// A threshold out of 0 to 1; no paths that count, or none with an answer's logit other than 0; nothing left.
    pub fn new(table: &PathTable, names: Names, options: Options) -> Result<Self> {
        for (key, value) in [("min_node", options.min_node), ("min_edge", options.min_edge)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::new(format!("`{key}` is {value}"))
                    .hint("a share of the paths' influence, 0 (keep all) to 1"));
            }
        }
        let paths = counted(table, options.high_ranking_only)?;
        let mut total = Share::default();
        let mut nodes: BTreeMap<NodeKey, Share> = BTreeMap::new();
        let mut edges: BTreeMap<EdgeKey, Edge> = BTreeMap::new();
        for (number, (path, logit)) in paths.iter().enumerate() {
            if number % BLOCK == 0 {
                interrupt::check()?;
            }
            total.add(*logit);
            nodes.entry((0, path.source)).or_default().add(*logit);
            for (layer, edge) in path.edges.iter().enumerate() {
                let edge = table.graph.edge(layer, *edge)?;
                nodes.entry((layer + 1, edge.target)).or_default().add(*logit);
                let (source, target) = (edge.source, edge.target);
                let sums = edges.entry((layer, source, target)).or_insert_with(|| Edge {
                    layer,
                    source,
                    target,
                    share: Share::default(),
                    heads: BTreeMap::new(),
                    residual: Share::default(),
                });
                sums.share.add(*logit);
                edge.heads().for_each(|head| sums.heads.entry(head).or_default().add(*logit));
                if edge.residual {
                    sums.residual.add(*logit);
                }
            }
        }
        let whole = total.influence;
        if !(whole > 0.0 && whole.is_finite()) {
            return Err(Error::new(format!("the paths' answer logits sum to {} in size", short(whole)))
                .hint("influence is a share of that sum, which must be a number above 0"));
        }
        total.divide(whole);
        nodes.values_mut().for_each(|share| share.divide(whole));
        edges.values_mut().for_each(|edge| edge.divide(whole));

        let weakest = weakest_layer(&edges);
        prune(&mut nodes, &mut edges, options, table.graph.depth());
        if edges.is_empty() {
            let (layer, best) = weakest.unwrap_or((0, 0.0));
            return Err(Error::new("nothing is left of the paths' graph").hint(format!(
                "lower `min_node` ({}) and `min_edge` ({}): in layer {layer} no edge has more influence than {}",
                short(options.min_node),
                short(options.min_edge),
                short(best)
            )));
        }
        let mut explained = 0.0;
        for (path, logit) in &paths {
            if is_left(table, path, &edges)? {
                explained += logit.abs() / whole;
            }
        }
        Ok(Self {
            names,
            tokens: table.tokens.clone(),
            answer: table.answer,
            answer_probability: table.answer_probability,
            n_layers: table.graph.depth(),
            to: table.graph.request.to,
            options,
            total,
            nodes: nodes.into_iter().map(|((layer, position), share)| Node { layer, position, share }).collect(),
            edges: edges.into_values().collect(),
            explained,
        })
    }

    /// Writes the graph to a file, in the format that its name ends in: `.svg` and `.png` (a drawing), `.dot` (Graphviz) or
    /// `.json` (for attribution graph viewers, see `attribution`).
    ///
    /// # Errors
    /// Another name; a prompt too long to draw; whatever the disk raises.
    pub fn save(&self, path: &FilePath) -> Result<()> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("svg" | "png") => {
                let bytes = drawing::lattice(self)
                    .render(Format::of(path)?)
                    .map_err(|error| error.hint("`.dot` and `.json` files take graphs of any size"))?;
                file::write_atomic(path, |out| out.write_all(&bytes))
            }
            Some("dot") => file::write_text(path, &dot::text(self)),
            Some("json") => attribution::write(path, self),
            _ => Err(Error::new(format!("`{}` does not say how the graph is to be written", path.display()))
                .hint("end the name in .svg, .png, .dot (Graphviz) or .json (for attribution graph viewers)")),
        }
    }

    /// A token of the prompt as a label: without the space before it, nothing invisible.
    fn label(&self, position: u32) -> String {
        self.names.tokens.get(position as usize).map_or_else(String::new, |text| label(text))
    }
}

/// `text` without spaces around it, control characters written out; what is nothing but space is quoted.
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

/// The paths that count, with the answer's logits.
fn counted(table: &PathTable, high_ranking_only: bool) -> Result<Vec<(&Path, f64)>> {
    let held = table.held()?;
    if held.is_empty() {
        return Err(Error::new("the table holds no paths")
            .hint("`keep: \"all\"` keeps low-ranking ones too; or raise `max_rank`, or sample more"));
    }
    let most = table.options.max_rank;
    let counts = |rank: Option<i64>| !high_ranking_only || rank.is_some_and(|rank| rank <= most);
    let paths: Vec<(&Path, f64)> =
        held.iter().filter(|(_, score)| counts(score.rank)).map(|(path, score)| (path, score.logit)).collect();
    if paths.is_empty() {
        let kept = held.len();
        return Err(Error::new(format!("none of the table's {kept} paths has a rank up to {most}"))
            .hint("`high_ranking_only: false` takes all of them; or trace with a larger `max_rank`"));
    }
    Ok(paths)
}

/// The layer whose most influential edge has the least influence: thresholds above that leave nothing.
fn weakest_layer(edges: &BTreeMap<EdgeKey, Edge>) -> Option<(usize, f64)> {
    let mut best: BTreeMap<usize, f64> = BTreeMap::new();
    for edge in edges.values() {
        let most = best.entry(edge.layer).or_default();
        *most = most.max(edge.share.influence);
    }
    best.into_iter().min_by(|one, other| one.1.total_cmp(&other.1))
}

/// Leaves out nodes and edges below the thresholds, then all that no longer lies on a way from layer 0 to the end.
fn prune(nodes: &mut BTreeMap<NodeKey, Share>, edges: &mut BTreeMap<EdgeKey, Edge>, options: Options, depth: usize) {
    nodes.retain(|_, share| share.influence >= options.min_node);
    edges.retain(|_, edge| {
        edge.share.influence >= options.min_edge && nodes.contains_key(&edge.from()) && nodes.contains_key(&edge.to())
    });
    let mut reached: HashSet<NodeKey> = nodes.keys().filter(|(layer, _)| *layer == 0).copied().collect();
    // Keys are sorted by layer, so whatever leads to an edge comes before it.
    for edge in edges.values() {
        if reached.contains(&edge.from()) {
            reached.insert(edge.to());
        }
    }
    let mut leading: HashSet<NodeKey> = nodes.keys().filter(|(layer, _)| *layer == depth).copied().collect();
    for edge in edges.values().rev() {
        if leading.contains(&edge.to()) {
            leading.insert(edge.from());
        }
    }
    let on_a_way = |node: &NodeKey| reached.contains(node) && leading.contains(node);
    nodes.retain(|node, _| on_a_way(node));
    edges.retain(|_, edge| on_a_way(&edge.from()) && on_a_way(&edge.to()));
}

/// Whether all edges, and so all nodes, of a path are left.
fn is_left(table: &PathTable, path: &Path, edges: &BTreeMap<EdgeKey, Edge>) -> Result<bool> {
    for (layer, number) in path.edges.iter().enumerate() {
        let edge = table.graph.edge(layer, *number)?;
        if !edges.contains_key(&(layer, edge.source, edge.target)) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Share {
    fn add(&mut self, logit: f64) {
        self.influence += logit.abs();
        self.logit += logit;
        self.paths += 1;
    }

    fn divide(&mut self, whole: f64) {
        self.influence /= whole;
    }

    /// In words, for labels.
    fn words(&self) -> String {
        format!("{:.1}% of the influence, logit {}, paths: {}", self.influence * 100.0, short(self.logit), self.paths)
    }
}

impl Edge {
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

    /// What leads along it, for labels: heads by number, then r for the residual stream.
    fn along(&self) -> String {
        let residual = (self.residual.paths > 0).then(|| "r".to_owned());
        self.heads.keys().map(i64::to_string).chain(residual).collect::<Vec<_>>().join("+")
    }
}
