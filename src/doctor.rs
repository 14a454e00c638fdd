//! Checks of the machine that scripts will run on.

use std::io::Write;

use crate::error::{Error, Result};

/// Writes what was found to `out`; true if scripts can run here.
///
/// # Errors
/// `out` cannot be written to.
pub fn run(out: &mut dyn Write) -> Result<bool> {
    writeln!(out, "lancet {}", env!("CARGO_PKG_VERSION")).map_err(|error| Error::new(error.to_string()))?;
    Ok(true)
}
