//! The graph of a model's components: what writes to the residual stream, what reads it, and the edges between them.

use std::fmt::{self, Display, Formatter};

use crate::error::{Error, Result, nearest};
use crate::model::config::Config;

/// What adds to the residual stream. Embedded positions and the bias of attention's output belong to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the literature's own.
pub enum Source {
    /// The embedded tokens
    Input,
    Head {
        layer: i64,
        head: i64,
    },
    Mlp {
        layer: i64,
    },
}

/// Which input of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the literature's own.
pub enum Letter {
    Query,
    Key,
    Value,
}

/// What reads the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the literature's own.
pub enum Destination {
    /// Of a query head, or of the key or value that a group of them shares
    Head {
        layer: i64,
        letter: Letter,
        head: i64,
        /// Whether several query heads share it
        is_grouped: bool,
    },
    Mlp {
        layer: i64,
    },
    Logits,
}

impl Letter {
    /// All, in the order of the graph.
    pub const ALL: [Self; 3] = [Self::Query, Self::Key, Self::Value];
}

impl Display for Letter {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Query => "q",
            Self::Key => "k",
            Self::Value => "v",
        })
    }
}

impl Display for Source {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => formatter.write_str("input"),
            Self::Head { layer, head } => write!(formatter, "a{layer}.h{head}"),
            Self::Mlp { layer } => write!(formatter, "m{layer}"),
        }
    }
}

impl Destination {
    /// Which input of a head.
    pub fn letter(self) -> Option<Letter> {
        match self {
            Self::Head { letter, .. } => Some(letter),
            Self::Mlp { .. } | Self::Logits => None,
        }
    }

    /// Its name without the letter.
    pub fn component(self) -> String {
        match self {
            Self::Head { layer, head, is_grouped: true, .. } => format!("a{layer}.kv{head}"),
            Self::Head { layer, head, .. } => format!("a{layer}.h{head}"),
            Self::Mlp { layer } => format!("m{layer}"),
            Self::Logits => "logits".to_owned(),
        }
    }
}

impl Display for Destination {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.component())?;
        match self.letter() {
            Some(letter) => write!(formatter, "<{letter}>"),
            None => Ok(()),
        }
    }
}

/// An edge, by the numbers of its source and destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// Number of the source
    pub source: usize,
    /// Number of the destination
    pub destination: usize,
}

/// A model's components and their edges, named as in the MIB circuit track (arXiv 2504.13151). A key or value that
/// several query heads share is one destination, such as `a3.kv1<k>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// In order of execution; heads of a layer come before its MLP
    pub sources: Vec<Source>,
    /// In order of execution
    pub destinations: Vec<Destination>,
    /// Every edge, by source and then destination
    pub edges: Vec<Edge>,
    /// Number of query heads in a layer
    pub n_heads: i64,
    /// Number of key-value heads in a layer
    pub n_kv_heads: i64,
    /// Number of layers
    pub n_layers: i64,
    /// Whether MLPs read what attention reads
    pub is_parallel: bool,
    has_mlps: bool,
}

impl Graph {
    /// The graph of a model of this config.
    pub fn new(config: &Config) -> Self {
        let (n_layers, n_heads, n_kv_heads) = (config.n_layers, config.n_heads, config.n_kv_heads);
        let has_mlps = !config.attention_only;
        let mut sources = vec![Source::Input];
        let mut destinations = Vec::new();
        for layer in 0..n_layers {
            sources.extend((0..n_heads).map(|head| Source::Head { layer, head }));
            for letter in Letter::ALL {
                let (heads, is_grouped) = match letter {
                    Letter::Query => (n_heads, false),
                    _ => (n_kv_heads, n_kv_heads < n_heads),
                };
                let of = |head| Destination::Head { layer, letter, head, is_grouped };
                destinations.extend((0..heads).map(of));
            }
            if has_mlps {
                sources.push(Source::Mlp { layer });
                destinations.push(Destination::Mlp { layer });
            }
        }
        destinations.push(Destination::Logits);
        let mut graph = Self {
            sources,
            destinations,
            edges: Vec::new(),
            n_heads,
            n_kv_heads,
            n_layers,
            is_parallel: config.parallel,
            has_mlps,
        };
        graph.edges = (0..graph.sources.len())
            .flat_map(|source| (0..graph.destinations.len()).map(move |destination| Edge { source, destination }))
            .filter(|edge| edge.source < graph.reach(edge.destination))
            .collect();
        graph
    }

    /// How many sources come before a destination: those that it reads.
    pub fn reach(&self, destination: usize) -> usize {
        let before = |layer: i64| 1 + layer as usize * (self.n_heads as usize + usize::from(self.has_mlps));
        match self.destinations[destination] {
            Destination::Head { layer, .. } => before(layer),
            Destination::Mlp { layer } if self.is_parallel => before(layer),
            Destination::Mlp { layer } => before(layer) + self.n_heads as usize,
            Destination::Logits => self.sources.len(),
        }
    }

    /// The number of a source.
    pub fn source(&self, source: Source) -> usize {
        let width = self.n_heads as usize + usize::from(self.has_mlps);
        match source {
            Source::Input => 0,
            Source::Head { layer, head } => 1 + layer as usize * width + head as usize,
            Source::Mlp { layer } => 1 + layer as usize * width + self.n_heads as usize,
        }
    }

    /// The number of a layer's first destination with this letter; its heads follow.
    pub fn heads(&self, layer: i64, letter: Letter) -> usize {
        let (query, shared) = (self.n_heads as usize, self.n_kv_heads as usize);
        let before = layer as usize * (query + 2 * shared + usize::from(self.has_mlps));
        before
            + match letter {
                Letter::Query => 0,
                Letter::Key => query,
                Letter::Value => query + shared,
            }
    }

    /// The number of heads with this letter in a layer.
    pub fn head_count(&self, letter: Letter) -> i64 {
        if letter == Letter::Query { self.n_heads } else { self.n_kv_heads }
    }

    /// The number of a layer's MLP among the destinations; None in models without MLPs.
    pub fn mlp(&self, layer: i64) -> Option<usize> {
        self.has_mlps.then(|| self.heads(layer, Letter::Value) + self.n_kv_heads as usize)
    }

    /// The number of the logits among the destinations.
    pub fn logits(&self) -> usize {
        self.destinations.len() - 1
    }

    /// The sources that a destination belongs to: the query heads that use it, or the MLP itself.
    pub fn owners(&self, destination: usize) -> Vec<usize> {
        match self.destinations[destination] {
            Destination::Logits => Vec::new(),
            Destination::Mlp { layer } => vec![self.source(Source::Mlp { layer })],
            Destination::Head { layer, letter: Letter::Query, head, .. } => {
                vec![self.source(Source::Head { layer, head })]
            }
            Destination::Head { layer, head, .. } => {
                let group = self.n_heads / self.n_kv_heads;
                (head * group..(head + 1) * group).map(|head| self.source(Source::Head { layer, head })).collect()
            }
        }
    }

    /// An edge's name, such as `input->a0.h0<q>`.
    pub fn name(&self, edge: Edge) -> String {
        format!("{}->{}", self.sources[edge.source], self.destinations[edge.destination])
    }

    /// The names of all edges, in order.
    pub fn names(&self) -> Vec<String> {
        self.edges.iter().map(|edge| self.name(*edge)).collect()
    }

    /// The number of an edge among all.
    ///
    /// # Panics
    /// An edge of another graph.
    pub fn number(&self, edge: Edge) -> usize {
        let Ok(number) = self.edges.binary_search(&edge) else { unreachable!("the edge is one of the graph's") };
        number
    }

    /// The edge of that name.
    ///
    /// # Errors
    /// No such edge; what is wrong with its name.
    pub fn edge(&self, name: &str) -> Result<Edge> {
        let unknown = || Error::new(format!("the model has no edge `{name}`"));
        let Some((from, to)) = name.split_once("->") else {
            return Err(unknown().hint("such as `input->a0.h0<q>`, `a0.h0->m0`, `m0->logits`"));
        };
        let source = self.source_named(from).ok_or_else(|| {
            let names: Vec<String> = self.sources.iter().map(Source::to_string).collect();
            near(unknown(), "source", from, &names)
        })?;
        let destination = self.destination_named(to).ok_or_else(|| {
            if self.n_kv_heads < self.n_heads && (to.ends_with("<k>") || to.ends_with("<v>")) && to.contains(".h") {
                return unknown().hint(format!(
                    "{} query heads share {} keys and values here, so those are named `a0.kv0<k>`; a file with a key \
                     per query head is of an ungrouped model",
                    self.n_heads, self.n_kv_heads
                ));
            }
            let names: Vec<String> = self.destinations.iter().map(Destination::to_string).collect();
            near(unknown(), "destination", to, &names)
        })?;
        if source >= self.reach(destination) {
            return Err(unknown().hint(format!("{to} reads the residual stream before {from} writes to it")));
        }
        Ok(Edge { source, destination })
    }

    /// The source of that name.
    ///
    /// # Errors
    /// No such component.
    pub fn node(&self, name: &str) -> Result<usize> {
        self.source_named(name).ok_or_else(|| {
            let names: Vec<String> = self.sources.iter().map(Source::to_string).collect();
            near(Error::new(format!("the model has no component `{name}`")), "component", name, &names)
        })
    }

    fn source_named(&self, name: &str) -> Option<usize> {
        let (layer, head) = layer_and_head(name);
        let source = match (name, layer, head) {
            ("input", ..) => Source::Input,
            (_, Some(layer), Some((head, false))) if self.has(layer, head) => Source::Head { layer, head },
            (_, Some(layer), None) if self.has(layer, 0) => Source::Mlp { layer },
            _ => return None,
        };
        let number = self.source(source);
        self.sources.get(number).filter(|found| **found == source && found.to_string() == name).map(|_| number)
    }

    fn destination_named(&self, name: &str) -> Option<usize> {
        let (component, letter) = match name.split_once('<') {
            Some((component, letter)) => {
                (component, Some(*Letter::ALL.iter().find(|known| letter == format!("{known}>"))?))
            }
            None => (name, None),
        };
        let number = match (component, letter, layer_and_head(component)) {
            ("logits", ..) => self.logits(),
            (_, Some(letter), (Some(layer), Some((head, _)))) if self.has(layer, head) => {
                self.heads(layer, letter) + head as usize
            }
            (_, None, (Some(layer), None)) if self.has(layer, 0) => self.mlp(layer)?,
            _ => return None,
        };
        self.destinations.get(number).filter(|found| found.to_string() == name).map(|_| number)
    }

    fn has(&self, layer: i64, head: i64) -> bool {
        (0..self.n_layers).contains(&layer) && (0..self.n_heads).contains(&head)
    }
}

/// The layer of `a3.h5`, `a3.kv1` or `m3`, and the head with whether it is one of keys and values.
fn layer_and_head(name: &str) -> (Option<i64>, Option<(i64, bool)>) {
    if let Some(layer) = name.strip_prefix('m') {
        return (layer.parse().ok(), None);
    }
    let Some((layer, head)) = name.strip_prefix('a').and_then(|name| name.split_once('.')) else { return (None, None) };
    let of = |prefix: &str, is_shared| Some((head.strip_prefix(prefix)?.parse().ok()?, is_shared));
    match (layer.parse().ok(), of("kv", true).or_else(|| of("h", false))) {
        (Some(layer), Some(head)) => (Some(layer), Some(head)),
        _ => (None, None),
    }
}

fn near(error: Error, what: &str, name: &str, names: &[String]) -> Error {
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean the {what} `{near}`?")),
        None => error.hint(format!("a {what} is one of `{}` to `{}`", names[0], names[names.len() - 1])),
    }
}
