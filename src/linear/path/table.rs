//! Paths with their scores: the paths kept, and counts over all of them.

use tch::Kind;

use super::graph::{Graph, Path};
use super::method::Selection;
use super::prune::Count;
use super::score::{Score, Scored, Scorer};
use crate::error::{Error, Result};
use crate::linear::map::LinearMap;
use crate::linear::readout::{Readout, Target};
use crate::tensor::raw::numbers;

/// Which paths a table has.
#[derive(Debug, Clone, Copy)]
pub struct TableOptions {
    /// Which paths are computed
    pub selection: Selection,
    /// A path is high-ranking if its rank is at most this
    pub max_rank: i64,
    /// Whether low-ranking paths are kept too; if not, ranks are computed only as far as `max_rank`
    pub keep_low: bool,
    /// Whether the table holds the paths that are kept; if not, they only go to the sink, and memory does not grow with
    /// them
    pub hold: bool,
}

impl TableOptions {
    /// The rank up to which ranks are computed; None: all.
    pub fn ranks_wanted(&self) -> Option<i64> {
        (!self.keep_low).then_some(self.max_rank)
    }
}

/// Counts and sums over the paths from one position.
#[derive(Debug, Clone)]
pub struct Start {
    /// The position
    pub position: i64,
    /// Number of paths in the graph
    pub paths: Count,
    /// Number of paths computed
    pub computed: u64,
    /// Number of the computed paths that are high-ranking
    pub high_ranking: u64,
    /// Sum of the computed paths' values
    pub value: f64,
    /// Sum of the high-ranking paths' values
    pub high_value: f64,
    /// Sum of the values of all paths of the graph, by dynamic programming
    pub graph_value: f64,
    /// What the source token contributes to the metric along all edges, by way of what the paths may pass
    pub total: f64,
    /// Number of the high-ranking paths that each head takes part in, [layer · n_heads + head]
    pub head_use: Vec<u64>,
}

/// Counts while paths are computed, and the paths held.
#[derive(Debug)]
pub struct Tally {
    options: TableOptions,
    /// By position, the place of its start; `starts.len()` where none starts
    place: Vec<usize>,
    starts: Vec<Start>,
    kept: u64,
    held: Vec<(Path, Score)>,
    n_heads: usize,
}

/// Scored paths of one prompt.
#[derive(Debug)]
pub struct PathTable {
    /// The graph whose edges the paths follow
    pub graph: Graph,
    /// The prompt
    pub tokens: Vec<i64>,
    /// What the paths lead to, and are measured in
    pub target: Target,
    /// The run's own probability of the answer; None of a head's score
    pub answer_probability: Option<f64>,
    /// Number of heads of a layer
    pub n_heads: i64,
    /// Which paths it has
    pub options: TableOptions,
    /// One per position that paths start from
    pub starts: Vec<Start>,
    /// Number of paths kept
    pub kept: u64,
    held: Vec<(Path, Score)>,
}

impl Tally {
    /// Starts with nothing counted.
    ///
    /// # Errors
    /// Interruption.
    pub fn new(scorer: &Scorer, options: TableOptions) -> Result<Self> {
        let request = &scorer.graph.request;
        let n_heads = scorer.map.config().n_heads as usize;
        let totals = numbers(&scorer.map.totals_through(scorer.readout, request.through)?)?;
        let mut place = vec![request.from.len(); totals.len()];
        let mut starts: Vec<Start> = Vec::with_capacity(request.from.len());
        for ((position, paths), graph_value) in request.from.iter().zip(scorer.graph.counts()).zip(scorer.sums()?) {
            place[*position as usize] = starts.len();
            starts.push(Start {
                position: *position,
                paths,
                computed: 0,
                high_ranking: 0,
                value: 0.0,
                high_value: 0.0,
                graph_value,
                total: totals[*position as usize],
                head_use: vec![0; n_heads * scorer.graph.depth()],
            });
        }
        Ok(Self { options, place, starts, kept: 0, held: Vec::new(), n_heads })
    }

    /// Counts scored paths, and returns those to keep.
    pub fn count(&mut self, graph: &Graph, scored: Scored) -> Vec<(Path, Score)> {
        for (source, (paths, value)) in scored.abandoned {
            self.starts[self.place[source as usize]].count(paths, value);
        }
        let mut kept = Vec::new();
        for (path, score) in scored.ranked {
            let is_high = score.rank.is_some_and(|rank| rank <= self.options.max_rank);
            let start = &mut self.starts[self.place[path.source as usize]];
            start.count(1, score.value);
            if is_high {
                start.count_high(graph, &path, score.value, self.n_heads);
            }
            if is_high || self.options.keep_low {
                kept.push((path, score));
            }
        }
        self.kept += kept.len() as u64;
        kept
    }

    /// Holds the paths kept, if the options ask for it.
    pub fn hold(&mut self, kept: Vec<(Path, Score)>) {
        if self.options.hold {
            self.held.extend(kept);
        }
    }
}

impl PathTable {
    /// The table of a finished tally over the paths of a map's graph.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn new(map: &LinearMap, graph: Graph, readout: Readout, tally: Tally) -> Result<Self> {
        let answer_probability = match &readout.target {
            Target::Answer { id, .. } => {
                let probabilities = map.logits(graph.request.to)?.f_softmax(0, Kind::Double)?;
                Some(probabilities.f_double_value(&[*id])?)
            }
            Target::Score { .. } => None,
        };
        Ok(Self {
            graph,
            tokens: map.tokens().to_vec(),
            target: readout.target,
            answer_probability,
            n_heads: map.config().n_heads,
            options: tally.options,
            starts: tally.starts,
            kept: tally.kept,
            held: tally.held,
        })
    }

    /// The paths kept, in order; of a search, the highest value first.
    ///
    /// # Errors
    /// The table does not hold them.
    pub fn held(&self) -> Result<&[(Path, Score)]> {
        if self.options.hold {
            return Ok(&self.held);
        }
        Err(Error::new("the paths of this table went to a file, and are not held in memory"))
    }

    /// The share of high-ranking paths from the positions `from` that each head takes part in, [layer][head]; NaN if
    /// there are none.
    ///
    /// # Errors
    /// A position from which no paths were asked for; paths to a head's score, which have no ranks.
    pub fn head_activity(&self, from: &[i64]) -> Result<Vec<f64>> {
        if let Target::Score { .. } = self.target {
            return Err(Error::new("paths to a head's score have no ranks, so that none of them is high-ranking"));
        }
        let starts: Vec<&Start> = from.iter().map(|position| self.start(*position)).collect::<Result<_>>()?;
        let high: u64 = starts.iter().map(|start| start.high_ranking).sum();
        let places = self.n_heads as usize * self.graph.depth();
        Ok((0..places)
            .map(|place| {
                let uses: u64 = starts.iter().map(|start| start.head_use[place]).sum();
                uses as f64 / high as f64
            })
            .collect())
    }

    /// The part of the metric that the paths explain, and what the source tokens contribute to it along all edges.
    pub fn explained(&self) -> (f64, f64) {
        let part = |start: &Start| match self.options.selection {
            Selection::Highest { .. } => start.value,
            Selection::All | Selection::Sample { .. } => start.graph_value,
        };
        (self.starts.iter().map(part).sum(), self.starts.iter().map(|start| start.total).sum())
    }

    /// The counts and sums over the paths from one position.
    ///
    /// # Errors
    /// A position from which no paths were asked for.
    pub fn start(&self, position: i64) -> Result<&Start> {
        self.starts.iter().find(|start| start.position == position).ok_or_else(|| {
            let known: Vec<String> = self.starts.iter().map(|start| start.position.to_string()).collect();
            Error::new(format!("the table has no paths from position {position}"))
                .hint(format!("it has those from {}", known.join(", ")))
        })
    }
}

impl Start {
    fn count(&mut self, paths: u64, value: f64) {
        self.computed += paths;
        self.value += value;
    }

    /// Counts a high-ranking path with its heads.
    fn count_high(&mut self, graph: &Graph, path: &Path, value: f64, heads: usize) {
        self.high_ranking += 1;
        self.high_value += value;
        for (layer, edge) in graph.edges_of(path).enumerate() {
            for head in edge.heads() {
                self.head_use[layer * heads + head as usize] += 1;
            }
        }
    }

    /// The number of high-ranking paths, and its standard error: counted, or estimated from a sample (NaN from an empty
    /// one). After a search it is a lower bound.
    pub fn high_ranking_paths(&self, selection: Selection) -> (f64, f64) {
        match selection {
            Selection::Sample { .. } if self.computed > 0 => {
                let share = self.high_ranking as f64 / self.computed as f64;
                let error = (share * (1.0 - share) / self.computed as f64).sqrt();
                (share * self.paths, error * self.paths)
            }
            Selection::Sample { .. } => (f64::NAN, f64::NAN),
            Selection::All | Selection::Highest { .. } => (self.high_ranking as f64, 0.0),
        }
    }
}
