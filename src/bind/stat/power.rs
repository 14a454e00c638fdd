//! The power of t-tests.

use rhai::Map;
use rhai::plugin::*;

use super::count;
use super::hypothesis::{alternative, number};
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::stat::power::{self, Settings};

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

fn settings(options: &mut Options) -> Result<Settings> {
    let alpha = options.number("alpha")?.unwrap_or(Settings::default().alpha);
    Ok(Settings { alpha, alternative: alternative(options)? })
}

#[export_module(manifest)]
mod functions {
    /// The power of a one-sample or paired t-test: the probability that it rejects.
    ///
    /// `effect_size` is the mean over the standard deviation (of the differences, if paired), as `cohens_d` estimates,
    /// and `n` the number of samples or pairs. By the noncentral t distribution (Cohen 1988), for normal numbers.
    ///
    /// Options: `alpha`: 0.05 by default; `alternative`: `"two-sided"` (default), `"less"` or `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(fmt(stats::ttest_power(0.5, 34), ".4"), "0.8078");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ttest_power(effect_size: Dynamic, n: i64, options: Map) -> ScriptResult<f64> {
        let run = || {
            let settings = Options::read("ttest_power", options, settings)?;
            power::power(number("`effect_size` of `ttest_power`", &effect_size)?, count("`n`", n)? as u64, settings)
        };
        Ok(run()?)
    }

    /// The smallest number of samples with which a one-sample or paired t-test has at least a power.
    ///
    /// `effect_size` is the mean over the standard deviation, as for `ttest_power`. An effect size that no number of
    /// samples up to 10^12 finds is an error.
    ///
    /// Options: `power`: 0.8 by default; `alpha`: 0.05 by default; `alternative`: `"two-sided"` (default), `"less"` or
    /// `"greater"`.
    ///
    /// # Example
    /// ```rhai
    /// let n = stats::ttest_samples(0.5);
    /// assert(n == 34 && stats::ttest_power(0.5, n) >= 0.8 && stats::ttest_power(0.5, n - 1) < 0.8);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ttest_samples(effect_size: Dynamic, options: Map) -> ScriptResult<i64> {
        let run = || {
            let (wanted, settings) = Options::read("ttest_samples", options, |options| {
                Ok((options.number("power")?.unwrap_or(0.8), settings(options)?))
            })?;
            power::samples(number("`effect_size` of `ttest_samples`", &effect_size)?, wanted, settings)
        };
        Ok(run()? as i64)
    }
}
