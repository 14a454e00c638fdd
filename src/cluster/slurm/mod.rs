//! Runs shards as job arrays of Slurm, by its own programs.

pub mod call;
pub mod job_script;
pub mod option;
pub mod queue;
mod refusal;
mod time;

use call::{QUESTION, REQUEST};

use super::attempt::now;
use super::live::Live;
use super::run::{Run, ranges};
use super::settings::Settings;
use super::submission::Submission;
use crate::error::{Error, Result};
use crate::file;

/// What was handed to Slurm.
#[derive(Debug, Default)]
pub struct HandedOver {
    /// The shards, in order
    pub shards: Vec<usize>,
    /// The arrays that do them
    pub arrays: Vec<String>,
    /// How many missing shards live jobs of the run do already
    pub elsewhere: usize,
    /// The job that merges
    pub merge: Option<String>,
}

/// Hands the missing shards to Slurm that no live job of the run does, and the merge behind them.
///
/// # Errors
/// Slurm does not answer, or refuses the jobs; a file that cannot be written.
pub fn hand_over(run: &Run, settings: &Settings) -> Result<HandedOver> {
    let live = Live::of(run)?;
    if let Some(error) = live.unknown {
        return Err(error.context("which shards have jobs is not known"));
    }
    let (elsewhere, shards): (Vec<usize>, Vec<usize>) =
        run.missing().into_iter().partition(|shard| !live.workers(*shard).is_empty());
    let mut handed = HandedOver { shards, elsewhere: elsewhere.len(), ..HandedOver::default() };
    let is_waited_for = handed.shards.is_empty() && !live.merges.is_empty();
    let is_merged = handed.shards.is_empty() && elsewhere.is_empty() && run.results().is_some();
    if is_waited_for || is_merged {
        return Ok(handed);
    }
    write_scripts(run, settings)?;
    run.keep_settings(settings)?;
    for (first, jobs) in windows(&handed.shards, settings.shards_per_job, array_limit(&handed.shards)?) {
        let most = settings.max_running.map_or_else(String::new, |most| format!("%{most}"));
        let array = format!("--array={}{most}", ranges(&jobs));
        let script = run.folder().join("job.sbatch").display().to_string();
        let job = submit(&[&array, &script, &first.to_string()]).map_err(|error| match handed.arrays.len() {
            0 => error,
            _ => error.context("the first shards are submitted, the next are not"),
        })?;
        let shards_per_job = settings.shards_per_job;
        Submission::Array { job: job.clone(), first, shards_per_job, jobs }.note(run.folder())?;
        handed.arrays.push(job);
    }
    let mut before = handed.arrays.clone();
    before.extend(live.jobs_of_shards().into_iter().map(|job| job.array.clone()));
    before.sort();
    before.dedup();
    // Not afterok: behind a shard that failed, the merge would wait for ever.
    let dependency = (!before.is_empty()).then(|| format!("--dependency=afterany:{}", before.join(":")));
    let script = run.folder().join("merge.sbatch").display().to_string();
    let arguments: Vec<&str> = dependency.iter().map(String::as_str).chain([script.as_str()]).collect();
    let merge = submit(&arguments)?;
    Submission::Merge { job: merge.clone() }.note(run.folder())?;
    handed.merge = Some(merge);
    // An earlier one would come too soon.
    cancel_jobs(&live.merges.iter().filter(|job| job.is_waiting).map(queue::Job::number).collect::<Vec<_>>())?;
    Ok(handed)
}

/// Cancels the jobs of the run that do these shards; all its jobs, if none are given. Says how many there were.
///
/// # Errors
/// Slurm does not answer.
pub fn cancel(run: &Run, shards: &[usize]) -> Result<usize> {
    let live = Live::of(run)?;
    if let Some(error) = live.unknown {
        return Err(error);
    }
    let jobs: Vec<String> = if shards.is_empty() {
        live.jobs_of_shards().into_iter().chain(&live.merges).map(queue::Job::number).collect()
    } else {
        let workers = shards.iter().flat_map(|shard| live.workers(*shard));
        workers.filter_map(|worker| worker.job.as_ref()).map(queue::Job::number).collect()
    };
    cancel_jobs(&jobs)?;
    Ok(jobs.len())
}

fn cancel_jobs(jobs: &[String]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    for some in jobs.chunks(1000) {
        call::ask("scancel", some, REQUEST)?;
    }
    Ok(())
}

/// Writes the scripts of the run's jobs.
fn write_scripts(run: &Run, settings: &Settings) -> Result<()> {
    file::write_text(&run.folder().join("job.sbatch"), &job_script::of_shards(run, settings, now())?)?;
    file::write_text(&run.folder().join("merge.sbatch"), &job_script::of_merge(run, settings)?)
}

/// Calls sbatch; gives the job's number.
fn submit(arguments: &[&str]) -> Result<String> {
    let all: Vec<&str> = ["--parsable"].iter().chain(arguments).copied().collect();
    let said = call::call("sbatch", &all, REQUEST)?;
    if !said.success {
        return Err(refusal::explain(&said.error));
    }
    // Behind a `;` the name of the cluster.
    let job = said.output.lines().last().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if job.is_empty() || !job.chars().all(|digit| digit.is_ascii_digit()) {
        return Err(Error::new(format!("sbatch said `{}` in place of a job's number", said.output)));
    }
    Ok(job.to_owned())
}

/// How many jobs an array may have: the first index that Slurm refuses.
fn array_limit(shards: &[usize]) -> Result<usize> {
    if shards.is_empty() {
        return Ok(1);
    }
    let settings = call::ask("scontrol", &["show", "config"], QUESTION)?;
    let limit = settings.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "MaxArraySize").then(|| value.trim().parse().ok().filter(|limit| *limit > 0))?
    });
    limit.ok_or_else(|| Error::new("`scontrol show config` does not say what MaxArraySize is"))
}

/// The arrays for shards, each as its first block and the indexes counted from there. Slurm limits the index of a job,
/// not how many there are.
fn windows(shards: &[usize], shards_per_job: usize, limit: usize) -> Vec<(usize, Vec<usize>)> {
    let mut blocks: Vec<usize> = shards.iter().map(|shard| shard / shards_per_job).collect();
    blocks.dedup();
    let window = |block: &usize| block / limit * limit;
    let windows = blocks.chunk_by(|left, right| window(left) == window(right));
    windows.map(|blocks| (window(&blocks[0]), blocks.iter().map(|block| block % limit).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_stay_below_the_largest_index() {
        assert_eq!(windows(&[0, 1, 64, 65, 66, 130], 1, 65), [(0, vec![0, 1, 64]), (65, vec![0, 1]), (130, vec![0])]);
        assert_eq!(windows(&[1, 2, 3, 9], 4, 1001), [(0, vec![0, 2])]);
        assert!(windows(&[], 1, 1).is_empty());
    }
}
