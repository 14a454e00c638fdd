//! LoRA adapters: the logits of transformers with peft (`make_adapter_fixtures.py`), and what is refused.

use std::path::Path;

use crate::support::{
    Expected, assert_contains, failure, fixture, logits, max_difference, on_device, one_thread, run_script,
    script_failure, session,
};
use lancet::error::Result;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Each adapter and its model.
const ADAPTERS: &[(&str, &str)] = &[
    ("conv1d", "models/gpt2"),
    ("dora", "models/gpt_neox"),
    ("dora_conv1d", "models/gpt2"),
    ("embedding", "models/llama3"),
    ("experts", "models/olmoe"),
    ("fused", "models/phi3"),
    ("gguf", "gguf/tiny_llama"),
    ("llama", "models/llama3"),
    ("patterns", "models/llama3"),
    ("rows", "models/qwen2"),
    ("rows_untied", "models/phi3"),
    ("saved_embedding", "models/qwen2"),
    ("saved_modules", "models/qwen2"),
    ("some_layers", "models/phi3"),
    ("unembedding", "models/phi3"),
];

fn load(model: &str, adapter: &Path, kind: Kind) -> Result<LanguageModel> {
    one_thread();
    let options = LoadOptions { kind, adapter: Some(adapter.display().to_string()), ..on_device() };
    LanguageModel::load(&fixture(model).display().to_string(), &options)
}

fn ids() -> Tensor {
    Tensor::from_slice(&[3_i64, 1, 4, 1, 5, 9, 2, 2, 6, 5, 3, 5, 8, 9]).reshape([2, 7]).to_device(Device::Cpu)
}

#[test]
fn logits_are_those_of_peft() {
    let expected = Expected::open(&fixture("adapters/expected.safetensors"));
    assert_eq!(expected.names().count(), 2 * ADAPTERS.len());
    let mut worst = [0.0_f64; 2];
    for (name, model) in ADAPTERS {
        for (place, (kind, suffix, tolerance)) in
            [(Kind::Double, "f64", 1e-10), (Kind::Float, "f32", 1e-5)].into_iter().enumerate()
        {
            let loaded = load(model, &fixture(&format!("adapters/{name}")), kind);
            let loaded = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
            let difference = max_difference(&logits(&loaded, &ids()), expected.get(&format!("{name}.{suffix}")));
            assert!(difference < tolerance, "{name} in {suffix}: {difference}");
            worst[place] = worst[place].max(difference);
        }
    }
    println!("the largest differences are {worst:?}");
}

#[test]
fn a_gguf_file_takes_the_adapter_of_its_checkpoint() {
    let adapter = fixture("adapters/gguf");
    let [checkpoint, gguf] =
        ["gguf/tiny_llama", "gguf/tiny_llama.gguf"].map(|model| load(model, &adapter, Kind::Double).unwrap());
    // The file's own weights are rounded.
    let plain = |id: &str| {
        LanguageModel::load(&fixture(id).display().to_string(), &LoadOptions { kind: Kind::Double, ..on_device() })
            .unwrap()
    };
    let rounding =
        max_difference(&logits(&plain("gguf/tiny_llama"), &ids()), &logits(&plain("gguf/tiny_llama.gguf"), &ids()));
    let difference = max_difference(&logits(&checkpoint, &ids()), &logits(&gguf, &ids()));
    assert!(difference <= 2.0 * rounding + 1e-10, "{difference} with the adapter and {rounding} without");
}

#[test]
fn a_loaded_model_takes_an_adapter_as_its_checkpoint_does() {
    for (name, model) in ADAPTERS {
        let adapter = fixture(&format!("adapters/{name}")).display().to_string();
        let options = LoadOptions { kind: Kind::Double, ..on_device() };
        let plain = LanguageModel::load(&fixture(model).display().to_string(), &options).unwrap();
        let before = logits(&plain, &ids());
        let changed = plain.with_adapter(&adapter, true).unwrap_or_else(|error| panic!("{name}: {error}"));
        let loaded = load(model, Path::new(&adapter), Kind::Double).unwrap();
        assert_eq!(changed.fingerprint().unwrap(), loaded.fingerprint().unwrap(), "{name}");
        assert_eq!(logits(&plain, &ids()), before, "{name}");
        // Separate matrices that the adapter does not name are shared.
        if *model == "models/llama3" {
            let key = |model: &LanguageModel| model.decoder.blocks[0].attention.key.weight.data_ptr();
            assert_eq!(key(&changed) == key(&plain), *name != "patterns", "{name}");
        }
    }
}

#[test]
fn a_model_with_an_adapter_is_another_model() {
    let mut session = session();
    session.set_variable("base", fixture("models/llama3").display().to_string().into());
    session.set_variable("adapter", fixture("adapters/llama").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let plain = load_model(base, #{ device: device });
        let model = load_model(base, #{ device: device, adapter: adapter });
        assert(model.hash != plain.hash && model.name.contains("adapters/llama"));
        // Only what the adapter names has changed, and by no more than its rank.
        let before = plain.state_dict();
        for weight in model.state_dict().items() {
            let is_changed = weight[0].ends_with("W_Q") || weight[0].ends_with("W_V");
            assert_eq(equal(weight[1], before[weight[0]]), !is_changed);
        }
        let change = (model.blocks[1].attn.W_Q - plain.blocks[1].attn.W_Q).permute([1, 0, 2]).flatten(1, 2);
        assert_eq((change.to("f64").svd().S > 1e-6).to("i64").sum().item(), 4);
        "#,
    );
    for random in [
        r#"load_model(base, #{ init: "random", adapter: adapter })"#,
        r#"load_model(base, #{ init: "random" }).with_adapter(adapter)"#,
    ] {
        assert_contains(&script_failure(&mut session, random), &["not random ones"]);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let refused = |name: &str, model: &str, change: &dyn Fn(&mut Value), parts: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let from = fixture(&format!("adapters/{name}"));
        let mut config: Value =
            serde_json::from_str(&std::fs::read_to_string(from.join("adapter_config.json")).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        std::fs::copy(from.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors")).unwrap();
        assert_contains(&failure(load(model, folder.path(), Kind::Float)), parts);
    };
    let cases: &[(&str, Value, &[&str])] = &[
        ("peft_type", json!("IA3"), &["`IA3`", "merge_and_unload"]),
        ("use_qalora", json!(true), &["`use_qalora`"]),
        ("alora_invocation_tokens", json!([1]), &["`alora_invocation_tokens`"]),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"]), &["`target_parameters`"]),
        ("layer_replication", json!([[0, 2]]), &["`layer_replication`"]),
        ("megatron_config", json!({"a": 1}), &["`megatron_config`"]),
        ("a_new_field", json!(1), &["`a_new_field`"]),
        ("init_lora_weights", json!("pissa_niter_4"), &["pissa_niter_4", "model's own weights"]),
        ("ensure_weight_tying", json!(true), &["`ensure_weight_tying`"]),
        ("r", json!(5), &["rank 4", "5"]),
        ("r", json!("4"), &["`r` must be a number"]),
        ("lora_alpha", json!(null), &["`lora_alpha` must be a number"]),
        ("alpha_pattern", json!({"(?<=q)_proj": 3}), &["`alpha_pattern`", "not supported"]),
        ("target_modules", json!(["q_proj"]), &["v_proj", "does not choose"]),
        ("exclude_modules", json!(r".*\.1\..*"), &["layers.1", "does not choose"]),
        ("layers_to_transform", json!(0), &["layers.1", "does not choose"]),
        ("layers_to_transform", json!(["0"]), &["`layers_to_transform`"]),
        ("use_dora", json!(true), &["`use_dora`"]),
        ("use_rslora", json!("no"), &["`use_rslora`"]),
    ];
    for (field, value, parts) in cases {
        refused("llama", "models/llama3", &|config| config[*field] = value.clone(), parts);
    }
    let same: &dyn Fn(&mut Value) = &|_| {};
    refused("llama", "models/phi3", same, &["q_proj", "does not have"]);
    refused("llama", "models/gpt_neox", same, &["q_proj", "does not have"]);
    refused("conv1d", "models/llama3", same, &["does not have"]);
    refused("gguf", "models/llama3", same, &["q_proj", "does not fit"]);
    assert_contains(
        &failure(load("models/llama3", &fixture("models"), Kind::Float)),
        &["no adapter_config.json", "save_pretrained"],
    );
}
