//! Tests of several paired hypotheses at once: sign flips with the maximum of t over hypotheses (Westfall and Young,
//! Resampling-Based Multiple Testing, 1993).

use rand::Rng;
use tch::Tensor;

use super::permutation::sign_patterns;
use super::probability::Alternative;
use super::summary::{divided, exponent};
use super::{check_sample, generator, ttest};
use crate::error::{Error, Result};
use crate::interrupt;

/// The settings of a test.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The number of sign flips to draw; if there are no more in total, each is taken once.
    pub permutations: usize,
    /// The seed of the draws.
    pub seed: u64,
    /// The alternative hypothesis.
    pub alternative: Alternative,
}

impl Default for Settings {
    fn default() -> Self {
        Self { permutations: 10_000, seed: 0, alternative: Alternative::default() }
    }
}

/// The results, in the order of the hypotheses.
#[derive(Debug, Clone)]
pub struct MaxT {
    /// The one-sample t statistics against 0.
    pub t: Vec<f64>,
    /// The p-values by sign flips of each hypothesis alone.
    pub p: Vec<f64>,
    /// The p-values by the maximum over all hypotheses.
    pub single_step: Vec<f64>,
    /// The p-values by the maximum over those hypotheses that are no more extreme.
    pub step_down: Vec<f64>,
    /// The number of sign flips taken.
    pub permutations: usize,
    /// Whether these were all there are.
    pub exact: bool,
}

/// How close two statistics, which lie between -1 and 1, count as equal: far more than rounding moves a sum.
const TOLERANCE: f64 = 1e-10;

/// Signs held at once: bounds the memory used.
const BLOCK: usize = 1 << 20;

/// Tests whether the mean of each row is 0, with p-values for one hypothesis and for all.
///
/// # Errors
/// No rows, rows of different lengths, with fewer than two numbers or one that is not finite; no permutations.
pub fn max_t(rows: &[Vec<f64>], settings: Settings) -> Result<MaxT> {
    if settings.permutations == 0 {
        return Err(Error::new("`permutations` must be at least 1"));
    }
    let Some(samples) = rows.first().map(Vec::len) else {
        return Err(Error::new("`max_t` needs at least 1 hypothesis"));
    };
    let mut t = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        check_sample(&format!("hypothesis {index} of `max_t`"), row, 2)?;
        if row.len() != samples {
            return Err(Error::new(format!(
                "the hypotheses of `max_t` share their samples, but hypothesis {index} has {} and the first {samples}",
                row.len()
            )));
        }
        t.push(ttest::one_sample(row, 0.0, settings.alternative)?.t);
    }
    let all = sign_patterns(samples, settings.permutations);
    let counts = Counts::new(rows, samples, all, settings)?;
    let total = all.unwrap_or(settings.permutations);
    // Among random flips, the observed arrangement counts as one.
    let extra = usize::from(all.is_none());
    let share = |count: &usize| (count + extra) as f64 / (total + extra) as f64;
    let mut found = MaxT {
        t,
        p: vec![1.0; rows.len()],
        single_step: vec![1.0; rows.len()],
        step_down: vec![1.0; rows.len()],
        permutations: total,
        exact: all.is_some(),
    };
    let mut before = 0.0_f64;
    for (place, row) in counts.order.iter().enumerate() {
        found.p[*row] = share(&counts.alone[place]);
        found.single_step[*row] = share(&counts.among_all[place]);
        before = before.max(share(&counts.among_rest[place]));
        found.step_down[*row] = before;
    }
    Ok(found)
}

/// How many sign flips are at least as extreme as what was observed, from the most extreme hypothesis down.
struct Counts {
    order: Vec<usize>,
    alone: Vec<usize>,
    among_all: Vec<usize>,
    among_rest: Vec<usize>,
}

impl Counts {
    fn new(rows: &[Vec<f64>], samples: usize, all: Option<usize>, settings: Settings) -> Result<Self> {
        // The cosine of the angle between the signs and a row grows with its t, and needs no variance.
        let directions: Vec<Vec<f64>> = rows.iter().map(|row| direction(row)).collect();
        let extremity = |cosine: f64| match settings.alternative {
            Alternative::TwoSided => cosine.abs(),
            Alternative::Greater => cosine,
            Alternative::Less => -cosine,
        };
        let observed: Vec<f64> = directions.iter().map(|direction| extremity(direction.iter().sum())).collect();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| observed[*b].total_cmp(&observed[*a]));
        let least: Vec<f64> = order.iter().map(|row| observed[*row] - TOLERANCE).collect();
        let ordered: Vec<f64> = order.iter().flat_map(|row| directions[*row].iter().copied()).collect();
        let ordered = Tensor::f_from_slice(&ordered)?.f_reshape([rows.len() as i64, samples as i64])?;
        let ordered = ordered.f_transpose(0, 1)?;

        let zeros = || vec![0; rows.len()];
        let mut counts = Self { order, alone: zeros(), among_all: zeros(), among_rest: zeros() };
        let total = all.unwrap_or(settings.permutations);
        let block = (BLOCK / (samples + rows.len())).max(1);
        let mut random = generator(settings.seed);
        for start in (0..total).step_by(block) {
            interrupt::check()?;
            let patterns = start..total.min(start + block);
            let height = patterns.len() as i64;
            let mut signs = Vec::with_capacity(patterns.len() * samples);
            for pattern in patterns {
                let flipped = |sample: usize| if all.is_some() { pattern >> sample & 1 == 1 } else { random.r#gen() };
                signs.extend((0..samples).map(flipped).map(|flipped| if flipped { -1.0 } else { 1.0 }));
            }
            let signs = Tensor::f_from_slice(&signs)?.f_reshape([height, samples as i64])?;
            let cosines = Vec::<f64>::try_from(&signs.f_matmul(&ordered)?.f_reshape([-1])?)?;
            for cosines in cosines.chunks_exact(rows.len()) {
                counts.add(cosines.iter().copied().map(extremity), &least);
            }
        }
        Ok(counts)
    }

    /// Counts one arrangement of signs.
    fn add(&mut self, extremities: impl DoubleEndedIterator<Item = f64> + ExactSizeIterator, least: &[f64]) {
        let mut largest = f64::NEG_INFINITY;
        for (place, extremity) in extremities.enumerate().rev() {
            largest = largest.max(extremity);
            self.alone[place] += usize::from(extremity >= least[place]);
            self.among_rest[place] += usize::from(largest >= least[place]);
        }
        for (count, least) in self.among_all.iter_mut().zip(least) {
            *count += usize::from(largest >= *least);
        }
    }
}

/// The row in such a unit that its product with signs is a cosine; zeros stay.
fn direction(row: &[f64]) -> Vec<f64> {
    let row = divided(row, exponent(&[row]));
    let length = (row.iter().map(|value| value * value).sum::<f64>() * row.len() as f64).sqrt();
    row.into_iter().map(|value| if length == 0.0 { 0.0 } else { value / length }).collect()
}
