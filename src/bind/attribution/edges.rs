//! Scores of edges in scripts.

use std::path::Path;
use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};
use tch::Kind;

use super::request::{Request, names};
use crate::attribution::alternative::Ablation;
use crate::attribution::circuit::{Circuit, Selection};
use crate::attribution::edge_attribution::{self, Method};
use crate::attribution::graph::{Edge, Graph};
use crate::attribution::mib::{self, Scored};
use crate::attribution::rule::Rule;
use crate::attribution::{exact_edge, roc};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::model::Model;
use crate::bind::model::hooks::{Caller, with_hooks};
use crate::bind::option::Options;
use crate::data::table::{Cell, Table};
use crate::error::{Error, Result, unknown};
use crate::model::backward::Backward;
use crate::stat::summary::mean_and_variance;
use crate::tensor::{Tensor, raw};

/// The most steps of integrated gradients.
const MOST_STEPS: i64 = 10_000;

/// The script's handle of scored edges.
#[derive(Debug, Clone)]
pub struct Edges(Rc<Scores>);

/// Scores of a graph's edges, with the call that they are of.
#[derive(Debug)]
pub struct Scores {
    /// What was asked
    pub request: Request,
    /// By sample, then edge; one row for scores that were read
    pub scores: Vec<Vec<f64>>,
    /// Means over the samples
    pub means: Vec<f64>,
    /// The method, in words
    pub method: String,
    /// What edges carry where they are ablated
    pub ablation: Ablation,
    /// The circuit of a file
    pub read: Option<Circuit>,
}

impl Handle for Edges {
    const NAME: &'static str = "edges";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        let scores = self.get();
        format!("{} edges, {}, {} samples", scores.means.len(), scores.method, scores.request.pairs.samples)
    }
}

impl Edges {
    /// The scores.
    pub fn get(&self) -> &Scores {
        &self.0
    }
}

/// How edges are scored.
enum How {
    Estimated(Method, Backward),
    /// All edges, or these
    Exact(Option<Vec<Edge>>),
    Read(Scored),
}

/// The method that the options name, with what it is called.
fn how(options: &mut Options, request: &Request) -> Result<(How, String)> {
    let graph = &request.graph;
    if let Some(path) = options.string("scores")? {
        let d_model = request.model.get().config().d_model;
        return Ok((How::Read(mib::read(Path::new(&path), graph, d_model)?), format!("scores of {path}")));
    }
    let name = options.string("method")?.unwrap_or_else(|| "eap".to_owned());
    let steps = options.integer("steps")?;
    let rules = [("midpoint", Rule::Midpoint), ("left", Rule::Left), ("right", Rule::Right)];
    let rule = options.choice("rule", &rules)?;
    let is_integrated = name.starts_with("eap-ig");
    if !is_integrated && (steps.is_some() || rule.is_some()) {
        return Err(Error::new(format!(
            "options `steps` and `rule` go with \"eap-ig-inputs\" and \"eap-ig-activations\", not \"{name}\""
        )));
    }
    let steps = steps.unwrap_or(5);
    if !(1..=MOST_STEPS).contains(&steps) {
        return Err(Error::new(format!("a mean over {steps} steps cannot be taken"))
            .hint(format!("steps: 5, and at most {MOST_STEPS}")));
    }
    let chosen = options.array("edges")?;
    if chosen.is_some() && name != "exact" {
        return Err(Error::new("option `edges` goes with `method: \"exact\"`; the others score all at once"));
    }
    let rule = rule.unwrap_or(Rule::Midpoint);
    let how = match name.as_str() {
        "eap" => How::Estimated(Method::Clean, Backward::Exact),
        "clean-corrupted" => How::Estimated(Method::CleanCorrupted, Backward::Exact),
        "eap-ig-inputs" => How::Estimated(Method::Inputs { steps, rule }, Backward::Exact),
        "eap-ig-activations" => How::Estimated(Method::Activations { steps, rule }, Backward::Exact),
        "relp" => How::Estimated(Method::Clean, Backward::Relp),
        "frozen" => How::Estimated(Method::Clean, Backward::Frozen),
        "exact" => {
            let chosen = chosen.map(|chosen| edges_named(graph, &chosen)).transpose()?;
            if chosen.as_ref().is_some_and(Vec::is_empty) {
                return Err(Error::new("option `edges` is empty").hint("leave it out for all edges"));
            }
            How::Exact(chosen)
        }
        other => {
            let known = ["eap", "eap-ig-inputs", "eap-ig-activations", "clean-corrupted", "relp", "frozen", "exact"];
            return Err(unknown("method", other, &known));
        }
    };
    if matches!(how, How::Estimated(Method::Clean, _)) {
        request.measure().check_slope(&name)?;
    }
    let words = if is_integrated { format!("{name} in {steps} steps") } else { name };
    Ok((how, words))
}

/// The edges of these names.
fn edges_named(graph: &Graph, chosen: &Array) -> Result<Vec<Edge>> {
    names("edges", chosen)?.iter().map(|name| graph.edge(name)).collect()
}

fn make(context: &NativeCallContext, model: &Model, options: Map) -> ScriptResult<Edges> {
    let (request, how, method, ablation) = Options::read("edges", options, |options| {
        let request = Request::read(model, options)?;
        let ablation = Request::ablation(options, Ablation::Corrupted)?;
        let (how, method) = how(options, &request)?;
        Ok((request, how, method, ablation))
    })?;
    let (scores, read) = match how {
        How::Read(Scored { scores, circuit }) => (vec![scores], Some(circuit)),
        how => (with_hooks(context, |caller| compute(caller, &request, how, ablation))?, None),
    };
    let count = scores.len() as f64;
    let mean = |edge: usize| scores.iter().map(|sample| sample[edge]).sum::<f64>() / count;
    let means = (0..request.graph.edges.len()).map(mean).collect();
    Ok(Edges(Rc::new(Scores { request, scores, means, method, ablation, read })))
}

fn compute(caller: &Caller<'_>, request: &Request, how: How, ablation: Ablation) -> Result<Vec<Vec<f64>>> {
    let (decoder, graph, pairs) = (&request.model.get().decoder, &request.graph, &request.pairs);
    let rows = |scores: tch::Tensor| -> Result<Vec<Vec<f64>>> {
        let width = scores.size()[1] as usize;
        Ok(raw::numbers(&scores)?.chunks(width.max(1)).map(<[f64]>::to_vec).collect())
    };
    request.measured(caller, |objective| match how {
        How::Read(scored) => Ok(vec![scored.scores]),
        How::Estimated(method, backward) => {
            rows(edge_attribution::scores(decoder, graph, pairs, objective, (method, ablation, backward))?)
        }
        How::Exact(None) => rows(exact_edge::effects(decoder, graph, pairs, objective, ablation, &graph.edges)?),
        How::Exact(Some(edges)) => {
            let found = rows(exact_edge::effects(decoder, graph, pairs, objective, ablation, &edges)?)?;
            let spread = |found: Vec<f64>| {
                let mut row = vec![f64::NAN; graph.edges.len()];
                edges.iter().zip(found).for_each(|(edge, effect)| row[graph.number(*edge)] = effect);
                row
            };
            Ok(found.into_iter().map(spread).collect())
        }
    })
}

impl Scores {
    /// Mean, standard error and names, of the edges in this order.
    fn table(&self, order: &[usize]) -> Result<Table> {
        let columns = [
            ("edge", None),
            ("source", None),
            ("destination", None),
            ("score", Some("+.4")),
            ("standard_error", Some(".4")),
        ];
        let graph = &self.request.graph;
        let mut table = Table::plain(&columns)?;
        for number in order {
            let edge = graph.edges[*number];
            let own: Vec<f64> = self.scores.iter().map(|sample| sample[*number]).collect();
            let (mean, variance) = mean_and_variance(&own);
            let error = if own.len() > 1 { (variance / own.len() as f64).sqrt() } else { f64::NAN };
            table.push(vec![
                ("edge".to_owned(), Cell::Text(graph.name(edge))),
                ("source".to_owned(), Cell::Text(graph.sources[edge.source].to_string())),
                ("destination".to_owned(), Cell::Text(graph.destinations[edge.destination].to_string())),
                ("score".to_owned(), Cell::Float(mean)),
                ("standard_error".to_owned(), Cell::Float(error)),
            ])?;
        }
        Ok(table)
    }

    /// The numbers of the edges with a score, largest magnitude first.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.means.len()).filter(|edge| !self.means[*edge].is_nan()).collect();
        order.sort_by(|one, other| self.means[*other].abs().total_cmp(&self.means[*one].abs()));
        order
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Scores every edge between components: how much the metric changes if the edge alone carries the corrupted run's value.
    ///
    /// Components are `input` (embedded tokens), heads `a3.h5` and MLPs `m3`; an edge leads from what one adds to the
    /// residual stream to what another reads of it: `input->a0.h0<q>`, `a0.h0->m0`, `m1->logits`. A key or value that
    /// several query heads share is one destination, `a3.kv1<k>`. In post-norm blocks a head adds its part of the
    /// normalised output, with the run's own divisor. A score is an effect, m(edge corrupted) - m(clean): an edge that
    /// helps has a negative one.
    ///
    /// Needed: `clean` (one prompt or many), `corrupted` (as many, each of its clean prompt's length), `answer` (ids or
    /// texts; of each or of all) for a metric's name.
    ///
    /// Options: `metric` ("log_probability"; as for `patch_grid`, also a function), `method`:
    /// - "eap" (attribution patching: the clean run's gradients times the difference of what the source adds)
    /// - "eap-ig-inputs" (the mean of gradients over `steps` runs whose embedded tokens lie between the two)
    /// - "eap-ig-activations" (the same over clean runs in which one place at a time lies between: embedded tokens, the
    ///   heads of a layer, its MLP)
    /// - "clean-corrupted" (the mean over both runs)
    /// - "relp", "frozen" (as "eap", with the rules of `grad`'s option `backward`)
    /// - "exact" (a run for every edge; all that runs share is done once; with `edges`, an array of names, only of those)
    ///
    /// `steps` (5) and `rule` ("midpoint", or "left" or "right", counted from the corrupted end; EAP-IG's own code uses
    /// "left" for inputs, "right" for activations), `ablation` ("corrupted", "zero", "mean" over the clean prompts by
    /// position, "resample": another sample's clean run, by `seed`), `scores` (a circuit file of the MIB track: scores are
    /// read, not computed).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let edges = model.edges(#{
    ///     clean: "The capital of France is", corrupted: "The capital of Japan is",
    ///     answer: " Paris", metric: #{ kind: "logit_difference", against: " Tokyo" },
    /// });
    /// print(edges.top(5));
    /// ```
    #[rhai_fn(name = "edges", return_raw, pure)]
    pub fn model_edges(context: NativeCallContext, model: &mut Model, options: Map) -> ScriptResult<Edges> {
        make(&context, model, options)
    }

    /// Every edge's score for each sample, f64 [sample, edge], in the order of `names`.
    #[rhai_fn(get = "scores", return_raw, pure)]
    pub fn edge_scores(edges: &mut Edges) -> ScriptResult<Tensor> {
        let scores = edges.get();
        let flat = tch::Tensor::f_from_slice(&scores.scores.concat()).map_err(Error::from)?;
        let shape = [scores.scores.len() as i64, scores.means.len() as i64];
        Ok(Tensor::new(flat.f_view(shape).and_then(|table| table.f_to_kind(Kind::Double)).map_err(Error::from)?))
    }

    /// The names of the edges.
    #[rhai_fn(get = "names", pure)]
    pub fn edge_names(edges: &mut Edges) -> Array {
        edges.get().request.graph.names().into_iter().map(Dynamic::from).collect()
    }

    /// The mean of every edge's score over the samples, f64 [edge].
    #[rhai_fn(get = "mean", return_raw, pure)]
    pub fn edge_means(edges: &mut Edges) -> ScriptResult<Tensor> {
        Ok(Tensor::new(tch::Tensor::f_from_slice(&edges.get().means).map_err(Error::from)?))
    }

    /// The method, in words.
    #[rhai_fn(get = "method", pure)]
    pub fn edge_method(edges: &mut Edges) -> String {
        edges.get().method.clone()
    }

    /// The number of edges.
    #[rhai_fn(name = "len", pure)]
    pub fn edge_count(edges: &mut Edges) -> i64 {
        edges.get().means.len() as i64
    }

    /// The mean score of the edge of that name.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn edge_score(edges: &mut Edges, name: &str) -> ScriptResult<f64> {
        let scores = edges.get();
        let graph = &scores.request.graph;
        Ok(scores.means[graph.number(graph.edge(name)?)])
    }

    /// The edges with a score, largest magnitude first: `edge`, `source`, `destination`, `score` (the mean over samples)
    /// and its `standard_error`.
    #[rhai_fn(name = "table", return_raw, pure)]
    pub fn edge_table(edges: &mut Edges) -> ScriptResult<Table> {
        let scores = edges.get();
        Ok(scores.table(&scores.order())?)
    }

    /// The `count` first rows of `table`.
    #[rhai_fn(name = "top", return_raw, pure)]
    pub fn edge_top(edges: &mut Edges, count: i64) -> ScriptResult<Table> {
        let scores = edges.get();
        let mut order = scores.order();
        let count = usize::try_from(count).map_err(|_| Error::new(format!("there are no {count} first edges")))?;
        order.truncate(count);
        Ok(scores.table(&order)?)
    }

    /// Writes the scores as a circuit file of the MIB track (JSON); all edges are in it. Of a model whose query heads
    /// share keys and values, the file names them `a3.kv1<k>` and says so in `cfg`.
    #[rhai_fn(name = "save", return_raw, pure)]
    pub fn edge_save(edges: &mut Edges, path: &str) -> ScriptResult<()> {
        let scores = edges.get();
        let (graph, d_model) = (&scores.request.graph, scores.request.model.get().config().d_model);
        let scored = Scored { scores: scores.means.clone(), circuit: Circuit::full(graph) };
        Ok(mib::write(Path::new(path), graph, d_model, &scored)?)
    }

    /// The area under the receiver operating characteristic of |score| for edges that are known to matter: the chance that
    /// one of them scores higher than one of the others, ties counted by half.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2", #{ init: "random" });
    /// let edges = model.edges(#{ clean: [[1, 2]], corrupted: [[3, 2]], answer: 5 });
    /// print(edges.auroc(["input->a0.kv0<v>", "a0.h0->logits"]));
    /// ```
    #[rhai_fn(name = "auroc", return_raw, pure)]
    pub fn edge_auroc(edges: &mut Edges, known: Array) -> ScriptResult<f64> {
        let scores = edges.get();
        let graph = &scores.request.graph;
        let mut labels = vec![false; graph.edges.len()];
        edges_named(graph, &known)?.into_iter().for_each(|edge| labels[graph.number(edge)] = true);
        let sizes: Vec<f64> = scores.means.iter().map(|score| score.abs()).collect();
        Ok(roc::area(&sizes, &labels)?)
    }
}

/// The words of a selection.
pub const SELECTIONS: &[(&str, Selection)] = &[("top", Selection::Top), ("greedy", Selection::Greedy)];
