//! Every shipped script and example runs, on a small random model; the examples also on the real one.

mod support;

use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};
use support::{fixture, tiny_path};

/// A folder with a config, a tokenizer and no weights: for `init: "random"`.
fn small_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let tokenizer = fixture("gguf/sentencepiece/tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).expect("tokenizer");
    let vocabulary: Value = serde_json::from_str(&text).expect("JSON");
    let size = vocabulary["model"]["vocab"].as_object().expect("vocabulary").len();
    let config = json!({
        "model_type": "olmo2", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": size + 16, "max_position_embeddings": 512,
        "initializer_range": 0.4,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    std::fs::write(folder.path().join("tokenizer.json"), text).expect("written");
    folder
}

/// Runs a script of the project and returns what it printed.
fn run(script: &str, arguments: &[&str], cache: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lancet"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("XDG_STATE_HOME", cache)
        .args(["run", script])
        .args(arguments)
        .output()
        .expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn files(folder: &str, ending: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut names: Vec<String> = std::fs::read_dir(path)
        .expect(folder)
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names
}

#[test]
fn every_example_runs_on_a_model_without_a_tokenizer() {
    let folder = tempfile::tempdir().expect("folder");
    let model = tiny_path("llama3").display().to_string();
    for name in files("examples", ".rhai") {
        let printed = run(&format!("examples/{name}"), &["--model", &model], folder.path());
        assert!(printed.lines().count() > 2, "{name}: {printed}");
    }
}

#[test]
fn examples_on_smollm2_say_what_is_known_of_it() {
    let folder = tempfile::tempdir().expect("folder");
    let loaded = run("examples/01_load.rhai", &[], folder.path());
    assert!(loaded.contains("\" Paris\" with probability 0.77"), "{loaded}");
    let patched = run("examples/03_patch.rhai", &[], folder.path());
    assert!(patched.contains("clean answer \" Paris\", corrupted answer \" Rome\""), "{patched}");
}

#[test]
fn activation_patching_writes_its_results() {
    let folder = tempfile::tempdir().expect("folder");
    let model = small_model();
    let out = folder.path().join("out");
    let arguments = [
        "--model",
        &model.path().display().to_string(),
        "--init",
        "random",
        "--task",
        "anim_color",
        "--samples",
        "3",
        "--source",
        "few-shot",
        "--dtype",
        "f64",
        "--out",
        &out.display().to_string(),
    ];
    let printed = run("scripts/activation_patching.rhai", &arguments, folder.path());
    assert!(printed.contains("the model's own accuracy"), "{printed}");
    assert!(printed.contains("ranks in 0 of them"), "{printed}");
    for name in ["reciprocal_rank.svg", "reciprocal_rank.png", "logit.svg", "logit.png", "samples.csv"] {
        assert!(out.join(name).metadata().is_ok_and(|file| file.len() > 0), "{name}");
    }
    let rows = |name: &str| std::fs::read_to_string(out.join(name)).expect(name).lines().count() - 1;
    assert_eq!(rows("grid.csv"), 10, "sets of one and two of four layers");
    assert_eq!(rows("cells.csv"), 30);
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).expect("summary")).expect("JSON");
    assert_eq!(summary["samples"], 3);
    assert_eq!(summary["verified"]["rank_differences"], 0);
}

#[test]
fn every_task_loads_and_its_examples_are_in_its_table() {
    let model = small_model();
    for name in files("scripts/tasks", ".json") {
        let code = format!(
            r#"let model = load_model("{}", #{{ init: "random" }});
            let task = task::load("scripts/tasks/{name}");
            assert(task::few_shot(task).len() > 0);
            task.remove("one_token_column");
            let samples = task::samples(task, model, 1000);
            assert(samples.len() > 30, "samples");
            assert(samples.all(|sample| !(sample.query in task.examples)));
            assert(task.instruction.len() > 10);"#,
            model.path().display()
        );
        let output = Command::new(env!("CARGO_BIN_EXE_lancet"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["-e", &code])
            .output()
            .expect("runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
