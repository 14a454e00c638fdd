//! Work on many items in parts, each of which fits into memory.

use crate::error::Result;
use crate::interrupt;

/// Does `work` on the items in order, `at_once` of them together, and returns what it gave for each part. A part for
/// which the memory does not suffice is halved, as are the parts after it.
///
/// # Errors
/// Whatever `work` raises; no memory for a single item; interruption.
pub fn in_parts<I, T>(items: &[I], at_once: usize, work: impl FnMut(&[I]) -> Result<T>) -> Result<Vec<T>> {
    let mut done = Vec::with_capacity(items.len().div_ceil(at_once.max(1)));
    for_parts(items, at_once, work, |_, result| {
        done.push(result);
        Ok(())
    })?;
    Ok(done)
}

/// As [`in_parts`], for results that are used at once: `take` is given each part and what `work` gave for it. `work` is
/// repeated when memory runs out and `take` is not, so lasting effects belong into `take`.
///
/// # Errors
/// As for [`in_parts`]; whatever `take` raises.
pub fn for_parts<I, T>(
    items: &[I],
    at_once: usize,
    mut work: impl FnMut(&[I]) -> Result<T>,
    mut take: impl FnMut(&[I], T) -> Result<()>,
) -> Result<()> {
    let mut at_once = at_once.max(1);
    let mut rest = items;
    while !rest.is_empty() {
        interrupt::check()?;
        let (part, later) = rest.split_at(at_once.min(rest.len()));
        match work(part) {
            Ok(result) => {
                take(part, result)?;
                rest = later;
            }
            Err(error) if error.is_out_of_memory() && part.len() > 1 => at_once = part.len().div_ceil(2),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// The sizes of the parts of ten items, where `most` fit.
    fn sizes(at_once: usize, most: usize) -> Result<Vec<usize>> {
        let mut seen = Vec::new();
        let sizes = in_parts(&(0..10).collect::<Vec<_>>(), at_once, |part| {
            if part.len() > most {
                return Err(Error::new("CUDA out of memory"));
            }
            seen.extend(part.iter().copied());
            Ok(part.len())
        })?;
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        Ok(sizes)
    }

    #[test]
    fn parts_are_halved_until_they_fit() {
        assert_eq!(sizes(4, 10).unwrap(), [4, 4, 2]);
        assert_eq!(sizes(10, 3).unwrap(), [3, 3, 3, 1]);
        assert_eq!(sizes(0, 1).unwrap(), [1; 10]);
        assert!(sizes(10, 0).unwrap_err().is_out_of_memory());
    }
}
