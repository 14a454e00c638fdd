//! Bootstrap confidence intervals of means and medians: percentile, basic, and bias-corrected and accelerated (BCa).

use rand::Rng;

use super::distribution::{normal_lower, normal_quantile};
use super::probability::choice;
use super::summary::{mean_and_variance, median, moments, quantile};
use super::{check_sample, cluster, generator};
use crate::error::{Error, Result};
use crate::interrupt;

/// The method for the ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Quantiles, shifted for bias and for how the error changes with the estimate.
    #[default]
    Bca,
    /// Quantiles.
    Percentile,
    /// Quantiles mirrored at the estimate.
    Basic,
}

impl Method {
    /// The method of that name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match choice("method", name, &["BCa", "percentile", "basic"])? {
            0 => Self::Bca,
            1 => Self::Percentile,
            _ => Self::Basic,
        })
    }
}

/// The settings of an interval.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The confidence level: the share of such intervals that contain the true value.
    pub level: f64,
    /// The number of resamples.
    pub n_resamples: usize,
    /// The method for the ends.
    pub method: Method,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: 0.95, n_resamples: 9999, method: Method::default(), seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::new(format!("`level` lies between 0 and 1, {} does not", self.level)));
        }
        if self.n_resamples < 2 {
            return Err(Error::new("`n_resamples` must be at least 2"));
        }
        if self.n_resamples > MOST_RESAMPLES {
            let given = self.n_resamples;
            return Err(Error::new(format!("`n_resamples` of a bootstrap is at most {MOST_RESAMPLES}, not {given}"))
                .hint("the means of all resamples are held in memory"));
        }
        Ok(())
    }
}

/// An estimate with its confidence interval. Without variance, both ends are the estimate.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The statistic of the sample itself.
    pub estimate: f64,
    /// The standard deviation over the resamples.
    pub standard_error: f64,
}

/// More resamples change no digit that is reported, and take more memory than there may be.
const MOST_RESAMPLES: usize = 1_000_000;

/// Samples resampled at once: bounds the memory used.
const BLOCK: usize = 256;

/// The intervals of the means of several samples of equal size, all from the same resamples.
///
/// # Errors
/// Samples of different sizes, with fewer than two numbers, or one that is not finite; settings out of range.
pub fn means(samples: &[Vec<f64>], settings: Settings) -> Result<Vec<Interval>> {
    settings.check()?;
    let size = samples.first().map_or(0, Vec::len);
    for sample in samples {
        check_sample("the sample of a bootstrap", sample, 2)?;
        if sample.len() != size {
            return Err(Error::new("samples that are resampled together must have one size"));
        }
    }
    let mut intervals = Vec::with_capacity(samples.len());
    for block in samples.chunks(BLOCK) {
        // One row per position, so that adding up a resample reads whole rows.
        let rows: Vec<Vec<f64>> =
            (0..size).map(|position| block.iter().map(|sample| sample[position]).collect()).collect();
        let resampled = resampled_means(&rows, &vec![1.0; size], settings)?;
        for (sample, means) in block.iter().zip(resampled) {
            let (mean, _) = moments(sample);
            // Leaving one number out moves the mean against that number.
            let influence = sample.iter().map(|value| value - mean);
            intervals.push(interval(mean, means, acceleration(influence), settings)?);
        }
    }
    Ok(intervals)
}

/// The interval of the mean of numbers in clusters, by resampling whole clusters.
///
/// # Errors
/// As [`cluster::groups`]; settings out of range.
pub fn cluster_mean(sample: &[f64], clusters: &[usize], settings: Settings) -> Result<Interval> {
    settings.check()?;
    let groups = cluster::groups("cluster_bootstrap_ci", sample, clusters)?;
    let sums: Vec<Vec<f64>> = groups.iter().map(|group| vec![group.iter().sum()]).collect();
    let sizes: Vec<f64> = groups.iter().map(|group| group.len() as f64).collect();
    let (mean, _) = moments(sample);
    let resampled = resampled_means(&sums, &sizes, settings)?.swap_remove(0);
    let (sum, size): (f64, f64) = (sums.iter().flatten().sum(), sizes.iter().sum());
    let left_out: Vec<f64> =
        sums.iter().zip(&sizes).map(|(less, smaller)| (sum - less[0]) / (size - smaller)).collect();
    interval(mean, resampled, acceleration(changes(&left_out)), settings)
}

/// The means of every column over resamples of units. A unit has a row of sums and the number of what each adds up.
fn resampled_means(rows: &[Vec<f64>], sizes: &[f64], settings: Settings) -> Result<Vec<Vec<f64>>> {
    let mut sums = vec![0.0; rows.first().map_or(0, Vec::len)];
    let mut resampled = vec![Vec::with_capacity(settings.n_resamples); sums.len()];
    let mut random = generator(settings.seed);
    for _ in 0..settings.n_resamples {
        interrupt::check()?;
        sums.fill(0.0);
        let mut total = 0.0;
        for _ in rows {
            let unit = random.gen_range(0..rows.len());
            total += sizes[unit];
            for (sum, value) in sums.iter_mut().zip(&rows[unit]) {
                *sum += value;
            }
        }
        for (means, sum) in resampled.iter_mut().zip(&sums) {
            means.push(sum / total);
        }
    }
    Ok(resampled)
}

/// The interval of the median.
///
/// # Errors
/// Fewer than two numbers, or one that is not finite; settings out of range.
pub fn median_interval(sample: &[f64], settings: Settings) -> Result<Interval> {
    settings.check()?;
    check_sample("the sample of a bootstrap", sample, 2)?;
    let mut random = generator(settings.seed);
    let mut medians = Vec::with_capacity(settings.n_resamples);
    let mut drawn = vec![0.0; sample.len()];
    for _ in 0..settings.n_resamples {
        interrupt::check()?;
        drawn.fill_with(|| sample[random.gen_range(0..sample.len())]);
        medians.push(median(&mut drawn));
    }
    let mut sorted = sample.to_vec();
    let estimate = median(&mut sorted);
    let left_out: Vec<f64> = (0..sorted.len())
        .map(|position| {
            let rest: Vec<f64> = [&sorted[..position], &sorted[position + 1..]].concat();
            quantile(&rest, 0.5)
        })
        .collect();
    interval(estimate, medians, acceleration(changes(&left_out)), settings)
}

/// How far each estimate that leaves a part out falls short of their mean.
fn changes(left_out: &[f64]) -> impl Iterator<Item = f64> {
    let (mean, _) = moments(left_out);
    left_out.iter().map(move |value| mean - value)
}

/// A sixth of the skewness of the estimate, from its changes as each number is left out.
fn acceleration(influence: impl Iterator<Item = f64>) -> f64 {
    let (cubes, squares) =
        influence.fold((0.0, 0.0), |(cubes, squares), value| (cubes + value.powi(3), squares + value * value));
    if squares == 0.0 { 0.0 } else { cubes / (6.0 * squares.powf(1.5)) }
}

fn interval(estimate: f64, mut resampled: Vec<f64>, acceleration: f64, settings: Settings) -> Result<Interval> {
    resampled.sort_by(f64::total_cmp);
    let standard_error = mean_and_variance(&resampled).1.sqrt();
    let tail = (1.0 - settings.level) / 2.0;
    let ends = |low: f64, high: f64| (quantile(&resampled, low), quantile(&resampled, high));
    let (low, high) = match settings.method {
        Method::Percentile => ends(tail, 1.0 - tail),
        Method::Basic => {
            let (low, high) = ends(tail, 1.0 - tail);
            (2.0 * estimate - high, 2.0 * estimate - low)
        }
        Method::Bca => {
            let below = resampled.partition_point(|value| *value < estimate) as f64;
            let up_to = resampled.partition_point(|value| *value <= estimate) as f64;
            let half = 0.5 / resampled.len() as f64;
            let share = ((below + up_to) * half).clamp(half, 1.0 - half);
            let bias = normal_quantile(share)?;
            let shifted = |share: f64| -> Result<f64> {
                let z = bias + normal_quantile(share)?;
                Ok(normal_lower(bias + z / (1.0 - acceleration * z)).value())
            };
            ends(shifted(tail)?, shifted(1.0 - tail)?)
        }
    };
    Ok(Interval { low, high, estimate, standard_error })
}
