//! Runs the examples in the help of every function.

use lancet::session::{Options, ScriptError, Session};

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
    assert!(examples.len() > 3, "the catalogue has lost its examples");
    let folder = tempfile::tempdir().expect("folder");
    std::env::set_current_dir(folder.path()).expect("a folder to write in");
    let mut failures = Vec::new();
    for (signature, code) in examples {
        let mut session = session();
        match session.eval(&signature, &code) {
            Ok(_) | Err(ScriptError::Exit(0)) => {}
            Err(ScriptError::Failed(diagnostic)) => failures.push(session.render(&diagnostic, false)),
            Err(other) => failures.push(format!("{signature}: {other:?}")),
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

fn session() -> Session {
    Session::new(Options::default()).map_err(|_| ()).expect("a session")
}
