//! Summaries, effect sizes and correlations.

use rhai::Map;
use rhai::plugin::*;

use super::hypothesis::alternative;
use super::{record, sample, with_p};
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::error::Result;
use crate::stat::correlation::{self, Correlation};
use crate::stat::probability::Method;
use crate::stat::{effect, summary};

pub fn module() -> Module {
    exported_module!(functions)
}

fn correlation_map(found: Correlation) -> Map {
    with_p(record([("r", found.r.into()), ("n", (found.n as i64).into())]), found.p)
}

fn pair(function: &str, x: &Dynamic, y: &Dynamic) -> Result<(Vec<f64>, Vec<f64>)> {
    Ok((sample(&format!("`x` of `{function}`"), x)?, sample(&format!("`y` of `{function}`"), y)?))
}

#[export_module]
mod functions {
    /// A sample in numbers: `n`, `mean`, `std`, `standard_error`, `min`, `q1`, `median`, `q3`, `max`, `skewness`, `kurtosis`.
    ///
    /// `x` is an array of numbers or a tensor of one dimension. `std` divides by n - 1; `standard_error` is that of the mean;
    /// skewness and kurtosis (0 for normal numbers) are not corrected for bias.
    ///
    /// # Example
    /// ```rhai
    /// let summary = stats::describe([1, 2, 3, 10]);
    /// assert(summary.mean == 4.0 && summary.median == 2.5 && summary.skewness > 0.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn describe(x: Dynamic) -> ScriptResult<Map> {
        let found = summary::describe(&sample("`x` of `describe`", &x)?)?;
        let [min, q1, median, q3, max] = found.quartiles;
        Ok(record([
            ("n", (found.n as i64).into()),
            ("mean", found.mean.into()),
            ("std", found.std.into()),
            ("standard_error", found.standard_error.into()),
            ("min", min.into()),
            ("q1", q1.into()),
            ("median", median.into()),
            ("q3", q3.into()),
            ("max", max.into()),
            ("skewness", found.skewness.into()),
            ("kurtosis", found.kurtosis.into()),
        ]))
    }

    /// Cohen's d: the mean over the standard deviation, or the difference of two means over the pooled standard deviation.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::cohens_d([1.0, 2.0, 3.0]), 2.0);
    /// assert_eq(stats::cohens_d([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), -1.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cohens_d(x: Dynamic) -> ScriptResult<f64> {
        Ok(sample("`x` of `cohens_d`", &x).and_then(|x| effect::cohens_d(&x, None))?)
    }

    /// Cohen's d: the mean over the standard deviation, or the difference of two means over the pooled standard deviation.
    #[rhai_fn(name = "cohens_d", return_raw)]
    pub fn cohens_d_between(x: Dynamic, y: Dynamic) -> ScriptResult<f64> {
        Ok(pair("cohens_d", &x, &y).and_then(|(x, y)| effect::cohens_d(&x, Some(&y)))?)
    }

    /// Hedges's g: Cohen's d without its bias in small samples.
    ///
    /// # Example
    /// ```rhai
    /// assert(stats::hedges_g([1.0, 2.0, 3.0, 4.0]) < stats::cohens_d([1.0, 2.0, 3.0, 4.0]));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn hedges_g(x: Dynamic) -> ScriptResult<f64> {
        Ok(sample("`x` of `hedges_g`", &x).and_then(|x| effect::hedges_g(&x, None))?)
    }

    /// Hedges's g: Cohen's d without its bias in small samples.
    #[rhai_fn(name = "hedges_g", return_raw)]
    pub fn hedges_g_between(x: Dynamic, y: Dynamic) -> ScriptResult<f64> {
        Ok(pair("hedges_g", &x, &y).and_then(|(x, y)| effect::hedges_g(&x, Some(&y)))?)
    }

    /// Cliff's delta: how much more often a number of `x` is larger than one of `y` than smaller, from -1 to 1.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::cliffs_delta([3, 4], [1, 2]), 1.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cliffs_delta(x: Dynamic, y: Dynamic) -> ScriptResult<f64> {
        Ok(pair("cliffs_delta", &x, &y).and_then(|(x, y)| effect::cliffs_delta(&x, &y))?)
    }

    /// Pearson's correlation of paired numbers, and whether it differs from 0.
    #[rhai_fn(return_raw)]
    pub fn pearsonr(x: Dynamic, y: Dynamic) -> ScriptResult<Map> {
        pearsonr_with(x, y, Map::new())
    }

    /// Pearson's correlation of paired numbers, and whether it differs from 0.
    ///
    /// `x` and `y` are arrays of numbers or tensors of one dimension, of one length, at least 3. Gives `#{r, n, p, log10_p}`.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// assert(stats::pearsonr([1, 2, 3, 4], [1.1, 1.9, 3.2, 3.9]).r > 0.99);
    /// ```
    #[rhai_fn(name = "pearsonr", return_raw)]
    pub fn pearsonr_with(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let mut options = Options::new("pearsonr", options, &["alternative"])?;
            let (x, y) = pair("pearsonr", &x, &y)?;
            correlation::pearson(&x, &y, alternative(&mut options)?)
        };
        Ok(run().map(correlation_map)?)
    }

    /// Spearman's rank correlation of paired numbers, and whether it differs from 0.
    #[rhai_fn(return_raw)]
    pub fn spearmanr(x: Dynamic, y: Dynamic) -> ScriptResult<Map> {
        spearmanr_with(x, y, Map::new())
    }

    /// Spearman's rank correlation of paired numbers, and whether it differs from 0.
    ///
    /// `x` and `y` are arrays of numbers or tensors of one dimension, of one length, at least 3. Gives `#{r, n, p, log10_p}`.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::spearmanr([1, 2, 3, 4], [1, 4, 9, 16]).r, 1.0);
    /// ```
    #[rhai_fn(name = "spearmanr", return_raw)]
    pub fn spearmanr_with(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let mut options = Options::new("spearmanr", options, &["alternative"])?;
            let (x, y) = pair("spearmanr", &x, &y)?;
            correlation::spearman(&x, &y, alternative(&mut options)?)
        };
        Ok(run().map(correlation_map)?)
    }

    /// Kendall's rank correlation (tau-b) of paired numbers, and whether it differs from 0.
    #[rhai_fn(return_raw)]
    pub fn kendalltau(x: Dynamic, y: Dynamic) -> ScriptResult<Map> {
        kendalltau_with(x, y, Map::new())
    }

    /// Kendall's rank correlation (tau-b) of paired numbers, and whether it differs from 0.
    ///
    /// `x` and `y` are arrays of numbers or tensors of one dimension, of one length, at least 3. Gives `#{r, n, p, log10_p}`.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`; `method`: `"exact"` (without ties, up to 170
    /// pairs), `"asymptotic"`, or `"auto"` (default): exact up to 33 pairs without ties.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::kendalltau([1, 2, 3, 4], [2, 4, 6, 8]).r, 1.0);
    /// ```
    #[rhai_fn(name = "kendalltau", return_raw)]
    pub fn kendalltau_with(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let mut options = Options::new("kendalltau", options, &["alternative", "method"])?;
            let (x, y) = pair("kendalltau", &x, &y)?;
            let method = options.string("method")?.map_or(Ok(Method::default()), |name| Method::parse(&name))?;
            correlation::kendall(&x, &y, method, alternative(&mut options)?)
        };
        Ok(run().map(correlation_map)?)
    }
}
