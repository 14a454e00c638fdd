//! The archive and the wheel, made of the program under test, run where nothing else is: no variables, no tools, no
//! checkout. Which libtorch they run on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lancet::cache::Cache;
use tempfile::TempDir;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// On the disk that libtorch is on, as a rule: there its files can be linked.
fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Puts the libraries of a whole libtorch into a folder.
fn link_libtorch(folder: &Path) {
    let given = std::env::var_os("LIBTORCH").filter(|folder| !folder.is_empty());
    let libtorch = given.map_or_else(|| Path::new(CHECKOUT).join("vendor/libtorch"), PathBuf::from);
    fs::create_dir_all(folder).unwrap();
    for name in ["libc10.so", "libcudart.so.13", "libcupti.so.13", "libgomp.so.1", "libtorch_cpu.so"] {
        let original = libtorch.join("lib").join(name).canonicalize().unwrap();
        let link = folder.join(name);
        fs::hard_link(&original, &link).or_else(|_| fs::copy(&original, &link).map(|_| ())).unwrap();
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The only file in a folder whose name ends so.
fn only(folder: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = files.filter(|path| path.display().to_string().ends_with(ending)).collect();
    assert_eq!(found.len(), 1, "{ending}: {found:?}");
    found[0].clone()
}

/// Packs the program under test, without compressing.
fn pack() -> TempDir {
    let folder = scratch();
    let mut command = Command::new("python3");
    command.args(["-B", "setup/dist.py", "--level", "0", "--program", env!("CARGO_BIN_EXE_lancet"), "--out"]);
    succeed(command.arg(folder.path()).current_dir(CHECKOUT));
    folder
}

/// What follows this label in the doctor's report.
fn line<'a>(report: &'a str, label: &str) -> &'a str {
    let found = report.lines().find_map(|line| line.trim_start().strip_prefix(label));
    found.unwrap_or_else(|| panic!("no `{label}` in\n{report}")).trim()
}

/// An installed program and an empty home.
struct Installed {
    program: PathBuf,
    home: TempDir,
}

impl Installed {
    fn new(program: PathBuf) -> Self {
        Self { program, home: tempfile::tempdir().unwrap() }
    }

    /// The program with no variable but the home folder.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path()).args(words);
        command
    }

    /// Checks that libtorch's libraries are of this folder, all of them, and compute. Returns the doctor's report.
    fn runs_on(&self, libraries: &Path) -> String {
        let report = succeed(&mut self.command(&["doctor"]));
        assert_eq!(Path::new(line(&report, "library")), libraries.join("libtorch_cpu.so"));
        assert!(line(&report, "cpu").contains("computes correctly"), "{report}");
        let code = r#"for line in read_text("/proc/self/maps").split("\n") { print(line) } print(ARGS)"#;
        let printed = succeed(&mut self.command(&["-e", code, "x y", "--z"]));
        assert!(printed.ends_with("[\"x y\", \"--z\"]\n"), "{printed}");
        let mapped = printed.lines().filter(|line| line.contains("/libtorch") || line.contains("/libc10"));
        let others = mapped.filter(|line| !line.contains(&libraries.display().to_string()));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
        report
    }

    /// Runs the script of `make demo` on a few samples.
    fn demo(&self) {
        let models = Cache::from_env().unwrap().models();
        let model = models.join("smollm2-135m-instruct.gguf").display().to_string();
        let script = Path::new(CHECKOUT).join("scripts/localization.rhai").display().to_string();
        let options =
            ["--task", "adj_comp", "--source", "few-shot", "--samples", "1", "--verify", "1", "--out", "demo"];
        let words = [&["run", &script, "--model", &model], &options[..]].concat();
        let printed = succeed(&mut self.command(&words));
        assert!(printed.contains("patching has the best mean effect"), "{printed}");
        let report = fs::read_to_string(self.home.path().join("demo/report.html")).unwrap();
        assert!(report.contains("</html>"), "{report}");
    }
}

#[test]
fn the_archive_runs_wherever_it_is_unpacked() {
    let packed = pack();
    let folder = scratch();
    let archive = only(packed.path(), ".tar.gz");
    succeed(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()));
    let unpacked = folder.path().join(format!("lancet-{}-linux-x86_64", env!("CARGO_PKG_VERSION")));
    let moved = folder.path().join("another place");
    fs::rename(unpacked, &moved).unwrap();
    let installed = Installed::new(moved.join("bin/lancet"));
    let libraries = moved.join("lib/lancet");
    let report = installed.runs_on(&libraries);
    assert_eq!(line(&report, "because"), "it was installed with Lancet");
    installed.demo();

    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::hard_link(libraries.join("libc10.so"), other.join("libc10.so")).unwrap();
    let output = installed.command(&["-e", "1"]).env("LD_LIBRARY_PATH", &other).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("libtorch is loaded in parts"), "{}", said(&output));

    // No other folder is looked into, such as the one that the program was built with.
    fs::rename(&libraries, folder.path().join("away")).unwrap();
    let output = installed.command(&["--version"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127), "{}", said(&output));
}

#[test]
fn the_wheel_runs_on_its_own_libraries_or_on_those_of_the_right_pytorch() {
    let packed = pack();
    let environment = scratch();
    succeed(Command::new("python3").args(["-m", "venv"]).arg(environment.path()));
    let mut pip = Command::new(environment.path().join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-index", "--no-deps", "--disable-pip-version-check"]);
    succeed(pip.arg(only(packed.path(), ".whl")));
    let installed = Installed::new(environment.path().join("bin/lancet"));
    let own = environment.path().join("lib/lancet");
    installed.runs_on(&own);
    installed.demo();

    let mut python = Command::new(environment.path().join("bin/python"));
    let packages = succeed(python.args(["-c", "import sysconfig; print(sysconfig.get_path('platlib'))"]));
    let packages = Path::new(packages.trim());
    let pytorch = packages.join("torch/lib");
    link_libtorch(&pytorch);
    let write_version = |version: &str| {
        let line = format!("__version__ = '{version}'\n");
        fs::write(packages.join("torch/version.py"), line).unwrap();
    };
    write_version("2.10.0+cu128");
    let report = installed.runs_on(&own);
    assert!(line(&report, "passed over").contains("version 2.10.0+cu128, and Lancet is built for 2.11"), "{report}");

    write_version("2.11.0+cu130");
    let report = installed.runs_on(&pytorch);
    assert!(line(&report, "because").contains("the PyTorch of this environment"), "{report}");
    assert_eq!(line(&report, "version"), "2.11.0+cu130");

    fs::remove_file(pytorch.join("libcudart.so.13")).unwrap();
    let report = installed.runs_on(&own);
    assert!(line(&report, "passed over").contains("`libcudart.so.13` is not found"), "{report}");
}

#[test]
fn a_libtorch_of_another_release_is_a_failure() {
    let folder = scratch();
    link_libtorch(folder.path());
    let doctor = |version: &str| {
        fs::write(folder.path().join("build-version"), version).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
        command.arg("doctor").env("LD_LIBRARY_PATH", folder.path()).output().unwrap()
    };
    let right = doctor("2.11.0\n");
    assert!(right.status.success() && said(&right).contains("`LD_LIBRARY_PATH` names its folder"), "{}", said(&right));
    let wrong = doctor("2.10.0\n");
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    assert!(said(&wrong).contains("2.10.0, and Lancet is built for 2.11"), "{}", said(&wrong));
}
