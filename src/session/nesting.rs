//! The limit on how deep values are nested: they are freed, copied and compared by recursion, which must fit the stack.

use std::cell::Cell;
use std::collections::HashSet;

use rhai::{Array, Dynamic, FnPtr, Map};

use crate::error::{Error, Result};

/// The most levels that are allowed.
const DEEPEST: usize = 1_000;
/// Uses of variables from one look to the next. A prime, so that a loop does not hide a variable from every look.
const INTERVAL: usize = 1_009;
/// Values looked at for which another use passes without a look, so that looking at large values costs little.
const VALUES_PER_USE: usize = 16;
/// The most uses that pass without a look: as many levels still fit the stack.
const LONGEST: usize = 200_000;

/// Looks at a variable now and then while a script uses variables. Each level that a script adds takes it some uses, so
/// no value gets much deeper than allowed.
#[derive(Debug)]
pub struct Nesting {
    left: Cell<usize>,
    interval: Cell<usize>,
}

impl Default for Nesting {
    fn default() -> Self {
        Self { left: Cell::new(0), interval: Cell::new(INTERVAL) }
    }
}

impl Nesting {
    /// Counts a use of a variable, and looks at its `value` if it is time.
    ///
    /// # Errors
    /// A value that is nested too deep.
    pub fn check(&self, value: &Dynamic) -> Result<()> {
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            return Ok(());
        }
        let mut look = Look::default();
        if look.is_deep(value, 1) {
            // From now on without pause, so that a script that catches the error cannot go on.
            self.interval.set(0);
            return Err(Error::new(format!("values are nested more than {DEEPEST} deep"))
                .hint("keep them side by side in one array instead of inside each other"));
        }
        let uses = self.interval.get() + look.values / VALUES_PER_USE;
        self.left.set(uses.saturating_sub(1).min(LONGEST));
        Ok(())
    }
}

/// A walk through a value.
#[derive(Default)]
struct Look {
    values: usize,
    /// The shared values that were met; a closure may hold itself.
    shared: HashSet<*const Dynamic>,
}

impl Look {
    /// Whether something at `level` or deeper within `value`, which is at `level` itself, is too deep.
    fn is_deep(&mut self, value: &Dynamic, level: usize) -> bool {
        self.values += 1;
        if value.is_shared() {
            // A value that is being changed cannot be read; it is looked at another time.
            let Some(inner) = value.read_lock::<Dynamic>() else { return false };
            return self.shared.insert(&raw const *inner) && self.is_deep(&inner, level);
        }
        if let Some(array) = value.read_lock::<Array>() {
            level > DEEPEST || array.iter().any(|item| self.is_deep(item, level + 1))
        } else if let Some(map) = value.read_lock::<Map>() {
            level > DEEPEST || map.values().any(|item| self.is_deep(item, level + 1))
        } else if let Some(function) = value.read_lock::<FnPtr>() {
            level > DEEPEST || function.iter_curry().any(|captured| self.is_deep(captured, level + 1))
        } else {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Dynamic {
        (0..levels).fold(Dynamic::UNIT, |value, _| Dynamic::from(vec![value]))
    }

    #[test]
    fn only_what_is_too_deep_is_refused() {
        assert!(Nesting::default().check(&nested(DEEPEST)).is_ok());
        let nesting = Nesting::default();
        let deep = nested(DEEPEST + 1);
        // Not only once.
        assert!(nesting.check(&deep).is_err() && nesting.check(&deep).is_err());
        assert!(nesting.check(&Dynamic::UNIT).is_ok() && nesting.check(&deep).is_err());
    }

    #[test]
    fn a_closure_may_hold_itself() {
        let shared = Dynamic::from(1).into_shared();
        let mut function = FnPtr::new("f").unwrap();
        function.add_curry(shared.clone());
        *shared.clone().write_lock::<Dynamic>().unwrap() = Dynamic::from(function);
        assert!(Nesting::default().check(&shared).is_ok());
    }
}
