//! Tail probabilities of the normal, Student's t, chi-squared and binomial distributions, accurate in their far tails.
//!
//! Student's t and the binomial go through the regularised incomplete beta function, computed on logarithms: by its
//! continued fraction (Lentz's method), with Stirling's series where gamma functions nearly cancel.

use std::f64::consts::{LN_2, PI, SQRT_2};

use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};
use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;

use super::probability::Probability;
use crate::error::{Error, Result};

/// Above this, Stirling's series with the terms below is exact to the last digit.
const STIRLING_FROM: f64 = 10.0;
const MOST_TERMS: usize = 100_000;
/// Largest number of trials for which binomial coefficients are exact in a float.
const FEW_TRIALS: u64 = 50;

/// The difference between the logarithm of the gamma function and Stirling's formula.
fn stirling_rest(z: f64) -> f64 {
    let square = z * z;
    let series = 1.0 / 1680.0 - (1.0 / 1188.0 - 691.0 / 360_360.0 / square) / square;
    let series = 1.0 / 360.0 - (1.0 / 1260.0 - series / square) / square;
    (1.0 / 12.0 - series / square) / z
}

fn ln_gamma_exact(z: f64) -> f64 {
    if z < STIRLING_FROM { ln_gamma(z) } else { (z - 0.5) * z.ln() - z + 0.5 * (2.0 * PI).ln() + stirling_rest(z) }
}

/// The logarithm of the beta function.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large < STIRLING_FROM {
        return ln_gamma(small) + ln_gamma(large) - ln_gamma(small + large);
    }
    let sum = small + large;
    let large_less_sum =
        -(large - 0.5) * (small / large).ln_1p() - small * sum.ln() + small + stirling_rest(large) - stirling_rest(sum);
    ln_gamma_exact(small) + large_less_sum
}

/// The regularised incomplete beta function at x, given the logarithms of x and of 1 - x.
pub fn incomplete_beta(a: f64, b: f64, ln_x: f64, ln_rest: f64) -> Probability {
    if ln_x == f64::NEG_INFINITY || ln_rest == f64::NEG_INFINITY {
        return Probability::from_ln(ln_x);
    }
    let front = a * ln_x + b * ln_rest - ln_beta(a, b);
    if ln_x.exp() < (a + 1.0) / (a + b + 2.0) {
        Probability::from_ln(front - a.ln() + beta_fraction(a, b, ln_x.exp()).ln())
    } else {
        Probability::from_ln(front - b.ln() + beta_fraction(b, a, ln_rest.exp()).ln()).complement()
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let nonzero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut numerator = 1.0;
    let mut denominator = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = denominator;
    for term in 1..MOST_TERMS {
        let m = term as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for coefficient in [even, odd] {
            denominator = 1.0 / nonzero(1.0 + coefficient * denominator);
            numerator = nonzero(1.0 + coefficient / numerator);
            change = numerator * denominator;
            fraction *= change;
        }
        if (change - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    fraction
}

/// The probability that Student's t with `df` degrees of freedom is at least `t`.
pub fn t_upper(t: f64, df: f64) -> Probability {
    if t.is_nan() || df.is_nan() {
        return Probability::from_ln(f64::NAN);
    }
    let ratio = t.abs() / df.sqrt();
    // Logarithms of df / (df + t^2) and of t^2 / (df + t^2), also where t^2 is too large or too small for a float.
    let ln_x = if ratio > 1e100 { -2.0 * ratio.ln() } else { -(ratio * ratio).ln_1p() };
    let ln_rest = if ratio < 1e-100 { 2.0 * ratio.ln() } else { -(1.0 / (ratio * ratio)).ln_1p() };
    let beyond = Probability::from_ln(incomplete_beta(df / 2.0, 0.5, ln_x, ln_rest).ln() - LN_2);
    if t < 0.0 { beyond.complement() } else { beyond }
}

/// The probability that Student's t with `df` degrees of freedom is at most `t`.
pub fn t_lower(t: f64, df: f64) -> Probability {
    t_upper(-t, df)
}

/// The probability that a standard normal variable is at least `z`.
pub fn normal_upper(z: f64) -> Probability {
    if z == f64::INFINITY {
        return Probability::new(0.0);
    }
    if z < 5.0 || z.is_nan() {
        return Probability::new(0.5 * erfc(z / SQRT_2));
    }
    // Mills's ratio as a continued fraction.
    let ratio = (1..=80).rev().fold(z, |rest, k| z + f64::from(k) / rest);
    Probability::from_ln(-0.5 * z * z - 0.5 * (2.0 * PI).ln() - ratio.ln())
}

/// The probability that a standard normal variable is at most `z`.
pub fn normal_lower(z: f64) -> Probability {
    normal_upper(-z)
}

/// The z below which a standard normal variable lies with probability `p`, infinite for 0 and 1.
///
/// # Errors
/// A `p` outside [0, 1].
pub fn normal_quantile(p: f64) -> Result<f64> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::new(format!("a probability lies between 0 and 1, {p} does not")));
    }
    Ok(Normal::standard().inverse_cdf(p))
}

/// The probability that a chi-squared variable with `df` degrees of freedom is at least `x`; 0 below the smallest
/// float.
///
/// # Errors
/// Degrees of freedom that are not positive.
pub fn chi_squared_upper(x: f64, df: f64) -> Result<f64> {
    let distribution = ChiSquared::new(df)
        .map_err(|_| Error::new(format!("degrees of freedom are a positive number, {df} is not one")))?;
    Ok(if x <= 0.0 { 1.0 } else { distribution.sf(x) })
}

/// The logarithm of the probability of exactly `k` successes in `n` trials.
pub fn ln_binomial(k: u64, n: u64, p: f64) -> f64 {
    let (successes, failures) = (k as f64, n.saturating_sub(k) as f64);
    let power = |count: f64, ln: f64| if count == 0.0 { 0.0 } else { count * ln };
    let ways = -((n as f64) + 1.0).ln() - ln_beta(successes + 1.0, failures + 1.0);
    ways + power(successes, p.ln()) + power(failures, (-p).ln_1p())
}

/// The probabilities of 0, 1, ... `n` successes.
fn few_trials(n: u64, p: f64) -> impl Iterator<Item = f64> {
    let next = move |(k, ways): &(u64, f64)| Some((k + 1, ways * (n - k) as f64 / (k + 1) as f64));
    let ways = std::iter::successors(Some((0, 1.0)), next).take(n as usize + 1);
    ways.map(move |(k, ways)| ways * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32))
}

/// The probability of at least `k` successes in `n` trials.
pub fn binomial_upper(k: u64, n: u64, p: f64) -> Probability {
    if k == 0 {
        return Probability::new(1.0);
    }
    if k > n {
        return Probability::new(0.0);
    }
    if n <= FEW_TRIALS {
        return Probability::new(few_trials(n, p).skip(k as usize).sum());
    }
    incomplete_beta(k as f64, (n - k) as f64 + 1.0, p.ln(), (-p).ln_1p())
}

/// The probability of at most `k` successes in `n` trials.
pub fn binomial_lower(k: u64, n: u64, p: f64) -> Probability {
    if k >= n {
        return Probability::new(1.0);
    }
    if n <= FEW_TRIALS {
        return Probability::new(few_trials(n, p).take(k as usize + 1).sum());
    }
    incomplete_beta((n - k) as f64, k as f64 + 1.0, (-p).ln_1p(), p.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_add_up_to_one() {
        for df in [1.0, 2.5, 30.0, 1e4, 1e7] {
            for t in [-30.0, -2.0, -1e-5, 0.0, 0.3, 1.0, 7.0] {
                let sum = t_upper(t, df).value() + t_lower(t, df).value();
                assert!((sum - 1.0).abs() < 1e-14, "t {t}, df {df}: {sum}");
            }
        }
        for (k, n, p) in [(3, 10, 0.2), (500, 1000, 0.5), (1, 100_000, 1e-5)] {
            let sum = binomial_upper(k, n, p).value() + binomial_lower(k - 1, n, p).value();
            assert!((sum - 1.0).abs() < 1e-12, "{k} of {n} at {p}: {sum}");
        }
    }

    #[test]
    fn the_binomial_is_the_sum_of_its_terms() {
        let (n, p) = (60, 0.3);
        for k in 0..=n {
            let sum: f64 = (k..=n).map(|i| ln_binomial(i, n, p).exp()).sum();
            assert!((binomial_upper(k, n, p).value() / sum - 1.0).abs() < 1e-11, "{k}");
        }
    }

    #[test]
    fn limits_are_reached() {
        assert_eq!(t_upper(f64::INFINITY, 9.0).value(), 0.0);
        assert_eq!(t_upper(f64::NEG_INFINITY, 9.0).value(), 1.0);
        assert!((t_upper(1e-200, 9.0).value() - 0.5).abs() < 1e-15);
        assert!(t_upper(f64::NAN, 9.0).value().is_nan());
        assert_eq!(normal_upper(f64::INFINITY).log10(), f64::NEG_INFINITY);
        assert_eq!(binomial_upper(1, 5, 0.0).value(), 0.0);
        assert_eq!(binomial_lower(4, 5, 1.0).value(), 0.0);
        assert_eq!(binomial_upper(5, 5, 1.0).value(), 1.0);
    }
}
