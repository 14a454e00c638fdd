//! Simulated GPUs: libtorch's libraries beside the stand-in for its CUDA library that tests/support/simulated_cuda holds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Makes `command` see two simulated GPUs of `bytes` each.
pub fn with_simulated_gpus(command: &mut Command, bytes: u64) {
    let libraries = libraries();
    command
        .env("LD_LIBRARY_PATH", libraries)
        // The runtime that libtorch is linked with would answer first, and count no device.
        .env("LD_PRELOAD", libraries.join("libtorch_cuda.so"))
        .env("SIMULATED_CUDA_BYTES", bytes.to_string());
}

/// The folder of libraries. What an earlier process made there stays while it is newer than what it was made from.
fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulated_cuda");
        std::fs::create_dir_all(&folder).expect("folder");
        let libtorch = lancet::libtorch::library().expect("libtorch is loaded");
        let original = libtorch.parent().expect("a folder");
        for file in std::fs::read_dir(original).expect("libraries") {
            let file = file.expect("a file");
            let name = file.file_name().into_string().expect("a name");
            if name != "libtorch_cuda.so" && name.contains(".so") {
                make(&file.path(), &folder.join(&name), |new| {
                    // No symbolic link: the CUDA library is looked for beside the file that is really mapped.
                    std::fs::hard_link(file.path(), new)
                        .or_else(|_| std::fs::copy(file.path(), new).map(drop))
                        .expect("linked");
                });
            }
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/simulated_cuda/simulated_cuda.cpp");
        make(&source, &folder.join("libtorch_cuda.so"), |new| compile(&source, original, new));
        folder
    })
}

/// Makes `target` from `source` under another name first, since other processes may be using it.
fn make(source: &Path, target: &Path, make: impl FnOnce(&Path)) {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if modified(target).is_some_and(|target| Some(target) >= modified(source)) {
        return;
    }
    let new = target.with_extension(std::process::id().to_string());
    make(&new);
    std::fs::rename(&new, target).expect("renamed");
}

fn compile(source: &Path, libtorch: &Path, library: &Path) {
    // The libraries for GPUs come without the headers, which are those of the libtorch that was built with.
    let built_with = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    let headers = [libtorch.with_file_name("include"), built_with.join("include")];
    let headers = headers.iter().find(|folder| folder.join("torch/library.h").is_file()).expect("libtorch's headers");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let output = Command::new(compiler)
        .args(["-O1", "-std=c++17", "-fPIC", "-shared", "-w", "-ltorch_cpu", "-lc10", "-o"])
        .arg(library)
        .arg(source)
        .arg(format!("-I{}", headers.display()))
        .arg(format!("-L{}", libtorch.display()))
        .output()
        .expect("a C++ compiler, as for Lancet itself");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
