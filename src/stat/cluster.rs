//! Samples in clusters, such as the prompts of one task or of one phrasing, which are not independent of each other.

use super::check_sample;
use super::probability::Alternative;
use super::summary::moments;
use super::ttest::{self, TTest};
use crate::error::{Error, Result};

/// The numbers of each cluster. `clusters` has the cluster of each number, counted from 0.
///
/// # Errors
/// Not one cluster for each number, fewer than two clusters, or a number that is not finite.
pub fn groups(function: &str, sample: &[f64], clusters: &[usize]) -> Result<Vec<Vec<f64>>> {
    check_sample(&format!("the sample of `{function}`"), sample, 1)?;
    if sample.len() != clusters.len() {
        return Err(Error::new(format!("`{function}` got {} numbers but {} clusters", sample.len(), clusters.len()))
            .hint("`clusters` has one label for each sample"));
    }
    let count = clusters.iter().max().map_or(0, |last| last + 1);
    let mut groups = vec![Vec::new(); count];
    for (value, cluster) in sample.iter().zip(clusters) {
        groups[*cluster].push(*value);
    }
    groups.retain(|group| !group.is_empty());
    match groups.len() {
        0 | 1 => Err(Error::new(format!("`{function}` needs at least 2 clusters, not {}", groups.len()))),
        _ => Ok(groups),
    }
}

/// The mean of each cluster.
///
/// # Errors
/// As [`groups`].
pub fn means(function: &str, sample: &[f64], clusters: &[usize]) -> Result<Vec<f64>> {
    Ok(groups(function, sample, clusters)?.iter().map(|group| moments(group).0).collect())
}

/// The result of a t-test over clusters.
#[derive(Debug, Clone, Copy)]
pub struct ClusterTTest {
    /// The mean of the clusters' means.
    pub mean: f64,
    /// The number of clusters.
    pub clusters: usize,
    /// The t-test of the clusters' means against 0.
    pub test: TTest,
}

/// Tests whether the mean of the clusters' means is 0; each cluster counts as one number.
///
/// # Errors
/// As [`groups`].
pub fn ttest(sample: &[f64], clusters: &[usize], alternative: Alternative) -> Result<ClusterTTest> {
    let means = means("cluster_ttest", sample, clusters)?;
    let test = ttest::one_sample(&means, 0.0, alternative)?;
    Ok(ClusterTTest { mean: moments(&means).0, clusters: means.len(), test })
}
