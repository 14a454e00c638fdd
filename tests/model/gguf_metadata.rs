//! The metadata of GGUF files: every key is read, known to be harmless or refused; Phi-3's long contexts; split files.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::support;
use crate::support::failure;
use crate::support::gguf::{Writer, text};
use lancet::gguf::Gguf;
use lancet::model::config::RopeScaling;
use lancet::model::family::gguf_keys::{Role, role};
use lancet::model::language_model::{LanguageModel, LoadOptions};
use tch::{Kind, Tensor};

fn fixture(name: &str) -> PathBuf {
    support::fixture(&format!("gguf/{name}"))
}

fn safetensors(name: &str) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(fixture(name)).unwrap().into_iter().collect()
}

/// Every key of gguf-py's list has its place in the table.
#[test]
fn every_key_is_used_harmless_or_refused() {
    let keys: Vec<String> = serde_json::from_str(&std::fs::read_to_string(fixture("keys.json")).unwrap()).unwrap();
    assert!(keys.len() > 250);
    for key in keys {
        assert!(role(&key).is_some(), "`{key}` has no role");
    }
    assert_eq!(role("{arch}.rope.freq_base"), Some(Role::Used));
    assert_eq!(role("{arch}.logit_scale"), Some(Role::Refused));
    assert_eq!(role("{arch}.something_new"), Some(Role::Refused));
    assert_eq!(role("general.something_new"), Some(Role::Harmless));
    assert_eq!(role("another.program"), None);
}

/// The bytes of a file with more metadata, padded so that the data stays aligned.
fn with_metadata(name: &str, more: &Writer) -> Vec<u8> {
    let mut bytes = std::fs::read(fixture(name)).unwrap();
    // The first entry is the writer's own architecture.
    let mut entries = more.metadata[1..].to_vec();
    let key = text("quantize.padding");
    let bare = entries.concat().len() + key.len() + 4 + 8;
    let padding = text(&" ".repeat(bare.next_multiple_of(32) - bare));
    entries.push([&key[..], &8_u32.to_le_bytes(), &padding].concat());
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + entries.len() as u64;
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    bytes.splice(24..24, entries.concat());
    bytes
}

fn loaded(bytes: &[u8]) -> lancet::error::Result<LanguageModel> {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let options = LoadOptions { device: "cpu".into(), ..LoadOptions::default() };
    LanguageModel::load(&file.path().display().to_string(), &options)
}

#[test]
fn metadata_that_changes_numbers_is_read_or_refused_by_key() {
    let plain = || Writer::new("llama");
    let model = loaded(&with_metadata("tiny_llama.gguf", &plain())).unwrap();
    let d_head = model.config().d_head as u32;
    for harmless in [
        plain().string("general.license", "none").float("llama.logit_scale", 0.0),
        plain().integer("llama.expert_used_count", 0).string("another.program", "says something"),
        plain().string("llama.rope.scaling.type", "none").float("llama.rope.scaling.factor", 8.0),
        plain().string("llama.rope.scaling.type", "linear").float("llama.rope.scaling.factor", 1.0),
        plain().float("llama.attention.scale", (d_head as f32).powf(-0.5)).entry("llama.attention.causal", 7, &[1]),
        plain().integer("llama.attention.value_length", d_head).integer("llama.attention.sliding_window", 1 << 20),
        plain().string("general.type", "model").entry("llama.rope.scaling.finetuned", 7, &[0]),
    ] {
        let same = loaded(&with_metadata("tiny_llama.gguf", &harmless)).unwrap();
        assert_eq!(same.fingerprint().unwrap(), model.fingerprint().unwrap());
    }
    // As in llama.cpp, a factor without a type is that of linear scaling.
    let linear = loaded(&with_metadata("tiny_llama.gguf", &plain().float("llama.rope.scaling.factor", 4.0))).unwrap();
    assert_eq!(linear.config().layers[0].rope.as_ref().unwrap().scaling, RopeScaling::Linear { factor: 4.0 });
    for (refused, key) in [
        (plain().float("llama.logit_scale", 0.5), "llama.logit_scale"),
        (plain().float("llama.residual_scale", 2.0), "llama.residual_scale"),
        (plain().float("llama.embedding_scale", 2.0), "llama.embedding_scale"),
        (plain().float("llama.attention.clamp_kqv", 8.0), "llama.attention.clamp_kqv"),
        (plain().float("llama.attention.max_alibi_bias", 8.0), "llama.attention.max_alibi_bias"),
        (plain().float("llama.attention.scale", 0.5), "llama.attention.scale"),
        (plain().float("llama.attention.layer_norm_epsilon", 0.5), "llama.attention.layer_norm_epsilon"),
        (plain().integer("llama.attention.sliding_window", 4), "llama.attention.sliding_window"),
        (plain().integer("llama.attention.value_length", 3), "llama.attention.value_length"),
        (plain().float("llama.attn_logit_softcapping", 30.0), "llama.attn_logit_softcapping"),
        (plain().float("llama.final_logit_softcapping", 30.0), "llama.final_logit_softcapping"),
        (plain().float("llama.rope.freq_base_swa", 5.0), "llama.rope.freq_base_swa"),
        (plain().float("llama.rope.scaling.attn_factor", 1.5), "llama.rope.scaling.attn_factor"),
        (plain().float("llama.rope.scaling.yarn_ext_factor", 0.5), "llama.rope.scaling.yarn_ext_factor"),
        (plain().float("llama.rope.scaling.yarn_beta_fast", 16.0), "llama.rope.scaling.yarn_beta_fast"),
        (plain().entry("llama.use_parallel_residual", 7, &[1]), "llama.use_parallel_residual"),
        (plain().integer("llama.something_new", 1), "llama.something_new"),
        (plain().entry("tokenizer.ggml.remove_extra_whitespaces", 7, &[1]), "tokenizer.ggml.remove_extra_whitespaces"),
        (plain().integer("adapter.lora.alpha", 3), "adapter.lora.alpha"),
        (plain().string("general.type", "adapter"), "general.type"),
        (plain().string("llama.rope.scaling.type", "longrope"), "longrope"),
        (plain().entry("llama.attention.causal", 7, &[0]), "not causal"),
    ] {
        let message = failure(loaded(&with_metadata("tiny_llama.gguf", &refused)));
        assert!(message.contains(key), "{key}: {message}");
    }
    // Divisors and another scaling at once.
    let both = plain().float("llama.rope.scaling.factor", 4.0);
    let message = failure(loaded(&with_metadata("tiny_llama_scaled.gguf", &both)));
    assert!(message.contains("rope_freqs.weight"), "{message}");
}

#[test]
fn long_context_phi3_and_split_files_load() {
    let expected = safetensors("phi3_long_expected.safetensors");
    for name in ["phi3_long.gguf", "phi3_split-00001-of-00004.gguf"] {
        let model = support::load(&fixture(name).display().to_string(), Kind::Float);
        let rope = model.config().layers[0].rope.as_ref().unwrap();
        assert_eq!((rope.dim, model.config().n_ctx), (6, 64));
        for length in ["6", "13"] {
            let ours = support::logits(&model, &expected[&format!("{length}.input_ids")]);
            let difference = support::max_difference(&ours, &expected[&format!("{length}.logits")]);
            assert!(difference < 2e-5, "{name} {length}: {difference:e}");
        }
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: usize| format!("phi3_split-{number:05}-of-00004.gguf");
    let path = |number: usize| folder.path().join(part(number));
    let copy = |from: usize, to: usize| {
        std::fs::copy(fixture(&part(from)), path(to)).unwrap();
    };
    (1..=4).for_each(|number| copy(number, number));
    assert!(Gguf::open(&path(1)).is_ok());
    support::assert_contains(&failure(Gguf::open(&path(3))), &["not the first part", &part(1)]);
    copy(2, 3);
    support::assert_contains(&failure(Gguf::open(&path(1))), &[&part(3), "`split.no` is not 2"]);
    std::fs::remove_file(path(3)).unwrap();
    support::assert_contains(&failure(Gguf::open(&path(1))), &["part 3 of", &part(3)]);
    std::fs::rename(path(1), folder.path().join("model.gguf")).unwrap();
    let message = failure(Gguf::open(&folder.path().join("model.gguf")));
    support::assert_contains(&message, &["one of 4 parts", "NAME-00001-of-00004.gguf"]);
    // A folder of parts is a model too.
    std::fs::rename(folder.path().join("model.gguf"), path(1)).unwrap();
    copy(3, 3);
    let model = support::load(&folder.path().display().to_string(), Kind::Float);
    assert_eq!(model.config().model_type, "phi3");
}
