//! A multinomial logistic probe of activations, tested on samples it was not fitted to.

use std::collections::BTreeMap;

use argmin::core::{CostFunction, Executor, Gradient};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use rand::seq::SliceRandom;
use tch::Kind;

use super::generator;
use super::matrix::{accuracy, check_labels, constant, doubles, indices, one_hot};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// The settings of a probe.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The share of samples to fit to.
    pub train_share: f64,
    /// The seed of the split and of the shuffled labels.
    pub seed: u64,
    /// The weight of half the squared weights in the loss, which is summed over samples.
    pub l2: f64,
    /// The largest number of steps of the fit.
    pub max_iterations: usize,
    /// Whether to shuffle the labels first: the control for what a probe learns by itself.
    pub shuffle_labels: bool,
    /// Whether to scale features to mean 0 and variance 1 of the training samples before `l2` is applied.
    pub standardize: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { train_share: 0.8, seed: 0, l2: 1.0, max_iterations: 500, shuffle_labels: false, standardize: true }
    }
}

/// A fitted probe.
#[derive(Debug)]
pub struct Probe {
    /// The share of training samples that it classifies correctly.
    pub train_accuracy: f64,
    /// The share of the other samples that it classifies correctly.
    pub test_accuracy: f64,
    /// The training rows, ascending.
    pub train_rows: Vec<usize>,
    /// The other rows, ascending.
    pub test_rows: Vec<usize>,
    /// The weights for the features as given, [feature, class].
    pub weights: Tensor,
    /// The intercepts for the features as given, one for each class.
    pub intercept: Vec<f64>,
    /// Whether the slope of the loss had vanished when the fit stopped.
    pub converged: bool,
}

/// The slope of the loss, per training sample, at which the fit stops.
const SOUGHT: f64 = 1e-7;
/// The largest slope that counts as 0.
const FLAT: f64 = 1e-4;

impl Settings {
    fn check(&self) -> Result<()> {
        if !(self.train_share > 0.0 && self.train_share < 1.0) {
            return Err(Error::new(format!("`train_share` lies between 0 and 1, {} does not", self.train_share)));
        }
        if !(self.l2.is_finite() && self.l2 >= 0.0) {
            return Err(Error::new(format!("`l2` must not be negative, but is {}", self.l2)));
        }
        Ok(())
    }
}

/// Fits a probe of `labels` below `classes` to a part of `x` [sample, feature], and tests it on the rest. Samples of
/// one group are never on both sides.
///
/// # Errors
/// Not a matrix of finite numbers, labels or groups that do not match it, fewer than two groups, fewer than two classes
/// among the training samples, or settings out of range.
pub fn logistic(
    x: &Tensor,
    labels: &[usize],
    classes: usize,
    groups: Option<&[usize]>,
    settings: Settings,
) -> Result<Probe> {
    let _guard = tch::no_grad_guard();
    let matrix = doubles("logistic_probe", x)?;
    check_labels("logistic_probe", &matrix, labels, classes)?;
    settings.check()?;
    let own: Vec<usize> = (0..labels.len()).collect();
    let groups = groups.unwrap_or(&own);
    if groups.len() != labels.len() {
        return Err(Error::new(format!("`logistic_probe` got {} labels but {} groups", labels.len(), groups.len())));
    }
    let mut random = generator(settings.seed);
    let (train_rows, test_rows) = split(groups, settings.train_share, &mut random)?;
    let mut labels = labels.to_vec();
    if settings.shuffle_labels {
        labels.shuffle(&mut random);
    }
    let pick = |rows: &[usize]| -> Vec<usize> { rows.iter().map(|row| labels[*row]).collect() };
    let (train_labels, test_labels) = (pick(&train_rows), pick(&test_rows));
    if train_labels.iter().all(|label| Some(label) == train_labels.first()) {
        return Err(Error::new("all training samples have one label").hint("try another seed or more samples"));
    }

    let rows = |rows: &[usize]| -> Result<tch::Tensor> { Ok(matrix.f_index_select(0, &indices(rows, &matrix)?)?) };
    let (train, test) = (rows(&train_rows)?, rows(&test_rows)?);
    let (centre, scale) = match settings.standardize {
        true => standard(&train)?,
        false => (constant(0.0, &matrix)?, constant(1.0, &matrix)?),
    };
    let standardized = |x: &tch::Tensor| -> Result<tch::Tensor> { Ok(x.f_sub(&centre)?.f_div(&scale)?) };
    let loss = Loss::new(standardized(&train)?, &train_labels, classes, settings.l2)?;
    let (parameters, slope) = loss.minimum(settings.max_iterations)?;
    let score = |x: &tch::Tensor, labels: &[usize]| -> Result<f64> {
        let x = standardized(x)?;
        accuracy(&loss.scores(&x, &parameters)?, &indices(labels, &x)?)
    };
    let weights = parameters.weights.f_div(&scale.f_unsqueeze(1)?)?;
    let shift = centre.f_unsqueeze(0)?.f_mul(&weights.f_transpose(0, 1)?)?.f_sum_dim_intlist(
        [1].as_slice(),
        false,
        Kind::Double,
    )?;
    Ok(Probe {
        train_accuracy: score(&train, &train_labels)?,
        test_accuracy: score(&test, &test_labels)?,
        train_rows,
        test_rows,
        intercept: numbers(&parameters.intercept.f_sub(&shift)?)?,
        weights: weights.into(),
        converged: slope <= FLAT,
    })
}

/// Assigns whole groups in random order: to the test side as long as they fit its share, else to the training side.
fn split(groups: &[usize], train_share: f64, random: &mut impl rand::Rng) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        members.entry(*group).or_default().push(row);
    }
    let mut members: Vec<Vec<usize>> = members.into_values().collect();
    if members.len() < 2 {
        return Err(Error::new("a split needs at least 2 groups of samples"));
    }
    members.shuffle(random);
    let wanted = ((1.0 - train_share) * groups.len() as f64).round() as usize;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    let last = members.len() - 1;
    for (place, rows) in members.into_iter().enumerate() {
        // Neither side stays empty.
        if test.len() + rows.len() <= wanted && !(place == last && train.is_empty()) {
            test.extend(rows);
        } else {
            train.push(rows);
        }
    }
    if test.is_empty() {
        let smallest = (0..train.len()).min_by_key(|place| train[*place].len()).unwrap_or_default();
        test = train.swap_remove(smallest);
    }
    let mut train = train.concat();
    train.sort_unstable();
    test.sort_unstable();
    Ok((train, test))
}

/// The mean and the standard deviation of each feature, 1 where it is constant.
fn standard(x: &tch::Tensor) -> Result<(tch::Tensor, tch::Tensor)> {
    let mean = x.f_mean_dim([0].as_slice(), false, Kind::Double)?;
    let deviation = x.f_sub(&mean)?.f_square()?.f_mean_dim([0].as_slice(), false, Kind::Double)?.f_sqrt()?;
    let constant_features = deviation.f_eq_tensor(&deviation.f_zeros_like()?)?;
    Ok((mean, deviation.f_ones_like()?.f_where_self(&constant_features, &deviation)?))
}

/// Weights [feature, class] and intercepts [class].
struct Parameters {
    weights: tch::Tensor,
    intercept: tch::Tensor,
}

/// The cross-entropy of labels, summed over samples, and half the squared weights times `l2`.
struct Loss {
    x: tch::Tensor,
    targets: tch::Tensor,
    l2: tch::Tensor,
}

impl Loss {
    fn new(x: tch::Tensor, labels: &[usize], classes: usize, l2: f64) -> Result<Self> {
        let targets = one_hot(&indices(labels, &x)?, classes)?;
        Ok(Self { targets, l2: constant(l2, &x)?, x })
    }

    /// The parameters from one list: the weights row by row, then the intercepts.
    fn parameters(&self, list: &[f64]) -> Result<Parameters> {
        let (features, classes) = (self.x.size2()?.1, self.targets.size2()?.1);
        let all = tch::Tensor::f_from_slice(list)?.f_to_device(self.x.device())?.f_reshape([features + 1, classes])?;
        Ok(Parameters { weights: all.f_narrow(0, 0, features)?, intercept: all.f_select(0, features)? })
    }

    fn scores(&self, x: &tch::Tensor, parameters: &Parameters) -> Result<tch::Tensor> {
        Ok(x.f_matmul(&parameters.weights)?.f_add(&parameters.intercept)?)
    }

    fn value(&self, list: &[f64]) -> Result<f64> {
        interrupt::check()?;
        let parameters = self.parameters(list)?;
        let scores = self.scores(&self.x, &parameters)?.f_log_softmax(1, Kind::Double)?;
        let fit = numbers(&scores.f_mul(&self.targets)?.f_sum(Kind::Double)?)?;
        let size = numbers(&parameters.weights.f_square()?.f_sum(Kind::Double)?.f_mul(&self.l2)?)?;
        Ok(size.iter().sum::<f64>() / 2.0 - fit.iter().sum::<f64>())
    }

    fn gradient(&self, list: &[f64]) -> Result<Vec<f64>> {
        let parameters = self.parameters(list)?;
        let residuals = self.scores(&self.x, &parameters)?.f_softmax(1, Kind::Double)?.f_sub(&self.targets)?;
        let weights = self.x.f_transpose(0, 1)?.f_matmul(&residuals)?;
        let mut gradient = numbers(&weights.f_add(&parameters.weights.f_mul(&self.l2)?)?)?;
        gradient.extend(numbers(&residuals.f_sum_dim_intlist([0].as_slice(), false, Kind::Double)?)?);
        Ok(gradient)
    }

    /// The parameters of least loss, by L-BFGS, with the remaining slope of the loss, per sample.
    fn minimum(&self, max_iterations: usize) -> Result<(Parameters, f64)> {
        let (samples, features) = self.x.size2()?;
        let start = vec![0.0; ((features + 1) * self.targets.size2()?.1) as usize];
        let failed = |error: argmin::core::Error| Error::new(format!("the probe could not be fitted: {error}"));
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10)
            .with_tolerance_grad(SOUGHT * samples as f64)
            .map_err(failed)?;
        let result = Executor::new(self, solver)
            .configure(|state| state.param(start.clone()).max_iters(max_iterations as u64))
            .run()
            .map_err(failed);
        // An interruption ends the search like any failure.
        interrupt::check()?;
        let best = result?.state.best_param.unwrap_or(start);
        let squares: f64 = self.gradient(&best)?.iter().map(|slope| slope * slope).sum();
        Ok((self.parameters(&best)?, squares.sqrt() / samples as f64))
    }
}

impl CostFunction for &Loss {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, list: &Vec<f64>) -> std::result::Result<f64, argmin::core::Error> {
        Ok(self.value(list)?)
    }
}

impl Gradient for &Loss {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, list: &Vec<f64>) -> std::result::Result<Vec<f64>, argmin::core::Error> {
        Ok(Loss::gradient(self, list)?)
    }
}
