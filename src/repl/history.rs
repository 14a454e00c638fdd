//! The history file of the entries typed at the prompt.

use std::path::{Path, PathBuf};

use rustyline::history::DefaultHistory;
use rustyline::{Editor, Helper};

/// The history file: `LANCET_HISTORY`, or one in the user's state folder. None if there is no such folder, or if
/// `LANCET_HISTORY` is empty.
pub fn path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("LANCET_HISTORY") {
        return (!path.is_empty()).then(|| PathBuf::from(path));
    }
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    Some(state.or_else(home)?.join("lancet/history"))
}

/// Adds the latest entry to the file; creates it if necessary.
pub fn append<H: Helper>(editor: &mut Editor<H, DefaultHistory>, path: &Path) -> rustyline::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    editor.append_history(path)
}
