//! The words of `lancet submit`: its own options may stand before or after the script and among the script's.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::cluster::plan::MOST_SHARDS;

/// Divide a script's work into shards and hand them to Slurm, or run them here.
///
/// Options that are not listed here belong to the script, and so does everything behind `--`.
#[derive(Debug, Parser)]
#[command(name = "lancet submit", override_usage = "lancet submit SCRIPT --shards N [OPTIONS] [ARGS]")]
pub struct SubmitWords {
    /// The number of shards
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_SHARDS as u64))]
    pub shards: u64,
    /// Who runs the shards; Slurm if it is there
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// The run's folder, on a disk that all nodes see; runs/SCRIPT-HASH if left out
    #[arg(long, value_name = "FOLDER")]
    pub run: Option<PathBuf>,
    /// Options of sbatch for each shard, such as partition=gpu,gres=gpu:1,time=2:00:00,mem=32G
    #[arg(long, value_name = "LIST")]
    pub slurm: Vec<String>,
    /// The same for the job that merges, in place of those of `--slurm`
    #[arg(long, value_name = "LIST")]
    pub merge_slurm: Vec<String>,
    /// The most shards that Slurm runs at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_running: Option<u64>,
    /// How many shards one job of Slurm does, one after another
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub shards_per_job: u64,
    /// Shell commands that each job of Slurm begins with, such as 'module load cuda'
    #[arg(long, value_name = "COMMANDS")]
    pub set_up: Option<String>,
    /// How often a shard that failed is tried again
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub retries: u64,
    /// How many shards run at once here, with `--engine local`
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub jobs: u64,
    /// Print the plan and the job's script, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The script and its arguments
    #[arg(skip)]
    pub script: Vec<String>,
}

/// Who runs the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Job arrays of Slurm
    Slurm,
    /// Processes on this machine
    Local,
    /// Nobody: print the commands for other schedulers
    Print,
}

/// The options that take a value.
const VALUED: &[&str] = &[
    "--shards",
    "--engine",
    "--run",
    "--slurm",
    "--merge-slurm",
    "--max-running",
    "--shards-per-job",
    "--set-up",
    "--retries",
    "--jobs",
    "-j",
];

impl SubmitWords {
    /// Parses the words behind `submit`.
    ///
    /// # Errors
    /// Words that are no options of `submit`, or wrong ones; a call for help.
    pub fn parse_words(words: Vec<String>) -> Result<Self, clap::Error> {
        let mut own = vec!["lancet submit".to_owned()];
        let mut script = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
            if word == "--" {
                script.extend(words.by_ref());
            } else if VALUED.contains(&name) {
                let is_alone = name == word;
                own.push(word);
                own.extend(is_alone.then(|| words.next()).flatten());
            } else if word == "--dry-run" || (script.is_empty() && (word == "--help" || word == "-h")) {
                own.push(word);
            } else {
                script.push(word);
            }
        }
        let mut parsed = Self::try_parse_from(own)?;
        if script.first().is_none_or(|file| file.starts_with('-')) {
            use clap::CommandFactory;
            let message = "a script is needed, such as `lancet submit localization.rhai --shards 8`";
            return Err(Self::command().error(clap::error::ErrorKind::MissingRequiredArgument, message));
        }
        parsed.script = script;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SubmitWords, clap::Error> {
        SubmitWords::parse_words(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn options_of_both_are_told_apart() {
        let words = parse("a.rhai --model x --shards 4 --samples=3 --slurm=gres=gpu:1 --out o -j 2").unwrap();
        assert_eq!((words.shards, words.jobs), (4, 2));
        assert_eq!(words.slurm, ["gres=gpu:1"]);
        assert_eq!(words.script, ["a.rhai", "--model", "x", "--samples=3", "--out", "o"]);
        let words = parse("--shards 2 a.rhai -- --shards 9 --dry-run").unwrap();
        assert_eq!((words.shards, words.dry_run), (2, false));
        assert_eq!(words.script, ["a.rhai", "--shards", "9", "--dry-run"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in ["a.rhai", "--shards 2", "a.rhai --shards 0", "a.rhai --shards x", "--shards 2 --model x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
