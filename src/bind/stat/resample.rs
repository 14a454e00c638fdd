//! Tests and intervals by resampling.

use rhai::plugin::*;
use rhai::{Array, Map};

use super::cluster::clusters;
use super::hypothesis::alternative;
use super::{count, rows, sample, with_p};
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::stat::bootstrap::{self, Interval, Method};
use crate::stat::max_t::{self, MaxT};
use crate::stat::{cluster, permutation};

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

/// Takes the option `key`, a number of draws.
fn draws(options: &mut Options, key: &'static str, usual: usize) -> Result<usize> {
    options.integer(key)?.map_or(Ok(usual), |number| count(&format!("`{key}`"), number))
}

/// Takes the options of an interval: `level`, `n_resamples`, `method` and `seed`.
pub fn bootstrap_settings(options: &mut Options) -> Result<bootstrap::Settings> {
    let usual = bootstrap::Settings::default();
    Ok(bootstrap::Settings {
        level: options.number("level")?.unwrap_or(usual.level),
        n_resamples: draws(options, "n_resamples", usual.n_resamples)?,
        method: options.string("method")?.map_or(Ok(usual.method), |name| Method::parse(&name))?,
        seed: seed(options)?,
    })
}

fn permutation_settings(options: &mut Options) -> Result<permutation::Settings> {
    let usual = permutation::Settings::default();
    Ok(permutation::Settings {
        n_resamples: draws(options, "n_resamples", usual.n_resamples)?,
        seed: seed(options)?,
        paired: options.boolean("paired")?.unwrap_or(usual.paired),
        alternative: alternative(options)?,
    })
}

/// Takes the options of `max_t` but the clusters.
fn max_t_settings(options: &mut Options) -> Result<max_t::Settings> {
    let usual = max_t::Settings::default();
    Ok(max_t::Settings {
        permutations: draws(options, "permutations", usual.permutations)?,
        seed: seed(options)?,
        alternative: alternative(options)?,
    })
}

/// Takes the option `seed`.
pub fn seed(options: &mut Options) -> Result<u64> {
    Ok(options.integer("seed")?.map_or(Ok(0), |seed| count("`seed`", seed))? as u64)
}

#[export_module(manifest)]
mod functions {
    /// Bootstrap confidence interval of the mean or the median.
    ///
    /// `x` is an array of numbers (or booleans, as 1 and 0) or a tensor of one dimension. Gives `#{low, high, estimate,
    /// standard_error}`. Numbers that are all equal give an interval without width.
    ///
    /// Options:
    /// - `level`: 0.95 by default
    /// - `statistic`: `"mean"` (default) or `"median"`
    /// - `method`: `"BCa"` (default; bias-corrected and accelerated), `"percentile"` or `"basic"`
    /// - `n_resamples`: 9999 by default, at most 1,000,000; `seed`: 0 by default, and one seed gives one result
    ///
    /// # Example
    /// ```rhai
    /// let interval = stats::bootstrap_ci([0.2, 0.5, 0.1, 0.9, 0.4], #{ level: 0.9, n_resamples: 2000 });
    /// assert(interval.low < interval.estimate && interval.estimate < interval.high);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn bootstrap_ci(x: Dynamic, options: Map) -> ScriptResult<Map> {
        let (settings, of_median) = Options::read("bootstrap_ci", options, |options| {
            let of_median = options.choice("statistic", &[("mean", false), ("median", true)])?;
            Ok((bootstrap_settings(options)?, of_median.unwrap_or(false)))
        })?;
        let x = sample("`x` of `bootstrap_ci`", &x)?;
        Ok(interval_map(match of_median {
            true => bootstrap::median_interval(&x, settings)?,
            false => bootstrap::means(&[x], settings)?.swap_remove(0),
        }))
    }

    /// Permutation test: whether two samples come from one distribution, by the difference of their means.
    ///
    /// `a` and `b` are arrays of numbers or tensors of one dimension. Gives `#{statistic, p, log10_p, n_resamples,
    /// exact}`: the mean of `a` less that of `b`, and how many permutations were taken. `exact` says that those were
    /// all there are; otherwise the observed one is counted among them, so `p` is never 0.
    ///
    /// Options:
    /// - `paired`: `true` swaps the members of pairs; by default all numbers are dealt out anew
    /// - `alternative`: `"two-sided"` (default), `"less"` or `"greater"` (the mean of `a`)
    /// - `n_resamples`: 9999 by default; `seed`: 0 by default
    ///
    /// # Example
    /// ```rhai
    /// let test = stats::permutation_test([1, 2, 3], [7, 8, 9]);
    /// assert(test.exact && test.n_resamples == 20 && test.p == 0.1);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn permutation_test(a: Dynamic, b: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let settings = Options::read("permutation_test", options, permutation_settings)?;
            let (a, b) = (sample("`a` of `permutation_test`", &a)?, sample("`b` of `permutation_test`", &b)?);
            permutation::permutation_test(&a, &b, settings)
        };
        let map = |found: permutation::Permutation| {
            let fields = map! {
                "statistic" => found.statistic,
                "n_resamples" => found.n_resamples as i64,
                "exact" => found.exact,
            };
            with_p(fields, found.p)
        };
        Ok(run().map(map)?)
    }

    /// Tests of several paired hypotheses at once, by sign flips and the largest t of all hypotheses.
    ///
    /// `x` is a tensor [hypothesis, sample] (or an array of rows) of paired differences, such as the interaction of
    /// each pair of layers on each sample. A permutation flips the signs of whole samples, over all hypotheses
    /// together, so the tests keep the correlation between hypotheses and lose less than Holm's correction where they
    /// are correlated (Westfall and Young 1993). Exact if, where a hypothesis is true, differences are symmetric around
    /// 0; it is not for skewed ones.
    ///
    /// Gives a map, with an array by hypothesis in
    /// - `t`: the t statistic of its mean against 0; NaN, with p-values of 1, where all its differences are 0
    /// - `p`: its p-value alone, by the same sign flips
    /// - `single_step`: its p-value by the largest t of all hypotheses
    /// - `step_down`: its p-value by the largest t of those hypotheses that are no more extreme. It is never above
    ///   `single_step`, and also holds the probability of any false rejection at its level
    ///
    /// and `permutations`, how many were taken, and `exact`, whether those were all there are. Otherwise the observed
    /// one is counted among them, so no p-value is 0.
    ///
    /// Options:
    /// - `alternative`: `"two-sided"` (default), `"less"` or `"greater"`
    /// - `clusters`: a label for each sample, its task or phrasing: whole clusters are flipped, and `t` is that of the
    ///   clusters' means, as in `cluster_ttest`
    /// - `permutations`: 10,000 by default; `seed`: 0 by default
    ///
    /// # Example
    /// ```rhai
    /// let x = [[1.1, 0.9, 1.3, 0.8, 1.0, 1.2], [0.3, -0.2, 0.1, -0.4, 0.2, 0.0]];
    /// let test = stats::max_t(x);
    /// assert(test.exact && test.permutations == 64);
    /// assert(test.step_down[0] == 2.0 / 64.0 && test.step_down[1] > 0.05);
    /// ```
    #[rhai_fn(name = "max_t", return_raw)]
    pub fn max_t_test(x: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let (settings, labels) =
                Options::read("max_t", options, |options| Ok((max_t_settings(options)?, options.any("clusters"))))?;
            let mut rows = rows("`x` of `max_t`", &x)?;
            if let Some(labels) = labels {
                let clusters = clusters("max_t", &labels)?;
                rows = rows.iter().map(|row| cluster::means("max_t", row, &clusters)).collect::<Result<_>>()?;
            }
            max_t::max_t(&rows, settings)
        };
        Ok(run().map(max_t_map)?)
    }
}

fn max_t_map(found: MaxT) -> Map {
    let array = |values: Vec<f64>| values.into_iter().map(Dynamic::from).collect::<Array>();
    map! {
        "t" => array(found.t),
        "p" => array(found.p),
        "single_step" => array(found.single_step),
        "step_down" => array(found.step_down),
        "permutations" => found.permutations as i64,
        "exact" => found.exact,
    }
}

/// An interval as a map.
pub fn interval_map(interval: Interval) -> Map {
    map! {
        "low" => interval.low,
        "high" => interval.high,
        "estimate" => interval.estimate,
        "standard_error" => interval.standard_error,
    }
}
