//! Hypothesis tests.

use rhai::Map;
use rhai::plugin::*;

use super::{count, sample, with_p};
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::stat::equivalence::{self, Equivalence};
use crate::stat::probability::Alternative;
use crate::stat::probability::Method;
use crate::stat::ttest::{self, TTest};
use crate::stat::wilcoxon::{self, Settings, Zeros};
use crate::stat::{check_pairs, sign};

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

/// Takes the option `alternative`.
pub fn alternative(options: &mut Options) -> Result<Alternative> {
    options.string("alternative")?.map_or(Ok(Alternative::default()), |name| Alternative::parse(&name))
}

/// The result of a t-test as a map.
pub fn ttest_map(test: TTest) -> Map {
    with_p(map! { "t" => test.t, "df" => test.df }, test.p)
}

#[export_module(manifest)]
mod functions {
    /// One-sample t-test: whether the mean of the population is `popmean`.
    ///
    /// `x` is an array of numbers or a tensor of one dimension. Gives `#{t, df, p, log10_p}`. `log10_p` is the decimal
    /// logarithm of `p`, and a number also where `p` is below the smallest float and so 0. Numbers that are all equal
    /// give an infinite `t` with `p` 0 and `log10_p` `-inf`, or NaN if they equal `popmean`. Exact for normal numbers,
    /// and safe for symmetric ones; with few and skewed numbers it rejects too often.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// let test = stats::ttest_1samp([5.1, 4.9, 5.6, 5.3], 5.0, #{ alternative: "greater" });
    /// assert(test.p > 0.05 && test.df == 3.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ttest_1samp(x: Dynamic, popmean: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let alternative = Options::read("ttest_1samp", options, alternative)?;
            let mean = number("`popmean`", &popmean)?;
            ttest::one_sample(&sample("`x` of `ttest_1samp`", &x)?, mean, alternative)
        };
        Ok(run().map(ttest_map)?)
    }

    /// Paired t-test: whether two samples of the same subjects have the same mean.
    ///
    /// `a` and `b` are arrays of numbers or tensors of one dimension, of one length. Gives `#{t, df, p, log10_p}`, as
    /// `ttest_1samp` of their differences against 0.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"` (the mean of `a`).
    ///
    /// # Example
    /// ```rhai
    /// let test = stats::ttest_rel([5.1, 4.9, 5.6], [4.7, 4.8, 5.0]);
    /// assert(test.t > 0.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ttest_rel(a: Dynamic, b: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let alternative = Options::read("ttest_rel", options, alternative)?;
            let (a, b) = (sample("`a` of `ttest_rel`", &a)?, sample("`b` of `ttest_rel`", &b)?);
            ttest::related(&a, &b, alternative)
        };
        Ok(run().map(ttest_map)?)
    }

    /// T-test of two independent samples: whether they have the same mean.
    ///
    /// `a` and `b` are arrays of numbers or tensors of one dimension. Gives `#{t, df, p, log10_p}`.
    ///
    /// Options:
    /// - `equal_var`: `true` (default) for Student's test, `false` for Welch's, which holds for different variances
    /// - `alternative`: `"two-sided"` (default), `"less"` or `"greater"` (the mean of `a`)
    ///
    /// # Example
    /// ```rhai
    /// let test = stats::ttest_ind([1.0, 2.0, 3.0], [7.0, 9.0, 8.0, 6.0], #{ equal_var: false });
    /// assert(test.p < 0.01);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ttest_ind(a: Dynamic, b: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let (equal, alternative) = Options::read("ttest_ind", options, |options| {
                Ok((options.boolean("equal_var")?.unwrap_or(true), alternative(options)?))
            })?;
            let (a, b) = (sample("`a` of `ttest_ind`", &a)?, sample("`b` of `ttest_ind`", &b)?);
            ttest::independent(&a, &b, equal, alternative)
        };
        Ok(run().map(ttest_map)?)
    }

    /// Two one-sided t-tests: whether the mean of the population lies between `-margin` and `margin`.
    ///
    /// "No effect" needs this test: a t-test that does not reject may only have had too few samples. `x` is an array of
    /// numbers or a tensor of one dimension, such as paired differences; `margin`, in their unit, is the largest mean
    /// that would not matter, to be set before looking (Schuirmann 1987). As `ttest_1samp`, it rejects
    /// too often with few and skewed numbers. Gives
    /// - `p`, `log10_p`: the larger p-value of both tests, that of the mean being beyond the margin
    /// - `equivalent`: whether `p` is at most `alpha`
    /// - `mean`; `low`, `high`: its interval of level 1 - 2 alpha (90%), which lies within the margin where `equivalent`
    /// - `above`, `below`: the tests against `-margin` and `margin`, each `#{t, df, p, log10_p}`
    ///
    /// Options: `alpha`: 0.05 by default.
    ///
    /// # Example
    /// ```rhai
    /// let test = stats::tost([0.1, -0.2, 0.0, 0.1, -0.1, 0.2], 0.5);
    /// assert(test.equivalent && test.p < 0.01 && test.high < 0.5);
    /// let rows = [[0.1, -0.2, 0.0, 0.1], [0.9, 0.4, 0.1, 0.6]];
    /// assert(stats::holm(rows.map(|row| stats::tost(row, 0.5).p))[1] > 0.05);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn tost(x: Dynamic, margin: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let alpha = Options::read("tost", options, |options| Ok(options.number("alpha")?.unwrap_or(0.05)))?;
            equivalence::tost(&sample("`x` of `tost`", &x)?, number("`margin` of `tost`", &margin)?, alpha)
        };
        Ok(run().map(equivalence_map)?)
    }

    /// The published t-test of booleans against a population mean of 50.0, for comparison with the paper's tables.
    ///
    /// `booleans` is an array of booleans (or 0 and 1), or a tensor of one dimension. Gives `#{t, df, p, log10_p}`.
    /// This is what the paper's Tables 3 to 6 print, and not a sound test: booleans are 0 or 1 and their mean is never
    /// near 50, so `t` is near -1000 whatever they are. Where all agree, `t` is `-inf` and `p` is 0. `sign_test` and
    /// `binom_test` ask whether more than half are true.
    ///
    /// # Example
    /// ```rhai
    /// let booleans = [];
    /// for i in 0..100 { booleans.push(i < 60); }
    /// assert_eq(fmt(stats::paper_ttest(booleans).t, ".1"), "-1003.3");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn paper_ttest(booleans: Dynamic) -> ScriptResult<Map> {
        let run = || ttest::paper(&sample("`booleans` of `paper_ttest`", &booleans)?);
        Ok(run().map(ttest_map)?)
    }

    /// Exact sign test: whether the median of the population is 0, or `popmedian`.
    ///
    /// `x` is an array of numbers or a tensor of one dimension; numbers equal to the median are left out. Gives
    /// `#{positive, negative, n, p, log10_p}` with the counts above and below the median and their sum.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`; `popmedian`: 0 by default.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::sign_test([0.3, 1.2, 0.4, 2.0, 0.0]).p, 0.125);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn sign_test(x: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let (median, alternative) = Options::read("sign_test", options, |options| {
                Ok((options.number("popmedian")?.unwrap_or(0.0), alternative(options)?))
            })?;
            sign::sign_test(&sample("`x` of `sign_test`", &x)?, median, alternative)
        };
        Ok(run().map(sign_map)?)
    }

    /// Exact binomial test: whether `k` successes in `n` trials fit a probability of `p` each.
    ///
    /// Gives `#{share, p, log10_p}`, with the share of successes.
    ///
    /// Options: `alternative`: `"two-sided"` (default), `"less"` or `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::binom_test(9, 10, 0.5, #{ alternative: "greater" }).p, 11.0 / 1024.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn binom_test(k: i64, n: i64, p: Dynamic, options: Map) -> ScriptResult<Map> {
        let alternative = Options::read("binom_test", options, alternative)?;
        let (successes, trials) = (count("`k`", k)?, count("`n`", n)?);
        let share = number("`p`", &p)?;
        let p = sign::binomial_test(successes as u64, trials as u64, share, alternative)?;
        Ok(with_p(map! { "share" => successes as f64 / trials as f64 }, p))
    }

    /// Wilcoxon's signed-rank test: whether differences are symmetric around zero.
    #[rhai_fn(return_raw)]
    pub fn wilcoxon(x: Dynamic) -> ScriptResult<Map> {
        wilcoxon_with(x, Dynamic::UNIT, Map::new())
    }

    /// Wilcoxon's signed-rank test: whether differences are symmetric around zero.
    #[rhai_fn(name = "wilcoxon", return_raw)]
    pub fn wilcoxon_of(x: Dynamic, y: Dynamic) -> ScriptResult<Map> {
        match y.clone().try_cast::<Map>() {
            Some(options) => wilcoxon_with(x, Dynamic::UNIT, options),
            None => wilcoxon_with(x, y, Map::new()),
        }
    }

    /// Wilcoxon's signed-rank test: whether differences are symmetric around zero.
    ///
    /// `x` holds the differences, or `x` and `y` the samples that they are between (arrays of numbers or tensors of one
    /// dimension); a map in place of `y` holds the options. Gives `#{statistic, n, p, log10_p}`: the sum of the ranks
    /// of positive differences, two-sided the smaller of that and the sum for negative ones; and the number of
    /// differences ranked. Where all differences are zero, the normal approximation has no variance and `p` is NaN,
    /// unless their ranks are split. As `scipy.stats.wilcoxon` 1.17.
    ///
    /// Options:
    /// - `alternative`: `"two-sided"` (default), `"less"` or `"greater"`
    /// - `method`: `"exact"` (up to 1000 numbers), `"asymptotic"` (also `"approx"`), or `"auto"` (default): exact up to
    ///   50 numbers without zeros and ties and up to 13 with them
    /// - `zero_method`: `"wilcox"` (default) leaves zeros out, `"pratt"` ranks them, `"zsplit"` splits their ranks
    /// - `correction`: `true` corrects the asymptotic test for continuity
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::wilcoxon([1, 2, 3, 4, 5]).p, 0.0625);
    /// assert_eq(stats::wilcoxon([3, 5, 8], [2, 3, 5], #{ alternative: "greater" }).p, 0.125);
    /// ```
    #[rhai_fn(name = "wilcoxon", return_raw)]
    pub fn wilcoxon_with(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Map> {
        let run = || {
            let mut differences = sample("`x` of `wilcoxon`", &x)?;
            if !y.is_unit() {
                let other = sample("`y` of `wilcoxon`", &y)?;
                check_pairs("wilcoxon", &differences, &other)?;
                differences.iter_mut().zip(other).for_each(|(x, y)| *x -= y);
            }
            wilcoxon::wilcoxon(&differences, Options::read("wilcoxon", options, wilcoxon_settings)?)
        };
        Ok(run().map(wilcoxon_map)?)
    }
}

fn equivalence_map(found: Equivalence) -> Map {
    let [low, high] = found.interval;
    let fields = map! {
        "equivalent" => found.equivalent,
        "mean" => found.mean,
        "low" => low,
        "high" => high,
        "above" => ttest_map(found.above),
        "below" => ttest_map(found.below),
    };
    with_p(fields, found.p)
}

fn wilcoxon_settings(options: &mut Options) -> Result<Settings> {
    Ok(Settings {
        alternative: alternative(options)?,
        method: options.string("method")?.map_or(Ok(Method::default()), |name| Method::parse(&name))?,
        zeros: options.string("zero_method")?.map_or(Ok(Zeros::default()), |name| Zeros::parse(&name))?,
        correction: options.boolean("correction")?.unwrap_or(false),
    })
}

/// The result of a sign test as a map.
pub fn sign_map(test: sign::SignTest) -> Map {
    let [positive, negative] = [test.positive as i64, test.negative as i64];
    with_p(map! { "positive" => positive, "negative" => negative, "n" => positive + negative }, test.p)
}

/// The result of a signed-rank test as a map.
pub fn wilcoxon_map(test: wilcoxon::Wilcoxon) -> Map {
    with_p(map! { "statistic" => test.statistic, "n" => test.n as i64 }, test.p)
}

/// A finite number.
pub fn number(what: &str, value: &Dynamic) -> Result<f64> {
    let number =
        crate::bind::convert::number(value).ok_or_else(|| crate::bind::convert::expected(what, "a number", value))?;
    match number.is_finite() {
        true => Ok(number),
        false => Err(Error::new(format!("{what} must be finite, not {number}"))),
    }
}
