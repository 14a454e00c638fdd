//! Superadditivity of patches.

use rhai::plugin::*;
use rhai::{Array, Map};

use super::hypothesis::{sign_map, ttest_map, wilcoxon_map};
use super::resample::bootstrap_settings;
use super::{count, rows};
use crate::bind::convert::{expected, integers};
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::stat::superadditivity::{self, Corrected, Pair, RankBy, Settings};

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

#[export_module(manifest)]
mod functions {
    /// Whether patching two layers together does more than patching both alone, for every pair.
    ///
    /// `sets` is an array of sets of one or two layers, such as `[[0], [1], [0, 1]]`, and `effects` a tensor [set,
    /// sample] (or an array of rows) with the effect of patching each. The interaction of a pair on a sample is
    /// `effect({i, j}) - effect({i}) - effect({j})`. Pairs are ranked on one half of the samples, drawn by `seed`, and
    /// tested on the other, so that being picked does not count as evidence. Pairs whose interaction is exactly 0 on
    /// all samples are left out.
    ///
    /// Gives an array of maps, the highest-ranked pair first, all about the samples tested on:
    /// - `set`: the pair; `n`: the number of samples; `mean_effect`: of patching both
    /// - `mean`, `low`, `high`, `standard_error`: the mean interaction and its bootstrap confidence interval
    /// - `share_positive`: the share of samples with a positive interaction
    /// - `sign`, `wilcoxon`, `ttest`: the exact sign test, the signed-rank test and the t-test of the interaction
    ///   against 0. Each has its own fields, `p` and `log10_p`, and the p-values corrected over all pairs, reported or
    ///   not: `holm`, `benjamini_hochberg`, `log10_holm`, `log10_benjamini_hochberg`
    /// - `k`: on how many samples `effect({i, j}) >= effect({i}) + effect({j})`; `paper`: `#{t, df, p, log10_p,
    ///   share}`, what `paper_ttest` gives for those booleans, with the share of true ones (see its help: it is not a
    ///   sound test)
    ///
    /// Options:
    /// - `split`: `false` ranks and tests on all samples
    /// - `rank_by`: `"effect"` (default), the mean effect, or `"interaction"`, the mean interaction
    /// - `top`: how many pairs to report; all by default
    /// - `null_sets`: an array of pairs that the way of patching leaves without interaction of their own, to be left
    ///   out
    /// - `diagonal`: `true` counts a single layer as the pair of itself and itself, as the paper does
    /// - `level`, `n_resamples`, `method`, `seed`: as in `bootstrap_ci`
    ///
    /// # Example
    /// ```rhai
    /// let effects = [[0.1, 0.2, 0.1, 0.3], [0.0, 0.1, 0.1, 0.2], [0.5, 0.9, 0.4, 0.6]];
    /// let pairs = stats::superadditivity([[0], [1], [0, 1]], effects, #{ split: false, n_resamples: 500 });
    /// assert(pairs[0].set == [0, 1] && pairs[0].share_positive == 1.0 && pairs[0].sign.p == 0.125);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn superadditivity(sets: Array, effects: Dynamic, options: Map) -> ScriptResult<Array> {
        let run = || {
            let settings = Options::read("superadditivity", options, settings)?;
            let sets = layer_sets("`sets` of `superadditivity`", &sets)?;
            superadditivity::superadditivity(&sets, &rows("`effects` of `superadditivity`", &effects)?, &settings)
        };
        Ok(run().map(|pairs| pairs.iter().map(|pair| pair_map(pair).into()).collect())?)
    }
}

fn settings(options: &mut Options) -> Result<Settings> {
    let null_sets = options.array("null_sets")?.unwrap_or_default();
    let usual = Settings::default();
    Ok(Settings {
        bootstrap: bootstrap_settings(options)?,
        split: options.boolean("split")?.unwrap_or(usual.split),
        rank_by: options.string("rank_by")?.map_or(Ok(usual.rank_by), |name| RankBy::parse(&name))?,
        diagonal: options.boolean("diagonal")?.unwrap_or(usual.diagonal),
        top: options.integer("top")?.map(|top| count("`top`", top)).transpose()?,
        null_sets: layer_sets("option `null_sets` of `superadditivity`", &null_sets)?,
    })
}

fn layer_sets(what: &str, sets: &Array) -> Result<Vec<Vec<i64>>> {
    let set = |set: &Dynamic| {
        let wanted = || expected(&format!("each item of {what}"), "an array of layers", set);
        let layers = set.as_array_ref().map_err(|_| wanted())?;
        integers(&format!("each set in {what}"), &layers)
    };
    sets.iter().map(set).collect()
}

fn pair_map(pair: &Pair) -> Map {
    let mut paper = ttest_map(pair.paper);
    paper.insert("share".into(), (pair.k as f64 / pair.n as f64).into());
    map! {
        "set" => pair.layers.map(Dynamic::from).to_vec(),
        "n" => pair.n as i64,
        "mean_effect" => pair.mean_effect,
        "mean" => pair.interval.estimate,
        "low" => pair.interval.low,
        "high" => pair.interval.high,
        "standard_error" => pair.interval.standard_error,
        "share_positive" => pair.share_positive,
        "sign" => with_corrections(sign_map(pair.sign.0), pair.sign.1),
        "wilcoxon" => with_corrections(wilcoxon_map(pair.wilcoxon.0), pair.wilcoxon.1),
        "ttest" => with_corrections(ttest_map(pair.ttest.0), pair.ttest.1),
        "paper" => paper,
        "k" => pair.k as i64,
    }
}

fn with_corrections(mut map: Map, corrected: Corrected) -> Dynamic {
    map.extend(map! {
        "holm" => corrected.holm.value(),
        "log10_holm" => corrected.holm.log10(),
        "benjamini_hochberg" => corrected.benjamini_hochberg.value(),
        "log10_benjamini_hochberg" => corrected.benjamini_hochberg.log10(),
    });
    map.into()
}
