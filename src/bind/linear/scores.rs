//! Heads' scores and their parts in scripts.

use std::rc::Rc;

use rhai::plugin::*;
use rhai::{Array, Map};

use super::{Linear, tensor};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::option::Options;
use crate::data::table::{Cell, Table};
use crate::error::{Error, Result};
use crate::linear::attention::Side;
use crate::linear::head_score::{HeadScore, Place};
use crate::tensor::Tensor;

/// Pairs that `print` shows.
const SHOWN: usize = 10;

/// The script's handle of a head's score and its parts.
#[derive(Debug, Clone)]
pub struct ScoresHandle {
    score: Rc<HeadScore>,
    /// The tokens at the query's and the key's position
    tokens: [String; 2],
}

impl ScoresHandle {
    /// Which score, in words.
    fn subject(&self) -> String {
        let Place { layer, head, query, key } = self.score.place;
        let [looks, seen] = &self.tokens;
        format!("score of L{layer}H{head} from {query} ({looks:?}) to {key} ({seen:?})")
    }

    fn top(&self, count: usize) -> Result<Table> {
        let mut table = Table::plain(&[("query", None), ("key", None), ("part", Some("+.4"))])?
            .titled(format!("Largest parts of the {}", self.subject()));
        for (query, key, part) in self.score.top(count)? {
            let text = |side, place: usize| Cell::Text(self.score.labels(side)[place].clone());
            table.push(vec![
                ("query".to_owned(), text(Side::Query, query)),
                ("key".to_owned(), text(Side::Key, key)),
                ("part".to_owned(), Cell::Float(part)),
            ])?;
        }
        Ok(table)
    }

    fn labels(&self, side: Side) -> Array {
        self.score.labels(side).iter().map(|label| label.as_str().into()).collect()
    }
}

impl Handle for ScoresHandle {
    const NAME: &'static str = "scores";
    const IS_IMMUTABLE: bool = true;

    fn describe(&self) -> String {
        let (value, probability) = (self.score.value, self.score.probability);
        let shape = self.score.parts.size();
        format!("{}: {value:.4} (attention {probability:.4}), {} x {} parts", self.subject(), shape[0], shape[1])
    }

    fn show(&self) -> String {
        match self.top(SHOWN) {
            Ok(table) => format!("{}\n{}", self.describe(), table.show()),
            Err(error) => format!("{}\n{error}", self.describe()),
        }
    }
}

/// A score as labels show it: L5H3 from 6 to 2 by its query.
pub fn root_label(place: Place, side: Side) -> String {
    let Place { layer, head, query, key } = place;
    format!("L{layer}H{head} from {query} to {key} by its {}", side.name())
}

impl Linear {
    /// The options that say which score: `layer`, `head`, `query`, `key`.
    fn place(&self, options: &mut Options) -> Result<Place> {
        let mut number = |key| {
            let given = options.needed(key, "#{ layer: 3, head: 5, query: -1, key: 2 }")?;
            given.as_int().map_err(|_| expected(&format!("`{key}` of a score"), "an integer", &given))
        };
        let (layer, head, query, key) = (number("layer")?, number("head")?, number("query")?, number("key")?);
        let layer = self.map.check_layer(layer)?;
        let place = Place { layer, head, query: self.map.position(query)?, key: self.map.position(key)? };
        self.map.check_place(place)?;
        Ok(place)
    }

    /// Option `root`, a score and the side that is not fixed; None where it is not given.
    pub(super) fn root(&self, options: &mut Options) -> Result<Option<(Place, Side)>> {
        let Some(root) = options.map("root")? else { return Ok(None) };
        for key in ["answer", "metric", "to"] {
            if options.has(key) {
                return Err(Error::new(format!("`root` leads to a head's score, and `{key}` is of a token's logit"))
                    .hint("give one of them"));
            }
        }
        let read = |options: &mut Options| {
            let place = self.place(options)?;
            let side = options.choice("side", &[("query", Side::Query), ("key", Side::Key)])?;
            let missing = || {
                Error::new("`root` needs `side`, the vector that paths lead to while the other is fixed")
                    .hint("side: \"query\" or \"key\"")
            };
            Ok((place, side.ok_or_else(missing)?))
        };
        Options::read("root", root, read).map(Some)
    }
}

fn scores(linear: &Linear, options: Map) -> Result<ScoresHandle> {
    let place = Options::read("scores", options, |options| linear.place(options))?;
    let model = linear.model.get();
    let token = |position: i64| -> Result<String> {
        let id = linear.map.tokens()[position as usize];
        if model.has_tokenizer() { Ok(model.tokens(&[id])?.concat()) } else { Ok(id.to_string()) }
    };
    Ok(ScoresHandle { score: Rc::new(linear.map.head_score(place)?), tokens: [token(place.query)?, token(place.key)?] })
}

#[export_module(manifest)]
pub mod functions {
    /// Splits a head's attention score into a sum over pairs of sources, one at the query's position and one at the
    /// key's: why this head looks there.
    ///
    /// With the divisors of all norms (those of queries and keys too) and the rotary angles of this run, queries and
    /// keys are linear in the residual stream, so that a score, before soft cap and mask, is the sum of its parts: to
    /// 1e-5 in float32. The sources of either position are, by TransformerLens's names, `embed`, `pos_embed` (of a
    /// model with learned positions), each earlier head (`L3H7`: its mixed values through its output weights) and MLP
    /// (`3_mlp_out`), `intervention` (what hooks of `linearize` put in), and `bias`: the other biases of attention
    /// layers, and those of the query or key itself.
    ///
    /// Options, all needed: `layer`, `head`, and the positions `query` and `key`. A query or key that the model clips
    /// (OLMo 1), and scores that a hook changes, are errors.
    ///
    /// The result has `parts` [query source, key source], `query_labels`, `key_labels`, `by_query` and `by_key` (sums
    /// over the other side), `score` (the run's own), `sum` (of the parts), `probability` (the attention) and `top(n)`,
    /// a table of the largest pairs, which `print` shows too. To trace the sources further, give `root` to `totals`,
    /// `flow` or `paths`.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// let s = lin.scores(#{ layer: 3, head: 4, query: -1, key: 3 });
    /// print(s);
    /// assert((s.sum - s.score).abs() < 1e-3);
    /// print(s.query_labels[s.by_query.argmax().item()]);
    /// ```
    #[rhai_fn(name = "scores", return_raw, pure)]
    pub fn scores_of(linear: &mut Linear, request: Map) -> ScriptResult<ScoresHandle> {
        Ok(scores(linear, request)?)
    }

    /// The part of each pair of sources, float64 [query source, key source].
    #[rhai_fn(get = "parts", pure)]
    pub fn scores_parts(scores: &mut ScoresHandle) -> Tensor {
        Tensor::new(scores.score.parts.shallow_clone())
    }

    /// The sum of the parts by the source at the query's position, [query source].
    #[rhai_fn(get = "by_query", return_raw, pure)]
    pub fn scores_by_query(scores: &mut ScoresHandle) -> ScriptResult<Tensor> {
        tensor(scores.score.by(Side::Query))
    }

    /// The sum of the parts by the source at the key's position, [key source].
    #[rhai_fn(get = "by_key", return_raw, pure)]
    pub fn scores_by_key(scores: &mut ScoresHandle) -> ScriptResult<Tensor> {
        tensor(scores.score.by(Side::Key))
    }

    /// The names of the sources at the query's position.
    #[rhai_fn(get = "query_labels", pure)]
    pub fn scores_query_labels(scores: &mut ScoresHandle) -> Array {
        scores.labels(Side::Query)
    }

    /// The names of the sources at the key's position.
    #[rhai_fn(get = "key_labels", pure)]
    pub fn scores_key_labels(scores: &mut ScoresHandle) -> Array {
        scores.labels(Side::Key)
    }

    /// The run's own score, before soft cap and mask.
    #[rhai_fn(get = "score", pure)]
    pub fn scores_score(scores: &mut ScoresHandle) -> f64 {
        scores.score.value
    }

    /// The sum of all parts.
    #[rhai_fn(get = "sum", return_raw, pure)]
    pub fn scores_sum(scores: &mut ScoresHandle) -> ScriptResult<f64> {
        Ok(scores.score.sum()?)
    }

    /// The head's attention probability from the query to the key.
    #[rhai_fn(get = "probability", pure)]
    pub fn scores_probability(scores: &mut ScoresHandle) -> f64 {
        scores.score.probability
    }

    /// The pairs of sources with the largest parts by size, as a table with the columns `query`, `key` and `part`.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// print(lin.scores(#{ layer: 3, head: 4, query: -1, key: 3 }).top(3));
    /// ```
    #[rhai_fn(name = "top", return_raw, pure)]
    pub fn scores_top(scores: &mut ScoresHandle, count: i64) -> ScriptResult<Table> {
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| Error::new(format!("cannot show {count} parts")).hint("at least 1"))?;
        Ok(scores.top(count)?)
    }
}
