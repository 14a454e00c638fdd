//! The shipped experiments with their tasks, which are part of the program, and their copies in the cache.

use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::file;

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/scripts");

/// The path of a shipped script, such as `audit.rhai`, in a copy of the folder `scripts` in the cache. The copy is of this
/// program: it is made where it is missing, and made good where it differs.
///
/// # Errors
/// A script that does not exist; a copy that cannot be written.
pub fn script(cache: &Cache, name: &str) -> Result<PathBuf> {
    if FILES.get_file(name).is_none() {
        return Err(Error::new(format!("there is no shipped script `{name}`")));
    }
    let mut all = Vec::new();
    collect(&FILES, &mut all);
    let mut hash = Sha256::new();
    for (path, contents) in &all {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update(contents.len().to_le_bytes());
        hash.update(contents);
    }
    let folder = cache.scripts().join(&format!("{:x}", hash.finalize())[..16]);
    for (path, contents) in all {
        let copy = folder.join(path);
        if !copy.is_file() || file::read(&copy)? != contents {
            file::write_atomic(&copy, |writer| writer.write_all(contents))?;
        }
    }
    Ok(folder.join(name))
}

/// Adds the files of a folder and those below it.
fn collect(folder: &'static Dir, all: &mut Vec<(&'static Path, &'static [u8])>) {
    for entry in folder.entries() {
        match entry {
            DirEntry::Dir(below) => collect(below, all),
            DirEntry::File(file) => all.push((file.path(), file.contents())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_good() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        let cache = Cache::from_variables(|variable| (variable == "LANCET_CACHE").then(|| name.clone())).unwrap();
        let path = script(&cache, "audit.rhai").unwrap();
        let task = path.with_file_name("tasks").join("adj_comp.json");
        for copy in [&path, &task] {
            let original = std::fs::read(copy).unwrap();
            std::fs::write(copy, "other").unwrap();
            assert_eq!(script(&cache, "audit.rhai").unwrap(), path);
            assert_eq!(std::fs::read(copy).unwrap(), original);
        }
        assert!(script(&cache, "nothing.rhai").is_err());
    }
}
