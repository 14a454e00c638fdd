//! GGUF files against gguf-py and transformers (see `fixtures/make_gguf_fixtures.py`), and broken files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::support;
use crate::support::gguf::{Writer, open};
use lancet::gguf::{Gguf, TensorType, Value};
use lancet::model::family::gguf::{Conversion, config_json, find, tensor_name, unpermute_rotary};
use serde_json::json;
use tch::{Kind, Tensor};

fn conversion(architecture: &str) -> Conversion {
    find(architecture).expect("supported").conversion
}

fn fixture(name: &str) -> PathBuf {
    support::fixture(&format!("gguf/{name}"))
}

fn safetensors(name: &str) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(fixture(name)).unwrap().into_iter().collect()
}

/// The bits of every value, so that even zeros of different sign count as different.
fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten(0, -1).try_into().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn failure<T>(result: lancet::error::Result<T>) -> String {
    let error = result.err().expect("an error");
    format!("{error} ({})", error.hint_text().unwrap_or_default())
}

#[test]
fn metadata_of_every_type_is_read() {
    let gguf = Gguf::open(&fixture("quantized.gguf")).unwrap();
    let integers = [
        ("uint8", 200),
        ("int8", -100),
        ("uint16", 60_000),
        ("int16", -30_000),
        ("uint32", 4_000_000_000),
        ("int32", -2_000_000_000),
        ("uint64", 1 << 40),
        ("int64", -(1 << 40)),
    ];
    for (name, expected) in integers {
        assert_eq!(gguf.integer(&format!("test.{name}")).unwrap(), Some(expected), "{name}");
    }
    assert_eq!(gguf.float("test.float32").unwrap(), Some(f64::from(0.1_f32)));
    assert_eq!(gguf.float("test.float64").unwrap(), Some(0.1));
    assert_eq!(gguf.boolean("test.bool").unwrap(), Some(true));
    assert_eq!(gguf.string("test.string").unwrap(), Some("text ✓"));
    assert_eq!(gguf.integers("test.integers").unwrap(), Some(&[1, -2, 3][..]));
    assert_eq!(gguf.floats("test.floats").unwrap(), Some(&[0.5, -1.25][..]));
    assert_eq!(gguf.strings("test.strings").unwrap().unwrap(), ["a", "", "ü"]);
    assert_eq!(gguf.metadata("test.booleans"), Some(&Value::Booleans(vec![true, false])));
    let nested = Value::Arrays(vec![Value::Integers(vec![1, 2]), Value::Integers(vec![3])]);
    assert_eq!(gguf.metadata("test.nested"), Some(&nested));
    assert_eq!(gguf.architecture().unwrap(), "llama");
    assert_eq!(gguf.integer("test.absent").unwrap(), None);
    let message = failure(gguf.integer("test.string"));
    assert!(message.contains("`test.string` is a string and should be an integer"), "{message}");
}

#[test]
fn values_agree_with_gguf_py_to_the_bit() {
    let gguf = Gguf::open(&fixture("quantized.gguf")).unwrap();
    let expected = safetensors("quantized_expected.safetensors");
    assert_eq!(expected.len(), 15);
    for (name, expected) in expected {
        let loaded = gguf.load(&name).unwrap();
        assert_eq!(loaded.size(), expected.size(), "{name}");
        let kind = match name.as_str() {
            "f16.weight" => Kind::Half,
            "bf16.weight" => Kind::BFloat16,
            _ => Kind::Float,
        };
        assert_eq!(loaded.kind(), kind, "{name}");
        assert_eq!(bits(&loaded.to_kind(Kind::Float)), bits(&expected), "{name}");
    }
}

#[test]
fn plain_types_keep_their_type_and_dimensions_are_reversed() {
    let gguf = Gguf::open(&fixture("quantized.gguf")).unwrap();
    let double = gguf.load("f64.bias").unwrap();
    assert_eq!((double.kind(), double.size()), (Kind::Double, vec![5]));
    assert_eq!(double.double_value(&[4]), 4.0 / 7.0);
    let table = gguf.load("i32.table").unwrap();
    assert_eq!(gguf.shape("i32.table"), Some(vec![2, 3, 4]));
    assert_eq!((table.kind(), table.size()), (Kind::Int, vec![2, 3, 4]));
    assert_eq!(table.int64_value(&[1, 2, 1]), 21);
}

#[test]
fn a_type_that_cannot_be_read_is_named() {
    let gguf = Gguf::open(&fixture("quantized.gguf")).unwrap();
    assert_eq!(gguf.tensor_type("iq2_xxs.weight"), Some(TensorType::Other(16)));
    let message = failure(gguf.load("iq2_xxs.weight"));
    assert!(message.contains("`iq2_xxs.weight` is stored as IQ2_XXS"), "{message}");
    assert!(message.contains("Q4_K") && message.contains("BF16"), "{message}");
    let message = failure(gguf.load("q4_q.weight"));
    assert!(
        message.contains("did you mean `q4_0.weight`") || message.contains("did you mean `q4_k.weight`"),
        "{message}"
    );
}

#[test]
fn large_tensors_are_expanded_whole() {
    // Q8_0 blocks of scale 1 with ascending values; large enough for several threads, and not evenly divisible.
    let blocks = 40_001_usize;
    let writer = Writer::new("llama").tensor("w", &[32, blocks as u64], 8, 0);
    let mut bytes = writer.bytes();
    for block in 0..blocks {
        bytes.extend([0x00, 0x3C]);
        bytes.extend((0..32).map(|i| ((block + i) % 100) as u8));
    }
    let loaded = open(&bytes).unwrap().load("w").unwrap();
    let column = Tensor::arange(32, (Kind::Int64, tch::Device::Cpu));
    let row = Tensor::arange(blocks as i64, (Kind::Int64, tch::Device::Cpu)).unsqueeze(1);
    let expected = (row + column).remainder(100).to_kind(Kind::Float);
    assert!(loaded.equal(&expected));
}

#[test]
fn rotary_permutation_is_undone_as_transformers_does() {
    let tensors = safetensors("unpermute.safetensors");
    for (from, heads, expected) in
        [("weight", 3, "weight_3_heads"), ("weight", 2, "weight_2_heads"), ("bias", 3, "bias_3_heads")]
    {
        let undone = unpermute_rotary(&tensors[from], heads).unwrap();
        assert!(undone.equal(&tensors[expected]), "{expected}");
    }
    for heads in [0, -1, 5, 24, i64::MAX] {
        assert!(unpermute_rotary(&tensors["bias"], heads).is_err(), "{heads}");
    }
}

#[test]
fn a_converted_model_holds_the_original_weights() {
    let gguf = Gguf::open(&fixture("tiny_llama.gguf")).unwrap();
    let original = safetensors("tiny_llama/model.safetensors");
    assert_eq!(original.len(), gguf.tensor_names().len());
    assert!(conversion("llama").rotary_permuted);
    for (name, weight) in original {
        let mut loaded = gguf.load(&tensor_name("llama", &name).unwrap()).unwrap();
        if name.contains("q_proj") {
            loaded = unpermute_rotary(&loaded, 4).unwrap();
        } else if name.contains("k_proj") {
            loaded = unpermute_rotary(&loaded, 2).unwrap();
        }
        assert!(loaded.equal(&weight), "{name}");
    }
}

#[test]
fn names_agree_with_gguf_py() {
    let text = std::fs::read_to_string(fixture("names.json")).unwrap();
    let names: HashMap<String, HashMap<String, Option<String>>> = serde_json::from_str(&text).unwrap();
    assert_eq!(names.len(), 9);
    for (architecture, names) in names {
        assert!(names.len() > 10, "{architecture}");
        for (theirs, ours) in names {
            // Gemma 2 has no output weights of its own, so gguf-py has no name for them.
            if theirs != "lm_head.weight" || architecture != "gemma2" {
                assert_eq!(tensor_name(&architecture, &theirs), ours, "{architecture} {theirs}");
            }
        }
    }
    assert_eq!(tensor_name("gpt2", "h.1.ln_1.bias").as_deref(), Some("blk.1.attn_norm.bias"));
    assert_eq!(tensor_name("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"), None);
    assert_eq!(tensor_name("llama", "model.layers.x.input_layernorm.weight"), None);
    assert_eq!(tensor_name("bert", "model.norm.weight"), None);
}

#[test]
fn the_configuration_agrees_with_the_original() {
    let config = config_json(&Gguf::open(&fixture("tiny_llama.gguf")).unwrap()).unwrap();
    let text = std::fs::read_to_string(fixture("tiny_llama/config.json")).unwrap();
    let original: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let told = config.as_object().unwrap();
    for (key, value) in told {
        assert_eq!(Some(value), original.get(key), "{key}");
    }
    // The other keys do not affect the computation.
    let untold: Vec<&str> = original.keys().map(String::as_str).filter(|key| !told.contains_key(*key)).collect();
    let idle = ["architectures", "attention_dropout", "dtype", "initializer_range", "pretraining_tp"];
    assert_eq!(untold, [&idle[..], &["transformers_version", "use_cache"]].concat());
    let scaled = config_json(&Gguf::open(&fixture("tiny_llama_scaled.gguf")).unwrap()).unwrap();
    assert_eq!(scaled["rope_scaling"], json!({ "rope_type": "frequency_factors" }));
    assert_eq!(scaled["tie_word_embeddings"], json!(true));
}

/// A file with the metadata that every decoder has.
fn decoder(architecture: &str, layers: u32, hidden: u32, heads: u32) -> Writer {
    let key = |name: &str| format!("{architecture}.{name}");
    Writer::new(architecture)
        .integer(&key("block_count"), layers)
        .integer(&key("context_length"), 8192)
        .integer(&key("embedding_length"), hidden)
        .integer(&key("feed_forward_length"), 4 * hidden)
        .integer(&key("attention.head_count"), heads)
        .float(&key("attention.layer_norm_rms_epsilon"), 1e-6)
        .float(&key("attention.layer_norm_epsilon"), 1e-5)
        .tensor("token_embd.weight", &[1, 7], 0, 0)
        .data(28)
}

#[test]
fn configurations_of_other_families_are_translated() {
    // The values that google/gemma-2-27b has.
    let writer = decoder("gemma2", 46, 4608, 32)
        .integer("gemma2.attention.head_count_kv", 16)
        .integer("gemma2.attention.key_length", 128)
        .integer("gemma2.attention.sliding_window", 4096)
        .float("gemma2.attn_logit_softcapping", 50.0)
        .float("gemma2.final_logit_softcapping", 30.0);
    let config = config_json(&writer.open().unwrap()).unwrap();
    for (key, value) in [
        ("model_type", json!("gemma2")),
        ("head_dim", json!(128)),
        ("num_key_value_heads", json!(16)),
        ("query_pre_attn_scalar", json!(144)),
        ("rms_norm_eps", json!(1e-6)),
        ("attn_logit_softcapping", json!(50.0)),
        ("final_logit_softcapping", json!(30.0)),
        ("hidden_activation", json!("gelu_pytorch_tanh")),
        ("vocab_size", json!(7)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!(config["layer_types"][0], "sliding_attention");
    assert_eq!(config["layer_types"][45], "full_attention");

    // google/gemma-3-1b.
    let writer = decoder("gemma3", 26, 1152, 4)
        .integer("gemma3.attention.head_count_kv", 1)
        .integer("gemma3.attention.key_length", 256)
        .integer("gemma3.attention.sliding_window", 512)
        .float("gemma3.rope.freq_base", 1e6);
    let config = config_json(&writer.open().unwrap()).unwrap();
    assert_eq!(config["model_type"], "gemma3_text");
    assert_eq!(config["query_pre_attn_scalar"], 256);
    assert_eq!(config["rope_theta"], 1e6);
    assert_eq!(config["rope_local_base_freq"], 1e4);
    assert_eq!(config["final_logit_softcapping"], json!(null));
    let kinds: Vec<bool> = (0..7).map(|layer| config["layer_types"][layer] == "sliding_attention").collect();
    assert_eq!(kinds, [true, true, true, true, true, false, true]);

    // EleutherAI/pythia-70m.
    let writer = decoder("gptneox", 6, 512, 8).integer("gptneox.rope.dimension_count", 16).entry(
        "gptneox.use_parallel_residual",
        7,
        &[1],
    );
    let config = config_json(&writer.open().unwrap()).unwrap();
    assert_eq!(config["model_type"], "gpt_neox");
    assert_eq!(config["rotary_pct"], 0.25);
    assert_eq!(config["use_parallel_residual"], true);
    assert_eq!(config["layer_norm_eps"], 1e-5);
    assert_eq!(config["num_hidden_layers"], 6);

    let config = config_json(&decoder("gpt2", 12, 768, 12).open().unwrap()).unwrap();
    assert_eq!((&config["n_embd"], &config["n_layer"], &config["n_head"]), (&json!(768), &json!(12), &json!(12)));
    assert_eq!(config["activation_function"], "gelu_new");

    // microsoft/Phi-3-mini-128k: factors for short and long texts.
    let writer = decoder("phi3", 32, 8, 2)
        .integer("phi3.rope.dimension_count", 4)
        .integer("phi3.rope.scaling.original_context_length", 4096)
        .integer("phi3.attention.sliding_window", 0)
        .float("phi3.rope.scaling.attn_factor", 1.25)
        .tensor("rope_factors_long.weight", &[2], 0, 32)
        .tensor("rope_factors_short.weight", &[2], 0, 32)
        .data(64);
    let config = config_json(&writer.open().unwrap()).unwrap();
    let scaling = json!({
        "rope_type": "longrope", "long_factor": [0.0, 0.0], "short_factor": [0.0, 0.0], "attention_factor": 1.25
    });
    assert_eq!(config["rope_scaling"], scaling);
    assert_eq!(config["original_max_position_embeddings"], 4096);
    assert_eq!(config["partial_rotary_factor"], 1.0);
    assert_eq!(config["sliding_window"], json!(null));

    // OLMo 3 has OLMo 2's name; one layer in four attends to all positions.
    let config = config_json(&decoder("olmo2", 8, 64, 4).open().unwrap()).unwrap();
    assert_eq!((&config["model_type"], &config["num_key_value_heads"]), (&json!("olmo2"), &json!(4)));
    let writer = decoder("olmo2", 8, 64, 4)
        .integer("olmo2.attention.sliding_window", 4096)
        .string("olmo2.rope.scaling.type", "yarn")
        .float("olmo2.rope.scaling.factor", 8.0)
        .integer("olmo2.rope.scaling.original_context_length", 8192);
    let config = config_json(&writer.open().unwrap()).unwrap();
    assert_eq!(config["model_type"], "olmo3");
    assert_eq!(config["layer_types"][3], "full_attention");
    let full = json!({
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192, "rope_theta": 10000.0
    });
    let sliding = json!({ "rope_type": "default", "rope_theta": 10000.0 });
    assert_eq!(config["rope_parameters"], json!({ "full_attention": full, "sliding_attention": sliding }));

    // Only the tensors show the biases.
    let writer = decoder("llama", 1, 64, 4).tensor("blk.0.attn_q.bias", &[1], 0, 0);
    assert_eq!(config_json(&writer.open().unwrap()).unwrap()["attention_bias"], true);
}

#[test]
fn configurations_that_cannot_be_used_are_refused() {
    let message = failure(config_json(&decoder("mamba", 1, 8, 2).open().unwrap()));
    assert!(message.contains("`mamba` is not supported") && message.contains("qwen3"), "{message}");
    let message = failure(config_json(&decoder("llama", 1, 8, 2).integer("llama.expert_count", 8).open().unwrap()));
    assert!(message.contains("mixtures of experts"), "{message}");
    let message = failure(config_json(&decoder("llama", 1, 8, 0).open().unwrap()));
    assert!(message.contains("`llama.attention.head_count` is 0"), "{message}");
    let message =
        failure(config_json(&Writer::new("llama").tensor("token_embd.weight", &[1, 0], 0, 0).open().unwrap()));
    assert!(message.contains("no metadata `llama.embedding_length`"), "{message}");
    let uneven = [&4_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &1_u32.to_le_bytes(), &2_u32.to_le_bytes()].concat();
    let writer = decoder("llama", 2, 8, 2).entry("llama.attention.head_count_kv", 9, &uneven);
    let message = failure(config_json(&writer.open().unwrap()));
    assert!(message.contains("differs between layers"), "{message}");
}

#[test]
fn conversions_are_those_of_the_converter() {
    assert_eq!(conversion("qwen2"), Conversion::NONE);
    assert!(conversion("gemma3").norm_plus_one && !conversion("gemma3").rotary_permuted);
    assert!(conversion("gpt2").linear_layout);
    assert!(conversion("gptneox").qkv_split);
}

#[test]
fn other_files_are_refused() {
    let valid = Writer::new("llama");
    assert!(valid.open().is_ok());
    let cases = [
        (b"GGML....".to_vec(), "not a GGUF file"),
        (Vec::new(), ""),
        (Writer { version: 1, ..Writer::new("llama") }.bytes(), "version 1 is not supported"),
        (Writer { version: 4, ..Writer::new("llama") }.bytes(), "version 4 is not supported"),
        (Writer { version: 3_u32.swap_bytes(), ..Writer::new("llama") }.bytes(), "big-endian"),
        (Writer::new("llama").string("general.architecture", "gpt2").bytes(), "given twice"),
        (Writer::new("llama").integer("general.alignment", 0).bytes(), "alignment `0`"),
        (Writer::new("llama").integer("general.alignment", 48).bytes(), "alignment `48`"),
        (Writer::new("llama").entry("key", 13, &[]).bytes(), "`key`: unknown value type 13"),
        (Writer::new("llama").entry("key", 10, &[255; 8]).bytes(), "`key`: the integer"),
        (Writer::new("llama").entry("key", 8, &u64::MAX.to_le_bytes()).bytes(), "`key`: the file ends inside"),
        (Writer::new("llama").tensor("w", &[8, 8], 0, 0).bytes(), "`w`: its data is beyond the end"),
        (Writer::new("llama").tensor("w", &[8], 0, u64::MAX - 8).data(64).bytes(), "`w`: its data is beyond"),
        (Writer::new("llama").tensor("w", &[1 << 40, 1 << 40], 0, 0).bytes(), "`w`: the shape"),
        (Writer::new("llama").tensor("w", &[u64::MAX], 0, 0).bytes(), "`w`: a dimension of"),
        (Writer::new("llama").tensor("w", &[31], 8, 0).data(64).bytes(), "`w`: rows of 31 values"),
        (Writer::new("llama").tensor("w", &[1; 5], 0, 0).data(64).bytes(), "`w`: 5 dimensions"),
        (Writer::new("llama").tensor("w", &[1], 0, 0).tensor("w", &[1], 0, 0).data(4).bytes(), "the same name"),
    ];
    for (bytes, expected) in cases {
        let message = failure(open(&bytes));
        assert!(message.contains(expected), "{message} should say {expected}");
    }
    // Arrays of arrays of arrays ... and counts beyond the end of the file.
    let nested = [9_u32.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec()].concat().repeat(100_000);
    let message = failure(open(&Writer::new("llama").entry("deep", 9, &nested).bytes()));
    assert!(message.contains("`deep`: arrays nested"), "{message}");
    let huge = [4_u32.to_le_bytes().to_vec(), (u64::MAX / 4).to_le_bytes().to_vec()].concat();
    assert!(failure(open(&Writer::new("llama").entry("wide", 9, &huge).bytes())).contains("`wide`: the file ends"));
    let message = failure(Gguf::open(Path::new("/nonexistent.gguf")));
    assert!(message.contains("/nonexistent.gguf"), "{message}");
}

/// Opens a file and loads all its tensors; errors are allowed, panics are not.
fn exercise(bytes: &[u8]) -> bool {
    let Ok(gguf) = open(bytes) else { return false };
    let _ = config_json(&gguf);
    let _ = lancet::text::tokenizer::Tokenizer::from_gguf(&gguf);
    for name in gguf.tensor_names() {
        let _ = gguf.load(name);
    }
    true
}

#[test]
fn truncated_files_are_errors() {
    for name in ["quantized.gguf", "sentencepiece.gguf"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        assert!(exercise(&bytes));
        // The padding after the last tensor may be missing.
        for end in (0..bytes.len() - 32).step_by(11) {
            assert!(!exercise(&bytes[..end]), "{name} cut at {end}");
        }
    }
}

#[test]
fn flipped_bits_are_survived() {
    for name in ["quantized.gguf", "sentencepiece.gguf"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for at in (0..bytes.len().min(1200)).step_by(2).chain((1200..bytes.len()).step_by(211)) {
            for mask in [1 << (at % 8), 0xFF] {
                let mut broken = bytes.clone();
                broken[at] ^= mask;
                exercise(&broken);
            }
        }
    }
}
