//! The permutation test of a difference in means.

use rand::Rng;

use super::probability::{Alternative, Probability};
use super::{check_pairs, check_sample, generator};
use crate::error::{Error, Result};
use crate::interrupt;

/// The settings of a test.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The number of permutations to draw; if there are no more in total, each is taken once.
    pub n_resamples: usize,
    /// The seed of the draws.
    pub seed: u64,
    /// Whether the samples are paired: if so, only the members of a pair are exchanged.
    pub paired: bool,
    /// The alternative hypothesis.
    pub alternative: Alternative,
}

impl Default for Settings {
    fn default() -> Self {
        Self { n_resamples: 9999, seed: 0, paired: false, alternative: Alternative::default() }
    }
}

/// The result of a permutation test.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    /// The difference of the means.
    pub statistic: f64,
    /// The p-value.
    pub p: Probability,
    /// The number of permutations taken.
    pub n_resamples: usize,
    /// Whether these were all permutations.
    pub exact: bool,
}

/// Counts of permutations whose statistic is at most, and at least, the observed one.
struct Counts {
    observed: f64,
    tolerance: f64,
    at_most: usize,
    at_least: usize,
    total: usize,
}

impl Counts {
    fn new(observed: f64, tolerance: f64) -> Self {
        Self { observed, tolerance, at_most: 0, at_least: 0, total: 0 }
    }

    fn add(&mut self, statistic: f64) -> Result<()> {
        self.at_most += usize::from(statistic <= self.observed + self.tolerance);
        self.at_least += usize::from(statistic >= self.observed - self.tolerance);
        self.total += 1;
        if self.total.is_multiple_of(1024) { interrupt::check() } else { Ok(()) }
    }
}

/// Whether two samples come from one distribution, by the difference of their means.
///
/// # Errors
/// Samples without numbers, with one that is not finite, or paired ones of different lengths; no permutations.
pub fn permutation_test(a: &[f64], b: &[f64], settings: Settings) -> Result<Permutation> {
    check_sample("the first sample", a, 1)?;
    check_sample("the second sample", b, 1)?;
    if settings.n_resamples == 0 {
        return Err(Error::new("`n_resamples` must be at least 1"));
    }
    let (counts, exact) = if settings.paired { paired(a, b, settings)? } else { independent(a, b, settings)? };
    // Among random permutations, the observed arrangement counts as one.
    let extra = usize::from(!exact);
    let share = |count: usize| Probability::new((count + extra) as f64 / (counts.total + extra) as f64);
    Ok(Permutation {
        statistic: mean(a.iter().copied(), a.len()) - mean(b.iter().copied(), b.len()),
        p: settings.alternative.p_value(share(counts.at_most), share(counts.at_least)),
        n_resamples: counts.total,
        exact,
    })
}

fn mean(sample: impl Iterator<Item = f64>, count: usize) -> f64 {
    sample.sum::<f64>() / count as f64
}

fn mean_size(sample: &[f64]) -> f64 {
    mean(sample.iter().map(|value| value.abs()), sample.len())
}

/// Up to where two statistics are equal: SciPy's 100 roundings, but of what the sums are made of, since equal sums of
/// tenths also differ where the statistic is 0. The numbers given are rounded too: 0.1 is none that a float holds.
fn tolerance(added: [&[f64]; 2], given: [&[f64]; 2]) -> f64 {
    let sizes = |samples: [&[f64]; 2]| mean_size(samples[0]) + mean_size(samples[1]);
    f64::EPSILON * (100.0 * sizes(added) + 4.0 * sizes(given))
}

fn paired(a: &[f64], b: &[f64], settings: Settings) -> Result<(Counts, bool)> {
    check_pairs("permutation_test", a, b)?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let count = differences.len();
    let mut counts = Counts::new(mean(differences.iter().copied(), count), tolerance([&differences, &[0.0]], [a, b]));
    let signed = |negative: &dyn Fn(usize) -> bool| {
        mean(differences.iter().enumerate().map(|(i, value)| if negative(i) { -value } else { *value }), count)
    };
    if let Some(patterns) = sign_patterns(count, settings.n_resamples) {
        for signs in 0..patterns {
            counts.add(signed(&|i| signs >> i & 1 == 1))?;
        }
        return Ok((counts, true));
    }
    let mut random = generator(settings.seed);
    let mut negative = vec![false; count];
    for _ in 0..settings.n_resamples {
        random.fill(negative.as_mut_slice());
        counts.add(signed(&|i| negative.get(i).copied().unwrap_or(false)))?;
    }
    Ok((counts, false))
}

fn independent(a: &[f64], b: &[f64], settings: Settings) -> Result<(Counts, bool)> {
    let (first, total) = (a.len(), a.len() + b.len());
    // What all numbers have in common leaves the statistic alone, but not its rounding.
    let common = mean(a.iter().chain(b).copied(), total);
    let mut pool: Vec<f64> = a.iter().chain(b).map(|value| value - common).collect();
    let statistic = |chosen: f64, rest: f64| chosen / first as f64 - rest / (total - first) as f64;
    let (chosen, rest) = pool.split_at(first);
    let mut counts = Counts::new(statistic(chosen.iter().sum(), rest.iter().sum()), tolerance([chosen, rest], [a, b]));
    if combinations(total, first, settings.n_resamples).is_some() {
        let mut chosen: Vec<usize> = (0..first).collect();
        loop {
            let mut sums = [0.0, 0.0];
            let mut next = 0;
            for (index, value) in pool.iter().enumerate() {
                let inside = chosen.get(next) == Some(&index);
                next += usize::from(inside);
                sums[usize::from(!inside)] += value;
            }
            counts.add(statistic(sums[0], sums[1]))?;
            // The next combination in lexical order.
            let Some(place) = (0..first).rev().find(|place| chosen[*place] < total - first + place) else {
                return Ok((counts, true));
            };
            let start = chosen[place] + 1;
            for (offset, index) in chosen[place..].iter_mut().enumerate() {
                *index = start + offset;
            }
        }
    }
    let mut random = generator(settings.seed);
    for _ in 0..settings.n_resamples {
        for place in 0..first {
            pool.swap(place, random.gen_range(place..total));
        }
        let (chosen, rest) = pool.split_at(first);
        counts.add(statistic(chosen.iter().sum(), rest.iter().sum()))?;
    }
    Ok((counts, false))
}

/// The number of ways to give `count` numbers signs, if it is at most `most`.
pub fn sign_patterns(count: usize, most: usize) -> Option<usize> {
    let patterns = 1_usize.checked_shl(u32::try_from(count).ok()?)?;
    (patterns <= most).then_some(patterns)
}

/// The number of ways to choose, if it is at most `most`.
fn combinations(total: usize, chosen: usize, most: usize) -> Option<usize> {
    let mut ways: usize = 1;
    for step in 0..chosen.min(total - chosen) {
        ways = ways.checked_mul(total - step)? / (step + 1);
        if ways > most {
            return None;
        }
    }
    Some(ways)
}
