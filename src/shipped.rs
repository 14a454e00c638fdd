//! The shipped experiments with their tasks, which are part of the program: their list, and their copies in the cache and
//! where a user wants them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::error::{self, Error, Result};
use crate::file;

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/scripts");

/// The folder that every script may read: a task is an option.
const TASKS: &str = "tasks";

/// The names of the shipped scripts, sorted.
pub fn names() -> Vec<&'static str> {
    let is_script = |path: &&Path| path.extension().is_some_and(|extension| extension == "rhai");
    let mut names: Vec<&str> = FILES
        .files()
        .map(include_dir::File::path)
        .filter(is_script)
        .filter_map(|path| path.file_stem()?.to_str())
        .collect();
    names.sort_unstable();
    names
}

/// Whether a shipped script has this name.
pub fn is_name(name: &str) -> bool {
    names().contains(&name)
}

/// The name of the shipped script that the path of no file means, if any.
pub fn meant_by(path: &Path) -> Option<&'static str> {
    error::nearest(path.file_stem()?.to_str()?, names())
}

/// Writes the name of every shipped script with what it is about.
///
/// # Errors
/// `out` cannot be written.
pub fn list(out: &mut dyn Write) -> io::Result<()> {
    let names = names();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    for name in names {
        writeln!(out, "{name:<width$}  {}", about(name))?;
    }
    writeln!(out, "\n`lancet run NAME` runs one, `lancet scripts NAME` copies it to read and change")
}

/// The first paragraph of a script's description, in one line.
fn about(name: &str) -> String {
    let lines = text(name).unwrap_or_default().lines().map_while(|line| line.strip_prefix("//!"));
    let words = lines.map(str::trim).take_while(|line| !line.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The path of a shipped script, such as `audit`, in a copy of the folder `scripts` in the cache. The copy is of this
/// program: it is made where it is missing, and made good where it differs.
///
/// # Errors
/// A script that does not exist; a copy that cannot be written.
pub fn script(cache: &Cache, name: &str) -> Result<PathBuf> {
    known(name)?;
    let mut hash = Sha256::new();
    for (path, contents) in files(&FILES) {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update(contents.len().to_le_bytes());
        hash.update(contents);
    }
    let folder = cache.scripts().join(&format!("{:x}", hash.finalize())[..16]);
    for (path, contents) in files(&FILES) {
        let copy = folder.join(path);
        if !copy.is_file() || file::read(&copy)? != contents {
            file::write_atomic(&copy, |writer| writer.write_all(contents))?;
        }
    }
    Ok(folder.join(format!("{name}.rhai")))
}

/// Copies a script with the files that it needs into a folder, or all files of all scripts. Returns how many files the
/// copy has. A file that is there already stays; nothing is copied if one of them differs.
///
/// # Errors
/// A script that does not exist; a file that differs from what would be copied; a folder that cannot be written to.
pub fn copy(name: Option<&str>, folder: &Path) -> Result<usize> {
    let wanted = match name {
        Some(name) => needed(name)?,
        None => files(&FILES),
    };
    let mut missing = Vec::new();
    for (path, contents) in &wanted {
        let copy = folder.join(path);
        if !copy.exists() {
            missing.push((copy, contents));
        } else if copy.is_dir() || file::read(&copy)? != *contents {
            return Err(Error::new(format!("`{}` is there already and differs", copy.display()))
                .hint("nothing was copied: rename it, or name another folder"));
        }
    }
    for (copy, contents) in missing {
        file::write_atomic(&copy, |writer| writer.write_all(contents))?;
    }
    Ok(wanted.len())
}

/// The files of a script: itself, the tasks, and the folders that it names.
fn needed(name: &str) -> Result<Vec<(&'static Path, &'static [u8])>> {
    let text = known(name)?;
    let own = PathBuf::from(format!("{name}.rhai"));
    let is_needed = |path: &Path| match path.parent().and_then(|folder| folder.iter().next()) {
        None => path == own,
        Some(folder) => folder == TASKS || text.contains(&format!("\"{}/", folder.display())),
    };
    Ok(files(&FILES).into_iter().filter(|(path, _)| is_needed(path)).collect())
}

fn text(name: &str) -> Option<&'static str> {
    FILES.get_file(format!("{name}.rhai"))?.contents_utf8()
}

/// The text of a script.
fn known(name: &str) -> Result<&'static str> {
    let problem = || Error::new(format!("there is no shipped script `{name}`"));
    text(name).ok_or_else(|| match error::nearest(name, names()) {
        Some(near) => problem().hint(format!("did you mean `{near}`? `lancet scripts` lists them all")),
        None => problem().hint("`lancet scripts` lists them all"),
    })
}

/// The files of a folder and of those below it.
pub fn files(folder: &'static Dir) -> Vec<(&'static Path, &'static [u8])> {
    let of = |entry: &'static DirEntry| match entry {
        DirEntry::Dir(below) => files(below),
        DirEntry::File(file) => vec![(file.path(), file.contents())],
    };
    folder.entries().iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_good() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        let cache = Cache::from_variables(|variable| (variable == "LANCET_CACHE").then(|| name.clone())).unwrap();
        let path = script(&cache, "audit").unwrap();
        let task = path.with_file_name("tasks").join("adj_comp.json");
        for copy in [&path, &task] {
            let original = std::fs::read(copy).unwrap();
            std::fs::write(copy, "other").unwrap();
            assert_eq!(script(&cache, "audit").unwrap(), path);
            assert_eq!(std::fs::read(copy).unwrap(), original);
        }
        assert!(script(&cache, "nothing").is_err());
    }
}
