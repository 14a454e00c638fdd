//! Why sbatch refuses a job, and what to change.

use crate::error::Error;

/// Words of sbatch, and what helps.
const REMEDIES: &[(&str, &str)] = &[
    ("invalid partition", "`sinfo --summarize` lists the partitions: --slurm partition=NAME"),
    ("no default partition", "`sinfo --summarize` lists the partitions: --slurm partition=NAME"),
    ("Invalid account", "`sacctmgr show associations user=$USER` lists your accounts: --slurm account=NAME"),
    ("Invalid qos", "`sacctmgr show associations user=$USER` lists yours: --slurm qos=NAME"),
    ("SubmitLimit", FEWER),
    ("MaxSubmitJob", FEWER),
    ("Job violates accounting/QOS policy", FEWER),
    ("Invalid job array", FEWER),
    ("time limit", "`sinfo --summarize` lists the limits: --slurm time=HOURS:MINUTES:SECONDS"),
    ("node configuration is not available", "no node has that much: change mem, gres, cpus-per-task by --slurm"),
    ("Memory required", "no node has that much: --slurm mem=SIZE"),
    ("generic resource", "`sinfo --format='%P %G'` lists what nodes have: --slurm gres=NAME:COUNT"),
    ("option", "`--slurm` takes the long names of sbatch's options: `man sbatch`"),
    ("Unable to contact", "Slurm's controller does not answer; try again later: lancet resume"),
    ("timed out", "Slurm's controller does not answer; try again later: lancet resume"),
];

const FEWER: &str = "that may be too many jobs: --shards-per-job N puts several shards into one job";

/// The error for what sbatch said.
pub fn explain(said: &str) -> Error {
    let remedy = REMEDIES.iter().find(|(words, _)| said.to_lowercase().contains(&words.to_lowercase()));
    let hint = remedy.map_or("change what is asked for by --slurm KEY=VALUE", |(_, hint)| hint);
    let said = said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("; ");
    Error::new(format!("sbatch refused the job: {said}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_change() {
        let error =
            explain("invalid partition specified: gpx\nBatch job submission failed: Invalid partition name specified");
        assert!(error.to_string().contains("gpx; Batch job submission failed"), "{error}");
        assert!(error.hint_text().unwrap().contains("sinfo"));
        let error = explain("QOSMaxSubmitJobPerUserLimit\nJob violates accounting/QOS policy");
        assert!(error.hint_text().unwrap().contains("--shards-per-job"));
        assert!(explain("unrecognized option '--foo'").hint_text().unwrap().contains("man sbatch"));
        assert!(explain("something new").hint_text().unwrap().contains("--slurm"));
    }
}
