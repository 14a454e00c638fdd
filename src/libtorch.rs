//! The libtorch that runs: which one it is, and why. An installed program has libtorch's CPU libraries beside it. If it was
//! installed with pip and the environment has a PyTorch of the right release, it runs on PyTorch's libraries instead.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// The release of libtorch and PyTorch that this program is built for.
pub const RELEASE: &str = "2.11";

/// The libraries that must be of one build: two builds in one process corrupt each other.
const LIBRARIES: [&str; 2] = ["libtorch_cpu.so", "libc10.so"];

const LOADER_PATH: &str = "LD_LIBRARY_PATH";

/// Why this libtorch runs and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It belongs to the PyTorch of the environment that the program was installed into.
    Environment,
    /// It was installed with the program.
    Installed,
    /// `LD_LIBRARY_PATH` names its folder.
    Variable,
    /// The program was built to look there.
    Build,
}

impl Reason {
    /// The reason in words.
    pub fn words(self) -> String {
        match self {
            Self::Environment => {
                format!("the PyTorch of this environment is release {RELEASE}, which Lancet is built for")
            }
            Self::Installed => "it was installed with Lancet".into(),
            Self::Variable => format!("`{LOADER_PATH}` names its folder"),
            Self::Build => "Lancet was built to look there".into(),
        }
    }

    /// How to get the libraries for GPUs.
    pub fn gpu_hint(self) -> String {
        match self {
            Self::Build => "`make libtorch-cuda` fetches the libraries for GPUs".into(),
            Self::Installed if site_packages().is_some() => {
                format!("`pip install 'torch=={RELEASE}.*'` into the same environment brings the libraries for GPUs")
            }
            _ => format!("set `{LOADER_PATH}` to the folder `torch/lib` of a PyTorch {RELEASE} for GPUs"),
        }
    }
}

/// Sees to it that the right libtorch runs: starts the program again with the libraries of the environment's PyTorch, if
/// they are to be preferred. Has to come first.
///
/// # Errors
/// The libraries that were loaded are of two builds; the program cannot be started again.
pub fn settle() -> Result<()> {
    let folders: Vec<PathBuf> = LIBRARIES.iter().filter_map(|name| folder(&loaded(name)?)).collect();
    if let [one, other] = folders.as_slice()
        && one != other
    {
        let found = format!("libtorch is loaded in parts, from `{}` and `{}`", one.display(), other.display());
        return Err(Error::new(found).hint(format!("unset `{LOADER_PATH}`, or name the folder of a whole libtorch")));
    }
    match PyTorch::of_environment() {
        Some(pytorch) if reason() == Reason::Installed && pytorch.problem().is_none() => {
            let error = match pytorch.start() {
                Ok(mut again) => again.args(env::args_os().skip(1)).exec(),
                Err(error) => error,
            };
            Err(Error::new(format!("Lancet cannot be started again with `{}`: {error}", pytorch.libraries.display())))
        }
        _ => Ok(()),
    }
}

/// The `libtorch_cpu.so` that this process runs on.
pub fn library() -> Option<PathBuf> {
    loaded(LIBRARIES[0])
}

/// Why the libtorch of this process was chosen.
pub fn reason() -> Reason {
    let library = library();
    let is_in = |libraries: &Path| library.is_some() && libraries.join(LIBRARIES[0]).canonicalize().ok() == library;
    let named = env::var_os(LOADER_PATH).unwrap_or_default();
    if installed().is_some_and(|libraries| is_in(&libraries)) {
        Reason::Installed
    } else if PyTorch::of_environment().is_some_and(|pytorch| is_in(&pytorch.libraries)) {
        Reason::Environment
    } else if env::split_paths(&named).any(|folder| is_in(&folder)) {
        Reason::Variable
    } else {
        Reason::Build
    }
}

/// Why the libraries of the environment's PyTorch are not those that run; `None` if they are, or there is none.
pub fn passed_over() -> Option<Error> {
    let pytorch = PyTorch::of_environment().filter(|_| reason() == Reason::Installed)?;
    let problem = pytorch.problem()?.context(format!("the PyTorch in `{}`", pytorch.libraries.display()));
    Some(problem.hint(format!("`pip install 'torch=={RELEASE}.*'` installs one whose libraries Lancet uses")))
}

/// The version that a libtorch's folder (`build-version`) or PyTorch's (`version.py`) records.
pub fn version(library: &Path) -> Option<String> {
    let recorded = |folder: &Path| fs::read_to_string(folder.join("build-version")).ok();
    if let Some(version) = library.ancestors().skip(1).take(3).find_map(recorded) {
        return Some(version.trim().to_owned());
    }
    let python = fs::read_to_string(library.parent()?.parent()?.join("version.py")).ok()?;
    let line = python.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim_matches(['\'', '"']).to_owned())
}

/// Whether a version is one of the release that this program is built for.
pub fn is_right(version: &str) -> bool {
    version.strip_prefix(RELEASE).is_some_and(|patch| patch.starts_with('.'))
}

/// The PyTorch of the environment that this program was installed into with pip.
struct PyTorch {
    libraries: PathBuf,
}

impl PyTorch {
    fn of_environment() -> Option<Self> {
        let libraries = site_packages()?.join("torch/lib");
        libraries.join(LIBRARIES[0]).is_file().then_some(Self { libraries })
    }

    /// Why its libraries cannot run this program.
    fn problem(&self) -> Option<Error> {
        match version(&self.libraries.join(LIBRARIES[0])) {
            Some(version) if is_right(&version) => self.trace().err(),
            Some(version) => Some(Error::new(format!("it is version {version}, and Lancet is built for {RELEASE}"))),
            None => Some(Error::new(format!("its version is not recorded, and Lancet is built for {RELEASE}"))),
        }
    }

    /// Asks the loader whether it would find every library, and those of libtorch in this folder.
    fn trace(&self) -> Result<()> {
        let failed = |problem: &str| Error::new(format!("the loader cannot use it: {problem}"));
        let output = self.start().and_then(|mut traced| traced.env("LD_TRACE_LOADED_OBJECTS", "1").output());
        let output = output.map_err(|error| failed(&error.to_string()))?;
        let traced = String::from_utf8_lossy(&output.stdout);
        if let Some(missing) = traced.lines().find_map(|line| line.trim().strip_suffix(" => not found")) {
            return Err(failed(&format!("`{missing}` is not found")));
        }
        let place = |name: &str| format!("{name} => {} ", self.libraries.join(name).display());
        match LIBRARIES.iter().find(|name| !traced.contains(&place(name))) {
            Some(name) => Err(failed(&format!("it takes another `{name}`"))),
            None => Ok(()),
        }
    }

    /// This program with these libraries before all others.
    fn start(&self) -> io::Result<Command> {
        let mut path = OsString::from(&self.libraries);
        if let Some(others) = env::var_os(LOADER_PATH).filter(|others| !others.is_empty()) {
            path.push(":");
            path.push(others);
        }
        let mut command = Command::new(env::current_exe()?);
        command.env(LOADER_PATH, path);
        Ok(command)
    }
}

/// The file of this name that is mapped into this process.
fn loaded(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let path = line.get(line.find('/')?..)?;
        let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
        (path.file_name()? == name).then(|| path.to_path_buf())
    })
}

fn folder(file: &Path) -> Option<PathBuf> {
    file.parent().map(Path::to_path_buf)
}

/// The folder that `bin`, where this program is, is in.
fn prefix() -> Option<PathBuf> {
    folder(env::current_exe().ok()?.parent()?)
}

/// The folder of the libraries that are installed with the program: see setup/dist.py.
fn installed() -> Option<PathBuf> {
    Some(prefix()?.join("lib/lancet"))
}

/// The folder of Python's packages into which pip installed this program.
fn site_packages() -> Option<PathBuf> {
    let prefix = prefix()?;
    let pythons =
        ["lib", "lib64"].into_iter().filter_map(|name| fs::read_dir(prefix.join(name)).ok()).flatten().flatten();
    let packages = pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.path().join(name)));
    let record = concat!("lancet_lm-", env!("CARGO_PKG_VERSION"), ".dist-info");
    packages.into_iter().find(|packages| packages.join(record).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_libtorch_is_found() {
        let path = library().expect("libtorch_cpu.so is mapped");
        assert!(path.is_file(), "{}", path.display());
    }

    #[test]
    fn a_release_is_more_than_the_start_of_a_number() {
        assert!(["2.11.0", "2.11.1+cu130"].into_iter().all(is_right));
        assert!(!["2.1.1", "2.110.0", "2.11", "2.10.0", "12.11.0", ""].into_iter().any(is_right));
    }
}
