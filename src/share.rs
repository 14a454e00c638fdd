//! The share of a script's work that this process does: all of it, or what falls to one shard of a submitted run.
//!
//! A script's work is a line from 0 to 1. It is divided into equal parts, such as a model on a task, these into parts of
//! their own, and the last into units, such as a batch of samples. A shard has a piece of the line: it does the units
//! that begin in it. The pieces of all shards cover the line once, so each unit is done by exactly one of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// What this process does of a script's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// All of it.
    #[default]
    Whole,
    /// Nothing: the script runs to find out what it would need.
    Nothing,
    /// What begins in a piece of the line.
    Piece(Piece),
}

/// A piece of the line: from `start` to `end`, in steps of one `of`-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    start: u64,
    end: u64,
    of: u64,
}

impl Piece {
    /// That of one shard of `shards`.
    pub fn of_shard(shard: usize, shards: usize) -> Self {
        Self { start: shard as u64, end: shard as u64 + 1, of: shards as u64 }
    }

    /// What lies in part `index` of `count`, on the line of that part.
    fn part(self, index: usize, count: usize) -> Option<Self> {
        let at = |place: u64| {
            let place = u128::from(place) * count as u128;
            let before = u128::from(self.of) * index as u128;
            place.saturating_sub(before).min(u128::from(self.of)) as u64
        };
        let piece = Self { start: at(self.start), end: at(self.end), of: self.of };
        (piece.start < piece.end).then_some(piece)
    }

    /// Whether unit `index` of `count` begins in it.
    fn begins(self, index: usize, count: usize) -> bool {
        let place = u128::from(self.of) * index as u128;
        let at = |step: u64| u128::from(step) * count as u128;
        at(self.start) <= place && place < at(self.end)
    }
}

thread_local! {
    static CURRENT: Cell<Share> = const { Cell::new(Share::Whole) };
    static RESULTS: RefCell<BTreeSet<PathBuf>> = const { RefCell::new(BTreeSet::new()) };
}

/// Sets the share of this thread's script until the result is dropped.
pub fn enter(share: Share) -> Entered {
    Entered(CURRENT.replace(share))
}

/// The earlier share, which is back when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Entered(Share);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// The share of this thread's script.
pub fn current() -> Share {
    CURRENT.get()
}

/// Enters part `index` of `count` equal parts of the work; `None` if nothing of it is this process's.
pub fn part(index: usize, count: usize) -> Option<Entered> {
    match current() {
        Share::Piece(piece) => piece.part(index, count).map(|piece| enter(Share::Piece(piece))),
        other => Some(enter(other)),
    }
}

/// Whether this process does unit `index` of `count`, whose result is stored in `file`.
pub fn has_unit(index: usize, count: usize, file: &Path) -> bool {
    match current() {
        Share::Whole => true,
        Share::Nothing => false,
        Share::Piece(piece) => {
            let is_own = piece.begins(index, count);
            if is_own {
                RESULTS.with_borrow_mut(|results| results.insert(file.to_path_buf()));
            }
            is_own
        }
    }
}

/// The files of the units that this thread's shard did or found done, since the last call.
pub fn take_results() -> BTreeSet<PathBuf> {
    RESULTS.take()
}

/// Ends a part of the work if it lacks results of other shards.
///
/// # Errors
/// [`Error::Deferred`] if something `is_missing`; another error where there are no other shards.
pub fn defer_if(is_missing: bool) -> Result<(), Error> {
    match current() {
        _ if !is_missing => Ok(()),
        Share::Whole => Err(Error::new("results of other shards are missing, and this is no shard")
            .hint("a result is missing only where `has_unit` is false")),
        Share::Nothing | Share::Piece(_) => Err(Error::Deferred),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(index: usize, count: usize) -> bool {
        has_unit(index, count, Path::new(&format!("{index}")))
    }

    #[test]
    fn each_unit_is_one_shards() {
        for (shards, parts, units) in [(1, 1, 1), (3, 1, 7), (7, 2, 3), (4, 6, 5), (64, 3, 10), (100, 7, 1), (5, 1, 2)]
        {
            let mut done = vec![0; parts * units];
            for shard in 0..shards {
                let _shard = enter(Share::Piece(Piece::of_shard(shard, shards)));
                for outer in 0..parts {
                    let Some(_part) = part(outer, parts) else { continue };
                    for unit in (0..units).filter(|unit| has(*unit, units)) {
                        done[outer * units + unit] += 1;
                    }
                }
            }
            assert!(done.iter().all(|count| *count == 1), "{shards} shards, {parts} parts of {units}: {done:?}");
        }
    }

    #[test]
    fn shards_have_as_much_as_each_other() {
        for shard in 0..8 {
            let _shard = enter(Share::Piece(Piece::of_shard(shard, 8)));
            assert_eq!((0..24).filter(|unit| has(*unit, 24)).count(), 3);
        }
    }

    #[test]
    fn a_share_ends_with_what_entered_it() {
        assert!(has(5, 9));
        {
            let _nothing = enter(Share::Nothing);
            assert!(!has(0, 1) && part(0, 2).is_some());
        }
        assert_eq!(current(), Share::Whole);
    }

    #[test]
    fn the_results_of_own_units_are_known() {
        let _shard = enter(Share::Piece(Piece::of_shard(1, 2)));
        assert!(!has(1, 4) && has(2, 4) && has(3, 4));
        assert_eq!(take_results().into_iter().collect::<Vec<_>>(), [Path::new("2"), Path::new("3")]);
        assert!(take_results().is_empty());
    }
}
