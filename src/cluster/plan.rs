//! The plan of a submitted run: everything that its shards need to know, fixed when it is submitted.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::input::Input;
use crate::error::{Error, Result};
use crate::{file, libtorch};

/// Changed whenever the fields or their meaning do.
const FORMAT: u32 = 1;

/// The most shards of a run.
pub const MOST_SHARDS: usize = 1_000_000;

/// What a run does, and in how many shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    format: u32,
    lancet: String,
    /// What the run does
    pub work: Work,
    /// How many shards share it
    pub shards: usize,
    /// The files that it depends on
    pub inputs: Vec<Input>,
    /// The folder of the libtorch that it was submitted with
    pub libtorch: Option<PathBuf>,
}

/// A script with its arguments, as it was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The script's path as it was typed, which errors name
    pub name: String,
    /// Its text
    pub text: String,
    /// Its arguments
    pub arguments: Vec<String>,
    /// The working folder
    pub folder: PathBuf,
    /// What it may touch beside the usual, as typed after `--allow`
    pub allow: Vec<String>,
    /// What an evaluation may take, as typed after `--limit`
    pub limit: Option<String>,
}

impl Plan {
    /// A plan of this version of Lancet.
    ///
    /// # Errors
    /// A number of shards that cannot be.
    pub fn new(work: Work, shards: usize, inputs: Vec<Input>) -> Result<Self> {
        if !(1..=MOST_SHARDS).contains(&shards) {
            return Err(
                Error::new(format!("a run of {shards} shards cannot be")).hint(format!("1 to {MOST_SHARDS} shards"))
            );
        }
        let libtorch = libtorch::library().and_then(|library| library.parent().map(Path::to_path_buf));
        Ok(Self { format: FORMAT, lancet: version(), work, shards, inputs, libtorch })
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// Text that is no plan, or one of another version of Lancet.
    pub fn parse(text: &str) -> Result<Self> {
        let plan: Self =
            serde_json::from_str(text).map_err(|error| Error::new(format!("no plan of a run: {error}")))?;
        if plan.format != FORMAT || plan.lancet != version() {
            return Err(Error::new(format!(
                "the run was submitted by Lancet {}, and this is {}",
                plan.lancet,
                version()
            ))
            .hint("the run's own copy of Lancet, `bin/lancet` in its folder, can go on with it"));
        }
        if !(1..=MOST_SHARDS).contains(&plan.shards) {
            return Err(Error::new(format!("no plan of a run: {} shards", plan.shards)));
        }
        Ok(plan)
    }

    /// The plan as text.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::new(format!("the plan cannot be written: {error}")))
    }

    /// What identifies the run: the hash of its plan.
    ///
    /// # Errors
    /// As for [`Plan::text`].
    pub fn id(&self) -> Result<String> {
        Ok(file::text_checksum(&self.text()?))
    }

    /// Refuses files that are not as they were when the run was submitted.
    ///
    /// # Errors
    /// A file that has changed.
    pub fn check_inputs(&self) -> Result<()> {
        self.inputs.iter().try_for_each(Input::check)
    }

    /// Refuses a shard that the run does not have.
    ///
    /// # Errors
    /// A number beyond the last shard's.
    pub fn check_shard(&self, shard: usize) -> Result<()> {
        if shard < self.shards {
            return Ok(());
        }
        Err(Error::new(format!("the run has no shard {shard}"))
            .hint(format!("its shards are 0 to {}", self.shards - 1)))
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
