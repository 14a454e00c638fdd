//! Every function has help, and its examples run.

use std::process::Command;

use lancet::bind;
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
    let has_help = |function: &Value| {
        let lines = function["docComments"].as_array();
        lines.is_some_and(|lines| lines.iter().any(|line| line.as_str().is_some_and(|line| !line.trim().is_empty())))
    };
    let silent: Vec<&str> = functions
        .iter()
        .filter(|function| !has_help(function))
        .map(|function| function["name"].as_str().unwrap())
        .collect();
    assert!(silent.is_empty(), "without a doc comment: {}", silent.join(", "));
}
