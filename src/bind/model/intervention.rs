//! Interventions that scripts write as plain data: `patch`, `zero`, `add`, `scale`.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

use crate::bind::convert::{expected, integers, number};
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::option::Options;
use crate::error::{Error, Result, nearest};
use crate::model::config::Config;
use crate::model::hook;
use crate::model::intervention::{At, Change, Intervention};
use crate::tensor::Tensor;

/// Names of positions that a run defines.
pub type Names = Map;

/// An intervention before it meets a model: its hook and positions may still be names.
#[derive(Debug, Clone)]
pub struct Planned {
    name: String,
    position: Dynamic,
    rows: Option<Vec<i64>>,
    head: Option<i64>,
    change: Change,
}

impl Handle for Planned {
    const NAME: &'static str = "intervention";

    fn describe(&self) -> String {
        let position = if self.position.is_unit() { "all".to_owned() } else { self.position.to_string() };
        format!("{} {} at position {position}", self.change.name(), self.name)
    }
}

impl Planned {
    fn new(name: &str, position: Dynamic, change: Change, options: Map) -> Result<Self> {
        let (rows, head) = Options::read(change.name(), options, |options| {
            let rows = options.array("rows")?.map(|rows| integers("option `rows`", &rows)).transpose()?;
            Ok((rows, options.integer("head")?))
        })?;
        Ok(Self { name: name.to_owned(), position, rows, head, change })
    }

    /// The interventions for one model, one per hook that the name matches.
    ///
    /// # Errors
    /// An unknown hook, an unknown position.
    pub fn resolve(&self, config: &Config, names: &Names) -> Result<Vec<Intervention>> {
        let positions = positions(&self.position, names)?;
        let points = hook::matching(&self.name, config)?;
        let at = |point| Intervention {
            point,
            positions: positions.clone(),
            rows: self.rows.clone(),
            head: self.head,
            change: self.change.clone(),
        };
        Ok(points.into_iter().map(at).collect())
    }
}

/// A position: an integer, an array of them, a range, `"all"`, `"first"`, `"last"`, or a name that the run defines.
///
/// # Errors
/// A value of another kind, an unknown name.
pub fn positions(value: &Dynamic, names: &Names) -> Result<At> {
    if value.is_unit() {
        return Ok(At::All);
    }
    if let Ok(position) = value.as_int() {
        return Ok(At::One(position));
    }
    if let Some(array) = value.read_lock::<Array>() {
        return Ok(At::Several(integers("positions", &array)?));
    }
    if let Some(range) = value.read_lock::<std::ops::Range<i64>>() {
        return several(range.clone(), value);
    }
    if let Some(range) = value.read_lock::<std::ops::RangeInclusive<i64>>() {
        return several(range.clone(), value);
    }
    let Ok(name) = value.clone().into_string() else {
        return Err(expected("a position", "an integer, an array, a range or a name", value));
    };
    match (name.as_str(), names.get(name.as_str())) {
        (_, Some(defined)) if defined.is_string() => {
            Err(Error::new(format!("position `{name}` is defined by another name")).hint("define it by a number"))
        }
        (_, Some(defined)) => positions(defined, names),
        ("all", None) => Ok(At::All),
        ("first", None) => Ok(At::One(0)),
        ("last", None) => Ok(At::One(-1)),
        (_, None) => {
            let known = ["all", "first", "last"].into_iter().chain(names.keys().map(|key| key.as_str()));
            let error = Error::new(format!("no position is named `{name}`"));
            Err(match nearest(&name, known) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(
                    "all, first, last, or define it: run_with_hooks(tokens, hooks, #{ positions: #{ name: 3 } })",
                ),
            })
        }
    }
}

/// The positions of a range, unless there are more of them than memory may hold.
fn several(range: impl Iterator<Item = i64>, shown: &Dynamic) -> Result<At> {
    const MOST: usize = 1 << 20;
    let positions: Vec<i64> = range.take(MOST + 1).collect();
    if positions.len() > MOST {
        return Err(Error::new(format!("the positions {shown} are more than a prompt can have")));
    }
    Ok(At::Several(positions))
}

fn vector(what: &str, value: &Dynamic) -> Result<tch::Tensor> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return Ok(tensor.share());
    }
    match number(value) {
        Some(number) => Ok(tch::Tensor::f_from_slice(&[number])?),
        None => Err(expected(what, "a tensor or a number", value)),
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Replaces the activation at hook `name` (or at all that match a pattern), at `position`, by a tensor: an
    /// intervention.
    ///
    /// `position` is an integer (negative from the end of the prompt), an array or range of them, `"all"`, `"first"`,
    /// `"last"`, or a name defined by the run's option `positions`. The tensor broadcasts against what is selected:
    /// [batch, d_model] for one position of a residual hook, [batch, n, d_model] for several.
    ///
    /// Options: `rows` (the samples of the batch to change), `head` (for q, k, v, z, scores and pattern: the one head
    /// to change).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let source = model.run_with_cache("A b c", ["blocks.3.hook_resid_post"]);
    /// let vector = source.cache["blocks.3.hook_resid_post"][0, -1];
    /// let logits = model.run_with_hooks("x y z", [patch("blocks.3.hook_resid_post", 0, vector)]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn patch(name: &str, position: Dynamic, value: Dynamic, options: Map) -> ScriptResult<Planned> {
        Ok(vector("the value of `patch`", &value)
            .and_then(|value| Planned::new(name, position, Change::Patch(value), options))?)
    }

    /// Sets the activation at hook `name` to zero, at all positions: an intervention.
    #[rhai_fn(return_raw)]
    pub fn zero(name: &str) -> ScriptResult<Planned> {
        zero_with(name, Dynamic::UNIT, Map::new())
    }

    /// Sets the activation at hook `name` to zero at `position`: an intervention.
    ///
    /// Options: `rows`, `head` (see `patch`).
    #[rhai_fn(name = "zero", return_raw)]
    pub fn zero_with(name: &str, position: Dynamic, options: Map) -> ScriptResult<Planned> {
        Ok(Planned::new(name, position, Change::Zero, options)?)
    }

    /// Adds a tensor, such as a steering vector, to the activation at hook `name` and `position`: an intervention.
    ///
    /// Options: `rows`, `head` (see `patch`).
    #[rhai_fn(return_raw)]
    pub fn add(name: &str, position: Dynamic, value: Dynamic, options: Map) -> ScriptResult<Planned> {
        Ok(vector("the value of `add`", &value)
            .and_then(|value| Planned::new(name, position, Change::Add(value), options))?)
    }

    /// Multiplies the activation at hook `name` and `position` by a number: an intervention.
    ///
    /// Options: `rows`, `head` (see `patch`).
    #[rhai_fn(return_raw)]
    pub fn scale(name: &str, position: Dynamic, factor: Dynamic, options: Map) -> ScriptResult<Planned> {
        Ok(number(&factor)
            .ok_or_else(|| expected("the factor of `scale`", "a number", &factor))
            .and_then(|factor| Planned::new(name, position, Change::Scale(factor), options))?)
    }
}
