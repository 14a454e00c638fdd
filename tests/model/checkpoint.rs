//! The file formats of one model must all give the same numbers: other dtypes, shards, names without their root, tied
//! and old checkpoints, GGUF files. Also random models.

use crate::support::checkpoint::Checkpoint;
use crate::support::{
    Expected, TINY, capture_all, eval, fixture, generator, load, logits, max_difference, session, some_tokens, tiny,
    tiny_path,
};
use lancet::model::config::Config;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::model::{built_in, family};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn tokens(model: &LanguageModel) -> Tensor {
    some_tokens(model, 2, 6)
}

/// A changed checkpoint gives exactly the same as the tiny model.
fn assert_same(name: &str, checkpoint: &Checkpoint) {
    let (ours, original) = (checkpoint.load().unwrap(), tiny(name));
    assert_eq!(logits(&ours, &tokens(&original)), logits(&original, &tokens(&original)), "{name}");
}

fn renamed(name: &str, root: &str) -> Checkpoint {
    let mut checkpoint = Checkpoint::of(name);
    let tensors = std::mem::take(&mut checkpoint.tensors);
    let without = |name: String| name.strip_prefix(root).map_or(name.clone(), str::to_owned);
    checkpoint.tensors = tensors.into_iter().map(|(name, tensor)| (without(name), tensor)).collect();
    assert!(checkpoint.tensors.keys().all(|name| !name.starts_with(root)));
    checkpoint
}

#[test]
fn names_without_their_root_are_found() {
    for (name, root, example) in [
        ("gpt2", "transformer.", "wte.weight"),
        ("llama2", "model.", "layers.0.mlp.up_proj.weight"),
        ("gpt_neox", "gpt_neox.", "embed_in.weight"),
    ] {
        let checkpoint = renamed(name, root);
        assert!(checkpoint.tensors.contains_key(example));
        checkpoint.write();
        assert_same(name, &checkpoint);
    }
}

#[test]
fn shards_give_what_one_file_gives() {
    for name in ["olmo2", "phi3", "gpt2"] {
        let checkpoint = Checkpoint::of(name);
        checkpoint.write_text("config.json", &checkpoint.config.to_string());
        let shard_of = |name: &str| name.bytes().map(usize::from).sum::<usize>() % 3;
        let mut map = serde_json::Map::new();
        for shard in 0..3 {
            let file = format!("model-0000{}-of-00003.safetensors", shard + 1);
            checkpoint.write_tensors(&file, |name| shard_of(name) == shard);
            for tensor in checkpoint.tensors.keys().filter(|name| shard_of(name) == shard) {
                map.insert(tensor.clone(), file.clone().into());
            }
        }
        let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        checkpoint.write_text("model.safetensors.index.json", &index.to_string());
        assert_same(name, &checkpoint);
    }
}

/// The stored dtype matters only by its rounding; float64 loses nothing.
#[test]
fn stored_dtypes_are_read() {
    for (kind, tolerance) in [(Kind::Double, 0.0), (Kind::Half, 2e-2), (Kind::BFloat16, 2e-1)] {
        let mut checkpoint = Checkpoint::of("olmo2");
        let original = tiny("olmo2");
        for tensor in checkpoint.tensors.values_mut() {
            *tensor = tensor.to_kind(kind);
        }
        checkpoint.write();
        let model = checkpoint.load().unwrap();
        assert_eq!(model.decoder.kind, Kind::Float);
        let difference = max_difference(&logits(&model, &tokens(&model)), &logits(&original, &tokens(&original)));
        assert!(difference <= tolerance, "{kind:?}: {difference:e}");
        assert!(tolerance == 0.0 || difference > 0.0);
        // Loaded in their stored dtype, the weights are unchanged.
        let same = checkpoint.load_with(LoadOptions { kind, ..LoadOptions::default() }).unwrap();
        assert!(same.decoder.embedding.to_device(Device::Cpu).equal(&checkpoint.tensors["model.embed_tokens.weight"]));
    }
}

#[test]
fn every_family_runs_in_every_dtype() {
    for name in TINY {
        let reference = tiny(name);
        let wanted = logits(&reference, &tokens(&reference));
        for (kind, tolerance) in [(Kind::Double, 2e-5), (Kind::Half, 5e-2), (Kind::BFloat16, 4e-1)] {
            let model = load(&tiny_path(name).display().to_string(), kind);
            let (ours, cache) = capture_all(&model, &tokens(&model));
            assert_eq!(ours.kind(), kind);
            let difference = max_difference(&ours, &wanted);
            // Rounding may choose another expert; then little more than the size is the same.
            let tolerance = if model.config().experts.is_some() { 8.0 * tolerance } else { tolerance };
            assert!(difference <= tolerance, "{name} {kind:?}: {difference:e}");
            // A norm computes in float32 at least.
            let is_wide = |name: &str| name.ends_with("hook_scale") || name.ends_with("hook_normalized");
            for (point, value) in cache.iter().filter(|(point, _)| !is_wide(&point.name())) {
                assert_eq!(value.kind(), kind, "{name} {}", point.name());
            }
        }
    }
}

#[test]
fn gguf_files_give_what_transformers_and_their_folder_give() {
    for name in ["tiny_llama", "tiny_llama_scaled"] {
        let expected = Expected::open(&fixture(&format!("gguf/{name}_expected.safetensors")));
        let from_file = load(&fixture(&format!("gguf/{name}.gguf")).display().to_string(), Kind::Float);
        let ours = logits(&from_file, expected.get("input_ids"));
        let difference = max_difference(&ours, expected.get("logits"));
        assert!(difference <= 5e-5, "{name}: {difference:e}");
        assert!(from_file.has_tokenizer());
        if name == "tiny_llama" {
            let from_folder = load(&fixture("gguf/tiny_llama").display().to_string(), Kind::Float);
            assert_eq!(logits(&from_folder, expected.get("input_ids")), ours);
            // A GGUF file lacks only the distribution of initial weights.
            let initializer_range = from_folder.config().initializer_range;
            assert_eq!(*from_folder.config(), Config { initializer_range, ..from_file.config().clone() });
            let text = "The quick brown fox";
            assert_eq!(from_folder.encode(text, false).unwrap(), from_file.encode(text, false).unwrap());
            assert_eq!(from_folder.eos_ids(), from_file.eos_ids());
        }
    }
}

#[test]
fn random_weights_follow_the_seed() {
    let _turn = generator();
    let checkpoint = Checkpoint::of("gemma2");
    // Only the config, without weights.
    checkpoint.write_text("config.json", &checkpoint.config.to_string());
    let drawn = |seed| checkpoint.load_with(LoadOptions { random_seed: Some(seed), ..LoadOptions::default() }).unwrap();
    let (one, again, other) = (drawn(1), drawn(1), drawn(2));
    assert!(one.random);
    for (first, second) in one.decoder.weights().into_iter().zip(again.decoder.weights()) {
        assert!(first.equal(second));
    }
    assert!(!one.decoder.embedding.equal(&other.decoder.embedding));
    assert_eq!(one.parameter_count(), tiny("gemma2").parameter_count());
    let deviation = one.decoder.embedding.std(true).double_value(&[]);
    assert!((deviation - one.config().initializer_range).abs() < 0.1 * deviation, "{deviation}");
    // Initial norms have no effect: Gemma's weights are added to 1, other families' are factors.
    for name in TINY {
        let checkpoint = Checkpoint::of(name);
        checkpoint.write_text("config.json", &checkpoint.config.to_string());
        let model = checkpoint.load_with(LoadOptions { random_seed: Some(3), ..LoadOptions::default() }).unwrap();
        let neutral = if name.starts_with("gemma") { 0.0 } else { 1.0 };
        let norm = &model.decoder.blocks[1].ln1;
        assert!(norm.weight.as_ref().is_none_or(|weight| *weight == weight.full_like(neutral)), "{name}");
        assert!(norm.bias.as_ref().is_none_or(|bias| bias.abs().max().double_value(&[]) == 0.0), "{name}");
        let logits = logits(&model, &tokens(&model));
        assert!(logits.isfinite().all().int64_value(&[]) == 1, "{name}");
    }
    // By a script, with the default seed 0.
    let mut session = session();
    session.set_variable("path", checkpoint.path().display().to_string().into());
    let same = r#"
        let a = load_model(path, #{ device: device, init: "random" });
        let b = load_model(path, #{ device: device, init: "random", seed: 0 });
        let c = load_model(path, #{ device: device, init: "random", seed: 7 });
        a.W_E == b.W_E && a.W_E != c.W_E && a.cfg.init_weights
    "#;
    let same = same.replace("a.W_E == b.W_E", "(a.W_E - b.W_E).abs().max().item() == 0.0");
    let same = same.replace("a.W_E != c.W_E", "(a.W_E - c.W_E).abs().max().item() > 0.0");
    assert!(eval(&mut session, &same).as_bool().unwrap());
}

#[test]
fn built_in_configs_describe_the_papers_models() {
    let sizes = |name: &str| {
        let config = family::parse(&built_in::config(name).expect("built in")).expect("parsed");
        let sizes = [config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.d_head, config.d_mlp];
        (sizes, config)
    };
    for name in ["olmo2-1b", "olmo2-1b-sft", "olmo2-1b-dpo"] {
        let (found, config) = sizes(name);
        assert_eq!(found, [16, 2048, 16, 16, 128, 8192]);
        assert_eq!((config.d_vocab, config.n_ctx, config.tied), (100_352, 4096, false));
        assert!(config.has_query_key_norm() && config.norm_placement_name() == "post");
    }
    for name in ["olmo2-7b", "olmo2-7b-sft", "olmo2-7b-dpo"] {
        assert_eq!(sizes(name).0, [32, 4096, 32, 32, 128, 11008]);
    }
    let (found, config) = sizes("olmo3-7b");
    assert_eq!(found, [32, 4096, 32, 32, 128, 11008]);
    let windows: Vec<Option<i64>> = config.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows[..4], [Some(4096), Some(4096), Some(4096), None]);
    assert_ne!(config.layers[2].rope, config.layers[3].rope);
    // Exactly the built-in repositories have a config.
    for model in lancet::hub::BUILT_IN {
        let in_hub = matches!(model.origin, lancet::hub::Origin::Hub(_));
        assert_eq!(built_in::config(model.name).is_some(), in_hub, "{}", model.name);
    }
    assert_eq!(built_in::config("olmo2"), None::<Value>);
}
