//! Tests and intervals of numbers in clusters.

use rhai::Map;
use rhai::plugin::*;

use super::hypothesis::{alternative, ttest_map};
use super::resample::{bootstrap_settings, interval_map};
use super::{labels, sample};
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::stat::{bootstrap, cluster};

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

/// The cluster of each sample, counted from 0.
pub fn clusters(function: &str, value: &Dynamic) -> Result<Vec<usize>> {
    Ok(labels(&format!("`clusters` of `{function}`"), value)?.0)
}

#[export_module(manifest)]
mod functions {
    /// T-test over clusters: whether the mean of the clusters' means is 0.
    ///
    /// Use this where samples are not independent of each other, such as the prompts of one task or of one phrasing:
    /// each cluster counts as one number. `x` is an array of numbers or a tensor of one dimension, and `clusters` has a
    /// label (an integer or a string) for each. Gives `#{mean, n_clusters, t, df, p, log10_p}`: the mean of the
    /// clusters' means, and what `ttest_1samp` says of those against 0.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// let x = [1.0, 1.2, 0.9, 1.1, 3.0, 3.1, 2.0];
    /// let test = stats::cluster_ttest(x, ["a", "a", "a", "a", "b", "b", "c"]);
    /// assert(test.n_clusters == 3 && test.df == 2.0);
    /// assert(test.p > stats::ttest_1samp(x, 0.0).p);
    /// ```
    #[rhai_fn(name = "cluster_ttest", return_raw)]
    pub fn ttest(x: Dynamic, clusters: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let alternative = Options::read("cluster_ttest", options, alternative)?;
            let clusters = super::clusters("cluster_ttest", &clusters)?;
            cluster::ttest(&sample("`x` of `cluster_ttest`", &x)?, &clusters, alternative)
        };
        let map = |found: cluster::ClusterTTest| {
            let mut map = ttest_map(found.test);
            map.extend(map! { "mean" => found.mean, "n_clusters" => found.clusters as i64 });
            map
        };
        Ok(run().map(map)?)
    }

    /// Bootstrap confidence interval of the mean of numbers in clusters, by resampling whole clusters.
    ///
    /// `x` is an array of numbers or a tensor of one dimension, and `clusters` has a label (an integer or a string) for
    /// each: its task or phrasing. Gives `#{low, high, estimate, standard_error}`. The estimate is the mean of all
    /// numbers, so a larger cluster weighs more, unlike in `cluster_ttest`. With fewer than about 20 clusters, such
    /// intervals are too narrow (Cameron, Gelbach and Miller 2008).
    ///
    /// Options, as those of `bootstrap_ci`:
    /// - `level`: 0.95 by default
    /// - `method`: `"BCa"` (default; bias-corrected and accelerated), `"percentile"` or `"basic"`
    /// - `n_resamples`: 9999 by default, at most 1,000,000; `seed`: 0 by default
    ///
    /// # Example
    /// ```rhai
    /// let x = [1.0, 1.2, 0.9, 3.0, 3.1, 2.9, 2.0, 2.1, 1.9];
    /// let options = #{ n_resamples: 2000 };
    /// let of_tasks = stats::cluster_bootstrap_ci(x, ["a", "a", "a", "b", "b", "b", "c", "c", "c"], options);
    /// assert(of_tasks.standard_error > stats::bootstrap_ci(x, options).standard_error);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cluster_bootstrap_ci(x: Dynamic, clusters: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let settings = Options::read("cluster_bootstrap_ci", options, bootstrap_settings)?;
            let clusters = super::clusters("cluster_bootstrap_ci", &clusters)?;
            bootstrap::cluster_mean(&sample("`x` of `cluster_bootstrap_ci`", &x)?, &clusters, settings)
        };
        Ok(run().map(interval_map)?)
    }
}
