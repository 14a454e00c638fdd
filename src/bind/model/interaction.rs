//! The interactions of a grid in scripts.

use rhai::Map;
use rhai::plugin::*;

use super::grid::{GridHandle, set_value};
use super::metric;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::interaction::{self, Index, Interactions, Null};
use crate::grid::metric::Metric;
use crate::grid::outcome::Grid;
use crate::tensor::Tensor;

fn read(grid: &Grid, options: Map) -> Result<Interactions> {
    Options::read("interactions", options, |options| {
        let nulls = [("additive", Null::Additive), ("maximum", Null::Maximum), ("bliss", Null::Bliss)];
        let null = options.choice("null", &nulls)?.unwrap_or(Null::Additive);
        let indexes =
            [("mobius", Index::Mobius), ("shapley", Index::Shapley), ("shapley_taylor", Index::ShapleyTaylor)];
        let index = options.choice("index", &indexes)?.unwrap_or(Index::Mobius);
        let metric = match options.string("metric")? {
            Some(name) => metric::named(&name)?,
            None if null == Null::Bliss => Metric::Probability,
            None => Metric::LogProbability,
        };
        let order = options.integer("order")?.unwrap_or(2);
        let order =
            usize::try_from(order).map_err(|_| Error::new(format!("there is no order {order}")).hint("2 or 3"))?;
        interaction::interactions(grid, order, metric, null, index)
    })
}

#[export_module(manifest)]
pub mod functions {
    /// What the sets of a grid do beyond what their parts do: `#{ sets, values, mean, crossovers }`.
    ///
    /// `sets` are the grid's sets of `order` places, `values` their interactions [set, sample], `mean` is over samples
    /// [set]. `crossovers`, for pairs, is the share of samples [set] where the effect of one place changes its sign when
    /// the other is patched: an interaction without any can be removed by another scale. Values are against the target
    /// alone. Options:
    /// - `order`: 2 by default, or 3; the grid must have all sets within (`sizes: [1, 2, 3]`)
    /// - `metric`: `"log_probability"` by default, or a metric of `patch_grid`
    /// - `null`: what a set is held against. `"additive"` (default): the sum of its parts, eps(i, j) = v(ij) - v(i) - v(j) +
    ///   v(0), the Möbius coefficient. `"maximum"`: the largest value of the sets within, which overwriting gives.
    ///   `"bliss"`: independent gains of probability, 1 - (1 - p_i)(1 - p_j)
    /// - `index`: `"mobius"` (default), the interaction where nothing else is patched; `"shapley"`, its mean over all
    ///   backgrounds (Grabisch and Roubens 1999); `"shapley_taylor"`, where all orders up to this one add up to the
    ///   effect of all places (Sundararajan et al. 2020). The last two need all sets of the grid's places: `elements`
    ///
    /// # Errors
    /// A grid without the sets within; `"bliss"` of another metric than the probability.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let grid = model.patch_grid(#{
    ///     source: "; short, shorter; loud, louder", target: ["; big,"], answer: [" bigger"], elements: [4, 8, 12],
    ///     quiet: true, store: false,
    /// });
    /// let pairs = grid.interactions(#{ order: 2, metric: "logit" });
    /// assert_eq(pairs.sets, [[4, 8], [4, 12], [8, 12]]);
    /// let over_backgrounds = grid.interactions(#{ index: "shapley" });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn interactions(grid: &mut GridHandle, options: Map) -> ScriptResult<Map> {
        let Interactions { sets, values, crossovers } = read(grid.get(), options)?;
        let mean = |values: &tch::Tensor| -> Result<Tensor> {
            Ok(Tensor::new(values.f_mean_dim(1, false, tch::Kind::Double)?))
        };
        let mut found = map! {
            "sets" => sets.iter().map(set_value).collect::<rhai::Array>(),
            "mean" => mean(&values)?,
            "values" => Tensor::new(values),
        };
        if let Some(crossovers) = crossovers {
            found.insert("crossovers".into(), Dynamic::from(mean(&crossovers)?));
        }
        Ok(found)
    }
}
