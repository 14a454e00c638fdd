//! How a run's shards are run by Slurm: what the user asked for at submission, kept in the run's folder for `resume`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use configparser::ini::Ini;
use serde::{Deserialize, Serialize};

use super::slurm::option::SlurmOption;
use crate::error::{Error, Result};
use crate::file;

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Options of sbatch for the shards
    pub slurm: Vec<SlurmOption>,
    /// Those for the job that merges; those of the shards if left out
    pub merge_slurm: Option<Vec<SlurmOption>>,
    /// The most jobs that run at once
    pub max_running: Option<u64>,
    /// How many shards a job does, one after another
    pub shards_per_job: usize,
    /// Shell commands that each job begins with
    pub set_up: Option<String>,
    /// How often a shard that failed is tried again
    pub retries: u64,
}

/// What is to be changed in settings.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Options of sbatch for the shards
    pub slurm: Vec<SlurmOption>,
    /// Those for the job that merges
    pub merge_slurm: Vec<SlurmOption>,
    /// See [`Settings::max_running`]
    pub max_running: Option<u64>,
    /// See [`Settings::shards_per_job`]
    pub shards_per_job: Option<usize>,
    /// See [`Settings::set_up`]
    pub set_up: Option<String>,
    /// See [`Settings::retries`]
    pub retries: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { slurm: Vec::new(), merge_slurm: None, max_running: None, shards_per_job: 1, set_up: None, retries: 2 }
    }
}

impl Settings {
    /// The user's defaults for this site: `slurm.ini` in `lancet` in the user's folder of configurations.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn of_site() -> Result<Self> {
        let mut settings = Self::default();
        if let Some(path) = site_file().filter(|path| path.is_file()) {
            settings.change(parse(&file::read_text(&path)?).map_err(|error| error.context(path.display()))?);
        }
        Ok(settings)
    }

    /// Applies changes.
    pub fn change(&mut self, changes: Changes) {
        SlurmOption::replace(&mut self.slurm, changes.slurm);
        if !changes.merge_slurm.is_empty() {
            SlurmOption::replace(self.merge_slurm.get_or_insert_default(), changes.merge_slurm);
        }
        self.max_running = changes.max_running.or(self.max_running);
        self.shards_per_job = changes.shards_per_job.unwrap_or(self.shards_per_job);
        self.set_up = changes.set_up.or(self.set_up.take());
        self.retries = changes.retries.unwrap_or(self.retries);
    }

    /// The settings in a run's file.
    ///
    /// # Errors
    /// A file that is not there or was not written by this version of Lancet.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::new(format!("no settings of a run: {error}")))
    }

    /// The settings as text.
    ///
    /// # Errors
    /// None of settings that were parsed.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::new(format!("the settings: {error}")))
    }
}

/// The file of the user's defaults.
fn site_file() -> Option<PathBuf> {
    let variable = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = variable.or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
    Some(folder.join("lancet/slurm.ini"))
}

const SECTIONS: &str = "the sections are [slurm] and [merge-slurm] with options of sbatch, and [lancet] with max-running, \
                        shards-per-job, set-up and retries";

/// The defaults in a file of sections.
fn parse(text: &str) -> Result<Changes> {
    let mut file = Ini::new_cs();
    let mut syntax = file.defaults();
    // Values hold `:`, `;` and `#`.
    syntax.delimiters = vec!['='];
    syntax.inline_comment_symbols = Some(Vec::new());
    file.load_defaults(syntax);
    let sections = file.read(text.to_owned()).map_err(|error| Error::new(error).hint(SECTIONS))?;
    let mut changes = Changes::default();
    for (section, entries) in sections {
        // In the order of their names: the library's map has none.
        for (name, value) in entries.into_iter().collect::<BTreeMap<_, _>>() {
            match section.as_str() {
                "slurm" => changes.slurm.push(SlurmOption::new(&name, value.as_deref())?),
                "merge-slurm" => changes.merge_slurm.push(SlurmOption::new(&name, value.as_deref())?),
                "lancet" => own(&mut changes, &name, value.as_deref())?,
                other => return Err(Error::new(format!("section [{other}] is not known")).hint(SECTIONS)),
            }
        }
    }
    Ok(changes)
}

fn own(changes: &mut Changes, name: &str, value: Option<&str>) -> Result<()> {
    let value = value.unwrap_or_default();
    let wrong = || Error::new(format!("`{name}` cannot be `{value}`")).hint("a whole number");
    match name {
        "max-running" => changes.max_running = Some(value.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?),
        "shards-per-job" => {
            changes.shards_per_job = Some(value.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?);
        }
        "retries" => changes.retries = Some(value.parse().map_err(|_| wrong())?),
        "set-up" if !value.is_empty() => changes.set_up = Some(value.to_owned()),
        _ => return Err(Error::new(format!("`{name}` in [lancet] is not known")).hint(SECTIONS)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sites_defaults_are_read() {
        let text = "# ours\n[slurm]\npartition = gpu\ngres=gpu:a100:1\ntime = 2:00:00\nexclusive\n\
                    [merge-slurm]\npartition = cpu\n[lancet]\nmax-running = 16\nset-up = module load cuda; hostname\n";
        let mut settings = Settings::default();
        settings.change(parse(text).unwrap());
        let lines: Vec<String> = settings.slurm.iter().map(SlurmOption::line).collect();
        assert_eq!(
            lines,
            ["#SBATCH --exclusive", "#SBATCH --gres=gpu:a100:1", "#SBATCH --partition=gpu", "#SBATCH --time=2:00:00"]
        );
        assert_eq!(settings.merge_slurm.as_ref().map(Vec::len), Some(1));
        assert_eq!((settings.max_running, settings.retries), (Some(16), 2));
        assert_eq!(settings.set_up.as_deref(), Some("module load cuda; hostname"));
        assert_eq!(Settings::parse(&settings.text().unwrap()).unwrap(), settings);
        for wrong in ["[slurm]\narray=1\n", "[lancet]\nretries=x\n", "[lancet]\nmax=1\n", "[other]\na=1\n", "a=1\n"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_given_later_counts() {
        let mut settings = Settings::default();
        let list = |text| SlurmOption::parse_list(text).unwrap();
        settings.change(Changes { slurm: list("mem=1G,time=5"), retries: Some(0), ..Changes::default() });
        settings.change(Changes { slurm: list("mem=2G"), shards_per_job: Some(3), ..Changes::default() });
        assert_eq!(settings.slurm, list("time=5,mem=2G"));
        assert_eq!((settings.retries, settings.shards_per_job, settings.merge_slurm), (0, 3, None));
    }
}
