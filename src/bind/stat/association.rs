//! Summaries, effect sizes and correlations.

use rhai::Map;
use rhai::plugin::*;

use super::hypothesis::alternative;
use super::{elements, items, sample, with_p};
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::module;
use crate::bind::option::Options;
use crate::bind::tensor::convert::tensor;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::stat::correlation::{self, Correlation};
use crate::stat::probability::{Alternative, Method};
use crate::stat::{effect, overlap, summary};
use crate::tensor::Tensor;
use crate::tensor::element::Elements;

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

fn correlation_map(found: Correlation) -> Map {
    with_p(map! { "r" => found.r, "n" => found.n as i64 }, found.p)
}

fn pair(function: &str, x: &Dynamic, y: &Dynamic) -> Result<(Vec<f64>, Vec<f64>)> {
    Ok((sample(&format!("`x` of `{function}`"), x)?, sample(&format!("`y` of `{function}`"), y)?))
}

/// Pearson's correlations of tensors of one shape over dimension `dim`.
fn pearsonr_along(x: &Dynamic, y: &Dynamic, dim: i64, alternative: Alternative) -> Result<Map> {
    let (x, y) = (tensor("`x` of `pearsonr`", x)?, tensor("`y` of `pearsonr`", y)?);
    let mut shape = x.shape();
    if shape != y.shape() {
        return Err(Error::new(format!(
            "`pearsonr` along a dimension needs tensors of one shape, not {shape:?} and {:?}",
            y.shape()
        )));
    }
    let place = usize::try_from(if dim < 0 { dim + shape.len() as i64 } else { dim });
    let place = place.ok().filter(|place| *place < shape.len()).ok_or_else(|| {
        Error::new(format!("`pearsonr` has no dimension {dim} to correlate over in the shape {shape:?}"))
    })?;
    let mut order: Vec<i64> = (0..shape.len() as i64).filter(|other| *other != place as i64).collect();
    order.push(place as i64);
    let width = shape.remove(place) as usize;
    if width < 2 {
        return Err(Error::new(format!("`pearsonr` needs at least 2 pairs, but dimension {dim} has {width}")));
    }
    let (x, y) = (elements(&x.permute(&order)?)?, elements(&y.permute(&order)?)?);
    let found = correlation::pearson_rows(x.chunks_exact(width), y.chunks_exact(width), alternative)?;
    let shaped = |value: fn(&Correlation) -> f64| -> Result<Dynamic> {
        let values = Elements::Floats(found.iter().map(value).collect());
        let tensor = Tensor::from_elements(&values, &shape, Some(tch::Kind::Double), tch::Device::Cpu)?;
        Ok(Dynamic::from(tensor))
    };
    Ok(map! {
        "r" => shaped(|found| found.r)?,
        "n" => width as i64,
        "p" => shaped(|found| found.p.value())?,
        "log10_p" => shaped(|found| found.p.log10())?,
    })
}

#[export_module(manifest)]
mod functions {
    /// Summarizes a sample: `n`, `mean`, `std`, `standard_error`, `min`, `q1`, `median`, `q3`, `max`, `skewness`,
    /// `kurtosis`.
    ///
    /// `x` is an array of numbers or a tensor of one dimension. `std` divides by n - 1; `standard_error` is that of the
    /// mean; skewness and kurtosis (0 for normal numbers) are not corrected for bias.
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
        Ok(map! {
            "n" => found.n as i64,
            "mean" => found.mean,
            "std" => found.std,
            "standard_error" => found.standard_error,
            "min" => min,
            "q1" => q1,
            "median" => median,
            "q3" => q3,
            "max" => max,
            "skewness" => found.skewness,
            "kurtosis" => found.kurtosis,
        })
    }

    /// Cohen's d: the mean over the standard deviation, or the difference of two means over the pooled standard
    /// deviation.
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

    /// Cohen's d: the mean over the standard deviation, or the difference of two means over the pooled standard
    /// deviation.
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
    ///
    /// `x` and `y` are arrays of numbers or tensors of one dimension, of one length, at least 2. Gives `#{r, n, p,
    /// log10_p}`. The correlation with a constant is undefined: `r` and `p` are NaN then. Two pairs lie on a line: `r`
    /// is 1 or -1 and `p` is 1.
    ///
    /// Options:
    /// - `alternative`: `"two-sided"` (default), `"less"` or `"greater"`
    /// - `dim`: for tensors of one shape, the dimension over which to correlate. `r`, `p` and `log10_p` are tensors of
    ///   the shape without it
    ///
    /// # Example
    /// ```rhai
    /// assert(stats::pearsonr([1, 2, 3, 4], [1.1, 1.9, 3.2, 3.9]).r > 0.99);
    /// let heads = tensor([[0.1, 0.5, 0.3], [0.0, 0.0, 0.0]]);
    /// let r = stats::pearsonr(heads, heads, #{ dim: -1 }).r;
    /// assert((r[0].item() - 1.0).abs() < 1e-6 && r[1].isnan().item());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn pearsonr(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Map> {
        let (alternative, dim) =
            Options::read("pearsonr", options, |options| Ok((alternative(options)?, options.integer("dim")?)))?;
        if let Some(dim) = dim {
            return Ok(pearsonr_along(&x, &y, dim, alternative)?);
        }
        let (x, y) = pair("pearsonr", &x, &y)?;
        Ok(correlation_map(correlation::pearson(&x, &y, alternative)?))
    }

    /// Spearman's rank correlation of paired numbers, and whether it differs from 0.
    ///
    /// `x` and `y` are arrays of numbers or tensors of one dimension, of one length, at least 3. Gives
    /// `#{r, n, p, log10_p}`; `r` and `p` are NaN where one of them is constant.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::spearmanr([1, 2, 3, 4], [1, 4, 9, 16]).r, 1.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn spearmanr(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let alternative = Options::read("spearmanr", options, alternative)?;
            let (x, y) = pair("spearmanr", &x, &y)?;
            correlation::spearman(&x, &y, alternative)
        };
        Ok(run().map(correlation_map)?)
    }

    /// Kendall's rank correlation (tau-b) of paired numbers, and whether it differs from 0.
    ///
    /// `x` and `y` are arrays of numbers or tensors of one dimension, of one length, at least 3. Gives
    /// `#{r, n, p, log10_p}`; `r` and `p` are NaN where one of them is constant.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`; `method`: `"exact"` (without ties, up
    /// to 170 pairs), `"asymptotic"`, or `"auto"` (default): exact up to 33 pairs without ties.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::kendalltau([1, 2, 3, 4], [2, 4, 6, 8]).r, 1.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn kendalltau(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let (method, alternative) = Options::read("kendalltau", options, |options| {
                let method = options.string("method")?.map_or(Ok(Method::default()), |name| Method::parse(&name))?;
                Ok((method, alternative(options)?))
            })?;
            let (x, y) = pair("kendalltau", &x, &y)?;
            correlation::kendall(&x, &y, method, alternative)
        };
        Ok(run().map(correlation_map)?)
    }

    /// Jaccard's index of two sets: the share of the items in either that are in both, from 0 to 1.
    ///
    /// `a` and `b` are arrays of integers, strings or arrays of these (such as `[layer, head]`), or integer tensors of
    /// one dimension. An item that is there twice counts once. Two empty sets have no index: an error.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::jaccard([[0, 1], [2, 3]], [[2, 3], [5, 0], [0, 1], [7, 7]]), 0.5);
    /// assert_eq(stats::jaccard(tensor([4.0, 1.0, 3.0]).topk(2).indices, [0]), 0.5);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn jaccard(a: Dynamic, b: Dynamic) -> ScriptResult<f64> {
        let run = || overlap::jaccard(&items("`a` of `jaccard`", &a)?, &items("`b` of `jaccard`", &b)?);
        Ok(run()?)
    }
}
