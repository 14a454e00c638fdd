//! The texts of the standard library, which are part of the program.

use include_dir::{Dir, include_dir};

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/stdlib");

/// The file of the standard library that is known everywhere without an import.
pub const PRELUDE: &str = "prelude";

/// The names of the standard library's modules; the prelude, which the others use, comes first.
pub fn names() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<&'static str> = FILES
        .files()
        .map(include_dir::File::path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rhai"))
        .filter_map(|path| path.file_stem().and_then(std::ffi::OsStr::to_str))
        .collect();
    names.sort_by_key(|name| (*name != PRELUDE, *name));
    names.into_iter()
}

/// The text of a module; `None` if the standard library has none of that name.
pub fn text(name: &str) -> Option<&'static str> {
    FILES.get_file(format!("{name}.rhai"))?.contents_utf8()
}
