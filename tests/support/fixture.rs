//! The paths of fixtures.

use std::path::{Path, PathBuf};

/// A path below tests/fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
