//! Every function has help, and its examples run.

use std::process::Command;

use lancet::bind;
use lancet::catalog::topic::Topic;
use rhai::Engine;
use serde_json::Value;

use crate::support::session;

/// Each example runs in a process of its own, whose working folder is empty.
#[test]
fn each_example_in_the_help_runs() {
    let catalog = session().catalog();
    let mut examples: Vec<(String, String)> = Vec::new();
    for entry in catalog.entries().filter(|entry| !entry.language) {
        for code in entry.examples() {
            if !examples.iter().any(|(_, other)| *other == code) {
                examples.push((entry.signature(), code));
            }
        }
    }
    assert!(examples.len() > 150, "the catalogue has only {} examples", examples.len());
    let mut failures = Vec::new();
    for (signature, code) in examples {
        let folder = tempfile::tempdir().expect("folder");
        let output = Command::new(env!("CARGO_BIN_EXE_lancet"))
            .current_dir(folder.path())
            .args(["-e", &code])
            .output()
            .expect("lancet runs");
        if !output.status.success() {
            failures.push(format!("{signature}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(failures.is_empty(), "{} examples fail\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn each_function_says_what_it_does() {
    let catalog = session().catalog();
    let silent: Vec<String> = catalog
        .entries()
        .filter(|entry| !entry.language && matches!(entry.kind, lancet::catalog::Kind::Function))
        .filter(|entry| !catalog.named(&entry.name).any(|other| !other.doc.is_empty()))
        .map(|entry| entry.signature())
        .collect();
    assert!(silent.is_empty(), "without a doc comment: {}", silent.join(", "));
}

#[test]
fn each_function_has_a_topic_and_a_place_in_the_book() {
    let catalog = session().catalog();
    let lost: Vec<String> = catalog
        .entries()
        // What a module imports stands with the module that it comes from.
        .filter(|entry| !entry.language && entry.name.matches("::").count() < 2)
        .filter(|entry| !catalog.topics().contains(&entry.topic))
        .map(|entry| entry.signature())
        .collect();
    assert!(lost.is_empty(), "without a topic: {}", lost.join(", "));
    for topic in Topic::ALL {
        let listed = catalog.topic_help(&topic.title().to_lowercase()).expect("a topic's functions");
        assert!(listed.lines().count() > 5, "{listed}");
    }
    let folder = tempfile::tempdir().expect("folder");
    let summary = catalog.write_book(&folder.path().join("reference")).expect("the pages");
    let mut pages = String::new();
    for file in std::fs::read_dir(folder.path().join("reference")).expect("folder") {
        let path = file.expect("file").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        assert!(summary.contains(&format!("(reference/{name})")), "{name} is not in {summary}");
        pages.push_str(&std::fs::read_to_string(path).expect("page"));
    }
    for entry in catalog.reference() {
        let signature = entry.signature();
        let times = pages.lines().filter(|line| *line == signature).count();
        assert_eq!(times, 1, "{signature}");
    }
    // The book's own summary lists the pages that `make docs` writes.
    let book = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/SUMMARY.md")).expect("summary");
    assert_eq!(book.split("# Reference\n\n").nth(1), Some(summary.as_str()));
}

/// A function with options is one entry, whose options may be left out.
#[test]
fn options_are_shown_once() {
    let catalog = session().catalog();
    let signatures: Vec<String> = catalog.named("generate").map(|entry| entry.signature()).collect();
    assert_eq!(signatures, ["generate(model: model, tokens [, options: map]) -> any"]);
    for entry in catalog.entries().filter(|entry| entry.is_last_optional) {
        let shorter = catalog.named(&entry.name).any(|other| {
            other.kind == entry.kind && entry.parameters.split_last().is_some_and(|(_, all)| other.parameters == all)
        });
        assert!(!shorter, "{} stands twice", entry.signature());
    }
}

/// Stricter for tensors, files and the like: each overload has its own help.
#[test]
fn each_form_of_a_tensor_function_says_what_it_does() {
    let mut engine = Engine::new();
    bind::tensor::register(&mut engine);
    bind::display::register(&mut engine);
    bind::file::register(&mut engine);
    bind::utility::register(&mut engine);
    let metadata: Value = serde_json::from_str(&engine.gen_fn_metadata_to_json(false).unwrap()).unwrap();
    let functions = metadata["functions"].as_array().unwrap();
    assert!(functions.len() > 50);
    let says = |line: &Value| line.as_str().is_some_and(|line| !line.trim().is_empty() && !Topic::is_comment(line));
    // A function called without its options is the same function.
    let has_help = |function: &Value| function["docComments"].as_array().is_some_and(|lines| lines.iter().any(says));
    let silent: Vec<&str> = functions
        .iter()
        .filter(|function| !has_help(function))
        .map(|function| function["name"].as_str().unwrap())
        .collect();
    assert!(silent.is_empty(), "without a doc comment: {}", silent.join(", "));
}
