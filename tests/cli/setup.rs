//! The set-up scripts and the program agree on the files to fetch and their folders.

use std::path::Path;
use std::process::Command;

use lancet::cache::Cache;
use lancet::hub::{BUILT_IN, Origin};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The output of a line of Python in the folder of the set-up scripts, with exactly these variables set.
fn python(code: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new("python3");
    command.current_dir(root().join("setup")).args(["-B", "-c", code]);
    for name in ["LANCET_CACHE", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().expect("set-up needs python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_checkpoint_is_the_same_for_both() {
    let fetched = python("import smollm2 as s; print(s.FILE, s.SIZE, s.SHA256)", &[]);
    let known = BUILT_IN.iter().find_map(|model| match model.origin {
        Origin::Gguf { file, bytes, sha256 } if model.name == "smollm2" => Some(format!("{file} {bytes} {sha256}")),
        _ => None,
    });
    assert_eq!(Some(fetched), known);
}

#[test]
fn the_model_cache_is_the_same_for_both() {
    for variables in [
        &[("LANCET_CACHE", "/a"), ("XDG_CACHE_HOME", "/b")][..],
        &[("XDG_CACHE_HOME", "/b")],
        &[("LANCET_CACHE", ""), ("XDG_CACHE_HOME", "")],
    ] {
        let lookup =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        let expected = Cache::from_variables(lookup).unwrap().models();
        let found = python("import smollm2; print(smollm2.models())", variables);
        assert_eq!(Path::new(&found), expected, "{variables:?}");
    }
}

#[test]
fn the_release_of_libtorch_is_the_same_for_both() {
    let fetched = python("import libtorch; print(libtorch.VERSION)", &[]);
    assert!(lancet::libtorch::is_right(&fetched), "{fetched}");
}

#[test]
fn a_folder_is_replaced_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let replace = |failure: &str| {
        let code = format!(
            "from pathlib import Path\nfrom wheel import replacing\ntry:\n  with replacing(Path('{}') / 'lib') as new:\n    \
             (new / 'half').write_text('new')\n    {failure}\nexcept BaseException as error: print(type(error).__name__)",
            folder.path().display()
        );
        python(&code, &[])
    };
    let entries = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names
    };
    assert_eq!(replace("raise KeyboardInterrupt"), "KeyboardInterrupt");
    assert_eq!(entries(), Vec::<String>::new());
    assert_eq!(replace("pass"), "");
    assert_eq!(entries(), ["lib"]);
    std::fs::write(folder.path().join("lib/half"), "old").unwrap();
    assert_eq!(replace("raise OSError"), "OSError");
    assert_eq!(std::fs::read_to_string(folder.path().join("lib/half")).unwrap(), "old");
    assert_eq!(replace("pass"), "");
    assert_eq!(std::fs::read_to_string(folder.path().join("lib/half")).unwrap(), "new");
    assert_eq!(entries(), ["lib"]);
}

#[test]
fn every_pinned_wheel_has_a_checksum() {
    for entry in std::fs::read_dir(root().join("setup")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let is_pin = line.contains("==") && line.contains(" --hash=sha256:");
                assert!(is_pin || line.starts_with("#") || line.starts_with("-r "), "{}: {line}", path.display());
            }
        }
    }
}
