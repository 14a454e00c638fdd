//! Who works for a run just now: jobs of Slurm that wait or run, and processes of this machine.

use std::collections::{BTreeMap, BTreeSet};

use super::attempt::{Attempt, LOCAL, host, is_alive};
use super::run::Run;
use super::slurm::queue::{self, Job};
use super::submission::Submission;
use crate::error::{Error, Result};

/// Somebody who does a shard or will do it.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Whether it waits
    pub is_waiting: bool,
    /// The node that runs it; why it waits
    pub place: String,
    /// The job of Slurm
    pub job: Option<Job>,
}

/// All who work for a run.
#[derive(Debug, Default)]
pub struct Live {
    shards: BTreeMap<usize, Vec<Worker>>,
    /// The jobs that merge
    pub merges: Vec<Job>,
    /// Why Slurm's jobs are not known
    pub unknown: Option<Error>,
}

impl Live {
    /// Those of a run.
    ///
    /// # Errors
    /// Settings of the run that cannot be read; Ctrl-C.
    pub fn of(run: &Run) -> Result<Self> {
        let mut live = Self::default();
        live.processes(run);
        if let Some(settings) = run.settings()? {
            match queue::jobs(&[run.name(), run.merge_name()]) {
                Ok(jobs) => live.jobs(run, settings.shards_per_job, jobs),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => live.unknown = Some(error),
            }
        }
        Ok(live)
    }

    /// Those who do a shard.
    pub fn workers(&self, shard: usize) -> &[Worker] {
        self.shards.get(&shard).map_or(&[], Vec::as_slice)
    }

    /// The jobs of Slurm that do shards, each once.
    pub fn jobs_of_shards(&self) -> Vec<&Job> {
        let mut seen = BTreeSet::new();
        let jobs = self.shards.values().flatten().filter_map(|worker| worker.job.as_ref());
        jobs.filter(|job| seen.insert(job.number())).collect()
    }

    fn jobs(&mut self, run: &Run, shards_per_job: usize, jobs: Vec<Job>) {
        let submissions = Submission::all(run.folder());
        for job in jobs {
            if job.name == run.merge_name() {
                self.merges.push(job);
                continue;
            }
            // The latest counts: a controller that lost its state gives numbers out again.
            let known = submissions.iter().rev().find_map(|submission| match submission {
                Submission::Array { job: array, first, shards_per_job, .. } if *array == job.array => {
                    Some((*first, *shards_per_job))
                }
                _ => None,
            });
            // Submitted by hand, it is most likely an array from 0.
            let (first, size) = known.unwrap_or((0, shards_per_job));
            let Some(index) = job.index else { continue };
            let begin = (first + index).saturating_mul(size);
            for shard in (begin..begin.saturating_add(size)).take_while(|shard| *shard < run.plan().shards) {
                let worker = Worker { is_waiting: job.is_waiting, place: job.place.clone(), job: Some(job.clone()) };
                self.shards.entry(shard).or_default().push(worker);
            }
        }
    }

    /// The processes of this host that no job of Slurm runs. Those of other hosts cannot be asked.
    fn processes(&mut self, run: &Run) {
        let here = host();
        let open = |attempt: &Attempt| {
            let is_open = attempt.job == LOCAL && attempt.ended.is_none();
            is_open && attempt.host == here && is_alive(attempt.process, attempt.started)
        };
        for attempt in run.attempts().into_iter().filter(open) {
            let worker = Worker { is_waiting: false, place: attempt.host, job: None };
            self.shards.entry(attempt.shard).or_default().push(worker);
        }
        let is_engine = |submission: &Submission| {
            matches!(submission, Submission::Process { host, process, started }
                if *host == here && is_alive(*process, *started))
        };
        if Submission::all(run.folder()).iter().any(is_engine) {
            for shard in 0..run.plan().shards {
                let worker = Worker { is_waiting: true, place: format!("its turn on {here}"), job: None };
                self.shards.entry(shard).or_insert_with(|| vec![worker]);
            }
        }
    }
}
