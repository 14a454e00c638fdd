//! The functional ANOVA of a grid over random sets: the share of the variance that each order of interaction has.
//!
//! Where each of n places is in a set S or not by an even chance, a metric f(S) has one expansion in the Walsh functions
//! W_T(S) = (-1)^|S ∩ T|, f = Σ c_T W_T, and its variance is the sum of c_T² over all T but the empty one. The part of
//! order k is V_k = Σ_{|T| = k} c_T² = E f(S) f(S') K_k(|S Δ S'|) for independent S and S', with Krawtchouk's polynomial
//! K_k(d) = Σ_j (-1)^j C(d, j) C(n - d, k - j). The mean over the pairs of drawn sets estimates it without bias; over all
//! sets it is exact.

use rand::Rng;
use tch::{Kind, Tensor};

use super::metric::Asked;
use super::outcome::Grid;
use super::request::Sizes;
use super::set::{self, Element, Set};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::stat::generator;
use crate::stat::summary::quantile;
use crate::tensor::raw::Arithmetic;

/// The most sets: their pairs are held at once.
const MOST_SETS: usize = 4096;
/// The highest order: each has a matrix of pairs.
const HIGHEST_ORDER: usize = 16;
/// The most resamples.
const MOST_RESAMPLES: usize = 1_000_000;

/// What the analysis is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The highest order; those above it are one share
    pub order: usize,
    /// Bootstrap resamples of sets and samples
    pub resamples: usize,
    /// The level of the intervals
    pub level: f64,
    /// Of the resamples
    pub seed: u64,
}

/// The shares of the orders 1, 2, .. and of all above them.
#[derive(Debug)]
pub struct Anova {
    /// The shares of the mean variance over samples
    pub share: Vec<f64>,
    /// The ends of their intervals, percentiles of the resamples
    pub interval: Vec<(f64, f64)>,
    /// The variance over sets, [sample]
    pub variance: Tensor,
    /// Whether the sets are all there are
    pub is_exact: bool,
}

/// The pairs of sets: one matrix [set, set] for each order.
struct Pairs {
    kernels: Vec<Tensor>,
    is_exact: bool,
    count: usize,
}

/// The shares of the orders in the variance of a metric over a grid's sets.
///
/// # Errors
/// Sets that are neither drawn at random nor all there are; an order, a level or a number of resamples out of range; a
/// metric that the grid does not have, or that no set changes; Ctrl-C.
pub fn anova(grid: &Grid, asked: Asked, settings: Settings) -> Result<Anova> {
    let places = &grid.elements;
    let highest = places.len().min(HIGHEST_ORDER);
    if !(1..=highest).contains(&settings.order) {
        return Err(Error::new(format!("there is no order {} among {} places", settings.order, places.len()))
            .hint(format!("1 to {highest}")));
    }
    if !(0.0..1.0).contains(&settings.level) || !(1..=MOST_RESAMPLES).contains(&settings.resamples) {
        return Err(Error::new("the level is a share below 1, and the number of resamples at least 1")
            .hint(format!("at most {MOST_RESAMPLES} resamples")));
    }
    let asked = grid.given(asked);
    let values = grid.levels(&grid.patched, asked)?;
    // All sets are those of all sizes and the unpatched run.
    let is_exact = !matches!(grid.sizes, Sizes::Random { .. });
    let (sets, values) = if is_exact {
        if (grid.sets.len() + 1) as f64 != (places.len() as f64).exp2() {
            return Err(Error::new("shares of variance need random sets, or all sets of a few places")
                .hint("sizes: \"random\", subsets: 500; or elements: [4, 8, 12, 16]"));
        }
        let unpatched = grid.levels(&grid.unpatched, asked)?.f_unsqueeze(0)?;
        ([vec![Set::new()], grid.sets.clone()].concat(), Tensor::f_cat(&[unpatched, values], 0)?)
    } else {
        (grid.sets.clone(), values)
    };
    let needed = if is_exact { 2 } else { 4 };
    if !(needed..=MOST_SETS).contains(&sets.len()) {
        return Err(Error::new(format!("the grid has {} sets", sets.len())).hint(format!("{needed} to {MOST_SETS}")));
    }
    let centred = values.f_sub(&values.f_mean_dim([0].as_slice(), true, Kind::Double)?)?.f_transpose(0, 1)?;
    let pairs = Pairs::new(&sets, places, settings.order, is_exact)?;
    let ones = Tensor::f_ones([sets.len() as i64], (Kind::Double, tch::Device::Cpu))?;
    let parts = pairs.parts(&centred, &ones)?;
    let total = parts.f_select(0, -1)?;
    let share = shares(&parts, &vec![1.0; grid.samples()])?;
    if share.iter().any(|share| !share.is_finite()) {
        return Err(Error::new("the metric is the same for all sets, so its variance has no shares"));
    }
    Ok(Anova { interval: intervals(&pairs, &centred, &parts, settings)?, share, variance: total, is_exact })
}

impl Pairs {
    fn new(sets: &[Set], places: &[Element], order: usize, is_exact: bool) -> Result<Self> {
        let (count, n) = (sets.len(), places.len());
        let row = |set: &Set| places.iter().map(|place| f64::from(set.contains(place))).collect::<Vec<_>>();
        let members: Vec<f64> = sets.iter().flat_map(row).collect();
        let members = Tensor::f_from_slice(&members)?.f_view([count as i64, n as i64])?;
        let size = members.f_sum_dim_intlist(1, true, Kind::Double)?;
        let both = members.f_matmul(&members.f_transpose(0, 1)?)?;
        let distance = size.f_add(&size.f_transpose(0, 1)?)?.f_sub(&both.times(2.0)?)?.f_to_kind(Kind::Int64)?;
        let mut kernels = Vec::with_capacity(order);
        for k in 1..=order {
            interrupt::check()?;
            let of_distance: Vec<f64> = (0..=n).map(|distance| krawtchouk(n, k, distance)).collect();
            let kernel = Tensor::f_from_slice(&of_distance)?.f_index_select(0, &distance.f_flatten(0, 1)?)?;
            let kernel = kernel.f_view([count as i64, count as i64])?;
            if !is_exact {
                let _ = kernel.f_diagonal(0, 0, 1)?.f_zero_()?;
            }
            kernels.push(kernel);
        }
        Ok(Self { kernels, is_exact, count })
    }

    /// The variance of each order and, last, all variance, [order + 1, sample], of values [sample, set] less their mean,
    /// where each set counts as often as its weight says.
    fn parts(&self, values: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let n = self.count as f64;
        let weighted = values.f_mul(weights)?;
        if self.is_exact {
            let part = |kernel: &Tensor| {
                weighted.f_matmul(kernel)?.f_mul(&weighted)?.f_sum_dim_intlist(1, false, Kind::Double)?.over(n * n)
            };
            let mut parts = self.kernels.iter().map(part).collect::<Result<Vec<_>>>()?;
            parts.push(weighted.f_mul(values)?.f_sum_dim_intlist(1, false, Kind::Double)?.over(n)?);
            return Ok(Tensor::f_stack(&parts, 0)?);
        }
        // In each pair the values less the mean of all others, which is independent of both.
        let mean = weighted.f_sum_dim_intlist(1, true, Kind::Double)?.over(n)?;
        let centred = values.f_sub(&mean)?;
        let weighted = centred.f_mul(weights)?;
        let squares = weighted.f_mul(&centred)?;
        // Two draws of one set are one draw twice, not a pair.
        let pairs = n * n - weights.f_mul(weights)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        let (own, cross) = (((n - 1.0) * (n - 1.0) + 1.0), 2.0 * (n - 1.0));
        let part = |kernel: &Tensor| -> Result<Tensor> {
            let products = weighted.f_matmul(kernel)?.f_mul(&weighted)?.f_sum_dim_intlist(1, false, Kind::Double)?;
            let mixed = squares.f_matmul(&kernel.f_matmul(weights)?.f_unsqueeze(1)?)?.f_squeeze_dim(1)?;
            products.times(own)?.f_add(&mixed.times(cross)?)?.over((n - 2.0) * (n - 2.0) * pairs)
        };
        let mut parts = self.kernels.iter().map(part).collect::<Result<Vec<_>>>()?;
        parts.push(squares.f_sum_dim_intlist(1, false, Kind::Double)?.times(n / pairs)?);
        Ok(Tensor::f_stack(&parts, 0)?)
    }
}

/// Krawtchouk's polynomial: the sum of W_T over all T of k of n places, at sets that differ in `distance` places.
fn krawtchouk(n: usize, k: usize, distance: usize) -> f64 {
    let term = |j: usize| {
        let sign = if j.is_multiple_of(2) { 1.0 } else { -1.0 };
        sign * set::binomial(distance, j) * set::binomial(n - distance, k - j)
    };
    (0..=k).map(term).sum()
}

/// The shares of the orders and of the rest, where each sample counts as often as its weight says.
fn shares(parts: &Tensor, weights: &[f64]) -> Result<Vec<f64>> {
    let sums = Vec::<f64>::try_from(&parts.f_matmul(&Tensor::f_from_slice(weights)?)?)?;
    let (orders, total) = sums.split_at(sums.len() - 1);
    let mut shares: Vec<f64> = orders.iter().map(|order| order / total[0]).collect();
    shares.push(1.0 - shares.iter().sum::<f64>());
    Ok(shares)
}

/// The percentile intervals over resamples of samples and, where sets were drawn, of sets. `parts` are those of the sets
/// themselves.
fn intervals(pairs: &Pairs, centred: &Tensor, parts: &Tensor, settings: Settings) -> Result<Vec<(f64, f64)>> {
    let mut random = generator(settings.seed);
    let mut drawn = |count: usize| {
        let mut weights = vec![0.0; count];
        (0..count).for_each(|_| weights[random.gen_range(0..count)] += 1.0);
        weights
    };
    let samples = centred.size()[0] as usize;
    let mut found = vec![Vec::new(); settings.order + 1];
    for _ in 0..settings.resamples {
        interrupt::check()?;
        let resampled = if pairs.is_exact {
            shares(parts, &drawn(samples))?
        } else {
            let weights = Tensor::f_from_slice(&drawn(pairs.count))?;
            shares(&pairs.parts(centred, &weights)?, &drawn(samples))?
        };
        found.iter_mut().zip(resampled).for_each(|(shares, share)| shares.push(share));
    }
    let tail = (1.0 - settings.level) / 2.0;
    let ends = |mut shares: Vec<f64>| {
        shares.sort_by(f64::total_cmp);
        (quantile(&shares, tail), quantile(&shares, 1.0 - tail))
    };
    Ok(found.into_iter().map(ends).collect())
}
