//! The doctor's report on model folders of the test.

use std::path::Path;

use lancet::doctor;
use lancet::error::Error;
use lancet::hub::{BUILT_IN, Hub, Origin};

fn hub(folder: &Path) -> Hub {
    Hub { models: folder.join("models"), cache: folder.join("hub"), endpoint: None, token: None, offline: false }
}

fn report(hub: Hub) -> (bool, String) {
    let mut out = Vec::new();
    let healthy = doctor::report(&mut out, Ok(hub)).expect("a vector can be written");
    (healthy, String::from_utf8(out).expect("UTF-8"))
}

/// The line that begins with this label.
fn line<'a>(report: &'a str, label: &str) -> &'a str {
    let found = report.lines().find(|line| line.trim_start().starts_with(label));
    found.unwrap_or_else(|| panic!("no `{label}` in\n{report}"))
}

#[test]
fn an_absent_checkpoint_is_told_but_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (healthy, text) = report(hub(folder.path()));
    assert!(healthy, "{text}");
    assert!(line(&text, "cpu").contains("computes correctly"), "{text}");
    assert!(line(&text, "smollm2").contains("is missing"), "{text}");
    assert!(text.contains("make setup"), "{text}");
    assert!(line(&text, "hub cache").contains("(0 models)"), "{text}");
}

#[test]
fn libtorch_is_named_with_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = report(hub(folder.path()));
    assert!(line(&text, "library").ends_with("libtorch_cpu.so"), "{text}");
    assert!(line(&text, "version").contains("2.11.0"), "{text}");
}

#[test]
fn a_checkpoint_with_a_wrong_checksum_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path());
    for model in BUILT_IN {
        if let Origin::Gguf { file, .. } = model.origin {
            std::fs::create_dir_all(&hub.models).unwrap();
            std::fs::write(hub.models.join(file), b"GGUF").unwrap();
        }
    }
    let (healthy, text) = report(hub);
    assert!(!healthy, "{text}");
    assert!(line(&text, "smollm2").contains("wrong checksum"), "{text}");
}

#[test]
fn the_token_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let token = "hf_secret_of_the_test";
    let (_, text) = report(Hub { token: Some(token.into()), offline: true, ..hub(folder.path()) });
    assert!(line(&text, "hub token").contains("found"), "{text}");
    assert!(line(&text, "downloads").contains("off"), "{text}");
    assert!(!text.contains(token), "{text}");
}

#[test]
fn only_models_with_a_snapshot_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["models--a--whole/snapshots/1", "models--b--begun/blobs", "datasets--c--data/snapshots/1"] {
        std::fs::create_dir_all(folder.path().join("hub").join(path)).unwrap();
    }
    let (_, text) = report(hub(folder.path()));
    assert!(line(&text, "hub cache").contains("(1 models)"), "{text}");
}

#[test]
fn a_system_without_a_cache_folder_is_a_failure() {
    let mut out = Vec::new();
    let healthy = doctor::report(&mut out, Err(Error::new("nowhere").hint("set `LANCET_CACHE`"))).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!healthy && text.contains("nowhere") && text.contains("LANCET_CACHE"), "{text}");
}
