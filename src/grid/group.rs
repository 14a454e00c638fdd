//! Samples of a grid that are computed together.

use std::ops::Range;

use super::request::Request;
use super::sample::Sample;

/// Samples whose prompts have one length and are patched at one position.
#[derive(Debug, Clone)]
pub struct Group {
    /// Their numbers in the request
    pub samples: Vec<usize>,
    /// Their prompts
    pub prompts: Vec<Vec<i64>>,
    /// The position that is patched
    pub position: i64,
    /// Tokens of each prompt
    pub length: i64,
}

impl Group {
    /// The group in two halves.
    pub fn halves(&self) -> [Self; 2] {
        let middle = self.samples.len() / 2;
        [self.slice(0..middle), self.slice(middle..self.samples.len())]
    }

    /// Its samples in `range`.
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self { samples: self.samples[range.clone()].to_vec(), prompts: self.prompts[range].to_vec(), ..*self }
    }

    /// Number of positions after the patched one.
    pub fn suffix(&self) -> i64 {
        self.length - self.position - 1
    }
}

/// The samples grouped by length and position.
pub fn groups(request: &Request, samples: &[Sample]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (number, Sample { prompt, position, .. }) in samples.iter().enumerate() {
        let length = prompt.len() as i64;
        // Samples with a common column form a group of their own: one column then serves the whole group.
        let same = |group: &&mut Group| {
            group.length == length
                && group.position == *position
                && (*position > 0 || !request.has_one_source() || group.prompts[0][0] == prompt[0])
        };
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.samples.push(number);
                group.prompts.push(prompt.clone());
            }
            None => {
                groups.push(Group { samples: vec![number], prompts: vec![prompt.clone()], position: *position, length })
            }
        }
    }
    groups
}
