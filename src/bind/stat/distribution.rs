//! Distribution functions.

use rhai::plugin::*;

use super::count;
use super::hypothesis::number;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::stat::distribution;

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

fn degrees(df: &Dynamic) -> Result<f64> {
    let df = number("`df`", df)?;
    if df > 0.0 { Ok(df) } else { Err(Error::new(format!("degrees of freedom must be positive, not {df}"))) }
}

#[export_module(manifest)]
mod functions {
    /// The probability that a standard normal variable is at most `z`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::norm_cdf(0), 0.5);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn norm_cdf(z: Dynamic) -> ScriptResult<f64> {
        Ok(number("`z` of `norm_cdf`", &z).map(|z| distribution::normal_lower(z).value())?)
    }

    /// The probability that a standard normal variable is larger than `z`.
    #[rhai_fn(return_raw)]
    pub fn norm_sf(z: Dynamic) -> ScriptResult<f64> {
        Ok(number("`z` of `norm_sf`", &z).map(|z| distribution::normal_upper(z).value())?)
    }

    /// The number that a standard normal variable is at most with probability `p`, the inverse of `norm_cdf`.
    #[rhai_fn(return_raw)]
    pub fn norm_ppf(p: Dynamic) -> ScriptResult<f64> {
        Ok(number("`p` of `norm_ppf`", &p).and_then(distribution::normal_quantile)?)
    }

    /// The probability that Student's t with `df` degrees of freedom is larger than `t`.
    ///
    /// # Example
    /// ```rhai
    /// assert(stats::t_sf(50.0, 99) < 1e-70);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn t_sf(t: Dynamic, df: Dynamic) -> ScriptResult<f64> {
        Ok(distribution::t_upper(number("`t` of `t_sf`", &t)?, degrees(&df)?).value())
    }

    /// The probability that a chi-squared variable with `df` degrees of freedom is larger than `x`.
    #[rhai_fn(return_raw)]
    pub fn chi2_sf(x: Dynamic, df: Dynamic) -> ScriptResult<f64> {
        Ok(distribution::chi_squared_upper(number("`x` of `chi2_sf`", &x)?, degrees(&df)?)?)
    }

    /// The probability of more than `k` successes in `n` trials that succeed with probability `p` each.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::binom_sf(9, 10, 0.5), 1.0 / 1024.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn binom_sf(k: i64, n: i64, p: Dynamic) -> ScriptResult<f64> {
        let (more, trials, p) = (k.saturating_add(1).max(0) as u64, count("`n`", n)?, number("`p`", &p)?);
        distribution::check_probability(p)?;
        Ok(distribution::binomial_upper(more, trials as u64, p).value())
    }
}
