//! Options of sbatch as a user gives them: `partition=gpu,gres=gpu:1,exclusive`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An option of sbatch with its long name, without dashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlurmOption {
    /// The name
    pub name: String,
    /// The value, if it takes one
    pub value: Option<String>,
}

/// What Lancet sets itself, each with the reason or with what does the same.
const OWNED: &[(&str, &str)] = &[
    ("array", "the shards are the array; `--shards` says how many, `--max-running` how many at once"),
    ("clusters", "submit on the cluster itself, so that its queue can be asked"),
    ("dependency", "the job that merges waits for the others"),
    ("error", "what shards say goes to the run's folder: lancet logs"),
    ("help", "`lancet submit --help` explains what can be given"),
    ("job-name", "by its name a job is known to belong to the run"),
    ("kill-on-invalid-dep", "the job that merges waits for the others"),
    ("no-requeue", "a shard that failed is started again; `--retries 0` prevents that"),
    ("open-mode", "what shards say goes to the run's folder: lancet logs"),
    ("output", "what shards say goes to the run's folder: lancet logs"),
    ("parsable", "Lancet reads what sbatch says"),
    ("requeue", "a shard that failed is started again; `--retries` says how often"),
    ("signal", "shards are told before their time is over"),
    ("test-only", "`--dry-run` shows what would be submitted"),
    ("usage", "`lancet submit --help` explains what can be given"),
    ("version", "sbatch would only print its version"),
    ("wait", "`lancet status --watch` waits"),
    ("wrap", "the job's script is Lancet's; `--set-up` adds commands"),
];

/// Options that take no value. Other words without `=` belong to the value before them.
const FLAGS: &[&str] = &["contiguous", "exclusive", "hold", "overcommit", "oversubscribe", "reboot", "spread-job"];

/// Options of which only one can be set.
const RIVALS: &[&[&str]] =
    &[&["mem", "mem-per-cpu", "mem-per-gpu"], &["exclusive", "oversubscribe"], &["gres", "gpus", "gpus-per-node"]];

impl SlurmOption {
    /// The options in a list. A word without `=` belongs to the value before it, as in `partition=a,b`, if it is not the
    /// name of an option without a value.
    ///
    /// # Errors
    /// No option, one that Lancet sets itself, a value that a job script cannot hold.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        let mut options: Vec<Self> = Vec::new();
        for part in text.split(',') {
            let is_flag = FLAGS.contains(&part) || OWNED.iter().any(|(name, _)| *name == part);
            match (part.split_once('='), options.last_mut()) {
                (Some((name, value)), _) => options.push(Self::new(name, Some(value))?),
                (None, Some(Self { value: Some(value), .. })) if !is_flag => {
                    value.push(',');
                    value.push_str(part);
                }
                (None, _) => options.push(Self::new(part, None)?),
            }
        }
        options.iter().try_for_each(Self::check_value)?;
        Ok(options)
    }

    /// An option.
    ///
    /// # Errors
    /// As for [`SlurmOption::parse_list`].
    pub fn new(name: &str, value: Option<&str>) -> Result<Self> {
        let name = name.trim().trim_start_matches("--");
        let is_name = name.len() > 1 && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
        if !is_name || name.starts_with('-') {
            return Err(Error::new(format!("`{name}` is no option of sbatch"))
                .hint("long names, such as partition=gpu,gres=gpu:1,time=2:00:00,mem=32G"));
        }
        // sbatch takes the beginning of a name for the name.
        if let Some((owned, why)) = OWNED.iter().find(|(owned, _)| owned.starts_with(name)) {
            return Err(Error::new(format!("`{owned}` of sbatch is set by Lancet")).hint(*why));
        }
        let option = Self { name: name.to_owned(), value: value.map(|value| value.trim().to_owned()) };
        option.check_value()?;
        Ok(option)
    }

    /// Refuses a value that a line of a job's script cannot hold.
    ///
    /// # Errors
    /// An empty value; quotes, line ends.
    pub fn check_value(&self) -> Result<()> {
        let Some(value) = &self.value else { return Ok(()) };
        if value.is_empty() || value.chars().any(|letter| letter.is_control() || "\"'\\".contains(letter)) {
            return Err(Error::new(format!("`{}` of sbatch cannot be `{}`", self.name, value.escape_debug()))
                .hint("a value without quotes and line ends"));
        }
        Ok(())
    }

    /// Puts `others` in place of those of the same name, or of a name that excludes theirs.
    pub fn replace(options: &mut Vec<Self>, others: Vec<Self>) {
        let excludes = |one: &str, other: &str| {
            one == other || RIVALS.iter().any(|rivals| rivals.contains(&one) && rivals.contains(&other))
        };
        options.retain(|option| !others.iter().any(|other| excludes(&option.name, &other.name)));
        options.extend(others);
    }

    /// The line of a job's script.
    pub fn line(&self) -> String {
        match &self.value {
            None => format!("#SBATCH --{}", self.name),
            Some(value) if value.contains([' ', '#']) => format!("#SBATCH --{}=\"{value}\"", self.name),
            Some(value) => format!("#SBATCH --{}={value}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        SlurmOption::parse_list(text).unwrap().iter().map(SlurmOption::line).collect()
    }

    #[test]
    fn a_list_becomes_lines() {
        assert_eq!(
            lines("partition=a,b,exclusive,exclude=n[1,3],gres=gpu:1,time=2:00:00"),
            [
                "#SBATCH --partition=a,b",
                "#SBATCH --exclusive",
                "#SBATCH --exclude=n[1,3]",
                "#SBATCH --gres=gpu:1",
                "#SBATCH --time=2:00:00"
            ]
        );
        assert_eq!(lines("comment=two words"), ["#SBATCH --comment=\"two words\""]);
        assert_eq!(lines("some-new-flag"), ["#SBATCH --some-new-flag"]);
    }

    #[test]
    fn what_lancet_sets_is_refused_by_name() {
        for text in ["array=0-3", "mem=1G,requeue", "output=x", "dep=afterok:1", "partition=a,wait", "--signal=USR1"] {
            let error = SlurmOption::parse_list(text).unwrap_err();
            assert!(error.to_string().contains("is set by Lancet"), "{text}: {error}");
        }
        for text in ["", "p=gpu", "Partition=gpu", "mem=", "comment=\"x", "mem=1\n#SBATCH --array=1", "mem=1G,\n"] {
            assert!(SlurmOption::parse_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_option_takes_the_place_of_its_rivals() {
        let mut options = SlurmOption::parse_list("mem-per-cpu=1G,time=10,partition=a").unwrap();
        SlurmOption::replace(&mut options, SlurmOption::parse_list("mem=64G,time=20").unwrap());
        let names: Vec<&str> = options.iter().map(|option| option.name.as_str()).collect();
        assert_eq!(names, ["partition", "mem", "time"]);
    }
}
