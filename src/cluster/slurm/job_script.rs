//! The scripts of a run's jobs: text that a person can read, change and submit by hand.

use std::fmt::Write;

use super::option::SlurmOption;
use crate::cluster::Code;
use crate::cluster::print::quoted;
use crate::cluster::run::Run;
use crate::cluster::settings::Settings;
use crate::error::Result;

/// Variables that say where models and scripts are: a job may start without those of the shell that submitted it.
const PLACES: &[&str] = &["HF_HOME", "HF_HUB_CACHE", "LANCET_CACHE", "LANCET_PATH", "XDG_CACHE_HOME"];

/// Above this many jobs, each waits a few seconds by chance, so that not all read the model at once.
const CROWD: usize = 100;

/// The most seconds before the end of a job's time at which its shard is told.
const WARNING: u64 = 120;

/// The script of the jobs that do shards; `since` is the time of the submission, from which failures count.
///
/// # Errors
/// A value of the option `time` that Slurm does not know.
pub fn of_shards(run: &Run, settings: &Settings, since: u64) -> Result<String> {
    let mut text = String::from("#!/bin/bash\n");
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line(&format!("#SBATCH --job-name={}", run.name()));
    line("#SBATCH --requeue");
    line("#SBATCH --open-mode=append");
    line(&output(run, "%A_%a.out")?.line());
    line(&format!("#SBATCH --signal=B:USR1@{}", warning(&settings.slurm)?));
    settings.slurm.iter().for_each(|option| line(&option.line()));
    let fields = [
        ("{run}", quoted(&run.folder().display().to_string())),
        ("{shards}", run.plan().shards.to_string()),
        ("{per_job}", settings.shards_per_job.to_string()),
        ("{retries}", settings.retries.to_string()),
        ("{since}", since.to_string()),
        ("{final}", Code::FINAL.to_string()),
        ("{stopped}", Code::STOPPED.to_string()),
        ("{environment}", environment(run, settings)),
        ("{crowd}", crowd(run, settings)),
    ];
    text.push_str(&filled(include_str!("job.sbatch"), &fields));
    Ok(text)
}

/// The script of the job that merges.
///
/// # Errors
/// As for [`of_shards`].
pub fn of_merge(run: &Run, settings: &Settings) -> Result<String> {
    let mut text = String::from("#!/bin/bash\n");
    let own = [
        SlurmOption { name: "job-name".into(), value: Some(run.merge_name()) },
        SlurmOption { name: "requeue".into(), value: None },
        SlurmOption { name: "open-mode".into(), value: Some("append".into()) },
        output(run, "merge-%j.out")?,
    ];
    for option in own.iter().chain(settings.merge_slurm.as_ref().unwrap_or(&settings.slurm)) {
        text.push_str(&option.line());
        text.push('\n');
    }
    let fields =
        [("{run}", quoted(&run.folder().display().to_string())), ("{environment}", environment(run, settings))];
    text.push_str(&filled(include_str!("merge.sbatch"), &fields));
    Ok(text)
}

/// Where a job's output goes; `name` holds Slurm's letters for numbers.
fn output(run: &Run, name: &str) -> Result<SlurmOption> {
    let folder = run.logs().display().to_string().replace('%', "%%");
    let option = SlurmOption { name: "output".into(), value: Some(format!("{folder}/{name}")) };
    option.check_value().map(|()| option)
}

/// A text with its fields filled in, each once; what a field holds is left as it is.
fn filled(text: &str, fields: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    loop {
        let next = fields.iter().filter_map(|(name, value)| Some((rest.find(name)?, name, value))).min();
        let Some((place, name, value)) = next else { break };
        filled.push_str(&rest[..place]);
        filled.push_str(value);
        rest = &rest[place + name.len()..];
    }
    filled + rest
}

/// The commands that every job begins with.
fn environment(run: &Run, settings: &Settings) -> String {
    let mut text = String::new();
    let mut export = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "export {name}={value}");
    };
    for name in PLACES {
        if let Some(value) = std::env::var(name).ok().filter(|value| !value.trim().is_empty()) {
            export(name, &quoted(&value));
        }
    }
    export("HF_HUB_OFFLINE", "1");
    export("OMP_NUM_THREADS", "${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}}");
    if let Some(commands) = &settings.set_up {
        text.push_str(commands.trim_end());
        text.push('\n');
    }
    if let Some(libraries) = &run.plan().libtorch {
        let folder = quoted(&libraries.display().to_string());
        let _ = writeln!(text, "export LD_LIBRARY_PATH={folder}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}");
    }
    text.trim_end().to_owned()
}

fn crowd(run: &Run, settings: &Settings) -> String {
    if run.plan().shards.div_ceil(settings.shards_per_job) <= CROWD {
        return String::new();
    }
    "# Not all jobs read the model at once.\nsleep $((RANDOM % 10))\n".to_owned()
}

/// How many seconds before the end of its time a shard is told to stop: a fifth of the time, where the time is short.
fn warning(options: &[SlurmOption]) -> Result<u64> {
    let time = options.iter().rev().find(|option| option.name == "time").and_then(|option| option.value.as_deref());
    Ok(match time {
        None => WARNING,
        Some(time) => super::time::seconds(time)?.map_or(WARNING, |seconds| (seconds / 5).clamp(20, WARNING)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_once() {
        let fields = [("{a}", "{b}".to_owned()), ("{b}", "2".to_owned())];
        assert_eq!(filled("x {b} {a} y", &fields), "x 2 {b} y");
    }

    #[test]
    fn a_warning_leaves_time_to_stop() {
        let warning = |text: &str| warning(&SlurmOption::parse_list(text).unwrap());
        assert_eq!(warning("mem=1G").unwrap(), 120);
        assert_eq!(warning("time=1").unwrap(), 20);
        assert_eq!(warning("time=2:00:00").unwrap(), 120);
        assert!(warning("time=soon").is_err());
    }
}
