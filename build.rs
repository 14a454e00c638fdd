//! Gives the binaries and tests a run-time path to libtorch, so that no variable has to be set to run them.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Their files are embedded, which the compiler does not notice by itself.
    for folder in ["stdlib", "scripts", "examples/study"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let Some(linked) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    // Where an installed program finds the libraries installed with it: see setup/dist.py, which keeps this entry only.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/lancet");
    let vendor = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("vendor");
    // Beside the fetched CPU libraries, the same version for GPUs may appear later; the loader skips it until then.
    // A libtorch of the user's own choice is not overruled.
    if is_same(&linked, &vendor.join("libtorch/lib")) {
        run_time_path(&vendor.join("libtorch-cuda/torch/lib"));
    }
    run_time_path(&linked);
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Holds for binaries, tests, examples and benchmarks.
fn run_time_path(folder: &Path) {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
}
