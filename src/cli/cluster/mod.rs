//! The commands about submitted runs.

mod engine;
mod follow;
mod merge;
mod resume;
mod shard;
mod shard_number;
mod submit;
mod submit_words;
mod words;

use std::path::PathBuf;

use super::{Bounds, Script, complain, finish, start, stopped};
use crate::access::permission;
use crate::cluster::plan::Work;
use crate::error::{Error, Result};
use crate::limits::Limits;

pub use follow::{logs, status};
pub use merge::merge;
pub use resume::{cancel, resume};
pub use shard::shard;
pub use submit::submit;
pub use words::SchedulerWords;

/// What a command of the program gives: its exit code, or that of a failure.
type Ended = std::result::Result<u8, u8>;

/// The script of a run, in the folder where it was submitted.
fn script_of(work: &Work) -> std::result::Result<Script, u8> {
    std::env::set_current_dir(&work.folder).map_err(|error| complain(&Error::io(&work.folder, &error)))?;
    let path = Some(PathBuf::from(&work.name));
    Ok(Script { name: work.name.clone(), path, text: work.text.clone(), command: String::new() })
}

/// What the script of a run may touch and take.
fn bounds_of(work: &Work) -> std::result::Result<Bounds, u8> {
    let parse = || -> Result<Bounds> {
        let mut permissions = Vec::new();
        for text in &work.allow {
            permissions.extend(permission::parse(text)?);
        }
        let limits = work.limit.as_deref().map(Limits::parse).transpose()?.unwrap_or_default();
        Ok(Bounds { permissions, limits, typed: (work.allow.clone(), work.limit.clone()) })
    };
    parse().map_err(|error| complain(&error))
}
