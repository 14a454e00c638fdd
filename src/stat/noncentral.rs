//! The noncentral t distribution: the mean over the divisor's chi distribution of the normal probability given the
//! divisor (Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 2, 1995, chapter 31), by
//! Gauss-Legendre quadrature.

use super::distribution::normal_upper;

/// The nodes above 0 and their weights of the rule with eight points (Abramowitz and Stegun 1964, table 25.4).
const RULE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// The number of spreads of a normal variable beyond which nothing is left in a float.
const REACH: f64 = 9.0;

/// The probability that `(Z + shift) / sqrt(V / df)` is at least `t`, where Z is standard normal and V chi-squared with
/// `df` degrees of freedom, at least 1. The absolute error is below 1e-12.
pub fn noncentral_t_upper(t: f64, df: f64, shift: f64) -> f64 {
    // The divisor's logarithm has its mode at 0, this spread, and a longer tail on the left.
    let spread = 1.0 / (2.0 * df).sqrt();
    let (first, last) = (-(REACH * spread).max(40.0 / df), REACH * spread);
    let steps = ((last - first) / spread * 2.0).ceil();
    let mut edges: Vec<f64> = (0..=steps as usize).map(|step| first + (last - first) * step as f64 / steps).collect();
    // Where the divisor times t passes the shift, the probability falls from 1 to 0; for a large shift, steeply.
    let (passing, steepness) = ((shift / t).ln(), shift.abs());
    if steepness > 1.0 && passing.is_finite() {
        let falling = (0..=2 * REACH as usize).map(|step| passing + (step as f64 - REACH) / steepness);
        edges.extend(falling.filter(|edge| (first..last).contains(edge)));
        edges.sort_by(f64::total_cmp);
    }
    let (mut sum, mut total) = (0.0, 0.0);
    for edges in edges.windows(2) {
        let (middle, half) = ((edges[0] + edges[1]) / 2.0, (edges[1] - edges[0]) / 2.0);
        for (node, weight) in RULE {
            for place in [middle - half * node, middle + half * node] {
                let density = weight * half * (-df / 2.0 * ((2.0 * place).exp_m1() - 2.0 * place)).exp();
                total += density;
                sum += density * normal_upper(t * place.exp() - shift).value();
            }
        }
    }
    sum / total
}

#[cfg(test)]
mod tests {
    use super::super::distribution::t_upper;
    use super::*;

    #[test]
    fn without_shift_it_is_students() {
        for df in [1.0, 2.0, 3.0, 7.0, 30.0, 1e3, 1e6, 1e10] {
            for t in [-1e3, -3.0, 0.0, 0.1, 1.0, 2.5, 40.0, 1e4] {
                let (ours, students) = (noncentral_t_upper(t, df, 0.0), t_upper(t, df).value());
                assert!((ours - students).abs() < 1e-12, "t {t}, df {df}: {ours} instead of {students}");
            }
        }
    }
}
