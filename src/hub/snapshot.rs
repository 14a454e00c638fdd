//! Finds which files of a model are present in a folder and which are missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Located;
use crate::error::{Error, Result};
use crate::file::{self, is_plain};
use crate::gguf::part;

/// The weights in one file, as the hub's convention names it.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The list of the weights' files, if there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Whether a folder holds the wanted files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    /// All wanted files are there.
    Complete(Located),
    /// There is no `config.json`, but exactly one GGUF file.
    OneGguf(PathBuf),
    /// These files are missing.
    Lacks(Vec<String>),
}

impl Snapshot {
    /// Looks for the one file `gguf`, or else for a configuration and, if they are wanted, the weights.
    pub(super) fn read(folder: &Path, gguf: Option<&str>, weights: bool) -> Self {
        if let Some(file) = gguf {
            let lacking: Vec<String> =
                part::files(file).into_iter().filter(|part| !folder.join(part).is_file()).collect();
            return if lacking.is_empty() {
                Self::Complete(Located::Gguf(folder.join(file)))
            } else {
                Self::Lacks(lacking)
            };
        }
        if !folder.join("config.json").is_file() {
            let mut files = gguf_files(folder);
            return match (files.pop(), files.pop()) {
                (Some(file), None) => Self::OneGguf(file),
                _ => Self::Lacks(vec!["config.json".into()]),
            };
        }
        let lacking = if weights { lacking_weights(folder) } else { Vec::new() };
        if lacking.is_empty() { Self::Complete(Located::Directory(folder.to_owned())) } else { Self::Lacks(lacking) }
    }
}

/// The GGUF files of a folder, of split models the first parts.
fn gguf_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_gguf = |path: &PathBuf| path.is_file() && path.extension().is_some_and(|extension| extension == "gguf");
    let is_later = |path: &PathBuf| path.file_name().is_some_and(|name| part::is_later(&name.to_string_lossy()));
    entries.filter(|path| is_gguf(path) && !is_later(path)).collect()
}

/// The weight files that are missing. One file with all weights wins over an index, as in the Python library.
fn lacking_weights(folder: &Path) -> Vec<String> {
    if folder.join(WEIGHTS).is_file() {
        return Vec::new();
    }
    match shards(&folder.join(INDEX)) {
        Ok(files) => files.into_iter().filter(|file| !folder.join(file).is_file()).collect(),
        Err(_) => vec![WEIGHTS.to_owned()],
    }
}

/// The files that an index of weights names.
///
/// # Errors
/// A file that cannot be read, is not an index, names no files, or names files outside its folder.
pub fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let text = file::read_text(index)?;
    let bad = |what: &str| Error::new(format!("`{}` is not an index of weights: {what}", index.display()));
    let json: Value = serde_json::from_str(&text).map_err(|error| bad(&error.to_string()))?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| bad("it has no `weight_map`"))?;
    let files: BTreeSet<String> = map.values().filter_map(Value::as_str).map(str::to_owned).collect();
    match files.iter().find(|file| !is_plain(file)) {
        _ if files.is_empty() => Err(bad("`weight_map` is empty")),
        Some(file) => Err(bad(&format!("`{file}` leads out of its folder"))),
        None => Ok(files),
    }
}
