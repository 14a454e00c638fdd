//! `progress` and its object.

use rhai::plugin::*;

use crate::bind::error::ScriptResult;
use crate::bind::handle::Handle;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Makes the functions of this file known to `engine`.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Utilities, exported_manifest!(functions));
}

impl Handle for Progress {
    const NAME: &'static str = "progress";

    fn describe(&self) -> String {
        self.to_string()
    }
}

fn count(what: &str, value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::new(format!("{what} must not be negative, but is {value}")))
}

#[export_module(manifest)]
mod functions {
    /// Shows on the screen how far a loop of `total` steps is.
    ///
    /// Each `tick()` counts a step; the bar shows the rate, the time that has passed and the time left. It goes to
    /// standard error: a bar in a terminal, else a line every ten seconds.
    ///
    /// # Example
    /// ```rhai
    /// let steps = progress(3);
    /// for i in 0..3 {
    ///     steps.tick();
    /// }
    /// steps.finish();
    /// ```
    #[rhai_fn(name = "progress", return_raw)]
    pub fn progress(total: i64) -> ScriptResult<Progress> {
        progress_labelled(total, "")
    }

    /// Shows how far a loop of `total` steps is, with `label` in front of the bar.
    ///
    /// # Example
    /// ```rhai
    /// let steps = progress(2, "blocks");
    /// steps.message("first");
    /// steps.tick(2);
    /// steps.finish();
    /// ```
    #[rhai_fn(name = "progress", return_raw)]
    pub fn progress_labelled(total: i64, label: &str) -> ScriptResult<Progress> {
        let total = count("`progress`: the total", total)?;
        Ok(Progress::new(total, label))
    }

    /// Counts one more step as done.
    #[rhai_fn(name = "tick")]
    pub fn tick(progress: &mut Progress) {
        progress.tick(1);
    }

    /// Counts `steps` more steps as done.
    #[rhai_fn(name = "tick", return_raw)]
    pub fn tick_many(progress: &mut Progress, steps: i64) -> ScriptResult<()> {
        progress.tick(count("`tick`: the number of steps", steps)?);
        Ok(())
    }

    /// Shows `text` behind the bar until the next message.
    #[rhai_fn(name = "message")]
    pub fn message(progress: &mut Progress, text: &str) {
        progress.message(text);
    }

    /// Ends the display. The bar stays on the screen as it is.
    #[rhai_fn(name = "finish")]
    pub fn finish(progress: &mut Progress) {
        progress.finish();
    }
}
