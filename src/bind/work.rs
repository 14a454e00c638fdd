//! How a script divides its work, so that the shards of a submitted run can share it.

use std::path::Path;

use rhai::plugin::*;
use rhai::{Dynamic, Engine, FnPtr, NativeCallContext};

use super::error::{ScriptResult, is_deferral};
use super::module;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::share::{self, Share};

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Cluster, exported_manifest!(functions));
}

/// The place of a part among `count`.
fn place(index: i64, count: i64) -> Result<(usize, usize)> {
    match (usize::try_from(index), usize::try_from(count)) {
        (Ok(index), Ok(count)) if index < count => Ok((index, count)),
        _ => Err(Error::new(format!("there is no part {index} of {count}"))
            .hint("parts are numbered from 0: work_part(index, items.len(), || ..)")),
    }
}

#[export_module(manifest)]
mod functions {
    /// Calls `work`, part `index` (from 0) of `count` equal parts of the script's work, and returns its result.
    ///
    /// In a shard of a submitted run it returns `()` if the shard has nothing to do in the part, or if the part needs
    /// results of other shards. The function may divide its work further, by `work_part` or `kept::values`; grids with a
    /// store divide themselves. `experiment::each` does this for models and tasks.
    ///
    /// # Example
    /// ```rhai
    /// let words = ["big", "small"];
    /// let lengths = [];
    /// for (word, index) in words { lengths.push(work_part(index, words.len(), || word.len())); }
    /// assert_eq(lengths, [3, 5]);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn work_part(context: NativeCallContext, index: i64, count: i64, work: FnPtr) -> ScriptResult<Dynamic> {
        let (index, count) = place(index, count)?;
        let Some(_part) = share::part(index, count) else { return Ok(Dynamic::UNIT) };
        match work.call_within_context::<Dynamic>(&context, ()) {
            Err(error) if is_deferral(&error) => Ok(Dynamic::UNIT),
            result => result,
        }
    }

    /// Whether this process does unit `index` (from 0) of `count` that are not divided further: always, but in a shard of
    /// a submitted run, where just one shard does each. `file` is the path where its result is stored, as `kept::values`
    /// does.
    ///
    /// # Example
    /// ```rhai
    /// assert(has_unit(0, 3, join_path(cache_dir(), "first.json")));
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn has_unit(index: i64, count: i64, file: &str) -> ScriptResult<bool> {
        let (index, count) = place(index, count)?;
        Ok(share::has_unit(index, count, Path::new(file)))
    }

    /// Ends a shard of a submitted run: what follows is done once, when the results of all shards are merged. Elsewhere it
    /// does nothing.
    ///
    /// # Example
    /// ```rhai
    /// leave_rest_to_merge();
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn leave_rest_to_merge() -> ScriptResult<()> {
        Ok(share::defer_if(share::current() != Share::Whole)?)
    }

    /// Ends the part of the work that runs, if results of other shards are missing (`is_missing` is true).
    ///
    /// # Example
    /// ```rhai
    /// defer_if(false);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn defer_if(is_missing: bool) -> ScriptResult<()> {
        Ok(share::defer_if(is_missing)?)
    }
}
