//! The number of a shard as a scheduler gives it.

use crate::error::{Error, Result};

/// The number of a shard, typed or from the variable of the scheduler that runs this process.
///
/// # Errors
/// No number; none or two of the variables.
pub fn number(text: &str) -> Result<usize> {
    let parse = |text: &str, what: &str| {
        text.parse::<usize>().map_err(|_| Error::new(format!("{what} is `{text}`")).hint("a number from 0"))
    };
    if text != "auto" {
        return parse(text, "the shard");
    }
    // The last two count from 1.
    let variables = [
        ("SLURM_ARRAY_TASK_ID", 0),
        ("HQ_TASK_ID", 0),
        ("JOB_COMPLETION_INDEX", 0),
        ("PBS_ARRAY_INDEX", 0),
        ("SGE_TASK_ID", 1),
        ("LSB_JOBINDEX", 1),
    ];
    let set = variables.into_iter().filter_map(|(name, first)| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty() && value != "undefined")?;
        Some((name, first, value))
    });
    let set: Vec<_> = set.collect();
    let [(name, first, value)] = set.as_slice() else {
        let names: Vec<&str> = set.iter().map(|(name, ..)| *name).collect();
        let found =
            if names.is_empty() { "none is set".to_owned() } else { format!("{} are set", names.join(" and ")) };
        let known = variables.map(|(name, _)| name).join(", ");
        return Err(Error::new(format!("`auto` needs one of the variables {known}; {found}")));
    };
    parse(value, name)?.checked_sub(*first).ok_or_else(|| Error::new(format!("{name} is {value}")))
}
