//! The exact binomial test and the sign test.

use super::check_sample;
use super::distribution::{binomial_lower, binomial_upper, check_probability, ln_binomial};
use super::probability::{Alternative, Probability};
use crate::error::{Error, Result};

/// The binomial test of `k` successes in `n` trials with probability `p`. Two-sided, the p-value sums the outcomes that
/// are at most as likely.
///
/// # Errors
/// No trials, more successes than trials, or a `p` outside [0, 1].
pub fn binomial_test(k: u64, n: u64, p: f64, alternative: Alternative) -> Result<Probability> {
    if n == 0 {
        return Err(Error::new("a binomial test needs at least 1 trial"));
    }
    if k > n {
        return Err(Error::new(format!("{k} successes in {n} trials are too many")));
    }
    check_probability(p)?;
    let (lower, upper) = (binomial_lower(k, n, p), binomial_upper(k, n, p));
    let expected = p * n as f64;
    Ok(match alternative {
        Alternative::Less => lower,
        Alternative::Greater => upper,
        Alternative::TwoSided if k as f64 == expected => Probability::new(1.0),
        Alternative::TwoSided => {
            // The tolerance for equally likely outcomes is SciPy's.
            let most = ln_binomial(k, n, p) + 1e-7_f64.ln_1p();
            let no_likelier = |i: u64| ln_binomial(i, n, p) <= most;
            if (k as f64) < expected {
                let first = first_true(expected.ceil() as u64, n + 1, no_likelier);
                lower.plus(binomial_upper(first, n, p))
            } else {
                // The first outcome from below that is likelier than `k`.
                let first = first_true(0, expected.floor() as u64 + 1, |i| !no_likelier(i));
                if first == 0 { upper } else { upper.plus(binomial_lower(first - 1, n, p)) }
            }
        }
    })
}

/// The first number from `low` that meets a monotone condition; `high` if no smaller one does.
fn first_true(mut low: u64, mut high: u64, condition: impl Fn(u64) -> bool) -> u64 {
    while low < high {
        let middle = low + (high - low) / 2;
        if condition(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The result of a sign test.
#[derive(Debug, Clone, Copy)]
pub struct SignTest {
    /// The number of values above the tested median.
    pub positive: usize,
    /// The number of values below it.
    pub negative: usize,
    /// The p-value.
    pub p: Probability,
}

/// The sign test of a population median of `median`; numbers equal to it are left out.
///
/// # Errors
/// No numbers, or one that is not finite.
pub fn sign_test(sample: &[f64], median: f64, alternative: Alternative) -> Result<SignTest> {
    check_sample("the sample of `sign_test`", sample, 1)?;
    let positive = sample.iter().filter(|value| **value > median).count();
    let negative = sample.iter().filter(|value| **value < median).count();
    let p = match positive + negative {
        // Nothing speaks against the median.
        0 => Probability::new(1.0),
        trials => binomial_test(positive as u64, trials as u64, 0.5, alternative)?,
    };
    Ok(SignTest { positive, negative, p })
}
