//! How well scores tell two classes apart.

use crate::error::{Error, Result};

/// The area under the receiver operating characteristic: the chance that a score of the class `true` is above one of the
/// other, ties counted by half.
///
/// # Errors
/// Scores that are not numbers; a class without any.
pub fn area(scores: &[f64], labels: &[bool]) -> Result<f64> {
    if scores.iter().any(|score| score.is_nan()) {
        return Err(Error::new("some scores are not numbers").hint("score every edge first"));
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|one, other| scores[*one].total_cmp(&scores[*other]));
    let positives = labels.iter().filter(|label| **label).count();
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return Err(
            Error::new("the scores are all of one class").hint("some edges must be known to matter, others not to")
        );
    }
    // The sum of the positives' ranks, ties sharing their mean rank.
    let mut ranks = 0.0;
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..].iter().take_while(|place| scores[**place] == scores[order[start]]).count();
        let rank = start as f64 + (tied as f64 + 1.0) / 2.0;
        ranks += rank * order[start..start + tied].iter().filter(|place| labels[**place]).count() as f64;
        start += tied;
    }
    let positives = positives as f64;
    Ok((ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives as f64))
}
