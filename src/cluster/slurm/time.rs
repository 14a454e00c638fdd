//! Times as Slurm's options give them.

use crate::error::{Error, Result};

/// The seconds of `minutes`, `minutes:seconds`, `hours:minutes:seconds`, or these behind `days-`; none without a limit.
///
/// # Errors
/// Another text.
pub fn seconds(text: &str) -> Result<Option<u64>> {
    if ["UNLIMITED", "INFINITE", "-1"].iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Ok(None);
    }
    let parse = || -> Option<u64> {
        let (days, clock) = match text.split_once('-') {
            Some((days, clock)) => (Some(days.parse::<u64>().ok()?), clock),
            None => (None, text),
        };
        let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let seconds = match (days, parts.as_slice()) {
            (Some(_), [hours]) => hours.checked_mul(3600)?,
            (Some(_), [hours, minutes]) => hours.checked_mul(60)?.checked_add(*minutes)?.checked_mul(60)?,
            (None, [minutes]) => minutes.checked_mul(60)?,
            (None, [minutes, seconds]) => minutes.checked_mul(60)?.checked_add(*seconds)?,
            (_, [hours, minutes, seconds]) => {
                hours.checked_mul(60)?.checked_add(*minutes)?.checked_mul(60)?.checked_add(*seconds)?
            }
            _ => return None,
        };
        days.unwrap_or(0).checked_mul(24 * 3600)?.checked_add(seconds)
    };
    parse().map(Some).ok_or_else(|| {
        Error::new(format!("`{text}` is no time of Slurm's"))
            .hint("minutes, hours:minutes:seconds or days-hours, such as time=2:00:00")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_slurms() {
        let times =
            [("5", 300), ("1:30", 90), ("2:00:00", 7200), ("1-2", 93_600), ("1-0:30", 88_200), ("1-0:0:5", 86_405)];
        for (text, wanted) in times {
            assert_eq!(seconds(text).unwrap(), Some(wanted), "{text}");
        }
        assert_eq!(seconds("infinite").unwrap(), None);
        for wrong in ["", "x", "1:2:3:4", "1h", "-", "99999999999999999999", "18446744073709551615"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
