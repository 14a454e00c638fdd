//! The jobs of a run that Slurm knows now.

use super::call::{self, QUESTION};
use crate::error::{Error, Result};

/// A job that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The number of its array, or its own
    pub array: String,
    /// Its index in the array
    pub index: Option<usize>,
    /// Whether it waits
    pub is_waiting: bool,
    /// The node that runs it; why it waits
    pub place: String,
    /// Its name
    pub name: String,
}

impl Job {
    /// What stands for it alone in Slurm's commands.
    pub fn number(&self) -> String {
        match self.index {
            Some(index) => format!("{}_{index}", self.array),
            None => self.array.clone(),
        }
    }
}

/// The jobs with these names. A number alone would not do: a controller that lost its state gives them out again.
///
/// # Errors
/// Slurm does not answer.
pub fn jobs(names: &[String]) -> Result<Vec<Job>> {
    let names = format!("--name={}", names.join(","));
    let format = "--format=%F|%K|%T|%N|%r|%j";
    let text = call::ask("squeue", &["--noheader", "--array", &names, format], QUESTION)?;
    text.lines().map(job).collect()
}

fn job(line: &str) -> Result<Job> {
    let parts: Vec<&str> = line.splitn(6, '|').collect();
    let [array, index, state, nodes, reason, name] = parts.as_slice() else {
        return Err(Error::new(format!("squeue said `{line}`")));
    };
    let is_waiting = *state == "PENDING";
    Ok(Job {
        array: (*array).to_owned(),
        index: index.parse().ok(),
        is_waiting,
        place: if is_waiting { (*reason).to_owned() } else { (*nodes).to_owned() },
        name: (*name).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_job() {
        let running = job("12|3|RUNNING|n7|None|words-1").unwrap();
        assert_eq!((running.number().as_str(), running.is_waiting, running.place.as_str()), ("12_3", false, "n7"));
        let waiting = job("13|N/A|PENDING||Dependency|words-1-merge").unwrap();
        assert_eq!((waiting.number().as_str(), waiting.is_waiting, waiting.place.as_str()), ("13", true, "Dependency"));
        assert!(job("slurm_load_jobs error").is_err());
    }
}
