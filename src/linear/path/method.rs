//! The method for a selection of paths, chosen before any is computed.

use super::best::Meeting;
use super::cuts::Cuts;
use super::score::Scorer;

/// Which paths to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All
    All,
    /// This many, drawn uniformly with replacement
    Sample {
        /// Number of paths
        count: usize,
        /// Seed of the generator
        seed: u64,
    },
    /// The given number of paths with the highest values
    Highest {
        /// Number of paths
        count: usize,
    },
}

/// How to compute them.
#[derive(Debug, Clone)]
pub enum Method {
    /// All paths are composed from pieces between cuts
    Compose(Cuts),
    /// Paths are drawn and followed
    Draw {
        /// Number of paths
        count: usize,
        /// Seed of the generator
        seed: u64,
    },
    /// Prefixes and suffixes are matched
    Search {
        /// Where they meet
        meeting: Meeting,
        /// Number of paths
        count: usize,
    },
}

impl Method {
    /// The cheapest way to the paths of a selection.
    pub fn of(selection: Selection, scorer: &Scorer) -> Self {
        match selection {
            Selection::All => Self::Compose(Cuts::cheapest(scorer)),
            Selection::Sample { count, seed } => Self::Draw { count, seed },
            Selection::Highest { count } => Self::Search { meeting: Meeting::cheapest(scorer), count },
        }
    }
}
