//! Begins a study: writes a folder with a script, a task and a README.

use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::error::{Error, Result};
use crate::{file, output, shipped};

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/examples/study");

/// Makes the folder, all of it or nothing, and prints what to do with it.
///
/// # Errors
/// A name that no new folder can have; a file of that name, or a folder that holds something; a place that cannot be
/// written to.
pub fn begin(folder: &Path) -> Result<()> {
    let text = folder.to_str().filter(|text| !text.contains(char::is_control));
    let (Some(text), Some(_)) = (text, folder.file_name()) else {
        return Err(Error::new(format!("{:?} cannot be the name of a new folder", folder.display().to_string()))
            .hint("a name such as my_study, or a path that ends in one"));
    };
    file::write_folder(folder, shipped::files(&FILES))?;
    output::line(&format!("made {text}; run `lancet run {}`", folder.join("study.rhai").display()));
    output::line(&format!("{} says what to change first", folder.join("README.md").display()));
    Ok(())
}
