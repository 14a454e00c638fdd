//! `lancet merge`: runs the script with the results of all shards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Ended, bounds_of, complain, finish, script_of, start, stopped};
use crate::access::{self, Access};
use crate::cli::Code as Exit;
use crate::cluster::input::Input;
use crate::cluster::print::quoted;
use crate::cluster::run::{Run, ranges};
use crate::cluster::{Code, shared_disk};
use crate::{noted, output};

/// Does the command.
pub fn merge(folder: &Path) -> Ended {
    let run = Run::open(folder).map_err(|error| complain(&error))?;
    let plan = run.plan();
    let mut devices = BTreeSet::new();
    let mut inputs = Vec::new();
    let mut missing: Vec<usize> = (0..plan.shards).collect();
    let mut look = || {
        missing.retain(|shard| match run.done(*shard) {
            Some(record) => {
                devices.insert(record.device);
                inputs.extend(record.inputs);
                false
            }
            None => true,
        });
        missing.is_empty()
    };
    shared_disk::wait_for(run.folder(), &mut look).or_else(|error| stopped(&error).map(drop))?;
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let text = format!("{} of {} shards {verb} missing: {}", missing.len(), plan.shards, ranges(&missing));
        output::error_line(&format!("error: {text}"));
        output::error_line(&format!("hint: lancet resume {}", quoted(&folder.display().to_string())));
        return Err(Code::MISSING);
    }
    if devices.len() > 1 {
        let list = devices.into_iter().collect::<Vec<_>>().join("; ");
        output::error_line(&format!(
            "warning: the shards ran on different devices, whose numbers differ a little: {list}"
        ));
    }
    plan.inputs.iter().chain(&inputs).try_for_each(Input::check).map_err(|error| complain(&error))?;
    let script = script_of(&plan.work)?;
    let mut session = start(script.options(plan.work.arguments.clone(), bounds_of(&plan.work)?)?)?;
    noted::start();
    let result = session.eval(&script.name, &script.text);
    let written = noted::take().written;
    // The run's folder need not be the script's to write.
    access::enter(Access::all());
    let ended = finish(&session, result.map(|_| ()))?;
    if ended == Exit::SUCCESS {
        let is_result = |path: &PathBuf| !path.starts_with(run.store()) && path.exists();
        run.merged(written.into_iter().filter(is_result).collect()).map_err(|error| complain(&error))?;
    }
    Ok(ended)
}
