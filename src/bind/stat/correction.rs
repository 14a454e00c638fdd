//! Corrections for the number of tests.

use rhai::plugin::*;
use rhai::{Array, Map};

use super::sample;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::stat::correction::{self, Scale};

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

fn correct(
    function: &'static str,
    ps: &Dynamic,
    options: Map,
    method: fn(&[f64], Scale) -> Result<Vec<f64>>,
) -> ScriptResult<Array> {
    let run = || {
        let log10 = Options::read(function, options, |options| options.boolean("log10"))?;
        let scale = if log10.unwrap_or(false) { Scale::Log10 } else { Scale::Linear };
        let ps = sample(&format!("`ps` of `{function}`"), ps)?;
        method(&ps, scale).map_err(|error| match scale {
            Scale::Linear if ps.iter().any(|p| *p < 0.0) => error.hint("for logarithms, say `log10: true`"),
            _ => error,
        })
    };
    Ok(run().map(|adjusted| adjusted.into_iter().map(Dynamic::from).collect())?)
}

#[export_module(manifest)]
mod functions {
    /// Holm's adjusted p-values: what is at most 0.05 keeps the chance of any false finding below 5%.
    ///
    /// `ps` is an array of p-values or a tensor of one dimension; the result is an array in the same order.
    ///
    /// Options: `log10`: `true` takes and gives decimal logarithms, for p-values below the smallest float.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::holm([0.5, 0.125, 0.25]), [0.5, 0.375, 0.5]);
    /// assert(stats::holm([-400.0, -2.0], #{ log10: true })[0] < -399.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn holm(ps: Dynamic, options: Map) -> ScriptResult<Array> {
        correct("holm", &ps, options, correction::holm)
    }

    /// Benjamini and Hochberg's adjusted p-values: of what is at most 0.05, no more than 5% are false findings on
    /// average.
    ///
    /// `ps` is an array of p-values or a tensor of one dimension; the result is an array in the same order.
    ///
    /// Options: `log10`: `true` takes and gives decimal logarithms, for p-values below the smallest float.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(stats::benjamini_hochberg([0.5, 0.125, 0.25]), [0.5, 0.375, 0.375]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn benjamini_hochberg(ps: Dynamic, options: Map) -> ScriptResult<Array> {
        correct("benjamini_hochberg", &ps, options, correction::benjamini_hochberg)
    }
}
