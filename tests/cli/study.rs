//! `lancet new`: the folder of a study, and the names that it refuses.

use std::path::Path;
use std::process::{Command, Output};

fn begin(place: &Path, name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lancet")).args(["new", "--", name]).current_dir(place).output().unwrap()
}

fn refused(place: &Path, name: &str, said: &[&str]) {
    let output = begin(place, name);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{name:?}: {text}");
    for part in said {
        assert!(text.contains(part), "{name:?}: {part} is not in {text}");
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_study_is_made_in_a_new_or_an_empty_folder() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("empty")).unwrap();
    for name in ["first", "empty", "below/second one", "-dashed"] {
        let output = begin(place.path(), name);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(&format!("lancet run {name}/study.rhai")), "{text}");
        let folder = place.path().join(name);
        assert_eq!(names(&folder), ["README.md", "study.rhai", "tasks"]);
        assert_eq!(names(&folder.join("tasks")), ["past_tense.json", "verbs.csv"]);
        let script = folder.join("study.rhai");
        let help = Command::new(env!("CARGO_BIN_EXE_lancet")).arg("run").arg(&script).arg("--help").output().unwrap();
        assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--draws"), "{help:?}");
    }
    assert_eq!(names(place.path()), ["-dashed", "below", "empty", "first"]);
}

#[cfg(unix)]
#[test]
fn a_study_has_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    begin(place.path(), "study");
    std::fs::create_dir(place.path().join("usual")).unwrap();
    let mode = |name: &str| std::fs::metadata(place.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("study"), mode("usual"));
}

#[test]
fn what_is_there_is_kept() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("full")).unwrap();
    std::fs::write(place.path().join("full/mine"), "mine").unwrap();
    refused(place.path(), "full", &["`full` is there already and not empty", "another name"]);
    refused(place.path(), "full/mine", &["`full/mine` is a file"]);
    refused(place.path(), "full/mine/below", &["full/mine/below"]);
    assert_eq!(names(place.path()), ["full"]);
    assert_eq!(names(&place.path().join("full")), ["mine"]);
    assert_eq!(std::fs::read_to_string(place.path().join("full/mine")).unwrap(), "mine");
}

#[test]
fn a_name_that_cannot_be_is_refused() {
    let place = tempfile::tempdir().unwrap();
    for name in [".", "..", "/", "a/..", "a\nb", "\u{1b}[31m"] {
        refused(place.path(), name, &["cannot be the name of a new folder", "my_study"]);
    }
    refused(place.path(), "", &["NAME"]);
    refused(place.path(), &"a".repeat(300), &["File name too long"]);
    refused(place.path(), "/proc/study", &["/proc/study"]);
    assert!(names(place.path()).is_empty());
}
