//! The interactions of a grid in scripts.

use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::grid::{GridHandle, set_value};
use super::hooks::{Caller, with_hooks};
use super::metric;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::anova::{self, Settings};
use crate::grid::interaction::{self, Against, Index, Interactions, Null};
use crate::grid::metric::{Asked, Metric};
use crate::tensor::Tensor;

fn found(grid: &GridHandle, caller: &Caller<'_>, options: Map) -> Result<Interactions> {
    Options::read("interactions", options, |options| {
        let nulls = [
            ("additive", Null::Additive),
            ("maximum", Null::Maximum),
            ("bliss", Null::Bliss),
            ("frozen", Null::Frozen),
        ];
        let null = options.choice("null", &nulls)?.unwrap_or(Null::Additive);
        let indexes =
            [("mobius", Index::Mobius), ("shapley", Index::Shapley), ("shapley_taylor", Index::ShapleyTaylor)];
        let index = options.choice("index", &indexes)?.unwrap_or(Index::Mobius);
        let asked = match options.any("metric") {
            Some(metric) => metric::asked(&metric)?,
            None if null == Null::Bliss => Asked::plain(Metric::Probability),
            None => Asked::plain(Metric::LogProbability),
        };
        let order = options.integer("order")?.unwrap_or(2);
        let order =
            usize::try_from(order).map_err(|_| Error::new(format!("there is no order {order}")).hint("2 or 3"))?;
        let frozen = if null == Null::Frozen { Some(grid.frozen(caller)?) } else { None };
        interaction::interactions(grid.get(), order, asked, Against { null, frozen }, index)
    })
}

fn settings(options: &mut Options) -> Result<(Asked, Settings)> {
    let usual = Asked::plain(Metric::LogProbability);
    let asked = options.any("metric").map_or(Ok(usual), |metric| metric::asked(&metric))?;
    let order = options.integer("order")?.unwrap_or(3);
    let order =
        usize::try_from(order).map_err(|_| Error::new(format!("there is no order {order}")).hint("1 or more"))?;
    let resamples = options.integer("n_resamples")?.unwrap_or(500).max(0) as usize;
    let level = options.number("level")?.unwrap_or(0.95);
    Ok((asked, Settings { order, resamples, level, seed: options.integer("seed")?.unwrap_or(0) as u64 }))
}

#[export_module(manifest)]
pub mod functions {
    /// What the sets of a grid do beyond what their parts do: `#{ sets, values, mean, crossovers }`.
    ///
    /// `sets` are the grid's sets of `order` places, `values` their interactions [set, sample], `mean` is over samples
    /// [set]. `crossovers`, for pairs, is the share of samples [set] where the effect of one place changes its sign when
    /// the other is patched: an interaction without any can be removed by another scale. Values are against the run that is
    /// patched, without a patch. Options:
    /// - `order`: 2 by default, or 3; the grid must have all sets within (`sizes: [1, 2, 3]`)
    /// - `metric`: `"log_probability"` by default, or a metric of the grid as `effect` takes it
    /// - `null`: what a set is held against. `"additive"` (default): the sum of its parts, eps(i, j) = v(ij) - v(i) - v(j) +
    ///   v(0), the Möbius coefficient. `"maximum"`: the most that one of the sets within does, which overwriting gives.
    ///   `"bliss"`: independent gains of probability, 1 - (1 - p_i)(1 - p_j). `"frozen"`: the same coefficient in the linear
    ///   map frozen at each sample's run, where a patch only overwrites what an earlier one did: what is left is due to
    ///   attention, norms and slopes that the patches move. Computed once for a grid of `resid_post`, and stored
    /// - `index`: `"mobius"` (default), the interaction where nothing else is patched; `"shapley"`, its mean over all
    ///   backgrounds (Grabisch and Roubens 1999); `"shapley_taylor"`, where all orders up to this one add up to the
    ///   effect of all places (Sundararajan et al. 2020). The last two need all sets of the grid's places: `elements`
    ///
    /// # Errors
    /// A grid without the sets within; `"bliss"` of another metric than the probability, or of noising; `"maximum"` of a
    /// function, which does not say whether more is better.
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
    pub fn interactions(context: NativeCallContext, grid: &mut GridHandle, options: Map) -> ScriptResult<Map> {
        let Interactions { sets, values, crossovers } = with_hooks(&context, |caller| found(grid, caller, options))?;
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

    /// The functional ANOVA of a grid over random sets: how much of the variance over sets each order of interaction has.
    ///
    /// Over sets that have each place by an even chance, order 1 is what single places do on average over all backgrounds,
    /// order 2 what pairs add, and so on. The grid's `sizes` are `"random"`, or all sizes of a few `elements`. Returns `#{
    /// orders, share, low, high, rest, variance, exact }`: `share` of the mean variance over samples and the ends of its
    /// interval, one number per order; `rest`, of the orders above, with `low` and `high`; `variance` over sets [sample].
    /// From random sets, shares are estimates without bias, so that a small one may be below 0. Options:
    /// - `metric`: `"log_probability"` by default, or a metric of the grid as `effect` takes it
    /// - `order`: the highest order, 3 by default
    /// - `n_resamples` (500), `level` (0.95), `seed`: of the percentile bootstrap over samples and drawn sets
    ///
    /// # Errors
    /// Sets that are neither random nor all there are; a metric that no set changes.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let grid = model.patch_grid(#{
    ///     source: "; short, shorter; loud, louder", target: ["; big,"], answer: [" bigger"],
    ///     sizes: "random", subsets: 60, quiet: true, store: false,
    /// });
    /// print(grid.anova(#{ order: 2, n_resamples: 50 }).share);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn anova(grid: &mut GridHandle, options: Map) -> ScriptResult<Map> {
        let (asked, settings) = Options::read("anova", options, settings)?;
        let found = anova::anova(grid.get(), asked, settings)?;
        let numbers = |numbers: &[f64]| -> rhai::Array { numbers.iter().copied().map(Dynamic::from).collect() };
        let (low, high): (Vec<f64>, Vec<f64>) = found.interval.iter().copied().unzip();
        let order = settings.order;
        Ok(map! {
            "orders" => (1..=order as i64).map(Dynamic::from).collect::<rhai::Array>(),
            "share" => numbers(&found.share[..order]),
            "low" => numbers(&low[..order]),
            "high" => numbers(&high[..order]),
            "rest" => map! { "share" => found.share[order], "low" => low[order], "high" => high[order] },
            "variance" => Tensor::new(found.variance),
            "exact" => found.is_exact,
        })
    }
}
