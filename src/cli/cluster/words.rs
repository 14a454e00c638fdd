//! The options of `lancet submit` and `lancet resume` that say how shards are run.

use clap::{Args, ValueEnum};

use crate::cluster::settings::Changes;
use crate::cluster::slurm::option::SlurmOption;
use crate::error::Result;

/// The options. In `resume`, what is left out stays as it was.
#[derive(Debug, Args)]
pub struct SchedulerWords {
    /// Who runs the shards; Slurm if it is there
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// Options of sbatch for each shard, such as partition=gpu,gres=gpu:1,time=2:00:00,mem=32G
    #[arg(long, value_name = "LIST")]
    pub slurm: Vec<String>,
    /// The same for the job that merges, in place of those of `--slurm`
    #[arg(long, value_name = "LIST")]
    pub merge_slurm: Vec<String>,
    /// The most jobs of shards that Slurm runs at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_running: Option<u64>,
    /// How many shards one job of Slurm does, one after another [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub shards_per_job: Option<u64>,
    /// Shell commands that each job of Slurm begins with, such as 'module load cuda'
    #[arg(long, value_name = "COMMANDS")]
    pub set_up: Option<String>,
    /// How often a shard that failed is tried again [default: 2]
    #[arg(long, value_name = "N")]
    pub retries: Option<u64>,
    /// How many shards run at once here, with `--engine local`
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub jobs: u64,
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

impl SchedulerWords {
    /// What they change in a run's settings.
    ///
    /// # Errors
    /// An option of sbatch that cannot be given.
    pub fn changes(&self) -> Result<Changes> {
        let options = |lists: &[String]| -> Result<Vec<SlurmOption>> {
            let mut options = Vec::new();
            for list in lists {
                options.extend(SlurmOption::parse_list(list)?);
            }
            Ok(options)
        };
        Ok(Changes {
            slurm: options(&self.slurm)?,
            merge_slurm: options(&self.merge_slurm)?,
            max_running: self.max_running,
            shards_per_job: self.shards_per_job.map(|count| count as usize),
            set_up: self.set_up.clone(),
            retries: self.retries,
        })
    }
}
