//! The scripts that come with the program, used where there is no checkout.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with nothing but the cache of its own.
fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn lancet(place: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.env_remove("LANCET_PATH").env("LANCET_CACHE", place.join("cache")).current_dir(place);
    command.args(words).output().unwrap()
}

fn ends(place: &Path, words: &[&str], code: i32, said: &[&str]) -> String {
    let output = lancet(place, words);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    for part in said {
        assert!(text.contains(part), "{words:?}: {part} is not in {text}");
    }
    text
}

/// The files below a folder, by their paths in it, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap());
    let mut found: Vec<PathBuf> = all
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(folder).unwrap().to_path_buf())
        .collect();
    found.sort();
    found
}

fn originals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// The names of the scripts of the project.
fn names() -> Vec<String> {
    let scripts = files(&originals()).into_iter().filter(|path| path.components().count() == 1);
    let scripts = scripts.filter(|path| path.extension().is_some_and(|extension| extension == "rhai"));
    scripts.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_script_is_listed_with_what_it_is_about() {
    let place = place();
    let text = ends(place.path(), &["scripts"], 0, &["which heads carry", "`lancet scripts NAME`"]);
    for name in names() {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(&name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
        assert!(line.ends_with(['.', '?']) && line.len() > name.len() + 20, "{line}");
    }
    assert!(files(place.path()).is_empty(), "a list writes nothing");
}

#[test]
fn every_script_runs_by_its_name() {
    let place = place();
    for name in names() {
        let usage = format!("Usage: lancet run {name} [OPTIONS]");
        ends(place.path(), &["run", &name, "--help"], 0, &[&usage]);
    }
    ends(place.path(), &["check", "localization"], 0, &[]);
    // It finds its tasks, and the user's own from the working folder.
    ends(place.path(), &["run", "localization", "--task", "no_such"], 1, &["there is no task \"no_such\""]);
    ends(place.path(), &["run", "localization", "--task", "own.json"], 1, &["there is no task \"own.json\""]);
    std::fs::write(place.path().join("own.json"), "{}").unwrap();
    ends(place.path(), &["run", "localization", "--task", "own.json"], 1, &["`own.json:1:1`"]);
    ends(place.path(), &["run", "localization", "--task", "anim_color", "--model", "./none"], 1, &["`./none`"]);
}

#[test]
fn a_file_comes_before_a_script_of_its_name() {
    let place = place();
    std::fs::create_dir(place.path().join("edges")).unwrap();
    ends(place.path(), &["run", "edges", "--help"], 0, &["Usage: lancet run edges"]);
    std::fs::write(place.path().join("localization"), "print(\"mine\")").unwrap();
    assert_eq!(ends(place.path(), &["run", "localization"], 0, &[]), "mine\n");
}

#[test]
fn a_path_without_a_file_is_told_the_script_that_it_means() {
    let place = place();
    let hint = "did you mean `lancet run localization`, which comes with Lancet?";
    for path in ["localization.rhai", "scripts/localization.rhai", "localisation"] {
        ends(place.path(), &["run", path], 1, &[path, "No such file", hint]);
    }
    assert!(!ends(place.path(), &["run", "mine.rhai"], 1, &["mine.rhai"]).contains("hint"));
}

#[test]
fn a_copy_has_what_the_script_needs() {
    let place = place();
    for name in names() {
        let folder = place.path().join(&name);
        ends(place.path(), &["scripts", &name, &name], 0, &[&format!("files are in {name}")]);
        let copied = files(&folder);
        let tops = || copied.iter().filter(|path| path.components().count() == 1);
        assert_eq!(tops().collect::<Vec<_>>(), [Path::new(&format!("{name}.rhai"))], "{name}");
        for path in &copied {
            let same = std::fs::read(folder.join(path)).unwrap() == std::fs::read(originals().join(path)).unwrap();
            assert!(same, "{name}: {}", path.display());
        }
        // What it names between quotes is there: modules and data.
        for path in files(&originals()).iter().filter(|path| path.components().count() > 1) {
            let text = std::fs::read_to_string(originals().join(format!("{name}.rhai"))).unwrap();
            let quoted = [path.to_path_buf(), path.with_extension("")].map(|path| format!("\"{}\"", path.display()));
            if quoted.iter().any(|quoted| text.contains(quoted)) {
                assert!(copied.contains(path), "{name} needs {}", path.display());
            }
        }
        assert!(copied.contains(&PathBuf::from("tasks/adj_comp.json")), "{name}: {copied:?}");
    }
    ends(place.path(), &["run", "audit/audit.rhai", "--help"], 0, &["lancet run audit/audit.rhai"]);
    let has = |name: &str, path: &str| place.path().join(name).join(path).is_file();
    assert!(has("audit", "audit/setup.rhai") && !has("localization", "audit/setup.rhai"));
    assert!(has("superadditivity", "published/ttest.csv") && !has("audit", "published/ttest.csv"));
}

#[test]
fn all_copies_are_as_in_the_project() {
    let place = place();
    ends(place.path(), &["scripts", "--all"], 0, &["files are in scripts"]);
    assert_eq!(files(&place.path().join("scripts")), files(&originals()));
    // As the book writes it.
    ends(place.path(), &["run", "scripts/localization.rhai", "--help"], 0, &["lancet run scripts/localization.rhai"]);
}

#[test]
fn a_changed_file_is_kept_and_named() {
    let place = place();
    let task = place.path().join("scripts/tasks/adj_comp.json");
    ends(place.path(), &["scripts", "localization"], 0, &[]);
    let before = files(place.path());
    std::fs::write(&task, "changed").unwrap();
    for words in [&["scripts", "audit"][..], &["scripts", "--all"]] {
        ends(
            place.path(),
            words,
            1,
            &["`scripts/tasks/adj_comp.json` is there already and differs", "nothing was copied"],
        );
    }
    assert_eq!(files(place.path()), before);
    assert_eq!(std::fs::read_to_string(&task).unwrap(), "changed");
    std::fs::remove_file(&task).unwrap();
    ends(place.path(), &["scripts", "audit"], 0, &[]);
    assert!(task.is_file() && place.path().join("scripts/localization.rhai").is_file());
}

#[test]
fn an_unknown_script_is_refused() {
    let place = place();
    ends(
        place.path(),
        &["scripts", "localisation"],
        1,
        &["no shipped script `localisation`", "did you mean `localization`?"],
    );
    ends(place.path(), &["scripts", "tasks"], 1, &["no shipped script `tasks`", "`lancet scripts` lists them all"]);
    ends(place.path(), &["scripts", "../scripts/audit"], 1, &["no shipped script `../scripts/audit`"]);
    ends(place.path(), &["scripts", "--all", "audit"], 2, &["--all"]);
    std::fs::write(place.path().join("file"), "").unwrap();
    ends(place.path(), &["scripts", "audit", "file"], 1, &["file"]);
    assert_eq!(files(place.path()), [Path::new("file")]);
}
