//! The text part of multimodal checkpoints against transformers (see `fixtures/make_config_fixtures.py`), and what is said
//! on standard error.

use crate::support::checkpoint::Checkpoint;
use crate::support::{assert_contains, failure, fixture, logits, max_difference, tiny_path};
use assert_cmd::Command;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const KINDS: [(&str, &str, &str); 3] = [
    ("gemma3", "gemma3_text", "vision_tower"),
    ("mistral3", "mistral", "vision_tower"),
    ("qwen3_vl", "qwen3_vl_text", "visual"),
];

fn checkpoint(kind: &str) -> Checkpoint {
    Checkpoint::at(&fixture(&format!("config/{kind}")))
}

fn load(checkpoint: &Checkpoint) -> lancet::error::Result<LanguageModel> {
    checkpoint.write();
    checkpoint.load_with(LoadOptions { kind: Kind::Double, ..LoadOptions::default() })
}

/// The largest difference from what transformers computes for the fixture.
fn difference(kind: &str, model: &LanguageModel) -> f64 {
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(fixture("config/cases.json")).unwrap()).unwrap();
    let theirs: Vec<f64> = serde_json::from_value(cases["multimodal"][kind].clone()).unwrap();
    let ids: Vec<i64> = (0..13).map(|i| (i * 7 + 3) % 11).collect();
    let ours = logits(model, &Tensor::from_slice(&ids).unsqueeze(0)).select(0, 0).select(0, -1);
    max_difference(&ours, &Tensor::from_slice(&theirs))
}

/// The same tensors by the names of transformers 4 (`old`) or 5.
fn renamed(mut checkpoint: Checkpoint, old: bool) -> Checkpoint {
    let rename = |name: &str| {
        let bare = name.strip_prefix("model.").unwrap_or(name);
        let bare =
            bare.strip_prefix("language_model.").map_or(bare.to_owned(), |rest| match rest.strip_prefix("model.") {
                Some(text) => format!("language_model.{text}"),
                None => rest.to_owned(),
            });
        match (bare.strip_prefix("language_model."), old) {
            (Some(text), true) => format!("language_model.model.{text}"),
            (None, true) if bare.starts_with("lm_head") => format!("language_model.{bare}"),
            (None, false) if bare.starts_with("lm_head") => bare,
            (_, true) => bare,
            (_, false) => format!("model.{bare}"),
        }
    };
    let tensors = std::mem::take(&mut checkpoint.tensors);
    // In memory, Qwen3-VL's text has no second `model.`.
    let plain = |name: String| name.replace("model.language_model.", "language_model.model.");
    checkpoint.tensors = tensors.into_iter().map(|(name, tensor)| (rename(&plain(name)), tensor)).collect();
    checkpoint
}

#[test]
fn the_text_part_is_loaded_by_old_and_new_names() {
    for (kind, text, vision) in KINDS {
        let stored = checkpoint(kind);
        let model = load(&stored).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(model.config().model_type, text);
        assert!(difference(kind, &model) < 1e-10, "{kind}: {:e}", difference(kind, &model));
        for (old, prefix) in [(true, "language_model.model.layers.0."), (false, "model.language_model.layers.0.")] {
            let renamed = renamed(checkpoint(kind), old);
            assert!(renamed.tensors.keys().any(|name| name.starts_with(prefix)), "{kind} {old}");
            assert!(renamed.tensors.keys().any(|name| name.contains(vision)), "{kind} {old}");
            assert!(difference(kind, &load(&renamed).unwrap()) < 1e-10, "{kind} {old}");
        }
    }
}

#[test]
fn what_is_left_out_is_named() {
    for (kind, _, vision) in KINDS {
        let path = fixture(&format!("config/{kind}")).display().to_string();
        let script = format!("load_model({path:?}, #{{ device: \"cpu\" }}); ()");
        let output = Command::cargo_bin("lancet").unwrap().args(["--offline", "-e", &script]).output().unwrap();
        assert_contains(&String::from_utf8_lossy(&output.stderr), &["note:", "only the text part", vision, "tensors)"]);
    }
    // Nothing else is.
    let mut other = checkpoint("gemma3");
    other.tensors.insert("audio_tower.weight".into(), Tensor::ones([2], (Kind::Float, Device::Cpu)));
    assert_contains(&failure(load(&other)), &["does not use", "`audio_tower.weight`"]);
    let mut twice = checkpoint("gemma3");
    let name = "language_model.model.norm.weight";
    let norm = twice.tensors[name].copy();
    twice.tensors.insert("model.language_model.norm.weight".into(), norm);
    assert_contains(&failure(load(&twice)), &["has both", name, "model.language_model.norm.weight"]);
}

#[test]
fn outer_configs_are_read_or_refused_by_field() {
    for (field, value, parts) in [
        ("text_config", Value::Null, &["no field `text_config`"][..]),
        ("text_config", json!({ "model_type": "ministral3" }), &["`text_config.model_type`", "ministral3"]),
        ("some_new_option", json!(1), &["`some_new_option`", "not supported"]),
        ("quantization_config", json!({}), &["`quantization_config`"]),
    ] {
        let message = failure(load(&checkpoint("mistral3").with(field, value)));
        assert_contains(&message, &["config.json"]);
        assert_contains(&message, parts);
    }
    let mut capped = checkpoint("gemma3");
    capped.config["text_config"]["final_logit_softcapping"] = json!(30.0);
    assert_contains(&failure(load(&capped)), &["`text_config.final_logit_softcapping`"]);
}

/// Where the configs are silent or disagree, a stored unembedding counts.
#[test]
fn the_weights_say_whether_the_unembedding_is_tied() {
    let without = |mut checkpoint: Checkpoint, outer: Option<bool>, inner: Option<bool>| {
        for (fields, tied) in [(None, outer), (Some("text_config"), inner)] {
            let fields = match fields {
                None => &mut checkpoint.config,
                Some(name) => &mut checkpoint.config[name],
            };
            let fields = fields.as_object_mut().unwrap();
            fields.remove("tie_word_embeddings");
            if let Some(tied) = tied {
                fields.insert("tie_word_embeddings".into(), tied.into());
            }
        }
        checkpoint
    };
    for (outer, inner) in [(None, None), (Some(true), Some(false)), (Some(false), Some(true)), (None, Some(false))] {
        let model = load(&without(checkpoint("mistral3"), outer, inner)).unwrap();
        assert!(!model.config().tied);
        assert!(difference("mistral3", &model) < 1e-10);
    }
    for (outer, inner) in [(None, None), (Some(true), Some(false)), (Some(false), Some(true)), (None, Some(true))] {
        let model = load(&without(checkpoint("gemma3"), outer, inner)).unwrap();
        assert!(model.config().tied);
        assert!(difference("gemma3", &model) < 1e-10);
    }
    let both = load(&without(checkpoint("mistral3"), Some(true), Some(true)));
    assert_contains(&failure(both), &["lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn a_text_beyond_the_trained_length_is_warned_of_once() {
    let run = |lengths: &str| {
        let path = tiny_path("llama2").display().to_string();
        let script = format!(
            "let m = load_model({path:?}, #{{ device: \"cpu\" }});
             for n in {lengths} {{ let ids = []; for i in 0..n {{ ids.push(i); }} m.forward(ids); }}"
        );
        let output = Command::cargo_bin("lancet").unwrap().args(["--offline", "-e", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(run("[64]"), "");
    let warned = run("[65, 70, 64, 66]");
    assert_eq!(warned.matches("warning:").count(), 1, "{warned}");
    assert_contains(&warned, &["65 tokens", "64 at most", "max_position_embeddings"]);
}
