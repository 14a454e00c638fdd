//! The map as an operator, and its predictions beside what the model does.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::{Linear, WITHOUT_HOOKS, floats, path, tensor, vector};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::model::hooks::{Caller, with_hooks};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::linear::operator::Operator;
use crate::linear::singular::Singular;
use crate::tensor::Tensor;

/// How many tokens are named for a singular direction.
const TOKENS: i64 = 10;

impl Linear {
    /// A vector of the model's width, on its device.
    pub(super) fn own_vector(&self, what: &str, value: &Tensor) -> Result<tch::Tensor> {
        let decoder = &self.model.get().decoder;
        if value.shape() != [decoder.config.d_model] {
            return Err(Error::new(format!("{what} has the shape {:?}", value.shape()))
                .hint(format!("it must be [d_model], here [{}]", decoder.config.d_model)));
        }
        Ok(value.tch().f_to_device_(decoder.output_device(), decoder.kind, false, false)?)
    }

    /// The tokens' texts, or their ids where there is no tokenizer, or where they are numbers of outputs that are not
    /// tokens.
    fn named(&self, rows: Vec<Vec<i64>>, are_tokens: bool) -> Result<Array> {
        let model = self.model.get();
        rows.into_iter()
            .map(|ids| -> Result<Dynamic> {
                let items: Array = if are_tokens && model.has_tokenizer() {
                    model.tokens(&ids)?.into_iter().map(Dynamic::from).collect()
                } else {
                    ids.into_iter().map(Dynamic::from).collect()
                };
                Ok(items.into())
            })
            .collect()
    }
}

fn apply(linear: &Linear, vector: &Tensor, options: Map) -> Result<tch::Tensor> {
    let (path, from, to) =
        Options::read("apply", options, |options| Ok((options.any("path"), options.any("from"), options.any("to"))))?;
    let vector = linear.own_vector("the vector", vector)?;
    if let Some(value) = path {
        if from.is_some() || to.is_some() {
            return Err(Error::new(
                "option `path` of `apply` says where it leads; `from` and `to` are for all edges at once",
            ));
        }
        return Ok(path::path(linear, &value)?.apply(&vector.f_unsqueeze(0)?)?.f_squeeze_dim(0)?);
    }
    let from =
        from.ok_or_else(|| Error::new("`apply` needs `from`").hint("#{ from: [layer, position] }, or #{ path: .. }"))?;
    let from = path::node(linear, "option `from`", &from)?;
    let (to, logits) = match to {
        None => ((linear.map.depth(), linear.map.position(-1)?), true),
        Some(value) => (path::node(linear, "option `to`", &value)?, false),
    };
    let out = Operator::whole(&linear.map, from, to)?.apply(&vector.f_unsqueeze(0)?)?;
    let out = if logits { linear.map.unembed(&out, to.1, false)? } else { out };
    Ok(out.f_squeeze_dim(0)?)
}

fn edge(linear: &Linear, layer: i64, source: i64, target: i64) -> Result<Map> {
    let parts = linear.map.edge(layer, source, target)?;
    Ok(map! {
        "weights" => Tensor::new(parts.weights),
        "argmax_heads" => parts.argmax_heads.into_iter().map(Dynamic::from).collect::<Array>(),
        "residual" => parts.residual,
    })
}

fn svd(linear: &Linear, of: &Dynamic, count: i64) -> Result<Map> {
    let operator = match of.as_int() {
        Ok(source) => {
            let end = (linear.map.depth(), linear.map.position(-1)?);
            Operator::whole(&linear.map, (0, linear.map.position(source)?), end)?
        }
        Err(_) => path::path(linear, of)?,
    }
    .normed()?;
    let Singular { values, left, right } = operator.singular(count)?;
    Ok(map! {
        "tokens" => linear.named(operator.tokens(&left, TOKENS)?, linear.model.get().config().outputs_are_tokens)?,
        "input_tokens" => linear.named(operator.input_tokens(&right, TOKENS)?, true)?,
        "S" => Tensor::new(values),
        "U" => Tensor::new(left),
        "V" => Tensor::new(right),
    })
}

fn validity(linear: &Linear, options: &mut Options) -> Result<Map> {
    let given = options.needed("direction", "#{ direction: a tensor [d_model] }")?;
    let direction = match given.read_lock::<Tensor>() {
        Some(tensor) => linear.own_vector("option `direction`", &tensor)?,
        None => return Err(expected("option `direction`", "a tensor [d_model]", &given)),
    };
    let steps = match options.array("steps")? {
        Some(steps) => floats("option `steps`", &steps)?,
        None => vec![0.01, 0.03, 0.1, 0.3, 1.0],
    };
    let layer = options.integer("layer")?.unwrap_or(0);
    let layer = linear.map.check_layer(layer)?;
    let position = linear.map.position(options.integer("position")?.unwrap_or(-1))?;
    let to = linear.to(options)?;
    let validity =
        linear.map.validity((layer, position), &direction, &steps, to).map_err(|error| error.hint(WITHOUT_HOOKS))?;
    Ok(map! {
        "steps" => vector(&steps)?,
        "error" => vector(&validity.error)?,
        "change" => vector(&validity.change)?,
    })
}

fn predict(caller: &Caller, linear: &Linear, entries: &Array, options: Map) -> Result<Map> {
    let (to, names) = Options::read("predict", options, |options| {
        Ok((linear.to(options)?, options.map("positions")?.unwrap_or_default()))
    })?;
    let config = linear.map.config();
    let prediction = (linear.map)
        .predict(to, &mut |all| caller.add(all, entries, config, &names, None))
        .map_err(|error| error.hint(WITHOUT_HOOKS))?;
    Ok(map! {
        "moved" => prediction.moved.iter().copied().map(Dynamic::from).collect::<Array>(),
        "moved_share" => prediction.moved_share(),
        "clean" => Tensor::new(prediction.clean),
        "predicted" => Tensor::new(prediction.predicted),
        "actual" => Tensor::new(prediction.actual),
    })
}

#[export_module(manifest)]
pub mod functions {
    /// Carries a vector [d_model] through the map, without biases.
    ///
    /// Options: `from`, the node [layer, position] to add it at; `to`, the node to read it at, as [d_model]. Without
    /// `to`, the result is its contribution to the last position's logits, [d_vocab]. `path` instead of both carries it
    /// along one path.
    ///
    /// A path is an array of positions, one for each node from layer 0 on. It can also be a map with `positions` and,
    /// if wanted, `layer` (of its first node; 0), `heads` (for each step, the heads that take part; all) and `residual`
    /// (for each step, whether the residual stream takes part; from a position to itself only) and `hops` (for each
    /// step V, Q or K: what it passes of its heads; V). A row of a path table is such a map.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let lin = model.linearize("The capital of France is");
    /// let embedding = model.W_E[lin.tokens[3]];
    /// let through = lin.apply(embedding, #{ from: [0, 3] });
    /// print((through - lin.totals()[3]).abs().max());
    /// ```
    #[rhai_fn(name = "apply", return_raw, pure)]
    pub fn apply_to(linear: &mut Linear, vector: Tensor, request: Map) -> ScriptResult<Tensor> {
        tensor(apply(linear, &vector, request))
    }

    /// The parts of one edge, from position `source` before layer `layer` to `target` after it.
    ///
    /// Returns `#{ weights, argmax_heads, residual }`: each head's frozen attention [head], the heads that attend most
    /// to `source`, and whether the residual stream takes part.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// print(lin.edge(4, 3, 4));
    /// ```
    #[rhai_fn(name = "edge", return_raw, pure)]
    pub fn edge_of(linear: &mut Linear, layer: i64, source: i64, target: i64) -> ScriptResult<Map> {
        Ok(edge(linear, layer, source, target)?)
    }

    /// The matrix of a path (see `apply`), [d_model, d_model]; it maps a column vector x to matrix · x.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// print(lin.matrix(#{ layer: 0, positions: [3, 4] }).shape);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn matrix(linear: &mut Linear, path: Dynamic) -> ScriptResult<Tensor> {
        tensor(path::path(linear, &path).and_then(|operator| operator.matrix()))
    }

    /// The `k` largest singular values of a path (see `apply`), or of all edges from a source position to the last.
    ///
    /// The frozen final norm follows the map. Returns `#{ S, U, V, tokens, input_tokens }`: S [k]; the written
    /// directions U and the read directions V, [d_model, k]; for each column of U the tokens that it raises most; for
    /// each column of V the tokens whose embeddings lie furthest along it. Uses Golub-Kahan-Lanczos bidiagonalisation,
    /// which does not form the matrix. The sign of a pair of columns is arbitrary.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("The capital of France is");
    /// let svd = lin.svd(3, 2);
    /// print(svd.S);
    /// print(svd.tokens[0]);
    /// ```
    #[rhai_fn(name = "svd", return_raw, pure)]
    pub fn svd_of(linear: &mut Linear, of: Dynamic, k: i64) -> ScriptResult<Map> {
        Ok(svd(linear, &of, k)?)
    }

    /// Measures how far from this input the map predicts the model.
    ///
    /// Moves the residual stream at a node along `direction` [d_model], by each of `steps` (0.01 to 1) times that
    /// residual's length, and compares the map's change of the logits with the model's. Returns `#{ steps, error,
    /// change }`: `change` is the length of the model's change, `error` the length of the difference divided by it. The
    /// map is a secant through this input, not a derivative, so its error does not vanish with the step.
    ///
    /// Options: `direction`, `steps`, `layer` (0; the node before that layer), `position` (-1), `to` (-1).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let lin = model.linearize("The capital of France is");
    /// print(lin.validity(#{ direction: randn([576], #{ seed: 1 }), steps: [0.1, 1.0] }).error);
    /// ```
    #[rhai_fn(name = "validity", return_raw, pure)]
    pub fn validity_of(linear: &mut Linear, request: Map) -> ScriptResult<Map> {
        Ok(Options::read("validity", request, |options| validity(linear, options))?)
    }

    /// Compares the map's prediction of interventions (`patch(..)` and so on, or `[hook, function]` pairs) with the
    /// model.
    ///
    /// Returns `#{ clean, predicted, actual, moved, moved_share }`. The first three are logits of the last position,
    /// [d_vocab]; `actual - predicted` is the part that is not linear in the interventions. `moved` counts for every
    /// layer the (head, query) pairs whose most attended token changes, as such a change would change the paths.
    ///
    /// Interventions can stand at the residual stream (hook_resid_pre, _mid, _post), hook_attn_out, hook_mlp_out and
    /// attn.hook_z; patterns, norms' scales and gates are frozen.
    ///
    /// Options: `to` (position of the logits, -1), `positions` (names of positions, as in `run_with_hooks`).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let lin = model.linearize("; big,");
    /// let digest = model.run_with_cache("; short, shorter", ["blocks.12.hook_resid_post"]).cache["blocks.12.hook_resid_post"][0, -1];
    /// let outcome = lin.predict([patch("blocks.12.hook_resid_post", 0, digest)]);
    /// print((outcome.actual - outcome.predicted).abs().max());
    /// print(outcome.moved_share);
    /// ```
    #[rhai_fn(name = "predict", return_raw, pure)]
    pub fn predict_with(
        context: NativeCallContext,
        linear: &mut Linear,
        interventions: Array,
        options: Map,
    ) -> ScriptResult<Map> {
        with_hooks(&context, |caller| predict(caller, linear, &interventions, options))
    }
}
