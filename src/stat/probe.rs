//! A multinomial logistic probe: what can be read linearly from activations, on samples it was not fitted to.

use std::collections::BTreeMap;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_logistic::MultiLogisticRegression;
use ndarray::{Array1, Array2, Axis};
use rand::seq::SliceRandom;

use super::generator;
use super::matrix::{check_labels, doubles, from_array, to_array};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The choices of a probe.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The share of samples to fit to.
    pub train_share: f64,
    /// The seed of the split and of the shuffled labels.
    pub seed: u64,
    /// The weight of half the squared weights in the loss, which is summed over samples.
    pub l2: f64,
    /// How many steps the fit takes at most.
    pub max_iterations: usize,
    /// Whether labels are dealt out at random first: the control for what a probe learns by itself.
    pub shuffle_labels: bool,
    /// Whether features are brought to mean 0 and variance 1, by those of the training samples, before `l2` is applied.
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
    /// The share of training samples that it gets right.
    pub train_accuracy: f64,
    /// The share of the other samples that it gets right.
    pub test_accuracy: f64,
    /// The rows fitted to, ascending.
    pub train_rows: Vec<usize>,
    /// The other rows, ascending.
    pub test_rows: Vec<usize>,
    /// The weights for the features as given, [feature, class].
    pub weights: Tensor,
    /// The intercepts, one for each class.
    pub intercept: Vec<f64>,
    /// Whether the slope of the loss had vanished when the fit stopped.
    pub converged: bool,
}

/// A slope of the loss, per training sample, that counts as none.
const FLAT: f64 = 1e-4;

/// Fits a probe of `labels` below `classes` to a part of `x` [sample, feature], and tests it on the rest. Samples of one
/// group are never on both sides.
///
/// # Errors
/// Not a matrix of finite numbers, labels or groups that do not fit it, fewer than two groups, fewer than two classes
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
    if !(settings.train_share > 0.0 && settings.train_share < 1.0) {
        return Err(Error::new(format!("`train_share` lies between 0 and 1, {} does not", settings.train_share)));
    }
    if !(settings.l2.is_finite() && settings.l2 >= 0.0) {
        return Err(Error::new(format!("`l2` must not be negative, but is {}", settings.l2)));
    }
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

    let matrix = to_array(&matrix)?;
    let (centre, scale) = match settings.standardize {
        true => standard(&matrix.select(Axis(0), &train_rows)),
        false => (Array1::zeros(matrix.ncols()), Array1::ones(matrix.ncols())),
    };
    let matrix = (matrix - &centre) / &scale;
    let (train, test) = (matrix.select(Axis(0), &train_rows), matrix.select(Axis(0), &test_rows));
    let fit = fit(&train, &train_labels, classes, settings)?;
    let weights = &fit.weights / &scale.view().insert_axis(Axis(1));
    let intercept = &fit.intercept - centre.dot(&weights);
    Ok(Probe {
        train_accuracy: fit.accuracy(&train, &train_labels),
        test_accuracy: fit.accuracy(&test, &test_labels),
        train_rows,
        test_rows,
        weights: from_array(&weights)?,
        intercept: intercept.to_vec(),
        converged: fit.slope(&train, &train_labels, settings.l2) <= FLAT,
    })
}

/// Deals out whole groups in random order: to the test side as long as they fit its share, else to the training side.
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
fn standard(matrix: &Array2<f64>) -> (Array1<f64>, Array1<f64>) {
    let count = matrix.nrows() as f64;
    let mean = matrix.sum_axis(Axis(0)) / count;
    let squares = (matrix - &mean).mapv(|value| value * value).sum_axis(Axis(0)) / count;
    (mean, squares.mapv(|square| if square > 0.0 { square.sqrt() } else { 1.0 }))
}

struct Fitted {
    weights: Array2<f64>,
    intercept: Array1<f64>,
}

fn fit(x: &Array2<f64>, labels: &[usize], classes: usize, settings: Settings) -> Result<Fitted> {
    let dataset = DatasetBase::new(x.view(), Array1::from(labels.to_vec()));
    let model = MultiLogisticRegression::default()
        .alpha(settings.l2)
        .max_iterations(settings.max_iterations as u64)
        .gradient_tolerance(1e-6 * labels.len() as f64)
        .fit(&dataset)
        .map_err(|error| {
            Error::new(format!("the probe could not be fitted: {error}")).hint("a larger `l2` makes the fit easier")
        })?;
    // The model knows only the classes that it met, in ascending order.
    let mut weights = Array2::zeros((x.ncols(), classes));
    let mut intercept = Array1::from_elem(classes, f64::NEG_INFINITY);
    for (column, class) in model.classes().iter().enumerate() {
        weights.column_mut(*class).assign(&model.params().column(column));
        intercept[*class] = model.intercept()[column];
    }
    Ok(Fitted { weights, intercept })
}

impl Fitted {
    fn scores(&self, x: &Array2<f64>) -> Array2<f64> {
        x.dot(&self.weights) + &self.intercept
    }

    fn accuracy(&self, x: &Array2<f64>, labels: &[usize]) -> f64 {
        let scores = self.scores(x);
        let best = |row: ndarray::ArrayView1<f64>| {
            row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(class, _)| class)
        };
        let right = scores.rows().into_iter().zip(labels).filter(|(row, label)| best(*row) == **label).count();
        right as f64 / labels.len() as f64
    }

    /// The length of the gradient of the loss, per sample. The fit's own sums of exponentials are taken relative to the
    /// largest score of all samples and lose those far below it, so it is not asked.
    fn slope(&self, x: &Array2<f64>, labels: &[usize], l2: f64) -> f64 {
        let mut residuals = self.scores(x);
        for (mut row, label) in residuals.rows_mut().into_iter().zip(labels) {
            let largest = row.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            row.mapv_inplace(|score| (score - largest).exp());
            let sum = row.sum();
            row.mapv_inplace(|share| share / sum);
            row[*label] -= 1.0;
        }
        let gradient = x.t().dot(&residuals) + &(&self.weights * l2);
        let squares = gradient.iter().chain(residuals.sum_axis(Axis(0)).iter()).map(|value| value * value).sum::<f64>();
        squares.sqrt() / labels.len() as f64
    }
}
