//! The doctor's report on model folders of the test.

use std::path::Path;
use std::process::Command;

use lancet::doctor;
use lancet::error::Error;
use lancet::hub::{BUILT_IN, Hub, Origin, Timeouts};

fn hub(folder: &Path) -> Hub {
    Hub {
        models: folder.join("models"),
        cache: folder.join("hub"),
        endpoint: None,
        token: None,
        offline: false,
        timeouts: Timeouts::default(),
    }
}

fn report(hub: Hub) -> (bool, String) {
    let mut out = Vec::new();
    let healthy = doctor::report(&mut out, Ok(hub), false).expect("a vector can be written");
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
    assert!(text.contains("lancet data smollm2"), "{text}");
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
    let endpoint = Some("https://user:password@example.org/hub".to_owned());
    let (_, text) = report(Hub { endpoint, ..hub(folder.path()) });
    assert!(line(&text, "hub address").ends_with(" https://example.org/hub"), "{text}");
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
    let healthy = doctor::report(&mut out, Err(Error::new("nowhere").hint("set `LANCET_CACHE`")), false).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!healthy && text.contains("nowhere") && text.contains("LANCET_CACHE"), "{text}");
}

/// Runs `lancet doctor --verify` on a cache.
fn verify(cache: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.args(["doctor", "--verify"]).env("HF_HUB_CACHE", cache).env("LANCET_CACHE", cache.join("own"));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn broken_files_of_the_hub_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(verify(folder.path()).1.contains("0 whole, 0 broken"));
    let blobs = folder.path().join("models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    // What `sha256sum` and `git hash-object` say of "hello\n".
    let names = [
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "ce013625030ba8dba906f756967f9e9ca394464a",
        "no-checksum",
    ];
    for name in names {
        std::fs::write(blobs.join(name), "hello\n").unwrap();
    }
    let (code, text) = verify(folder.path());
    assert_eq!(code, Some(0), "{text}");
    assert!(line(&text, "hub files").contains("2 whole, 0 broken; 1 incomplete or without a checksum"), "{text}");
    for name in names {
        std::fs::write(blobs.join(name), "hellO\n").unwrap();
    }
    let (code, text) = verify(folder.path());
    assert_eq!(code, Some(1), "{text}");
    for name in &names[..2] {
        assert!(text.contains(&format!("`{}` has a wrong checksum", blobs.join(name).display())), "{text}");
    }
    assert!(line(&text, "hub files").contains("0 whole, 2 broken; 1"), "{text}");
}
