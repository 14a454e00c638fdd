//! Valid inputs from the project's own files.

use std::fs;
use std::path::{Path, PathBuf};

use lancet::catalog::Catalog;

use crate::support::fixture;

/// The content of fixtures.
pub fn fixtures(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

/// The files whose names have that end, in a folder of the project and below it.
pub fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        // An input depends on the order of the seeds.
        paths.sort();
        for path in paths {
            if path.is_dir() {
                walk(&path, end, found);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), end, &mut found);
    assert!(!found.is_empty(), "{folder} has files *{end}");
    found
}

/// The content of such files.
pub fn contents(folder: &str, end: &str) -> Vec<Vec<u8>> {
    files(folder, end).iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The scripts in a folder and those below it.
pub fn scripts(folder: &str) -> Vec<String> {
    files(folder, ".rhai").iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Short scripts: the examples of the help and the blocks of the book.
pub fn short_scripts(catalog: &Catalog) -> Vec<String> {
    let mut scripts: Vec<String> = catalog.entries().flat_map(|entry| entry.examples()).collect();
    for page in files("docs/src", ".md") {
        let text = fs::read_to_string(page).unwrap();
        let blocks = text.split("```rhai\n").skip(1).filter_map(|rest| rest.split("```").next());
        scripts.extend(blocks.map(str::to_owned));
    }
    scripts.dedup();
    scripts
}
