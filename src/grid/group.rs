//! Samples of a grid that are computed together.

use super::driver::Request;

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
    pub fn halves(&self) -> (Self, Self) {
        let middle = self.samples.len() / 2;
        (self.slice(0, middle), self.slice(middle, self.samples.len()))
    }

    /// Its samples from `start` up to `end`.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        Self {
            samples: self.samples.get(start..end).unwrap_or_default().to_vec(),
            prompts: self.prompts.get(start..end).unwrap_or_default().to_vec(),
            ..*self
        }
    }

    /// Positions behind the patched one.
    pub fn rest(&self) -> i64 {
        self.length - self.position - 1
    }
}

/// The samples that `wanted` selects, grouped by length and position.
pub fn groups(
    request: &Request,
    prompts: &[Vec<i64>],
    positions: &[i64],
    wanted: impl Fn(usize) -> bool,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (sample, (prompt, position)) in prompts.iter().zip(positions).enumerate() {
        if !wanted(sample) {
            continue;
        }
        let length = prompt.len() as i64;
        // Samples that share their column are kept apart from those that do not: one column then serves a whole group.
        let same = |group: &&mut Group| {
            group.length == length
                && group.position == *position
                && (*position > 0 || !request.has_one_source() || first(&group.prompts) == prompt.first().copied())
        };
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.samples.push(sample);
                group.prompts.push(prompt.clone());
            }
            None => {
                groups.push(Group { samples: vec![sample], prompts: vec![prompt.clone()], position: *position, length })
            }
        }
    }
    groups
}

fn first(prompts: &[Vec<i64>]) -> Option<i64> {
    prompts.first().and_then(|prompt| prompt.first()).copied()
}
