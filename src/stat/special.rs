//! The incomplete beta and gamma functions, right in their far tails. They are computed on logarithms, by the continued
//! fractions of Didonato and Morris (ACM TOMS 708, 1992) and Legendre, with Stirling's series where gamma functions
//! nearly cancel.

use std::f64::consts::TAU;

use libm::lgamma;

use super::probability::Probability;

/// Above this, Stirling's series with the terms below is exact to the last digit.
const STIRLING_FROM: f64 = 10.0;
const MOST_TERMS: usize = 1_000_000;

/// What Stirling's formula lacks of the logarithm of the gamma function.
fn stirling_rest(z: f64) -> f64 {
    let square = z * z;
    let series = 1.0 / 1680.0 - (1.0 / 1188.0 - 691.0 / 360_360.0 / square) / square;
    let series = 1.0 / 360.0 - (1.0 / 1260.0 - series / square) / square;
    (1.0 / 12.0 - series / square) / z
}

fn ln_gamma(z: f64) -> f64 {
    if z < STIRLING_FROM { lgamma(z) } else { (z - 0.5) * z.ln() - z + 0.5 * TAU.ln() + stirling_rest(z) }
}

/// The logarithm of the beta function.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large < STIRLING_FROM {
        return lgamma(small) + lgamma(large) - lgamma(small + large);
    }
    let sum = small + large;
    let large_less_sum =
        -(large - 0.5) * (small / large).ln_1p() - small * sum.ln() + small + stirling_rest(large) - stirling_rest(sum);
    ln_gamma(small) + large_less_sum
}

/// A number between 0 and 1 and what it lacks to 1, each with its logarithm, so that neither is lost to rounding.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    x: f64,
    rest: f64,
    ln_x: f64,
    ln_rest: f64,
}

impl Share {
    /// The share `p`.
    pub fn new(p: f64) -> Self {
        Self { x: p, rest: 1.0 - p, ln_x: p.ln(), ln_rest: (-p).ln_1p() }
    }

    /// 1 / (1 + ratio^2), also where the square is too large or too small for a float.
    pub fn of_ratio(ratio: f64) -> Self {
        let ln_x = if ratio > 1e100 { -2.0 * ratio.ln() } else { -(ratio * ratio).ln_1p() };
        let ln_rest = if ratio < 1e-100 { 2.0 * ratio.ln() } else { -(1.0 / ratio / ratio).ln_1p() };
        Self { x: 1.0 / (1.0 + ratio * ratio), rest: 1.0 / (1.0 + 1.0 / ratio / ratio), ln_x, ln_rest }
    }

    /// The other part.
    pub fn other(self) -> Self {
        Self { x: self.rest, rest: self.x, ln_x: self.ln_rest, ln_rest: self.ln_x }
    }
}

/// The regularised incomplete beta function at `share`.
pub fn incomplete_beta(a: f64, b: f64, share: Share) -> Probability {
    let Share { x, rest, ln_x, ln_rest } = share;
    if ln_x == f64::NEG_INFINITY || ln_rest == f64::NEG_INFINITY {
        return Probability::from_ln(ln_x);
    }
    let front = ln_front(a, b, share);
    if (a + 1.0) * rest > (b + 1.0) * x {
        Probability::from_ln(front - beta_fraction(a, b, x, rest).ln())
    } else {
        Probability::from_ln(front - beta_fraction(b, a, rest, x).ln()).complement()
    }
}

/// The logarithm of x^a (1 - x)^b / B(a, b).
fn ln_front(a: f64, b: f64, share: Share) -> f64 {
    let Share { x, rest, ln_x, ln_rest } = share;
    if a.min(b) < STIRLING_FROM {
        return a * ln_x + b * ln_rest - ln_beta(a, b);
    }
    // By Stirling's formula: with large a and b, the logarithms above nearly cancel.
    let total = a + b;
    let excess = x * b - rest * a;
    let part = |count: f64, share: f64, excess: f64| {
        let relative = excess / count;
        count * if relative.abs() > 0.1 { (share * total / count).ln() - relative } else { ln_1p_less(relative) }
    };
    let stirling = stirling_rest(total) - stirling_rest(a) - stirling_rest(b);
    0.5 * (a / total * b / TAU).ln() + stirling + part(a, x, excess) + part(b, rest, -excess)
}

/// x^a (1 - x)^b / B(a, b), divided by the incomplete beta function. `rest` is 1 - x, which x may be too close to 1 to
/// hold.
fn beta_fraction(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    fraction(|m| {
        let (before, behind) = (a + 2.0 * m - 1.0, a + 2.0 * m + 1.0);
        let numerator = (a + m - 1.0) / before * ((a + b + m - 1.0) / before) * m * (b - m) * x * x;
        let part = if m == 0.0 { 0.0 } else { m * (b - m) * x / before };
        (numerator, m + part + (a + m) * (a * rest - b * x + 1.0 + m * (1.0 + rest)) / behind)
    })
}

/// The probability above `x` of a gamma variable of shape `a`: the regularised upper incomplete gamma function.
pub fn upper_gamma(a: f64, x: f64) -> Probability {
    if x <= 0.0 {
        return Probability::new(1.0);
    }
    // The logarithm of x^a e^-x / Gamma(a + 1).
    let density = if a < STIRLING_FROM {
        a * x.ln() - x - lgamma(a + 1.0)
    } else {
        a * ln_1p_less(((x - a) / a).max(-1.0)) - 0.5 * (TAU * a).ln() - stirling_rest(a)
    };
    if x > a + 1.0 {
        let denominators = fraction(|m| (m * (a - m), x - a + 2.0 * m + 1.0));
        return Probability::from_ln(density + a.ln() - denominators.ln());
    }
    let mut term = 1.0;
    let mut sum = 1.0;
    for step in 1..MOST_TERMS {
        term *= x / (a + step as f64);
        sum += term;
        if term < sum * f64::EPSILON / 4.0 {
            break;
        }
    }
    Probability::from_ln(density + sum.ln()).complement()
}

/// ln(1 + x) - x, without loss near 0.
fn ln_1p_less(x: f64) -> f64 {
    if x.abs() > 0.1 {
        return x.ln_1p() - x;
    }
    // With s = x / (2 + x), ln(1 + x) = 2 (s + s^3/3 + s^5/5 + ...), and 2s = x - x s.
    let s = x / (2.0 + x);
    let square = s * s;
    let series = (1..=12).rev().fold(0.0, |rest, k| square * (1.0 / f64::from(2 * k + 1) + rest));
    2.0 * s * series - x * s
}

/// The continued fraction b0 + a1 / (b1 + a2 / (b2 + ...)) whose parts (a, b) `term` gives, by Lentz's method.
fn fraction(term: impl Fn(f64) -> (f64, f64)) -> f64 {
    let nonzero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut value = nonzero(term(0.0).1);
    let (mut numerator, mut denominator) = (value, 0.0);
    for step in 1..MOST_TERMS {
        let (a, b) = term(step as f64);
        denominator = 1.0 / nonzero(b + a * denominator);
        numerator = nonzero(b + a / numerator);
        let change = numerator * denominator;
        value *= change;
        if (change - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    value
}

/// The logarithm of the square root of 2 pi.
pub const LN_SQRT_TAU: f64 = 0.918_938_533_204_672_7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_keep_their_laws() {
        assert_eq!(LN_SQRT_TAU, 0.5 * TAU.ln());
        for x in [-0.0999, -1e-3, 1e-9, 0.05, 0.0999] {
            let plain = f64::ln_1p(x) - x;
            assert!((ln_1p_less(x) - plain).abs() <= 1e-16, "{x}");
        }
        // Shape 1 is the exponential distribution.
        for x in [1e-10, 0.3, 1.0, 5.0, 700.0] {
            assert!((upper_gamma(1.0, x).ln() + x).abs() <= 1e-14 * x.max(1.0), "{x}");
        }
        // I_x(a, 1) = x^a, and I_x(1, b) = 1 - (1 - x)^b.
        for (x, power) in [(0.1, 3.0), (0.7, 40.0), (0.999, 0.3)] {
            let share = Share::new(x);
            assert!((incomplete_beta(power, 1.0, share).ln() - power * x.ln()).abs() < 1e-13, "{x}");
            assert!(
                (incomplete_beta(1.0, power, share.other()).complement().ln() - power * x.ln()).abs() < 1e-12,
                "{x}"
            );
        }
    }
}
