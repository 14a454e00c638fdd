//! How many threads libtorch computes with, and how they wait: what the program chooses, and what it leaves to the user.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::process::{Command, Output, Stdio};

/// The variables that decide.
const DECIDE: [&str; 6] = [
    "GOMP_SPINCOUNT",
    "OMP_WAIT_POLICY",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "SLURM_CPUS_PER_TASK",
];

fn lancet(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    for name in DECIDE {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// How often libgomp itself says that an idle thread spins.
fn spins(variables: &[(&str, &str)]) -> u64 {
    let text = said(&lancet(variables).env("OMP_DISPLAY_ENV", "verbose").args(["-e", "1"]).output().unwrap());
    let line = text.lines().find(|line| line.contains("GOMP_SPINCOUNT")).unwrap_or_else(|| panic!("{text}"));
    line.split('\'').nth(1).unwrap().parse().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn idle_threads_spin_shortly_unless_the_user_says_otherwise() {
    let own = 300_000;
    let chosen = spins(&[]);
    assert!((1..own).contains(&chosen), "{chosen}");
    assert_eq!(spins(&[("OMP_NUM_THREADS", "2")]), chosen);
    assert_eq!(spins(&[("GOMP_SPINCOUNT", "77")]), 77);
    assert_eq!(spins(&[("OMP_WAIT_POLICY", "PASSIVE")]), 0);
    assert!(spins(&[("OMP_WAIT_POLICY", "ACTIVE")]) > own);
}

/// The line on threads of `lancet doctor`.
fn line(variables: &[(&str, &str)]) -> String {
    let text = said(&lancet(variables).arg("doctor").output().unwrap());
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("threads "));
    line.unwrap_or_else(|| panic!("{text}")).trim().to_owned()
}

#[test]
fn the_doctor_says_how_many_threads_there_are_and_why() {
    let slurm = ("SLURM_CPUS_PER_TASK", "1");
    assert!(line(&[slurm]).starts_with("1, the CPUs of the Slurm task; wait for work: `GOMP_SPINCOUNT="));
    let cores = std::thread::available_parallelism().unwrap().get();
    let count: usize = line(&[]).split(',').next().unwrap().parse().unwrap();
    assert!((1..=cores).contains(&count), "{count} of {cores}");
    assert!(line(&[("OMP_NUM_THREADS", "1"), ("SLURM_CPUS_PER_TASK", "2")]).starts_with("1, by `OMP_NUM_THREADS`"));
    assert!(line(&[("OMP_WAIT_POLICY", "active")]).ends_with("wait for work: `OMP_WAIT_POLICY=active`"));
}

#[test]
fn a_number_of_slurm_that_is_none_is_refused() {
    let output = lancet(&[("SLURM_CPUS_PER_TASK", "many")]).args(["-e", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("`SLURM_CPUS_PER_TASK` is `many`") && text.contains("`OMP_NUM_THREADS`"), "{text}");
}

#[test]
fn the_process_keeps_its_name_and_its_arguments() {
    let mut child =
        lancet(&[]).args(["-e", "ARGS", "a b", ""]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().map(std::io::read_to_string).unwrap().unwrap();
    assert_eq!(output, "[\"a b\", \"\"]\n");
    child.wait().unwrap();

    let mut waiting = lancet(&[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let place = format!("/proc/{}", waiting.id());
    let started = || std::fs::read_to_string(format!("{place}/environ")).unwrap().contains("GOMP_SPINCOUNT=");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !started() {
        assert!(std::time::Instant::now() < deadline, "the setting never arrives");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(std::fs::read_to_string(format!("{place}/comm")).unwrap(), "lancet\n");
    drop(waiting.stdin.take());
    assert!(waiting.wait().unwrap().success());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn started_by_the_loader_it_runs_all_the_same() {
    let mut command = Command::new("/lib64/ld-linux-x86-64.so.2");
    let output =
        command.args([env!("CARGO_BIN_EXE_lancet"), "-e", "1 + 1"]).env_remove("GOMP_SPINCOUNT").output().unwrap();
    assert_eq!(said(&output), "2\n");
}
