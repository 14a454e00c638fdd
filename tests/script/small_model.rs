//! A small random model with a tokenizer, and the scripts of the project run as users run them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{fixture, with_simulated_gpus};

/// A folder in which `small` holds a config, a tokenizer and no weights: for `init: "random"`.
pub fn small_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    write_model(folder.path(), "small", 4, 0.4);
    folder
}

/// Writes such a model of `layers` layers, whose weights have the standard deviation `spread`.
pub fn write_model(folder: &Path, name: &str, layers: usize, spread: f64) {
    let model = folder.join(name);
    std::fs::create_dir(&model).expect("folder");
    let tokenizer = fixture("gguf/sentencepiece/tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).expect("tokenizer");
    let vocabulary: Value = serde_json::from_str(&text).expect("JSON");
    let size = vocabulary["model"]["vocab"].as_object().expect("vocabulary").len();
    let config = json!({
        "model_type": "olmo2", "hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": size + 16, "max_position_embeddings": 512,
        "initializer_range": spread,
    });
    std::fs::write(model.join("config.json"), config.to_string()).expect("written");
    std::fs::write(model.join("tokenizer.json"), text).expect("written");
}

/// Runs a script of the project and returns what it printed.
pub fn run(script: &str, arguments: &[&str], cache: &Path) -> String {
    run_with(&[], script, arguments, cache)
}

/// The same with options of Lancet itself.
pub fn run_with(options: &[&str], script: &str, arguments: &[&str], cache: &Path) -> String {
    finish(script, lancet(script, cache).args(options).args(["run", script]).args(arguments))
}

/// The same where the automatic choice of a device finds a simulated GPU.
pub fn run_on_simulated_gpu(script: &str, arguments: &[&str], cache: &Path) -> String {
    let mut command = lancet(script, cache);
    with_simulated_gpus(&mut command, 8 << 30);
    finish(script, command.args(["run", script]).args(arguments))
}

/// Runs a script that needs no arguments in a folder of its own and returns what it printed.
pub fn run_in(folder: &Path, script: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    finish(&script.display().to_string(), command.arg("run").arg(script).current_dir(folder))
}

fn lancet(script: &str, cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    if !script.starts_with("examples") {
        command.env("LANCET_CACHE", cache);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn finish(script: &str, command: &mut Command) -> String {
    let output = command.output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
