//! Path tables in scripts.

use std::path::Path as FilePath;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use super::path_request::{Call, LESS_MEMORY};
use super::scores::root_label;
use super::{Linear, tensor};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::map::map;
use crate::bind::model::Model;
use crate::error::{Error, Result};
use crate::linear::live::Through;
use crate::linear::path::edge::Edge;
use crate::linear::path::export::{self, PathFile};
use crate::linear::path::graph::Path;
use crate::linear::path::method::Selection;
use crate::linear::path::score::Score;
use crate::linear::path::table::{PathTable, Start};
use crate::linear::readout::{Scale, Target};
use crate::progress::Progress;
use crate::tensor::Tensor;

/// The script's handle of scored paths.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The model whose paths they are.
    pub model: Model,
    /// The paths and their scores.
    pub table: Rc<PathTable>,
}

impl Handle for Paths {
    const NAME: &'static str = "paths";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        let high: u64 = self.table.starts.iter().map(|start| start.high_ranking).sum();
        let computed: u64 = self.table.starts.iter().map(|start| start.computed).sum();
        let counts = format!("{computed} paths, {high} of them with rank up to {}", self.table.options.max_rank);
        let counts = match self.table.target {
            Target::Answer { .. } => counts,
            Target::Score { .. } => format!("{computed} paths"),
        };
        measured(counts, &self.table.target)
    }
}

/// A description of paths with what they are measured in, unless it is the logit.
pub fn measured(counts: String, target: &Target) -> String {
    match target {
        Target::Answer { scale: Scale::Logit, .. } => counts,
        Target::Answer { scale, .. } => format!("{counts}, measured by {}", scale.words()),
        Target::Score { place, side } => format!("{counts} to the score {}", root_label(*place, *side)),
    }
}

fn paths(linear: &Linear, options: Map) -> Result<Paths> {
    let call = Call::read(linear, "paths", options)?;
    let plan = call.plan(linear)?;
    let others = match call.options.selection {
        Selection::All => "; or take `sample: 1000` of them, or `highest: 100`",
        Selection::Sample { .. } | Selection::Highest { .. } => "",
    };
    plan.check_limit(call.limit).map_err(|error| {
        error.hint(format!("raise `limit`, choose fewer starts by `from`, fewer edges by `edges`{others}"))
    })?;
    plan.check_memory().map_err(|error| error.hint(LESS_MEMORY))?;
    let mut file = call.file.map(|file| PathFile::create(FilePath::new(&file), plan.target())).transpose()?;
    let progress = (!call.quiet).then(|| Progress::new(plan.estimate.asked as u64, "paths"));
    let table = plan.run(&mut |block| {
        progress.iter().for_each(|progress| progress.tick(block.computed));
        file.as_mut().map_or(Ok(()), |file| file.append(block))
    })?;
    file.map_or(Ok(()), PathFile::finish)?;
    progress.iter().for_each(Progress::finish);
    Ok(Paths { model: linear.model.clone(), table: Rc::new(table) })
}

fn count(count: f64) -> Dynamic {
    // Beyond 2^53 a count is rounded, and stays a float.
    if count < 9e15 { (count as i64).into() } else { count.into() }
}

fn estimate(linear: &Linear, options: Map) -> Result<Map> {
    let call = Call::read(linear, "path_counts", options)?;
    let plan = call.plan(linear)?;
    let estimate = plan.estimate;
    let mut map = map! {
        "from" => plan.graph.request.from.iter().copied().map(Dynamic::from).collect::<Array>(),
        "counts" => plan.graph.counts().into_iter().map(count).collect::<Array>(),
        "count" => count(estimate.paths),
        "bytes" => estimate.bytes,
        "seconds" => estimate.seconds,
    };
    map.insert(plan.target().name().into(), Dynamic::from(super::vector(&plan.sums()?)?));
    Ok(map)
}

impl Paths {
    /// The paths that the table holds.
    pub fn held(&self) -> Result<&[(Path, Score)]> {
        let hint = "read the file (`read_parquet`, `read_csv`), or leave `file` out";
        self.table.held().map_err(|error| error.hint(hint))
    }

    fn row(&self, (path, score): &(Path, Score)) -> Result<Map> {
        let graph = &self.table.graph;
        let positions = graph.positions(path);
        let mut heads = Array::new();
        let mut residual = Array::new();
        for edge in graph.edges_of(path) {
            heads.push(edge.heads().map(Dynamic::from).collect::<Array>().into());
            residual.push(edge.residual.into());
        }
        let mut map = map! {
            "positions" => positions.iter().map(|position| i64::from(*position).into()).collect::<Array>(),
            "heads" => heads,
            "residual" => residual,
        };
        if let Target::Answer { .. } = self.table.target {
            map.insert("rank".into(), score.rank.map_or(Dynamic::UNIT, Dynamic::from));
        }
        if graph.request.through == Through::All {
            let letter = |edge: &Edge| if edge.residual { "r".to_owned() } else { edge.hop.letter().to_string() };
            let hops = graph.edges_of(path).map(|edge| Dynamic::from(letter(edge)));
            map.insert("hops".into(), hops.collect::<Array>().into());
        }
        map.insert(self.table.target.name().into(), score.value.into());
        if self.model.get().has_tokenizer() {
            let ids: Vec<i64> = positions.iter().map(|position| self.table.tokens[*position as usize]).collect();
            let tokens: Array = self.model.get().tokens(&ids)?.into_iter().map(Dynamic::from).collect();
            map.insert("tokens".into(), tokens.into());
        }
        Ok(map)
    }

    fn start(&self, start: &Start) -> Map {
        let (high, error) = start.high_ranking_paths(self.table.options.selection);
        let name = self.table.target.name();
        let mut map = map! {
            "position" => start.position,
            "paths" => count(start.paths),
            "computed" => start.computed as i64,
            "total" => start.total,
        };
        map.insert(name.into(), start.value.into());
        if let Target::Answer { .. } = self.table.target {
            map.extend(map! {
                "high_ranking" => high,
                "standard_error" => error,
                "hits" => start.high_ranking as i64,
            });
            map.insert(format!("high_{name}").into(), start.high_value.into());
        }
        map.insert(format!("graph_{name}").into(), start.graph_value.into());
        map
    }

    /// The value of every path that the table holds.
    fn values(&self) -> Result<tch::Tensor> {
        let values: Vec<f64> = self.held()?.iter().map(|(_, score)| score.value).collect();
        Ok(tch::Tensor::f_from_slice(&values)?)
    }

    fn activity(&self, from: &[i64]) -> Result<tch::Tensor> {
        let shares = self.table.head_activity(from)?;
        Ok(tch::Tensor::f_from_slice(&shares)?.f_view([-1, self.table.n_heads])?)
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Traces paths to the answer or to a head's score, and measures what each contributes.
    ///
    /// A path is a sequence of nodes from a source token to the last position. It contributes c = W_U S_final A E[t] to
    /// the logits, where A is the product of its edges' maps. The rank is the answer's among all tokens in c.
    ///
    /// Why does a head look there? `root` takes a head's score, before soft cap and mask, as the end: paths lead to the
    /// position of its query while the key is fixed, or to that of its key while the query is. Under the frozen norms
    /// the score is linear in either, so this is exact: the paths of all tokens along all edges, and the biases that
    /// `flow` lists for the same root, sum to the score.
    ///
    /// `through: "qkv"` lets paths pass a head by its query (Q, which stays at its position) or key (K, from the key's
    /// position to the query's) as well as by its value (V). That is a linearisation: a query or key acts on what a
    /// head writes by the derivative of the softmax (and of a soft cap) at this run, sum over j of p_j (v_j - mean)
    /// ds_j with p the pattern, v the values and mean their mean under p. The divisors of norms, those of queries and keys
    /// too, and the slopes of MLPs stay frozen. A Q hop counts the scores of all keys. The values of all paths of a
    /// token then sum to its part of the derivative of the metric by a common factor of all embeddings; the paths of V
    /// hops alone among them sum to the token's total as before.
    ///
    /// Needed: `answer` (a token id, or text, of which the first token counts), or `root`. Options:
    /// - `root`: `#{ layer, head, query, key, side }`, with `side` `"query"` or `"key"`: the one that is not fixed.
    ///   Values are called `score`, and there are no ranks. `answer`, `metric`, `to`, `keep` and `max_rank` do not go
    ///   with it
    /// - `through`: `"v"` (default) or `"qkv"`, which goes with `granularity: "head"`
    /// - `metric`: what paths are measured in, as in `flow`; `"logit"` by default. Ranks stay the answer's among all
    ///   tokens. `"log_probability"` counts by its differential at this run
    /// - `from`: one or several positions to start from; all by default. `to`: the position to end at, -1 by default
    /// - `edges`: `"argmax"` (default; a head takes part only from the token it attends to most), `"all"`, or `"top_p"`
    ///   (the fewest keys that hold the share `top_p` of a head's attention)
    /// - `mode`: `"eq3"` (default; heads weighted by their attention, the residual stream from a position to itself
    ///   only) or `"released"` (as in the paper's code: all heads with weight 1, and the residual stream, on every
    ///   edge)
    /// - `granularity`: `"token"` (default; with `through: "qkv"`, `"head"`) or `"head"` (each step along one head or
    ///   along the residual stream)
    /// - `max_rank`: a path of this rank or better is high-ranking, 100 by default
    /// - `limit`: more paths than this are refused before anything is computed, 1,000,000 by default
    /// - `sample`: n draws n paths uniformly with replacement, by `seed`
    /// - `highest`: n keeps the n paths with the highest values, exactly, without computing the others; `limit` then
    ///   counts halves of paths
    /// - `keep`: the paths that the table holds, `"all"` (default) or `"high_ranking"`, which abandons a path as soon
    ///   as its rank must be too low and is several times faster
    /// - `file`: a .csv or .parquet file; paths are written there as they are computed, and not held in memory. Columns
    ///   as for `save`
    /// - `quiet`: `true` shows no progress
    ///
    /// The table has `starts` (a summary for each source position), `rows()`, `value` (`logit` for logits), `metric`,
    /// `rank`, `positions`, `explained` and `remainder`. `head_activity` and `path_graph` take it.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("; big,");
    /// let paths = lin.paths(#{ answer: " bigger", from: 1, sample: 50, quiet: true });
    /// print(paths.starts[0]);
    /// let highest = lin.paths(#{ answer: " bigger", metric: "centred_logit", highest: 5, quiet: true });
    /// print(highest.value);
    /// print(highest.rows()[0].centred_logit);
    /// let root = #{ layer: 2, head: 4, query: -1, key: 1, side: "key" };
    /// let why = lin.paths(#{ root: root, through: "qkv", highest: 5, quiet: true });
    /// print(why.rows()[0].hops);
    /// ```
    #[rhai_fn(name = "paths", return_raw, pure)]
    pub fn paths_of(linear: &mut Linear, request: Map) -> ScriptResult<Paths> {
        Ok(paths(linear, request)?)
    }

    /// Counts the paths without computing them, and estimates the cost of computing them.
    ///
    /// Returns `#{ from, counts, count, logit, bytes, seconds }`: the starts, the number of paths from each and in all,
    /// the sum of all paths' answer logits from each (of their values, by the name of another metric), and the memory
    /// and time that `paths` would take here. Options as for `paths`.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("; big,");
    /// print(lin.path_counts(#{ answer: " bigger", edges: "all" }).counts);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn path_counts(linear: &mut Linear, request: Map) -> ScriptResult<Map> {
        Ok(estimate(linear, request)?)
    }

    /// A summary of the paths from each source position, as maps.
    ///
    /// - `position`; `paths`: the number of paths from there; `computed`: the number of those computed
    /// - `hits`: the high-ranking ones among those computed. `high_ranking`: those among all paths; an estimate with a
    ///   `standard_error` for a sample, a lower bound for a search
    /// - `logit`: the sum of the answer's logits of those computed; `high_logit`: of the hits; `graph_logit`: of all
    ///   paths of the graph. Of another metric than the logit the three are sums of values, and bear its name:
    ///   `centred_logit`, `high_centred_logit`, `graph_centred_logit`
    /// - `total`: the token's contribution along all edges
    ///
    /// Of paths to a head's score `score` and `graph_score` are such sums, and nothing is high-ranking.
    #[rhai_fn(get = "starts", pure)]
    pub fn paths_starts(paths: &mut Paths) -> Array {
        paths.table.starts.iter().map(|start| Dynamic::from(paths.start(start))).collect()
    }

    /// The number of paths in the table or its file.
    #[rhai_fn(name = "len", pure)]
    pub fn paths_len(paths: &mut Paths) -> i64 {
        paths.table.kept as i64
    }

    /// Every path that the table holds, as maps; those of `highest` start with the highest value.
    ///
    /// Each has `positions`; `heads` and `residual`, for each step; with `through: "qkv"`, `hops`, for each step V, Q
    /// or K, or r for the residual stream; `logit`, or the value by the name of another metric, or `score`; `rank`, of
    /// paths to a token; and, with a tokenizer, `tokens` as text.
    #[rhai_fn(name = "rows", return_raw, pure)]
    pub fn paths_rows(paths: &mut Paths) -> ScriptResult<Array> {
        let held = paths.held()?;
        Ok(held.iter().map(|path| paths.row(path).map(Dynamic::from)).collect::<Result<Array>>()?)
    }

    /// The answer's logit in each path's contribution, [path]; paths measured in another metric have a `value`.
    #[rhai_fn(get = "logit", return_raw, pure)]
    pub fn paths_logit(paths: &mut Paths) -> ScriptResult<Tensor> {
        match &paths.table.target {
            Target::Answer { scale: Scale::Logit, .. } => tensor(paths.values()),
            target => Err(Error::new(format!("these paths are measured in `{}`, not in logits", target.name()))
                .hint("read `value`"))?,
        }
    }

    /// The metric of each path's contribution, [path].
    #[rhai_fn(get = "value", return_raw, pure)]
    pub fn paths_value(paths: &mut Paths) -> ScriptResult<Tensor> {
        tensor(paths.values())
    }

    /// The name of the metric that paths are measured in.
    #[rhai_fn(get = "metric", pure)]
    pub fn paths_metric(paths: &mut Paths) -> String {
        paths.table.target.name().to_owned()
    }

    /// The answer's rank in each path's contribution, [path].
    #[rhai_fn(get = "rank", return_raw, pure)]
    pub fn paths_rank(paths: &mut Paths) -> ScriptResult<Tensor> {
        let ranks = paths.held()?.iter().map(|(_, score)| score.known_rank()).collect::<Result<Vec<i64>>>()?;
        tensor(tch::Tensor::f_from_slice(&ranks).map_err(Error::from))
    }

    /// The positions that each path passes, [path, n_layers + 1].
    #[rhai_fn(get = "positions", return_raw, pure)]
    pub fn paths_positions(paths: &mut Paths) -> ScriptResult<Tensor> {
        let graph = &paths.table.graph;
        let held = paths.held()?;
        let flat: Vec<i64> = held.iter().flat_map(|(path, _)| graph.positions(path)).map(i64::from).collect();
        let shape = [held.len() as i64, graph.depth() as i64 + 1];
        tensor(tch::Tensor::f_from_slice(&flat).and_then(|flat| flat.f_view(shape)).map_err(Error::from))
    }

    /// The share of the source tokens' contribution to the answer's logit, or other metric, that the paths explain.
    ///
    /// Counts all paths of the graph; after a search, those found. In released mode paths do not add up to the logit.
    #[rhai_fn(get = "explained", pure)]
    pub fn paths_explained(paths: &mut Paths) -> f64 {
        let (explained, total) = paths.table.explained();
        explained / total
    }

    /// The part of the source tokens' contribution to the answer's logit, or other metric, that the paths do not
    /// explain.
    #[rhai_fn(get = "remainder", pure)]
    pub fn paths_remainder(paths: &mut Paths) -> f64 {
        let (explained, total) = paths.table.explained();
        total - explained
    }

    /// The share of high-ranking paths in which each head takes part, [layer, head]; NaN where there is no such path.
    /// Paths to a head's score have no ranks.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("; big,");
    /// let paths = lin.paths(#{ answer: " bigger", from: [1, 2], sample: 200, max_rank: 1000, quiet: true });
    /// print(head_activity(paths).shape);
    /// ```
    #[rhai_fn(name = "head_activity", return_raw, pure)]
    pub fn head_activity_all(paths: &mut Paths) -> ScriptResult<Tensor> {
        tensor(paths.activity(&paths.table.graph.request.from))
    }

    /// The share of high-ranking paths from one position in which each head takes part, [layer, head].
    #[rhai_fn(name = "head_activity", return_raw, pure)]
    pub fn head_activity_from(paths: &mut Paths, position: i64) -> ScriptResult<Tensor> {
        let length = paths.table.tokens.len() as i64;
        tensor(paths.activity(&[if position < 0 { position + length } else { position }]))
    }

    /// Writes the paths that the table holds to a .csv or .parquet file.
    ///
    /// Columns: `source` (position), `positions` (in parquet a list), `heads` of each step (joined by +; r is the
    /// residual stream; through queries and keys with the letter of the hop, as in 3V or 3K), the answer's `logit` (or
    /// the value, by the name of another metric, or `score`) and `rank`, which paths to a score do not have.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("; big,");
    /// let paths = lin.paths(#{ answer: " bigger", highest: 20, quiet: true });
    /// paths.save("paths.parquet");
    /// print(read_parquet("paths.parquet")[0].positions);
    /// ```
    #[rhai_fn(name = "save", return_raw, pure)]
    pub fn paths_save(paths: &mut Paths, path: &str) -> ScriptResult<()> {
        paths.held()?;
        Ok(export::write(FilePath::new(path), &paths.table)?)
    }
}
