//! Correlation: Pearson's r, Spearman's rho and Kendall's tau-b.
//!
//! The correlation with a constant is undefined: coefficient and p-value are NaN, as in SciPy.

use super::distribution::{self, normal_lower, normal_upper};
use super::probability::{Alternative, Method, Probability};
use super::summary::{divided, exponent, moments, ranks};
use super::{check_pairs, check_sample};
use crate::error::{Error, Result};
use crate::interrupt;

/// A correlation with the test against zero.
#[derive(Debug, Clone, Copy)]
pub struct Correlation {
    /// The coefficient, from -1 to 1; NaN where one of the samples is constant.
    pub r: f64,
    /// The number of pairs.
    pub n: usize,
    /// The p-value; NaN if the coefficient is NaN.
    pub p: Probability,
}

impl Correlation {
    fn undefined(n: usize) -> Self {
        Self { r: f64::NAN, n, p: Probability::new(f64::NAN) }
    }
}

fn check(function: &str, x: &[f64], y: &[f64], least: usize) -> Result<()> {
    check_pairs(function, x, y)?;
    check_sample("the first sample", x, least)?;
    check_sample("the second sample", y, least)
}

fn is_constant(sample: &[f64]) -> bool {
    sample.iter().all(|value| *value == sample[0])
}

/// Pearson's r of paired numbers; the p-value is correct for normal ones.
///
/// # Errors
/// Samples of different lengths, with fewer than two numbers, or one that is not finite.
pub fn pearson(x: &[f64], y: &[f64], alternative: Alternative) -> Result<Correlation> {
    check("pearsonr", x, y, 2)?;
    Ok(product_moment(x, y, alternative))
}

/// Spearman's rho, Pearson's r of the ranks.
///
/// # Errors
/// Samples of different lengths, with fewer than three numbers, or one that is not finite.
pub fn spearman(x: &[f64], y: &[f64], alternative: Alternative) -> Result<Correlation> {
    check("spearmanr", x, y, 3)?;
    Ok(product_moment(&ranks(x).0, &ranks(y).0, alternative))
}

/// Pearson's r of each two rows.
///
/// # Errors
/// A different number of rows on one side; rows as in [`pearson`].
pub fn pearson_rows<'a>(
    x: impl ExactSizeIterator<Item = &'a [f64]>,
    y: impl ExactSizeIterator<Item = &'a [f64]>,
    alternative: Alternative,
) -> Result<Vec<Correlation>> {
    if x.len() != y.len() {
        return Err(Error::new(format!(
            "`pearsonr` needs as many rows on both sides, not {} and {}",
            x.len(),
            y.len()
        )));
    }
    x.zip(y)
        .map(|(x, y)| {
            interrupt::check()?;
            pearson(x, y, alternative)
        })
        .collect()
}

fn product_moment(x: &[f64], y: &[f64], alternative: Alternative) -> Correlation {
    if is_constant(x) || is_constant(y) {
        return Correlation::undefined(x.len());
    }
    if let ([x0, x1], [y0, y1]) = (x, y) {
        // Two points lie on a line, whatever they are.
        let r = if (x0 < x1) == (y0 < y1) { 1.0 } else { -1.0 };
        return Correlation { r, n: 2, p: Probability::new(1.0) };
    }
    let (x, y) = (&divided(x, exponent(&[x])), &divided(y, exponent(&[y])));
    let ((mean_x, squares_x), (mean_y, squares_y)) = (moments(x), moments(y));
    let products: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let r = (products / squares_x.sqrt() / squares_y.sqrt()).clamp(-1.0, 1.0);
    let df = x.len() as f64 - 2.0;
    let t = r * (df / ((1.0 - r) * (1.0 + r))).sqrt();
    let p = alternative.p_value(distribution::t_lower(t, df), distribution::t_upper(t, df));
    Correlation { r, n: x.len(), p }
}

/// The largest number of pairs for which the number of orders fits a float.
const MOST_EXACT: usize = 170;

/// Kendall's tau-b of paired numbers. [`Method::Auto`] is exact without ties up to 33 pairs, and for orders that agree
/// or disagree except for one pair.
///
/// # Errors
/// As [`spearman`]; an exact p-value with ties or for too many numbers.
pub fn kendall(x: &[f64], y: &[f64], method: Method, alternative: Alternative) -> Result<Correlation> {
    check("kendalltau", x, y, 3)?;
    let n = x.len();
    if is_constant(x) || is_constant(y) {
        return Ok(Correlation::undefined(n));
    }
    let (rank_x, rank_y) = (ranks(x), ranks(y));
    // Ranks, since they tie where numbers are equal: 0 and -0 are, and differ in a total order.
    let (x, y) = (&rank_x.0, &rank_y.0);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| x[*a].total_cmp(&x[*b]).then(y[*a].total_cmp(&y[*b])));
    let pairs = |size: usize| (size * size.saturating_sub(1) / 2) as f64;
    let tied = |ties: &[usize]| ties.iter().map(|size| pairs(*size)).sum::<f64>();
    let (tied_x, tied_y) = (tied(&rank_x.1), tied(&rank_y.1));
    let both: f64 = order.chunk_by(|a, b| x[*a] == x[*b] && y[*a] == y[*b]).map(|group| pairs(group.len())).sum();
    let mut by_x: Vec<f64> = order.iter().map(|index| y[*index]).collect();
    let discordant = inversions(&mut by_x);
    let total = pairs(n);
    let balance = total - tied_x - tied_y + both - 2.0 * discordant;
    let r = (balance / (total - tied_x).sqrt() / (total - tied_y).sqrt()).clamp(-1.0, 1.0);

    let ties = tied_x > 0.0 || tied_y > 0.0;
    let exact = match method {
        Method::Exact if ties => {
            return Err(Error::new("an exact p-value of `kendalltau` needs numbers without ties")
                .hint("the asymptotic method has no such limit"));
        }
        Method::Exact if n > MOST_EXACT => {
            return Err(Error::new(format!("an exact p-value of `kendalltau` takes at most {MOST_EXACT} pairs"))
                .hint("the asymptotic method has no such limit"));
        }
        Method::Exact => true,
        Method::Auto => !ties && (n <= 33 || discordant.min(total - discordant) <= 1.0),
        Method::Asymptotic => false,
    };
    let (lower, upper) = if exact {
        (orders_with_at_most(total - discordant, n), orders_with_at_most(discordant, n))
    } else {
        let z = balance / variance(n as f64, &rank_x.1, &rank_y.1).sqrt();
        (normal_lower(z), normal_upper(z))
    };
    Ok(Correlation { r, n, p: alternative.p_value(lower, upper) })
}

/// The variance of concordant less discordant pairs, with ties.
fn variance(n: f64, ties_x: &[usize], ties_y: &[usize]) -> f64 {
    let sum = |ties: &[usize], term: fn(f64) -> f64| ties.iter().map(|size| term(*size as f64)).sum::<f64>();
    let pairs = |size: f64| size * (size - 1.0);
    let triples = |size: f64| size * (size - 1.0) * (size - 2.0);
    let spread = |size: f64| size * (size - 1.0) * (2.0 * size + 5.0);
    (spread(n) - sum(ties_x, spread) - sum(ties_y, spread)) / 18.0
        + sum(ties_x, pairs) * sum(ties_y, pairs) / (2.0 * pairs(n))
        + sum(ties_x, triples) * sum(ties_y, triples) / (9.0 * triples(n))
}

/// The probability that a random order of `n` has at most `most` inversions.
fn orders_with_at_most(most: f64, n: usize) -> Probability {
    let all = n * (n - 1) / 2;
    let most = most as usize;
    if 2 * most >= all {
        return match all.checked_sub(most + 1) {
            Some(rest) => orders_with_at_most(rest as f64, n).complement(),
            None => Probability::new(1.0),
        };
    }
    // Running sums of the number of orders by inversions: adding an element multiplies by 1 + q + ... + q^(size - 1).
    let mut ways = vec![0.0; most + 1];
    ways[0] = 1.0;
    for size in 2..=n {
        let mut window = 0.0;
        let before = ways.clone();
        for (inversions, count) in ways.iter_mut().enumerate() {
            window += before[inversions];
            if inversions >= size {
                window -= before[inversions - size];
            }
            *count = window;
        }
    }
    let orders: f64 = (2..=n).map(|size| (size as f64).ln()).sum();
    Probability::from_ln(ways.iter().sum::<f64>().ln() - orders)
}

/// The number of pairs in descending order; sorts the values.
fn inversions(values: &mut [f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let middle = values.len() / 2;
    let (left, right) = values.split_at_mut(middle);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(values.len());
    let (left, right) = values.split_at(middle);
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (left.get(i), right.get(j)) {
        if b < a {
            count += (left.len() - i) as f64;
            merged.push(*b);
            j += 1;
        } else {
            merged.push(*a);
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    values.copy_from_slice(&merged);
    count
}
