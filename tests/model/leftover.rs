//! Tensors that no part of the decoder uses: proven redundant, or an error that names them.

use crate::support::checkpoint::Checkpoint;
use crate::support::{assert_contains, failure, logits, max_difference, tiny};
use serde_json::json;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn with_tensor(base: &str, name: &str, tensor: Tensor) -> Checkpoint {
    let mut checkpoint = Checkpoint::of(base);
    checkpoint.tensors.insert(name.into(), tensor);
    checkpoint.write();
    checkpoint
}

fn refused(base: &str, name: &str, tensor: Tensor) {
    assert_contains(&failure(with_tensor(base, name, tensor).load()), &["does not use", &format!("`{name}`")]);
}

#[test]
fn a_tied_unembedding_may_be_stored_if_it_is_the_embedding() {
    for (base, embedding, unembedding) in [
        ("qwen2", "model.embed_tokens.weight", "lm_head.weight"),
        ("gemma2", "model.embed_tokens.weight", "lm_head.weight"),
        ("gpt2", "transformer.wte.weight", "lm_head.weight"),
    ] {
        let stored = Checkpoint::of(base).tensors[embedding].copy();
        let same = with_tensor(base, unembedding, stored.copy()).load().expect("the same matrix");
        let tokens = Tensor::from_slice(&[1_i64, 5, 9]).unsqueeze(0);
        assert_eq!(max_difference(&logits(&same, &tokens), &logits(&tiny(base), &tokens)), 0.0);
        let _ = stored.get(3).get(4).fill_(0.5);
        let other = with_tensor(base, unembedding, stored);
        assert_contains(&failure(other.load()), &[unembedding, "tie_word_embeddings"]);
        // The hint's solution.
        let untied = other.with("tie_word_embeddings", json!(false));
        untied.write();
        assert!(!untied.load().expect("untied").config().tied);
    }
}

#[test]
fn buffers_are_taken_for_what_they_hold() {
    let mask = || Tensor::ones([16, 16], F32).tril(0).view([1, 1, 16, 16]);
    for tensor in [mask(), mask().to_kind(Kind::Bool), mask().to_kind(Kind::Uint8)] {
        with_tensor("gpt2", "transformer.h.1.attn.bias", tensor).load().expect("a causal mask");
    }
    with_tensor("gpt_neox", "gpt_neox.layers.0.attention.bias", mask()).load().expect("a causal mask");
    with_tensor("gpt2", "transformer.h.1.attn.masked_bias", Tensor::full([], -1e4, F32)).load().expect("a low score");
    refused("gpt2", "transformer.h.1.attn.bias", Tensor::ones([1, 1, 16, 16], F32));
    refused("gpt2", "transformer.h.1.attn.bias", Tensor::ones([96], F32));
    refused("gpt_neox", "gpt_neox.layers.0.attention.bias", Tensor::ones([48], F32));
    refused("gpt2", "transformer.h.1.attn.masked_bias", Tensor::full([], 3.0, F32));
}

#[test]
fn stored_rotary_frequencies_must_be_the_configs() {
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let exponents = Tensor::arange_start_step(0, 8, 2, F32) / 8.0;
    let frequencies = Tensor::full([4], 10_000.0, F32).pow(&exponents).reciprocal();
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        with_tensor("llama2", name, frequencies.to_kind(kind)).load().expect("the same frequencies");
    }
    refused("llama2", name, &frequencies / 2.0);
    refused("llama2", name, frequencies.narrow(0, 0, 3).copy());
}

#[test]
fn every_tensor_is_stored_once() {
    let checkpoint = Checkpoint::of("llama2");
    checkpoint.write_text("config.json", &checkpoint.config.to_string());
    checkpoint.write_tensors("a.safetensors", |_| true);
    checkpoint.write_tensors("b.safetensors", |name| name.contains("norm"));
    let place = |name: &String| if name.contains("norm") { "b.safetensors" } else { "a.safetensors" };
    let map: serde_json::Map<String, serde_json::Value> =
        checkpoint.tensors.keys().map(|name| (name.clone(), place(name).into())).collect();
    checkpoint.write_text("model.safetensors.index.json", &json!({ "weight_map": map }).to_string());
    assert_contains(&failure(checkpoint.load()), &["norm.weight` is in both", "a.safetensors", "b.safetensors"]);
}

#[test]
fn adapters_are_not_left_out() {
    let checkpoint = Checkpoint::of("llama2");
    checkpoint.write();
    checkpoint.write_tensors("adapter_model.safetensors", |name| name.contains("layers.0"));
    assert_contains(&failure(checkpoint.load()), &["adapter_model.safetensors", "merge_and_unload"]);
}
