//! Models that cannot be loaded or run: each problem is an error that names the file, the tensor or the field, and
//! nothing panics.

use crate::support::checkpoint::Checkpoint;
use crate::support::{
    assert_contains, failure, fixture, generator, run_script, script_failure, session, tiny, tiny_path,
};
use assert_cmd::Command;
use lancet::model::decoder::Logits;
use lancet::model::language_model::LoadOptions;
use lancet::model::run::Hooks;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn refused(checkpoint: &Checkpoint, parts: &[&str]) {
    assert_contains(&failure(checkpoint.load()), parts);
}

#[test]
fn files_that_are_cut_off_are_refused_wherever_the_cut_is() {
    let checkpoint = Checkpoint::of("llama2");
    checkpoint.write();
    assert!(checkpoint.load().is_ok());
    let path = checkpoint.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut cuts: Vec<usize> =
        (0..16).chain([header - 1, header, header + 1, whole.len() / 2, whole.len() - 1]).collect();
    cuts.extend((0..whole.len()).step_by(whole.len() / 23));
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).unwrap();
        refused(&checkpoint, &["model.safetensors", "not a complete safetensors file", "fetch it again"]);
    }
    std::fs::write(&path, [&whole[..], &[0; 3]].concat()).unwrap();
    refused(&checkpoint, &["model.safetensors", "not a complete safetensors file"]);
}

#[test]
fn damaged_headers_are_refused() {
    let checkpoint = Checkpoint::of("llama2");
    checkpoint.write();
    let path = checkpoint.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let written = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        failure(checkpoint.load())
    };
    let with_header = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &[0; 64]].concat();
    let tensor = |dtype: &str, shape: &str, range: &str| {
        with_header(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{range}}}}}"#))
    };
    let cases = [
        [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat(),
        [&(1_u64 << 40).to_le_bytes()[..], &whole[8..]].concat(),
        [&whole[..8], b"[", &whole[9..]].concat(),
        with_header("{}"),
        with_header("not json"),
        with_header(r#"{"w":3}"#),
        tensor("F32", "[16]", "[0,60]"),
        tensor("F32", "[16]", "[64,0]"),
        tensor("F32", "[16]", "[1000,1064]"),
        tensor("F32", "[4294967296,4294967296]", "[0,64]"),
        tensor("F99", "[16]", "[0,64]"),
        b"<html>404</html>".to_vec(),
    ];
    for bytes in cases {
        let message = written(&bytes);
        assert!(message.contains("model.safetensors") || message.contains("missing"), "{message}");
    }
    // Any byte of the header may be wrong.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in (0..header).step_by(41) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x15;
        std::fs::write(&path, &bytes).unwrap();
        let _ = checkpoint.load();
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let changed = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = Checkpoint::of("llama2");
        change(&mut checkpoint);
        checkpoint.write();
        let folder = checkpoint.path().display().to_string();
        let message = failure(checkpoint.load());
        assert_contains(&message, &[&folder]);
        message
    };
    let message = changed(&|checkpoint| drop(checkpoint.tensors.remove(name)));
    assert_contains(&message, &["missing", name]);
    let message = changed(&|checkpoint| {
        let transposed = checkpoint.tensors[name].tr().contiguous();
        checkpoint.tensors.insert(name.into(), transposed);
    });
    assert_contains(&message, &[name, "[32, 48]", "[48, 32]"]);
    let message = changed(&|checkpoint| {
        let extra = Tensor::ones([2], (Kind::Float, Device::Cpu));
        checkpoint.tensors.insert("model.layers.0.self_attn.sinks".into(), extra);
    });
    assert_contains(&message, &["1 tensor", "`model.layers.0.self_attn.sinks`", "llama"]);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let message = changed(&|checkpoint| {
            let _ = checkpoint.tensors[name].get(3).get(4).fill_(value);
        });
        assert_contains(&message, &[name, "NaN or infinity"]);
    }
    let message = changed(&|checkpoint| {
        let whole = checkpoint.tensors[name].to_kind(Kind::Int64);
        checkpoint.tensors.insert(name.into(), whole);
    });
    assert_contains(&message, &[name, "I64", "BF16"]);
    // One layer more than in the config, and one fewer.
    let message = changed(&|checkpoint| checkpoint.config["num_hidden_layers"] = json!(2));
    assert_contains(&message, &["9 tensors", "`model.layers.2."]);
    let message = changed(&|checkpoint| checkpoint.config["num_hidden_layers"] = json!(4));
    assert_contains(&message, &["missing", "`model.layers.3."]);
    // A float32 number beyond float16's range.
    let mut checkpoint = Checkpoint::of("llama2");
    let large = &checkpoint.tensors[name] * 1e6;
    checkpoint.tensors.insert(name.into(), large);
    checkpoint.write();
    let message = failure(checkpoint.load_with(LoadOptions { kind: Kind::Half, ..LoadOptions::default() }));
    assert_contains(&message, &[name, "too large for this dtype"]);
}

#[test]
fn shards_that_are_missing_are_named() {
    let checkpoint = Checkpoint::of("llama2");
    checkpoint.write_text("config.json", &checkpoint.config.to_string());
    refused(&checkpoint, &["has no model.safetensors", &checkpoint.path().display().to_string()]);
    let in_second = |name: &str| name.contains("layers.2");
    checkpoint.write_tensors("a.safetensors", |name| !in_second(name));
    checkpoint.write_tensors("b.safetensors", in_second);
    let index = |second: &str| {
        let place = |name: &String| if in_second(name) { second.to_owned() } else { "a.safetensors".to_owned() };
        let map: serde_json::Map<String, Value> =
            checkpoint.tensors.keys().map(|name| (name.clone(), place(name).into())).collect();
        checkpoint.write_text("model.safetensors.index.json", &json!({ "weight_map": map }).to_string());
    };
    index("b.safetensors");
    assert!(checkpoint.load().is_ok());
    index("c.safetensors");
    refused(&checkpoint, &["c.safetensors"]);
    index("../b.safetensors");
    refused(&checkpoint, &["model.safetensors.index.json", "`../b.safetensors` leads out of its folder"]);
    // The index names the first shard for tensors that only the second has.
    index("a.safetensors");
    refused(&checkpoint, &["missing", "model.layers.2."]);
    for (text, part) in [("{", "not an index"), ("{}", "no `weight_map`"), (r#"{"weight_map": {}}"#, "is empty")] {
        checkpoint.write_text("model.safetensors.index.json", text);
        refused(&checkpoint, &["model.safetensors.index.json", part]);
    }
    std::fs::remove_file(checkpoint.path().join("model.safetensors.index.json")).unwrap();
    checkpoint.write_text("pytorch_model.bin", "");
    refused(&checkpoint, &["pytorch_model.bin", "save_pretrained"]);
    let toy = Checkpoint::of("toy_solu_ln");
    toy.write_text("config.json", &toy.config.to_string());
    toy.write_text("model_final.pth", "");
    refused(&toy, &["model_final.pth", "pickle", "weights_only=True"]);
}

#[test]
fn transformer_lens_masks_must_be_causal() {
    let mut toy = Checkpoint::of("toy_attn_only");
    toy.write();
    toy.load().expect("a causal mask");
    let mask = "blocks.1.attn.mask";
    let other = toy.tensors[mask].ones_like();
    toy.tensors.insert(mask.into(), other);
    toy.write();
    refused(&toy, &["does not use", mask]);
}

#[test]
fn configs_that_mean_something_else_are_refused_by_field() {
    let cases: &[(&str, &str, Value, &[&str])] = &[
        ("llama2", "model_type", Value::Null, &["no field `model_type`"]),
        ("llama2", "model_type", json!("bert"), &["`model_type`", "\"bert\"", "olmo2"]),
        ("llama2", "model_type", json!(3), &["model_type"]),
        ("llama2", "hidden_size", json!("32"), &["`hidden_size` is not an integer"]),
        ("llama2", "hidden_size", json!(0), &["`hidden_size` is 0"]),
        ("llama2", "hidden_size", json!(-32), &["`hidden_size` is -32"]),
        ("llama2", "hidden_size", json!(1_i64 << 40), &["`hidden_size` is 1099511627776"]),
        ("llama2", "hidden_size", json!(1e300), &["hidden_size"]),
        ("llama2", "num_hidden_layers", json!(0), &["`num_hidden_layers` is 0"]),
        ("llama2", "num_hidden_layers", json!(2_000_000_000), &["`num_hidden_layers` is 2000000000"]),
        ("llama2", "num_attention_heads", json!(0), &["`num_attention_heads` is 0"]),
        ("llama2", "num_key_value_heads", json!(3), &["`num_attention_heads` 4", "`num_key_value_heads` 3"]),
        ("llama2", "num_key_value_heads", json!(0), &["`num_key_value_heads` is 0"]),
        ("llama2", "vocab_size", json!(1_i64 << 33), &["`vocab_size`"]),
        ("llama2", "head_dim", json!(7), &["even"]),
        ("llama2", "hidden_act", json!("xielu"), &["`hidden_act`", "\"xielu\"", "silu"]),
        (
            "llama2",
            "rope_scaling",
            json!({ "rope_type": "dynamic", "factor": 2.0 }),
            &["rope_type", "\"dynamic\"", "yarn"],
        ),
        ("llama2", "rope_scaling", json!({ "rope_type": "linear" }), &["`rope_scaling.factor`"]),
        ("llama2", "rope_scaling", json!("linear"), &["`rope_scaling`", "not an object"]),
        ("llama2", "eos_token_id", json!([2, "3"]), &["`eos_token_id`", "not an integer"]),
        ("llama2", "rms_norm_eps", json!("small"), &["`rms_norm_eps` is not a number"]),
        ("llama2", "tie_word_embeddings", json!("no"), &["`tie_word_embeddings` is not true or false"]),
        (
            "llama2",
            "quantization_config",
            json!({ "quant_method": "gptq" }),
            &["`quantization_config`", "not supported"],
        ),
        ("llama2", "num_local_experts", json!(8), &["`num_local_experts`"]),
        ("gpt2", "n_head", json!(5), &["`n_embd` 32", "`n_head` 5"]),
        ("gpt_neo", "attention_types", json!([[["far"], 3]]), &["`attention_types`", "\"far\"", "global, local"]),
        ("gpt_neo", "attention_layers", json!(["local"]), &["`attention_layers` is of 1 layers, not 3"]),
        ("gptj", "rotary_dim", json!(3), &["`rotary_dim` = 3", "even"]),
        ("opt", "do_layer_norm_before", json!(false), &["`do_layer_norm_before` = false"]),
        ("opt", "word_embed_proj_dim", json!(16), &["`word_embed_proj_dim` = 16"]),
        ("qwen3_moe", "decoder_sparse_step", json!(2), &["`decoder_sparse_step` = 2", "experts"]),
        ("gpt_oss", "num_experts_per_tok", json!(5), &["`num_experts_per_tok` = 5", "4 experts"]),
        ("gpt_oss", "quantization_config", json!({ "quant_method": "gptq" }), &["`quantization_config.quant_method`"]),
        ("toy_gelu", "act_fn", json!("tanh"), &["`act_fn` = \"tanh\"", "solu_ln"]),
        ("toy_gelu", "normalization_type", json!("RMSPre"), &["`normalization_type` = \"RMSPre\""]),
        ("toy_gelu", "normalization_type", Value::Null, &["`normalization_type` = null"]),
        ("toy_gelu", "shortformer_pos", json!(true), &["`shortformer_pos` = true"]),
        ("toy_gelu", "final_rms", json!(true), &["`final_rms` = true"]),
        ("toy_gelu", "positional_embedding_type", json!("rotary"), &["`positional_embedding_type` = \"rotary\""]),
        ("toy_gelu", "attn_scale", json!(1.0), &["`attn_scale` = 1"]),
        ("toy_gelu", "n_key_value_heads", json!(2), &["`n_key_value_heads` = 2"]),
        ("stablelm", "qk_layernorm", json!(true), &["`qk_layernorm` = true"]),
        ("granite", "logits_scaling", json!(0.0), &["`logits_scaling` = 0"]),
        ("smollm3", "no_rope_layers", json!([1]), &["`no_rope_layers` has 1 entries for 3 layers"]),
        ("gemma", "hidden_activation", json!("silu"), &["`hidden_activation` = \"silu\"", "hidden_act"]),
        ("gpt2", "activation_function", json!("tanh"), &["`activation_function`", "\"tanh\""]),
        ("gpt_neox", "rotary_pct", json!(2.0), &["`rotary_pct`"]),
        ("gpt_neox", "hidden_size", json!(49), &["`hidden_size` 49"]),
        ("gemma2", "layer_types", json!(["full_attention"]), &["`layer_types` has 1 entries for 4 layers"]),
        ("gemma2", "layer_types", json!(["a", "b", "c", "d"]), &["`layer_types`", "full_attention"]),
        ("gemma2", "sliding_window", json!(0), &["`sliding_window` is 0"]),
        (
            "phi3_longrope",
            "rope_scaling",
            json!({ "type": "longrope", "short_factor": [1.0], "long_factor": [1.0] }),
            &["1 short and 1 long"],
        ),
    ];
    for (name, key, value, parts) in cases {
        let checkpoint = Checkpoint::of(name).with(key, value.clone());
        checkpoint.write();
        let message = failure(checkpoint.load());
        assert_contains(&message, &["config.json"]);
        assert_contains(&message, parts);
    }
    // The class's default size applies, and the weights do not match it.
    let silent = Checkpoint::of("llama2").with("hidden_size", Value::Null);
    refused(silent.write(), &["model.embed_tokens.weight", "[97, 32]", "[97, 4096]"]);
    let toy = Checkpoint::of("toy_gelu").with("d_mlp", json!(40));
    refused(toy.write(), &["`blocks.0.mlp.in.weight`", "[48, 32]", "[40, 32]"]);
    let uneven = Checkpoint::of("llama2").with("hidden_size", json!(34)).with("head_dim", Value::Null);
    refused(uneven.write(), &["config.json", "`hidden_size` 34", "`num_attention_heads` 4", "`head_dim`"]);
}

/// Only GGUF files may have them.
#[test]
fn announced_rotary_divisors_must_be_there() {
    let checkpoint = Checkpoint::of("llama2").with("rope_scaling", json!({ "rope_type": "frequency_factors" }));
    checkpoint.write();
    refused(&checkpoint, &["`frequency_factors`", "0 divisors for 4 frequencies", "GGUF"]);
}

#[test]
fn folders_without_a_readable_config_are_refused() {
    let checkpoint = Checkpoint::of("llama2");
    refused(&checkpoint, &["no `config.json`"]);
    for text in ["", "{", "[]", "null", "\u{feff}"] {
        checkpoint.write_text("config.json", text);
        refused(&checkpoint, &["config.json"]);
    }
    checkpoint.write();
    checkpoint.write_text("tokenizer.json", "{}");
    refused(&checkpoint, &["tokenizer.json"]);
}

/// Sizes that are valid but exceed the memory must not end the process.
#[test]
fn sizes_beyond_any_memory_are_an_error() {
    let checkpoint = Checkpoint::of("llama2")
        .with("hidden_size", json!(1 << 24))
        .with("vocab_size", json!(1 << 24))
        .with("num_attention_heads", json!(4));
    checkpoint.write();
    assert_contains(&failure(checkpoint.load()), &["does not fit", "PiB"]);
    let _turn = generator();
    let random = LoadOptions { random_seed: Some(0), ..LoadOptions::default() };
    assert_contains(&failure(checkpoint.load_with(random)), &["memory"]);
}

#[test]
fn tokenizers_must_fit_the_vocabulary() {
    let checkpoint = Checkpoint::of("llama2");
    checkpoint.write();
    let tokenizer = std::fs::read_to_string(fixture("gguf/tiny_llama/tokenizer.json")).unwrap();
    checkpoint.write_text("tokenizer.json", &tokenizer);
    refused(&checkpoint, &["317 tokens", "97", "do not belong together"]);
}

#[test]
fn tokens_that_cannot_be_run_are_refused() {
    let model = tiny("gpt2");
    let rows = |rows: &[&[i64]]| model.decoder.tokens(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>());
    assert_contains(&failure(rows(&[])), &["no prompts"]);
    assert_contains(&failure(rows(&[&[]])), &["prompt 0 is empty"]);
    assert_contains(&failure(rows(&[&[1], &[]])), &["prompt 1 is empty"]);
    assert_contains(&failure(rows(&[&[1, 2], &[3]])), &["prompt 0 has 2", "prompt 1 has 1"]);
    assert_contains(&failure(rows(&[&[1, 97]])), &["97 at position 1", "0 to 96"]);
    assert_contains(&failure(rows(&[&[1], &[-1]])), &["-1 at position 0 of prompt 1"]);
    let run = |tokens: Tensor| failure(model.decoder.forward(&tokens, Logits::All, &mut Hooks::none()));
    let ints = (Kind::Int64, Device::Cpu);
    assert_contains(&run(Tensor::full([1, 3], 97, ints)), &["97", "0 to 96"]);
    assert_contains(&run(Tensor::full([1, 3], i64::MIN, ints)), &["-9223372036854775808"]);
    assert_contains(&run(Tensor::zeros([3], ints)), &["[batch, pos]", "[3]"]);
    assert_contains(&run(Tensor::zeros([1, 3], (Kind::Float, Device::Cpu))), &["int64"]);
    assert_contains(&run(Tensor::zeros([0, 3], ints)), &["empty"]);
    assert_contains(&run(Tensor::zeros([1, 0], ints)), &["empty"]);
    assert_contains(&run(Tensor::zeros([1, 33], ints)), &["33 tokens", "32 learned positions"]);
    // All 32 can be used.
    assert!(model.decoder.forward(&Tensor::zeros([1, 32], ints), Logits::All, &mut Hooks::none()).is_ok());
}

#[test]
fn scripts_are_told_what_is_wrong() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama2").display().to_string().into());
    run_script(&mut session, "let model = load_model(path, #{ device: device }); model.forward([1, 2, 3]);");
    for (script, parts) in [
        (
            "load_model(path, #{ devise: \"cpu\" })",
            &["`load_model` has no option `devise`", "did you mean `device`"][..],
        ),
        ("load_model(path, #{ device: \"cup\" })", &["unknown device `cup`", "cuda:N"]),
        ("load_model(path, #{ device: 0 })", &["`device`", "a string, not integer"]),
        ("load_model(path, #{ dtype: \"f23\" })", &["unknown dtype `f23`", "f32"]),
        ("load_model(path, #{ dtype: \"i64\" })", &["i64", "f32, bf16, f16, f64"]),
        ("load_model(path, #{ seed: 1 })", &["`seed`", "random"]),
        ("load_model(path, #{ init: \"radnom\" })", &["`radnom`", "random"]),
        ("load_model(path, #{ init: \"random\", seed: 1.5 })", &["`seed`", "an integer, not float"]),
        ("load_model(path, #{ revision: \"main\" })", &["has no revisions"]),
        ("load_model(\"\")", &["unknown model ``"]),
        ("load_model(\"smolml2\")", &["unknown model `smolml2`", "did you mean `smollm2`"]),
        ("load_model(path + \"/nowhere\")", &["nowhere"]),
        ("load_model(path + \"/config.json\")", &["not a `.gguf` file"]),
        ("model.to_tokens(\"text\")", &["has no tokenizer", "tokenizer.json", "token ids"]),
        ("model.forward(\"text\")", &["has no tokenizer"]),
        ("model.to_string([1])", &["has no tokenizer"]),
        ("model.apply_chat_template([])", &["has no tokenizer"]),
        ("model.forward([])", &["empty"]),
        ("model.forward([[]])", &["prompt 0 is empty"]),
        ("model.forward([[1, 2], [3]])", &["different lengths"]),
        ("model.forward([1, -1])", &["token id -1"]),
        ("model.forward([1, 2.0])", &["each item of tokens must be an integer, not float"]),
        ("model.forward([[1, 2], 3])", &["each prompt must be text or an array of token ids, not integer"]),
        ("model.forward(1)", &["tokens must be", "not integer"]),
        ("model.forward(tensor([1.0, 2.0]))", &["must hold integers"]),
        ("model.forward(zeros([1, 1, 1]).to(\"i64\"))", &["[1, 1, 1]"]),
    ] {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}

/// For every error, the program exits with 1 and a message on standard error.
#[test]
fn the_program_reports_and_ends_with_1() {
    let fails = |code: &str, parts: &[&str]| {
        let output = Command::cargo_bin("lancet").unwrap().args(["--offline", "-e", code]).output().unwrap();
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{code}: {report}");
        assert_contains(&report, parts);
        assert!(!report.contains("panicked") && !report.contains("an internal error"), "{report}");
    };
    let checkpoint = Checkpoint::of("llama2");
    checkpoint.write();
    let path = checkpoint.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..1000]).unwrap();
    let load = format!("load_model({:?})", checkpoint.path().display().to_string());
    fails(&load, &["model.safetensors", "not a complete safetensors file"]);
    std::fs::write(&path, &whole).unwrap();
    fails(&format!("{load}.forward([97])"), &["token id 97", "0 to 96"]);
    let checkpoint = checkpoint.with("num_hidden_layers", json!(2_000_000_000));
    checkpoint.write();
    fails(&load, &["`num_hidden_layers` is 2000000000"]);
    fails("load_model(\"allenai/no-such-model\")", &["allenai/no-such-model", "not in the cache"]);
}
