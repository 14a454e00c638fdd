//! The study that `lancet new` makes, run on a small random model: its files are there, and its numbers follow laws.

use std::path::Path;
use std::process::Command;

use crate::experiment_numbers::{number, rows};
use crate::support::small_model;

/// Makes a study in a folder and runs it there.
fn study(place: &Path, model: &str, words: &[&str]) -> (bool, String) {
    let lancet = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
        command.env("LANCET_CACHE", place.join("cache")).current_dir(place);
        command
    };
    if !place.join("mine").exists() {
        assert!(lancet().args(["new", "mine"]).status().expect("runs").success());
    }
    let mut command = lancet();
    command.args(["run", "mine/study.rhai", "--model", model, "--init", "random", "--dtype", "f64"]).args(words);
    let output = command.output().expect("runs");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_study_works_at_once() {
    let (model, place) = (small_model(), tempfile::tempdir().expect("folder"));
    let model = model.path().join("small").display().to_string();
    let (worked, text) = study(place.path(), &model, &["--samples", "8", "--draws", "2"]);
    assert!(worked && text.contains("report: out/study/report.html"), "{text}");
    let out = place.path().join("out/study");
    for name in ["report.html", "tests.csv", "tests.tex", "effects.csv", "log_probability.svg", "rr.pdf", "logit.png"] {
        assert!(out.join(name).metadata().is_ok_and(|file| file.len() > 0), "{name}: {text}");
    }
    let effects = rows(&out, "effects.csv");
    assert_eq!(effects.len(), 3 * 4, "three metrics, four layers");
    for row in &effects {
        // After the last layer nothing moves from the first token to the last.
        let is_last = row["layer"] == "3";
        for column in ["source", "random"] {
            assert_eq!(is_last, (number(row, column).abs() < 1e-9), "{column}: {row:?}");
        }
    }
    let tests = rows(&out, "tests.csv");
    assert_eq!(tests.len(), 3);
    for test in &tests {
        assert_eq!(test["samples"], "4");
        assert!((0.0..=1.0).contains(&number(test, "p")), "{test:?}");
    }
}

#[test]
fn the_study_refuses_what_it_cannot_do() {
    let (model, place) = (small_model(), tempfile::tempdir().expect("folder"));
    let model = model.path().join("small").display().to_string();
    for (words, said) in [
        (&["--draws", "0"][..], "--draws must be at least 1"),
        (&["--samples", "3"], "at least four samples"),
        (&["--task", "past_tense", "--task", "mine/tasks/past_tense.json"], "one model and one task"),
        (&["--task", "adj_comp"], "there is no task \"adj_comp\""),
    ] {
        let (worked, text) = study(place.path(), &model, words);
        assert!(!worked && text.contains(said), "{words:?}: {text}");
    }
}
