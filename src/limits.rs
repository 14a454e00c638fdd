//! What one evaluation may take: memory for its values, operations, calls inside calls, time.

use std::cell::Cell;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::HumanBytes;

use crate::error::{Error, Result};
use crate::syntax::CALL_LEVELS;
use crate::{allocator, interrupt, memory};

/// The part of the memory that values may take, so that a few copies made on the way fit as well.
const SHARE: u64 = 8;

/// What an evaluation may take that starts beyond its limit, for instance to give memory back.
const BREATH: isize = 64 << 20;

/// The limits of an evaluation.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes for the values of scripts; the data of tensors does not count.
    pub memory: u64,
    /// Operations of the interpreter.
    pub operations: Option<u64>,
    /// How deep functions call each other.
    pub depth: usize,
    /// How long it takes.
    pub time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        let memory = memory::memory().map_or(u64::MAX, |memory| memory.total / SHARE);
        Self { memory, operations: None, depth: CALL_LEVELS, time: None }
    }
}

impl Limits {
    /// The limits in `memory=2GiB,time=10m,operations=1000000,depth=64`; those left out are as usual.
    ///
    /// # Errors
    /// An unknown limit, one without a value or with a wrong one.
    pub fn parse(text: &str) -> Result<Self> {
        let mut limits = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let wrong = |what: &str| Error::new(format!("the limit `{part}` needs {what}")).hint(HINT);
            match name {
                "memory" => {
                    let bytes = value.parse::<ByteSize>().map_err(|_| wrong("a size, such as `2GiB`"))?;
                    limits.memory = bytes.as_u64();
                }
                "operations" => {
                    let number = value.parse().ok().filter(|number| *number > 0);
                    limits.operations = Some(number.ok_or_else(|| wrong("a number above 0"))?);
                }
                "depth" => {
                    let known = value.parse().ok().filter(|depth| (1..=CALL_LEVELS).contains(depth));
                    limits.depth = known.ok_or_else(|| wrong(&format!("a number from 1 to {CALL_LEVELS}")))?;
                }
                "time" => {
                    let time = humantime::parse_duration(value).ok().filter(|time| !time.is_zero());
                    limits.time = Some(time.ok_or_else(|| wrong("a duration, such as `90s` or `10m`"))?);
                }
                _ => return Err(Error::new(format!("there is no limit `{name}`")).hint(HINT)),
            }
        }
        Ok(limits)
    }

    /// Starts the limits of an evaluation on this thread. The time counts until the result is dropped.
    pub fn start(&self) -> Watch {
        memory::bound();
        let limit = isize::try_from(self.memory).unwrap_or(isize::MAX);
        MOST.set(limit.max(allocator::held().saturating_add(BREATH)));
        Watch(self.time.map(end_after))
    }
}

const HINT: &str = "such as memory=2GiB,time=10m,operations=1000000,depth=64";

/// Watches the time of an evaluation until it is dropped.
#[must_use]
pub struct Watch(#[expect(dead_code, reason = "dropping it ends the watching thread")] Option<Sender<()>>);

/// Ends the evaluation after `time`, unless the result is dropped before.
fn end_after(time: Duration) -> Sender<()> {
    let (sender, ended) = channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
            interrupt::time_out();
        }
    });
    sender
}

thread_local! {
    /// The bytes that this thread may hold.
    static MOST: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// Whether this thread holds more than its evaluation may.
pub fn is_memory_full() -> bool {
    allocator::held() > MOST.get()
}

/// Fails unless values of so many bytes may be added; asked before a call whose result can be far larger than its
/// arguments.
///
/// # Errors
/// More than the memory of the evaluation.
pub fn reserve(bytes: usize) -> Result<()> {
    let most = MOST.get();
    match allocator::held().checked_add_unsigned(bytes) {
        Some(held) if held <= most => Ok(()),
        _ => Err(memory_error(Some(bytes))),
    }
}

/// The error for values that take too much memory; `bytes` is what was asked for last.
pub fn memory_error(bytes: Option<usize>) -> Error {
    let most = HumanBytes(u64::try_from(MOST.get()).unwrap_or(0));
    let message = match bytes {
        Some(bytes) => format!("this would take {}, and a script's values may take {most}", HumanBytes(bytes as u64)),
        None => format!("the script's values take more than {most}"),
    };
    Error::new(message)
        .hint("keep numbers in tensors, which do not count, or raise it with `lancet --limit memory=SIZE`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_units() {
        let limits = Limits::parse("memory=2GiB,time=1m 30s,operations=7,depth=3").unwrap();
        assert_eq!((limits.memory, limits.operations, limits.depth), (2 << 30, Some(7), 3));
        assert_eq!(limits.time, Some(Duration::from_secs(90)));
        for wrong in ["", "memory", "memory=x", "time=0s", "time=5", "depth=257", "depth=0", "operations=-1", "size=3"]
        {
            assert!(Limits::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused_before_it_is_allocated() {
        let limits = Limits { memory: 1 << 30, ..Limits::default() };
        let _watch = limits.start();
        assert!(reserve(1 << 20).is_ok() && !is_memory_full());
        assert!(reserve(2 << 30).unwrap_err().to_string().starts_with("this would take 2.00 GiB"));
        assert!(reserve(usize::MAX).is_err());
    }
}
