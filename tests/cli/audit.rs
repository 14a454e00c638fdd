//! `lancet audit` on the command line: its help, its errors and their exit codes, where it is started from.

use std::process::{Command, Output};

/// Runs `lancet audit` in a folder that holds nothing else, with a cache of its own.
fn audit(words: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.env_remove("LANCET_PATH").env("LANCET_CACHE", folder.path().join("cache")).current_dir(folder.path());
    command.arg("audit").args(words).output().unwrap()
}

fn ends(words: &[&str], code: i32, said: &[&str]) {
    let output = audit(words);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    for part in said {
        assert!(text.contains(part), "{words:?}: {part} is not in {text}");
    }
}

#[test]
fn the_help_is_that_of_the_script() {
    for words in [&["--help"][..], &["-h"], &["smollm2", "adj_comp", "--help"]] {
        ends(words, 0, &["Usage: lancet audit MODEL TASK [OPTIONS]", "a verdict on every claim", "--tuned <TEXT>"]);
    }
}

#[test]
fn a_wrong_call_says_what_would_be_right() {
    ends(&[], 2, &["MODEL"]);
    ends(
        &["smollm2"],
        2,
        &["error: `lancet audit` takes a model, a task and options", "lancet audit smollm2 adj_comp"],
    );
    ends(&["--samples", "8"], 2, &["takes a model, a task and options"]);
    ends(&["smollm2", "adj_comp", "--sample-count", "8"], 2, &["there is no option `--sample-count`"]);
    ends(&["smollm2", "adj_comp", "--samples", "many"], 2, &["`--samples` must be an integer, not `many`"]);
}

#[test]
fn what_the_script_refuses_fails() {
    ends(&["smollm2", "nothing"], 1, &["there is no task \"nothing\"", "a name from scripts/tasks"]);
    ends(&["smollm2", "adj_comp", "--task", "can_fly"], 1, &["the audit is of one task, not 2"]);
    ends(&["smollm2", "adj_comp", "--path-samples", "1"], 1, &["--path-samples must be at least 2"]);
    ends(&["smollm2", "adj_comp", "--margin", "0"], 1, &["--margin must be above 0"]);
    ends(&["smollm2", "adj_comp", "--out", "/proc/audit"], 1, &["/proc/audit"]);
}
