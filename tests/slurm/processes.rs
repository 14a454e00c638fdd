//! Processes that a cluster's jobs consist of.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Sends a signal, if the process is still there.
pub fn kill(process: u32, signal: &str) {
    let _ = Command::new("kill").args(["-s", signal, &process.to_string()]).output();
}

/// Whether a process runs, and is no zombie.
pub fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// The guards (slurmstepd) of a cluster's jobs, which would tell of their end, and behind them the jobs: of all its nodes
/// or of one.
pub fn of_cluster(folder: &Path, node: Option<&str>) -> Vec<u32> {
    let configuration = format!("SLURM_CONF={}", folder.join("slurm.conf").display());
    let node = node.map(|node| format!("SLURMD_NODENAME={node}"));
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let jobs: Vec<u32> = processes
        .filter(|process| {
            let Ok(bytes) = fs::read(format!("/proc/{process}/environ")) else { return false };
            let variables: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
            let has = |variable: &str| variables.contains(&variable.as_bytes());
            let is_job = variables.iter().any(|variable| variable.starts_with(b"SLURM_JOB_ID="));
            is_job && has(&configuration) && node.as_ref().is_none_or(|node| has(node))
        })
        .collect();
    let is_guard =
        |process: &u32| fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.starts_with(b"slurmstepd"));
    let mut guards: Vec<u32> = jobs.iter().filter_map(|job| parent(*job)).filter(is_guard).collect();
    guards.sort_unstable();
    guards.dedup();
    guards.into_iter().chain(jobs).collect()
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}
