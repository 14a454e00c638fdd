//! Faithfulness of circuits of growing size, in scripts.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::circuit::{evaluated, select};
use super::edges::Edges;
use super::request::Request;
use crate::attribution::faithfulness::{Curve, SHARES};
use crate::bind::convert::numbers;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::data::table::{Cell, Table};

/// The curve that the options ask for.
fn curve(context: &NativeCallContext, edges: &Edges, options: Map) -> ScriptResult<Map> {
    let scores = edges.get();
    let (shares, (ranks, selection), ablation) = Options::read("curve", options, |options| {
        let shares = match options.array("shares")? {
            Some(shares) => numbers("option `shares`", &shares)?,
            None => SHARES.to_vec(),
        };
        Ok((shares, select(options, scores)?, Request::ablation(options, scores.ablation)?))
    })?;
    let graph = &scores.request.graph;
    let curve = evaluated(context, &scores.request, ablation, |evaluator| {
        Curve::new(evaluator, graph, &ranks, &shares, selection)
    })?;
    let columns = [("share", None), ("edges", None), ("metric", Some("+.4")), ("faithfulness", Some("+.3"))];
    let mut table = Table::plain(&columns)?;
    for place in 0..curve.shares.len() {
        table.push(vec![
            ("share".to_owned(), Cell::Float(curve.shares[place])),
            ("edges".to_owned(), Cell::Integer(curve.edges[place] as i64)),
            ("metric".to_owned(), Cell::Float(curve.metrics[place])),
            ("faithfulness".to_owned(), Cell::Float(curve.faithfulness[place])),
        ])?;
    }
    let array = |values: &[f64]| values.iter().map(|value| Dynamic::from(*value)).collect::<Array>();
    Ok(map! {
        "shares" => array(&curve.shares),
        "faithfulness" => array(&curve.faithfulness),
        "metric" => array(&curve.metrics),
        "edges" => curve.edges.iter().map(|count| Dynamic::from(*count as i64)).collect::<Array>(),
        "cpr" => curve.area_under(),
        "cmd" => curve.area_from_one(),
        "full" => curve.ends.full,
        "empty" => curve.ends.empty,
        "table" => table,
    })
}

#[export_module(manifest)]
pub mod functions {
    /// Faithfulness of circuits that keep growing shares of the edges: `#{ shares, edges, metric, faithfulness, cpr, cmd,
    /// full, empty, table }`.
    ///
    /// A circuit's run carries, on every edge outside, what the ablation gives, and inside what the sources compute in this
    /// very run. Faithfulness is (m(circuit) - m(no edge)) / (m(all edges) - m(no edge)), of means over the samples. `cpr` is
    /// the area under it over the shares, `cmd` the area between it and 1, as the MIB track (arXiv 2504.13151) defines
    /// them. Components that nothing in the circuit reaches, or that reach nothing, are dropped first.
    ///
    /// Options: `shares` (0.001, 0.002, 0.005, ... 0.5, 1), `select`, `rank`, `stability` as for `circuit`, `ablation` (that of
    /// the scores) and `seed` as for `edges`.
    #[rhai_fn(name = "curve", return_raw, pure)]
    pub fn edge_curve(context: NativeCallContext, edges: &mut Edges, options: Map) -> ScriptResult<Map> {
        curve(&context, edges, options)
    }
}
