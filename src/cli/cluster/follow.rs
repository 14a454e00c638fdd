//! `lancet status` and `lancet logs`: how far a run is, and what its shards said.

use std::path::Path;
use std::time::Duration;

use super::{Ended, stopped};
use crate::cli::Code as Exit;
use crate::cluster::log;
use crate::cluster::run::Run;
use crate::cluster::status::Status;
use crate::error::{Error, Result};
use crate::{interrupt, output};

/// How long to wait before Slurm is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// Does `lancet status`; with `watch`, again until nobody works for the run.
pub fn status(folder: &Path, watch: bool) -> Ended {
    let follow = || -> Result<u8> {
        let run = Run::open(folder)?;
        let mut said = String::new();
        loop {
            let status = Status::of(&run)?;
            let text = status.text();
            if text != said {
                output::line(&text);
                said = text;
            }
            if !watch || status.is_done() || (status.unknown.is_none() && !status.is_live()) {
                return Ok(if !watch || status.is_done() { Exit::SUCCESS } else { Exit::FAILURE });
            }
            interrupt::sleep(PAUSE)?;
        }
    };
    follow().map_or_else(|error| stopped(&error), Ok)
}

/// Does `lancet logs`: what the last attempts at a shard said; without a shard, what the merges said.
pub fn logs(folder: &Path, shard: Option<usize>) -> Ended {
    let show = || -> Result<u8> {
        let run = Run::open(folder)?;
        let files = match shard {
            Some(shard) => {
                run.plan().check_shard(shard)?;
                log::of_shard(&run, shard)
            }
            None => log::of_merge(&run),
        };
        if files.is_empty() {
            return Err(match shard {
                Some(shard) => Error::new(format!("shard {shard} has not said anything yet")),
                None => Error::new("no job has merged yet").hint("lancet logs RUN SHARD shows what a shard said"),
            });
        }
        for file in files {
            output::line(&format!("==> {}", file.display()));
            output::text(&log::text(&file)?);
        }
        Ok(Exit::SUCCESS)
    };
    show().map_or_else(|error| stopped(&error), Ok)
}
