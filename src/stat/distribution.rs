//! Tail probabilities of the normal, Student's t, chi-squared and binomial distributions, accurate in their far tails.

use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, SQRT_2, TAU};

use libm::erfc;
use statrs::distribution::{ContinuousCDF, Normal};

use super::probability::Probability;
use super::special::{LN_SQRT_TAU, Share, incomplete_beta, ln_beta, upper_gamma};
use crate::error::{Error, Result};

/// Largest number of trials for which binomial coefficients are exact in a float.
const FEW_TRIALS: u64 = 50;

/// The probability that Student's t with `df` degrees of freedom is at least `t`.
pub fn t_upper(t: f64, df: f64) -> Probability {
    if t.is_nan() || df.is_nan() {
        return Probability::from_ln(f64::NAN);
    }
    let share = Share::of_ratio(t.abs() / df.sqrt());
    let beyond = Probability::from_ln(incomplete_beta(df / 2.0, 0.5, share).ln() - LN_2);
    if t < 0.0 { beyond.complement() } else { beyond }
}

/// The probability that Student's t with `df` degrees of freedom is at most `t`.
pub fn t_lower(t: f64, df: f64) -> Probability {
    t_upper(-t, df)
}

/// The probability that a standard normal variable is at least `z`.
pub fn normal_upper(z: f64) -> Probability {
    // The square of z and what rounding leaves of it.
    let square = z * z;
    if square.is_infinite() || z.is_nan() {
        return Probability::new(if z.is_nan() { z } else { f64::from(u8::from(z < 0.0)) });
    }
    let rest = z.mul_add(z, -square);
    if z < 5.0 {
        // The argument is rounded too; a step along the derivative makes up for it.
        let x = z / SQRT_2;
        let step =
            if x == 0.0 { 0.0 } else { ((square / 2.0 - x * x) - x.mul_add(x, -(x * x)) + rest / 2.0) / (2.0 * x) };
        return Probability::new(0.5 * (erfc(x) - FRAC_2_SQRT_PI * (-x * x).exp() * step));
    }
    // Mills's ratio as a continued fraction.
    let ratio = (1..=80).rev().fold(z, |rest, k| z + f64::from(k) / rest);
    // The density in two factors, of which neither is below the smallest float.
    let root = (-square / 4.0).exp();
    let value = root * (1.0 - rest / 2.0) / (TAU.sqrt() * ratio) * root;
    Probability::with_ln(value, -0.5 * square - LN_SQRT_TAU - ratio.ln())
}

/// The probability that a standard normal variable is at most `z`.
pub fn normal_lower(z: f64) -> Probability {
    normal_upper(-z)
}

/// Fails unless `p` is a probability.
///
/// # Errors
/// A `p` outside [0, 1].
pub fn check_probability(p: f64) -> Result<()> {
    match (0.0..=1.0).contains(&p) {
        true => Ok(()),
        false => Err(Error::new(format!("a probability lies between 0 and 1, {p} does not"))),
    }
}

/// The z below which a standard normal variable lies with probability `p`, infinite for 0 and 1.
///
/// # Errors
/// A `p` outside [0, 1].
pub fn normal_quantile(p: f64) -> Result<f64> {
    check_probability(p)?;
    if p == 0.0 || p == 1.0 {
        return Ok(if p == 0.0 { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    // Newton's steps on the logarithm of the smaller tail, from a close start.
    let tail = if p > 0.5 { 1.0 - p } else { p };
    let mut z = Normal::standard().inverse_cdf(tail).max(-40.0);
    for _ in 0..4 {
        let found = normal_lower(z).ln();
        let slope = (-0.5 * z * z - LN_SQRT_TAU - found).exp();
        z -= (found - tail.ln()) / slope;
    }
    Ok(if p > 0.5 { -z } else { z })
}

/// The t below which Student's t with `df` degrees of freedom lies with probability `p`, infinite for 0 and 1.
///
/// # Errors
/// A `p` outside [0, 1].
pub fn t_quantile(p: f64, df: f64) -> Result<f64> {
    check_probability(p)?;
    let tail = p.min(1.0 - p);
    if tail == 0.5 {
        return Ok(0.0);
    }
    // The upper tail falls with t: halve an interval that holds its size until no float is left inside.
    let exceeds = |t: f64| t_upper(t, df).ln() > tail.ln();
    let (mut low, mut high) = (0.0, 1.0);
    while exceeds(high) {
        (low, high) = (high, 2.0 * high);
    }
    loop {
        let middle = low + (high - low) / 2.0;
        if !(low < middle && middle < high) {
            return Ok(if p > 0.5 { high } else { -high });
        }
        if exceeds(middle) { low = middle } else { high = middle }
    }
}

/// The probability that a chi-squared variable with `df` degrees of freedom is at least `x`; 0 below the smallest
/// float.
///
/// # Errors
/// Degrees of freedom that are not positive.
pub fn chi_squared_upper(x: f64, df: f64) -> Result<f64> {
    if df.is_nan() || df <= 0.0 {
        return Err(Error::new(format!("degrees of freedom are a positive number, {df} is not one")));
    }
    Ok(upper_gamma(df / 2.0, x / 2.0).value())
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
    incomplete_beta(k as f64, (n - k) as f64 + 1.0, Share::new(p))
}

/// The probability of at most `k` successes in `n` trials.
pub fn binomial_lower(k: u64, n: u64, p: f64) -> Probability {
    if k >= n {
        return Probability::new(1.0);
    }
    if n <= FEW_TRIALS {
        return Probability::new(few_trials(n, p).take(k as usize + 1).sum());
    }
    incomplete_beta((n - k) as f64, k as f64 + 1.0, Share::new(p).other())
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
    fn the_quantile_of_t_is_where_its_tail_has_that_probability() {
        for df in [1.0, 2.0, 9.0, 1e3, 1e9] {
            for p in [1e-300, 1e-20, 1e-4, 0.025, 0.3, 0.4999, 0.5, 0.6, 0.975] {
                let lower = t_lower(t_quantile(p, df).expect("a quantile"), df).value();
                assert!((lower / p - 1.0).abs() < 1e-12, "p {p}, df {df}: {lower}");
            }
            assert_eq!(t_quantile(1.0, df).expect("a limit"), f64::INFINITY);
        }
    }

    #[test]
    fn limits_are_reached() {
        assert_eq!(t_upper(f64::INFINITY, 9.0).value(), 0.0);
        assert_eq!(t_upper(f64::NEG_INFINITY, 9.0).value(), 1.0);
        assert!((t_upper(1e-200, 9.0).value() - 0.5).abs() < 1e-15);
        assert!(t_upper(f64::NAN, 9.0).value().is_nan());
        for large in [1e160, f64::INFINITY] {
            assert_eq!(normal_upper(large).log10(), f64::NEG_INFINITY);
            assert_eq!(normal_upper(-large).value(), 1.0);
        }
        assert_eq!(binomial_upper(1, 5, 0.0).value(), 0.0);
        assert_eq!(binomial_lower(4, 5, 1.0).value(), 0.0);
        assert_eq!(binomial_upper(5, 5, 1.0).value(), 1.0);
    }
}
