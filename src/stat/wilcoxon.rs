//! Wilcoxon's signed-rank test, as in `scipy.stats.wilcoxon` (1.17).

use super::check_sample;
use super::distribution::{normal_lower, normal_upper};
use super::probability::{Alternative, Method, Probability, choice};
use super::summary::ranks;
use crate::error::{Error, Result};
use crate::interrupt;

/// The largest number for an exact test: beyond it, probabilities of single outcomes are below the smallest float.
const MOST_EXACT: usize = 1000;

/// The treatment of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zeros {
    /// They are left out.
    #[default]
    Wilcox,
    /// They are ranked, and their ranks dropped.
    Pratt,
    /// They are ranked, and their ranks split between both signs.
    Split,
}

/// The settings of a test.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// The alternative hypothesis.
    pub alternative: Alternative,
    /// The method for the p-value; [`Method::Auto`] is exact up to 50 numbers without zeros and ties, and up to 13 with
    /// them.
    pub method: Method,
    /// The treatment of zeros.
    pub zeros: Zeros,
    /// Whether to correct the normal approximation for continuity.
    pub correction: bool,
}

impl Zeros {
    /// The treatment of that name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match choice("zero_method", name, &["wilcox", "pratt", "zsplit"])? {
            0 => Self::Wilcox,
            1 => Self::Pratt,
            _ => Self::Split,
        })
    }
}

/// The result of a signed-rank test.
#[derive(Debug, Clone, Copy)]
pub struct Wilcoxon {
    /// The sum of the ranks of positive numbers; two-sided, the smaller of that and the sum for negative ones.
    pub statistic: f64,
    /// The number of ranked values.
    pub n: usize,
    /// The p-value. If all numbers are zero, it is NaN by the normal approximation, unless that splits their ranks.
    pub p: Probability,
}

/// Tests whether the distribution of `differences` is symmetric around zero.
///
/// # Errors
/// No numbers, one that is not finite, or an exact test of too many.
pub fn wilcoxon(differences: &[f64], settings: Settings) -> Result<Wilcoxon> {
    check_sample("the sample of `wilcoxon`", differences, 1)?;
    let zeros = differences.iter().filter(|value| **value == 0.0).count();
    let kept: Vec<f64> =
        differences.iter().copied().filter(|value| settings.zeros != Zeros::Wilcox || *value != 0.0).collect();
    let n = kept.len();
    let sizes: Vec<f64> = kept.iter().map(|value| value.abs()).collect();
    let (ranks, ties) = ranks(&sizes);
    let sum = |wanted: fn(f64) -> bool| -> f64 {
        kept.iter().zip(&ranks).filter(|(value, _)| wanted(**value)).map(|(_, rank)| rank).sum()
    };
    let split = if settings.zeros == Zeros::Split { sum(|value| value == 0.0) / 2.0 } else { 0.0 };
    let (plus, minus) = (sum(|value| value > 0.0) + split, sum(|value| value < 0.0) + split);
    let tied = zeros > 0 || ties.iter().any(|size| *size > 1);
    let (lower, upper) = match settings.method {
        Method::Exact => exact(n, plus)?,
        Method::Auto if !tied && n <= 50 => exact(n, plus)?,
        Method::Auto if tied && differences.len() <= 13 => {
            let signed: Vec<f64> =
                kept.iter().zip(&ranks).filter(|(value, _)| **value != 0.0).map(|(_, rank)| *rank).collect();
            conditional(&signed, plus - split)?
        }
        Method::Auto | Method::Asymptotic => {
            let z = score(n, zeros, plus, &ties, settings);
            (normal_lower(z), normal_upper(z))
        }
    };
    let two_sided = settings.alternative == Alternative::TwoSided;
    Ok(Wilcoxon {
        statistic: if two_sided { plus.min(minus) } else { plus },
        n,
        p: settings.alternative.p_value(lower, upper),
    })
}

/// The statistic as a standard normal variable, corrected for ties.
fn score(n: usize, zeros: usize, plus: f64, ties: &[usize], settings: Settings) -> f64 {
    let products = |n: f64| (n * (n + 1.0) / 4.0, n * (n + 1.0) * (2.0 * n + 1.0));
    let (mut mean, mut square) = products(n as f64);
    // Zeros are the smallest, so their ties come first.
    let mut ties = ties;
    if settings.zeros == Zeros::Pratt {
        let (mean_of_zeros, square_of_zeros) = products(zeros as f64);
        mean -= mean_of_zeros;
        square -= square_of_zeros;
        ties = if zeros > 0 { ties.get(1..).unwrap_or_default() } else { ties };
    }
    let tied: f64 = ties.iter().map(|size| (*size as f64).powi(3) - *size as f64).sum();
    let error = ((square - tied / 2.0) / 24.0).sqrt();
    let z = (plus - mean) / error;
    if !settings.correction {
        return z;
    }
    let sign = match settings.alternative {
        Alternative::Greater => 1.0,
        Alternative::Less => -1.0,
        Alternative::TwoSided if z == 0.0 => 0.0,
        Alternative::TwoSided => z.signum(),
    };
    z - sign * 0.5 / error
}

/// Both tails for `n` numbers without ties; a sum between whole numbers counts as less extreme.
fn exact(n: usize, plus: f64) -> Result<(Probability, Probability)> {
    if n > MOST_EXACT {
        return Err(Error::new(format!("an exact signed-rank test takes at most {MOST_EXACT} numbers, not {n}"))
            .hint("the asymptotic method is as good for that many"));
    }
    let weights: Vec<usize> = (1..=n).collect();
    let masses = masses(&weights)?;
    let top = n * (n + 1) / 2;
    let at_most = |sum: f64| Probability::new(masses.iter().take(sum as usize + 1).sum());
    // The distribution is symmetric.
    Ok((at_most(plus.ceil()), at_most(top as f64 - plus.floor())))
}

/// Both tails from the distribution of exactly these ranks, with their ties.
fn conditional(ranks: &[f64], plus: f64) -> Result<(Probability, Probability)> {
    // Mean ranks are whole numbers or halves.
    let doubled = |rank: f64| (rank * 2.0).round() as usize;
    let weights: Vec<usize> = ranks.iter().copied().map(doubled).collect();
    let masses = masses(&weights)?;
    let (place, top) = (doubled(plus), weights.iter().sum::<usize>());
    let at_most = |place: usize| Probability::new(masses.iter().take(place + 1).sum());
    Ok((at_most(place), at_most(top.saturating_sub(place))))
}

/// The probability of each sum of weights, where each weight counts with probability one half.
fn masses(weights: &[usize]) -> Result<Vec<f64>> {
    let mut masses = vec![1.0];
    for weight in weights {
        interrupt::check()?;
        let mut next = vec![0.0; masses.len() + weight];
        for (sum, mass) in masses.iter().enumerate() {
            next[sum] += mass / 2.0;
            next[sum + weight] += mass / 2.0;
        }
        masses = next;
    }
    Ok(masses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_numbers_have_the_tabulated_probabilities() {
        let result = wilcoxon(&[1.0, 2.0, 3.0, 4.0, 5.0], Settings::default()).expect("a test");
        assert_eq!((result.statistic, result.p.value()), (0.0, 0.0625));
        let masses = masses(&[1, 2, 3]).expect("masses");
        assert_eq!(masses, [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0].map(|ways| ways / 8.0));
    }
}
