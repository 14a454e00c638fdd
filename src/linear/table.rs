//! Paths with their scores: which are kept, and what is counted of all.

use tch::Kind;

use super::cuts::Cuts;
use super::evaluate::{Evaluator, Score, TOGETHER};
use super::frozen::Frozen;
use super::graph::{Count, Graph, Path};
use super::segment::{Found, Segments};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;

/// Which paths are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All
    All,
    /// So many, drawn from all with equal chances
    Sample { count: usize, seed: u64 },
    /// So many of the highest answer logit
    Highest { count: usize },
}

/// What a table is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub selection: Selection,
    /// A path is high-ranking if its rank is at most this
    pub max_rank: i64,
    /// Whether low-ranking paths are kept too; if not, ranks are computed only as far as `max_rank`
    pub keep_low: bool,
    /// Whether the table holds the paths that are kept; if not, they only go to the sink, and memory does not grow with them
    pub hold: bool,
}

/// What is known of the paths from one position.
#[derive(Debug, Clone)]
pub struct Start {
    pub position: i64,
    /// How many paths there are
    pub paths: Count,
    /// How many of them were computed
    pub computed: u64,
    /// How many of those are high-ranking
    pub high_ranking: u64,
    /// Sum of the answer's logits of those computed
    pub logit: f64,
    /// Of those that are high-ranking
    pub high_logit: f64,
    /// Sum over all paths of the graph, by dynamic programming
    pub graph_logit: f64,
    /// What the source token contributes along all edges
    pub total: f64,
    /// How many of the high-ranking ones take part in each head, [layer · n_heads + head]
    pub head_use: Vec<u64>,
}

/// Takes blocks of paths that are kept, with their scores, and how many were computed for each block.
pub type Sink<'a> = &'a mut dyn FnMut(&Graph, &[(Path, Score)], u64) -> Result<()>;

/// Scored paths of one prompt.
#[derive(Debug)]
pub struct PathTable {
    pub graph: Graph,
    /// The prompt
    pub tokens: Vec<i64>,
    pub answer: i64,
    /// The model's own logit of the answer
    pub answer_logit: f64,
    /// Its probability
    pub answer_probability: f64,
    pub n_heads: i64,
    pub options: Options,
    /// One per position that paths start from
    pub starts: Vec<Start>,
    /// How many paths were kept
    pub kept: u64,
    held: Vec<(Path, Score)>,
}

impl PathTable {
    /// Computes the paths of `graph`. Those that are kept go to `sink` too, as soon as they are there.
    ///
    /// # Errors
    /// Interruption; whatever `sink` raises.
    pub fn trace(
        decoder: &Decoder,
        frozen: &Frozen,
        graph: Graph,
        answer: i64,
        options: Options,
        sink: Sink,
    ) -> Result<Self> {
        let max_rank = (!options.keep_low).then_some(options.max_rank);
        let evaluator = Evaluator { decoder, frozen, graph: &graph, answer, max_rank };
        let heads = decoder.config.n_heads as usize;
        let to = graph.request.to;
        let logits = frozen.logits(decoder, to)?;
        let answer_logit = logits.f_double_value(&[answer])?;
        let answer_probability = logits.f_softmax(0, Kind::Double)?.f_double_value(&[answer])?;
        let totals = frozen.totals_of_answer(decoder, to, answer)?;
        let mut starts: Vec<Start> = Vec::with_capacity(graph.request.from.len());
        for ((position, paths), graph_logit) in graph.request.from.iter().zip(graph.counts()).zip(evaluator.sums()?) {
            starts.push(Start {
                position: *position,
                paths,
                computed: 0,
                high_ranking: 0,
                logit: 0.0,
                high_logit: 0.0,
                graph_logit,
                total: totals.get(*position as usize).copied().unwrap_or(0.0),
                head_use: vec![0; heads * graph.depth()],
            });
        }
        let mut kept = 0;
        let mut held = Vec::new();
        let mut take = |Found { ranked, given_up }: Found| -> Result<()> {
            let mut computed = ranked.len() as u64;
            for (source, (count, logit)) in given_up {
                computed += count;
                if let Some(start) = from(&mut starts, source) {
                    start.count(count, logit);
                }
            }
            let mut wanted = Vec::new();
            for (path, score) in ranked {
                let is_high = score.rank.is_some_and(|rank| rank <= options.max_rank);
                if let Some(start) = from(&mut starts, path.source) {
                    start.count(1, score.logit);
                    if is_high {
                        start.count_high(&graph, &path, score.logit, heads)?;
                    }
                }
                if is_high || options.keep_low {
                    wanted.push((path, score));
                }
            }
            sink(&graph, &wanted, computed)?;
            kept += wanted.len() as u64;
            if options.hold {
                held.extend(wanted);
            }
            Ok(())
        };
        match options.selection {
            Selection::All => {
                let segments = Segments::new(&evaluator, &Cuts::new(&evaluator))?;
                let mut walk = segments.walk(&evaluator);
                while let Some(found) = segments.next(&evaluator, &mut walk)? {
                    take(found)?;
                }
            }
            Selection::Sample { count, seed } => {
                for block in graph.sample(count, seed).chunks(TOGETHER) {
                    let scores = evaluator.scores(block)?;
                    let mut found = Found::default();
                    found.add(block.iter().cloned().zip(scores));
                    take(found)?;
                }
            }
            Selection::Highest { count } => {
                take(Found { ranked: evaluator.search(count)?, ..Found::default() })?;
            }
        }
        let tokens = frozen.tokens.clone();
        let n_heads = decoder.config.n_heads;
        Ok(Self { tokens, answer, answer_logit, answer_probability, n_heads, options, starts, kept, held, graph })
    }

    /// The paths kept, in order; of a search, the highest logit first.
    ///
    /// # Errors
    /// The table does not hold them.
    pub fn held(&self) -> Result<&[(Path, Score)]> {
        if self.options.hold {
            return Ok(&self.held);
        }
        Err(Error::new("the paths of this table went to a file, and are not held in memory")
            .hint("read the file (`read_parquet`, `read_csv`), or leave `file` out"))
    }

    /// The share of high-ranking paths from the positions `from` that each head takes part in, [layer][head]; NaN if there
    /// are none.
    pub fn head_activity(&self, from: &[i64]) -> Result<Vec<f64>> {
        let starts: Vec<&Start> = from.iter().map(|position| self.start(*position)).collect::<Result<_>>()?;
        let high: u64 = starts.iter().map(|start| start.high_ranking).sum();
        let places = self.n_heads as usize * self.graph.depth();
        Ok((0..places)
            .map(|place| {
                let uses: u64 = starts.iter().filter_map(|start| start.head_use.get(place)).sum();
                uses as f64 / high as f64
            })
            .collect())
    }

    /// The answer's logit as far as the paths explain it, and what the source tokens contribute to it along all edges.
    pub fn explained(&self) -> (f64, f64) {
        let part = |start: &Start| match self.options.selection {
            Selection::Highest { .. } => start.logit,
            _ => start.graph_logit,
        };
        (self.starts.iter().map(part).sum(), self.starts.iter().map(|start| start.total).sum())
    }

    /// What is known of the paths from one position.
    ///
    /// # Errors
    /// None were asked for from there.
    pub fn start(&self, position: i64) -> Result<&Start> {
        self.starts.iter().find(|start| start.position == position).ok_or_else(|| {
            let known: Vec<String> = self.starts.iter().map(|start| start.position.to_string()).collect();
            Error::new(format!("the table has no paths from position {position}"))
                .hint(format!("it has those from {}", known.join(", ")))
        })
    }
}

/// What is known of the paths from a source.
fn from(starts: &mut [Start], source: u32) -> Option<&mut Start> {
    starts.iter_mut().find(|start| start.position == i64::from(source))
}

impl Start {
    fn count(&mut self, paths: u64, logit: f64) {
        self.computed += paths;
        self.logit += logit;
    }

    /// Counts a high-ranking path with its heads.
    fn count_high(&mut self, graph: &Graph, path: &Path, logit: f64, heads: usize) -> Result<()> {
        self.high_ranking += 1;
        self.high_logit += logit;
        for (layer, number) in path.edges.iter().enumerate() {
            for head in graph.edge(layer, *number)?.heads() {
                if let Some(uses) = self.head_use.get_mut(layer * heads + head as usize) {
                    *uses += 1;
                }
            }
        }
        Ok(())
    }

    /// How many high-ranking paths there are: counted, or estimated from a sample, in which case the standard error is given
    /// too. After a search only a lower bound is known, which is what this is then.
    pub fn high_ranking_paths(&self, selection: Selection) -> (f64, f64) {
        match selection {
            Selection::Sample { .. } if self.computed > 0 => {
                let share = self.high_ranking as f64 / self.computed as f64;
                let error = (share * (1.0 - share) / self.computed as f64).sqrt();
                (share * self.paths, error * self.paths)
            }
            Selection::Sample { .. } => (f64::NAN, f64::NAN),
            _ => (self.high_ranking as f64, 0.0),
        }
    }
}
