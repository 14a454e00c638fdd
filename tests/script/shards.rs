//! Every experiment in shards: it ends with the files that it writes without, and the shards have done the work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{small_model, write_model};

/// The experiments with arguments that keep them short, and the number of shards.
const EXPERIMENTS: &[(&str, &[&str], usize)] = &[
    ("activation_patching", &["--task", "anim_color", "--samples", "3"], 3),
    ("localization", &["--task", "anim_color", "--task", "can_fly", "--samples", "3"], 3),
    ("superadditivity", &["--task", "anim_color", "--samples", "4", "--resamples", "100", "--order", "3"], 3),
    ("controls", &["--task", "anim_color", "--task", "can_fly", "--samples", "2", "--random", "1"], 3),
    ("competence", &["--task", "anim_color", "--task", "can_fly", "--samples", "3", "--judge", "MODEL"], 3),
    ("geometry", &["--task", "adj_comp", "--task", "can_fly", "--samples", "10"], 3),
    ("path_contribution", &["--task", "anim_color", "--samples", "3", "--limit", "30", "--sample", "20"], 3),
    (
        "head_activity",
        &["--task", "anim_color", "--task", "can_fly", "--samples", "2", "--max-rank", "8000", "--all-paths"],
        3,
    ),
    (
        "circuit_selection",
        &["--task", "anim_color", "--task", "can_fly", "--samples", "3", "--max-rank", "100000", "--resamples", "100"],
        3,
    ),
    ("function_vectors", &["--task", "anim_color", "--samples", "6", "--prompts", "3", "--draws", "100"], 3),
    ("linear_gap", &["--task", "anim_color", "--samples", "2", "--no-keep"], 2),
    ("compare", &["--task", "anim_color", "--samples", "4", "--model", "OTHER", "--resamples", "100"], 2),
];

/// The scripts with results in the store that are no shard's alone, and of which kind: grids of sets chosen on all
/// samples, and mean outputs that every shard takes.
const MERGED: &[(&str, &str)] = &[("superadditivity", "cells"), ("function_vectors", "values")];

#[test]
fn experiments_in_shards_write_the_same_files() {
    let models = small_model();
    write_model(models.path(), "other", 4, 0.3);
    for (name, arguments, shards) in EXPERIMENTS {
        let place = tempfile::tempdir().expect("folder");
        let alone = place.path().join("alone");
        let shared = place.path().join("shared");
        lancet(&alone, &["run"], name, arguments, models.path());
        let shards_text = shards.to_string();
        let submit = ["submit", "--engine", "local", "--run", "run", "--shards", &shards_text];
        lancet(&shared, &submit, name, arguments, models.path());
        let (expected, found) = (files(&alone.join("out")), files(&shared.join("out")));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (path, bytes) in &found {
            assert!(expected[path] == *bytes, "{name}: {} differs", path.display());
        }
        let of_shards: Vec<BTreeSet<PathBuf>> = (0..*shards).map(|shard| results(&shared.join("run"), shard)).collect();
        assert!(of_shards.iter().all(|own| !own.is_empty()), "{name}: a shard did nothing: {of_shards:?}");
        let merged: BTreeSet<String> = files(&shared.join("run/store"))
            .into_keys()
            .filter(|path| !of_shards.iter().any(|own| own.contains(path)))
            .filter_map(|path| Some(path.iter().next()?.to_string_lossy().into_owned()))
            .collect();
        let allowed = MERGED.iter().filter(|(script, _)| script == name).map(|(_, kind)| (*kind).to_owned());
        assert_eq!(merged, allowed.collect(), "{name}: what the merge computed");
    }
}

/// Runs a script of the project, with its arguments, in a folder of its own.
fn lancet(folder: &Path, words: &[&str], name: &str, arguments: &[&str], models: &Path) {
    std::fs::create_dir(folder).expect("folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scripts/{name}.rhai"));
    let model = |name: &str| models.join(name).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.current_dir(folder).env("LANCET_CACHE", folder.join("cache")).args(words).arg(script);
    command.args(["--model", &model("small"), "--init", "random", "--out", "out"]);
    command.args(arguments.iter().map(|word| match *word {
        "MODEL" => model("small"),
        "OTHER" => model("other"),
        word => word.to_owned(),
    }));
    let output = command.output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}\n{}", text(&output.stdout), text(&output.stderr));
}

/// The files in a folder and those below it, by their path in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let within = path.strip_prefix(folder).expect("within").to_path_buf();
                found.insert(within, std::fs::read(&path).expect("file"));
            }
        }
    }
    found
}

/// The files of the run's store that a shard says it has done.
fn results(run: &Path, shard: usize) -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string(run.join(format!("shards/{shard}.json"))).expect("a record");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    let results = record["results"].as_array().expect("results");
    results.iter().map(|kept| kept["path"].as_str().expect("path").into()).collect()
}
