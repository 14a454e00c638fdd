//! Projections of activations, and probes of what can be read from them.

use rhai::plugin::*;
use rhai::{Array, Map};

use super::resample::seed;
use super::{count, labels, matrix};
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::stat::{discriminant, embedding, principal, probe};
use crate::tensor::Tensor;

pub fn module() -> Module {
    module::module(Topic::Statistics, exported_manifest!(functions))
}

#[export_module(manifest)]
mod functions {
    /// Linear discriminant analysis: the directions that separate labelled samples best.
    ///
    /// `x` is a tensor [sample, feature] (or an array of rows), `labels` an array of integers or strings, or an integer
    /// tensor. Computed in f64 by singular value decomposition; equal to scikit-learn's
    /// `LinearDiscriminantAnalysis(solver="svd")` (1.9) up to the sign of each component. Gives
    /// - `transformed` [sample, component]; `scalings` [feature, component]; `explained_variance_ratio` [component]
    /// - `means` [class, feature]; `classes`: the distinct labels in ascending order
    /// - `accuracy`: how often the samples, which the directions were fitted to, are assigned to their own class. With
    ///   more features than samples that says nothing; `logistic_probe` tests on samples left out
    ///
    /// Options: `n_components`: 2 by default, or 1 for two classes; at most one less than classes. `solver`: only
    /// `"svd"`.
    ///
    /// # Example
    /// ```rhai
    /// let x = tensor([[0.0, 0.1], [0.2, 0.0], [4.0, 4.1], [4.2, 3.9]]);
    /// let found = stats::lda(x, ["a", "a", "b", "b"]);
    /// assert(found.transformed.shape == [4, 1] && found.accuracy == 1.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn lda(x: Dynamic, labels: Dynamic, options: Map) -> ScriptResult<Map> {
        Ok(run_lda(&x, &labels, options)?)
    }

    /// Principal component analysis: the `k` directions along which samples vary most.
    ///
    /// `x` is a tensor [sample, feature] (or an array of rows). Computed in f64 by singular value decomposition; equal
    /// to scikit-learn's `PCA(svd_solver="full")`, signs too. Gives `transformed` [sample, component], `components`
    /// [component, feature], `explained_variance`, `explained_variance_ratio` (of all variance) and `mean` [feature].
    ///
    /// # Example
    /// ```rhai
    /// let found = stats::pca(tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), 1);
    /// assert(found.explained_variance_ratio[0].item() > 0.999);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn pca(x: Dynamic, k: i64) -> ScriptResult<Map> {
        let run = || principal::pca(&matrix("`x` of `pca`", &x)?, count("the number of components", k)?);
        let map = |found: principal::Principal| {
            map! {
                "transformed" => found.transformed,
                "components" => found.components,
                "explained_variance" => found.explained_variance,
                "explained_variance_ratio" => found.explained_variance_ratio,
                "mean" => found.mean,
            }
        };
        Ok(run().map(map)?)
    }

    /// T-SNE: samples in two dimensions, neighbours beside neighbours.
    ///
    /// `x` is a tensor [sample, feature] (or an array of rows); gives a tensor [sample, 2]. Distances between groups
    /// mean nothing. The exact algorithm on the CPU, so at most 5000 samples: its time grows with their square, and after
    /// Ctrl-C it goes on unseen. For many features, `pca` to 50 first.
    ///
    /// Options: `perplexity`: about how many neighbours count, 30 by default, at most a third of the samples; `n_iter`:
    /// 1000 by default, at most 100,000; `seed`: 0 by default.
    ///
    /// # Example
    /// ```rhai
    /// let map = stats::tsne(tensor([[0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9], [8, 8]]).to("f32"), #{ perplexity: 2, n_iter: 100 });
    /// assert(map.shape == [7, 2]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn tsne(x: Dynamic, options: Map) -> ScriptResult<Tensor> {
        let usual = embedding::Settings::default();
        let settings = Options::read("tsne", options, |options| {
            Ok(embedding::Settings {
                perplexity: options.number("perplexity")?.unwrap_or(usual.perplexity),
                n_iter: options.integer("n_iter")?.map_or(Ok(usual.n_iter), |steps| count("`n_iter`", steps))?,
                seed: seed(options)?,
            })
        })?;
        Ok(embedding::tsne(&matrix("`x` of `tsne`", &x)?, settings)?)
    }

    /// A multinomial logistic probe: how well labels can be read from samples that it was not fitted to.
    ///
    /// `x` is a tensor [sample, feature] (or an array of rows), `labels` an array of integers or strings, or an integer
    /// tensor. The samples are split by `seed`; the probe is fitted to one part and tested on the other. Gives
    /// - `train_accuracy`, `test_accuracy`; `n_train`, `n_test`; `test_rows`: the samples tested on
    /// - `classes`: the distinct labels in ascending order
    /// - `weights` [feature, class] and `intercept`, an array; they apply to `x` as given
    /// - `converged`: whether the fit had reached the minimum of its loss; if not, raise `max_iterations` or `l2`
    ///
    /// Options:
    /// - `train_share`: 0.8 by default; `seed`: 0 by default
    /// - `groups`: an integer or string for each sample; samples of one group stay on one side, such as near-duplicates
    /// - `shuffle_labels`: `true` deals the labels out at random first, the control to compare with
    /// - `l2`: the weight of half the squared weights beside the loss summed over samples, 1 by default (scikit-learn's
    ///   1 / C)
    /// - `standardize`: `true` (default) brings features to mean 0 and variance 1 on the training part before `l2`
    ///   counts
    /// - `max_iterations`: 500 by default
    ///
    /// # Example
    /// ```rhai
    /// let x = [];
    /// let labels = [];
    /// for i in 0..40 {
    ///     labels.push(if i % 2 == 0 { "even" } else { "odd" });
    ///     x.push([i % 2 * 3.0, i * 0.1]);
    /// }
    /// let probe = stats::logistic_probe(x, labels);
    /// assert(probe.test_accuracy == 1.0 && probe.n_train == 32 && probe.classes == ["even", "odd"]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn logistic_probe(x: Dynamic, labels: Dynamic, options: Map) -> ScriptResult<Map> {
        Ok(run_probe(&x, &labels, options)?)
    }
}

fn run_lda(x: &Dynamic, names: &Dynamic, options: Map) -> Result<Map> {
    let components = Options::read("lda", options, |options| {
        // scikit-learn has more solvers; this is the one whose results these are.
        options.choice("solver", &[("svd", ())])?;
        options.integer("n_components")
    })?;
    let (labels, classes) = labels("`labels` of `lda`", names)?;
    let usual = if classes.len() == 2 { 1 } else { 2 };
    let components = count("`n_components`", components.unwrap_or(usual))?;
    let found = discriminant::lda(&matrix("`x` of `lda`", x)?, &labels, classes.len(), components)?;
    Ok(map! {
        "transformed" => found.transformed,
        "explained_variance_ratio" => found.explained_variance_ratio,
        "scalings" => found.scalings,
        "means" => found.means,
        "accuracy" => found.accuracy,
        "classes" => classes,
    })
}

fn run_probe(x: &Dynamic, names: &Dynamic, options: Map) -> Result<Map> {
    let (settings, groups) = Options::read("logistic_probe", options, probe_options)?;
    let (labels, classes) = labels("`labels` of `logistic_probe`", names)?;
    let groups = groups.as_deref();
    let found = probe::logistic(&matrix("`x` of `logistic_probe`", x)?, &labels, classes.len(), groups, settings)?;
    let rows: Array = found.test_rows.iter().map(|row| Dynamic::from(*row as i64)).collect();
    let intercept: Array = found.intercept.iter().copied().map(Dynamic::from).collect();
    Ok(map! {
        "train_accuracy" => found.train_accuracy,
        "test_accuracy" => found.test_accuracy,
        "n_train" => found.train_rows.len() as i64,
        "n_test" => found.test_rows.len() as i64,
        "test_rows" => rows,
        "classes" => classes,
        "weights" => found.weights,
        "intercept" => intercept,
        "converged" => found.converged,
    })
}

fn probe_options(options: &mut Options) -> Result<(probe::Settings, Option<Vec<usize>>)> {
    let usual = probe::Settings::default();
    let iterations = options.integer("max_iterations")?;
    let settings = probe::Settings {
        train_share: options.number("train_share")?.unwrap_or(usual.train_share),
        seed: seed(options)?,
        l2: options.number("l2")?.unwrap_or(usual.l2),
        max_iterations: iterations.map_or(Ok(usual.max_iterations), |number| count("`max_iterations`", number))?,
        shuffle_labels: options.boolean("shuffle_labels")?.unwrap_or(usual.shuffle_labels),
        standardize: options.boolean("standardize")?.unwrap_or(usual.standardize),
    };
    if settings.max_iterations == 0 {
        return Err(Error::new("`max_iterations` must be at least 1"));
    }
    let groups = options.any("groups").map(|groups| labels("option `groups` of `logistic_probe`", &groups));
    Ok((settings, groups.transpose()?.map(|(places, _)| places)))
}
