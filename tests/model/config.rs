//! Configs with fields that are missing, null, moved or renamed, against transformers (see
//! `fixtures/make_config_fixtures.py`): the same logits, or an error.

use crate::support::checkpoint::Checkpoint;
use crate::support::{assert_contains, failure, fixture, logits, max_difference};
use lancet::model::family;
use lancet::model::language_model::LoadOptions;
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

const LENGTH: i64 = 13;

fn cases() -> Value {
    let text = std::fs::read_to_string(fixture("config/cases.json")).expect("the cases");
    serde_json::from_str(&text).expect("JSON")
}

/// A family's config with the fields of a case set and removed.
fn changed(base: &Value, case: &Value) -> Value {
    let mut config = base.clone();
    let fields = config.as_object_mut().expect("an object");
    for (key, value) in case["set"].as_object().unwrap_or(&Map::new()) {
        fields.insert(key.clone(), value.clone());
    }
    for key in case["remove"].as_array().unwrap_or(&Vec::new()) {
        fields.remove(key.as_str().expect("a name"));
    }
    config
}

/// The names in a case, outer and inner.
fn names(case: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        case["remove"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    for (key, value) in case["set"].as_object().into_iter().flatten() {
        names.push(key.clone());
        names.extend(value.as_object().into_iter().flatten().map(|(key, _)| key.clone()));
    }
    names
}

/// The error in a case's results, if any.
fn judge(checkpoint: &mut Checkpoint, base: &Value, case: &Value, expected: &Value) -> Option<String> {
    checkpoint.config = changed(base, case);
    checkpoint.write();
    let loaded = checkpoint.load_with(LoadOptions { kind: Kind::Double, ..LoadOptions::default() });
    let model = match (loaded, case.get("logits")) {
        (Err(_), None) => return None,
        (Ok(_), None) => return Some(format!("loaded, where transformers fails: {}", case["fails"])),
        (Err(error), Some(_)) if case["refusable"] == true => {
            let error = error.to_string();
            let named = names(case).iter().any(|name| error.contains(name));
            return (!named).then(|| format!("names no field of the case: {error}"));
        }
        (Err(error), Some(_)) => return Some(error.to_string()),
        (Ok(model), Some(_)) => model,
    };
    let ids: Vec<i64> = (0..LENGTH).map(|i| (i * 7 + 3) % 11).collect();
    let ours = logits(&model, &Tensor::from_slice(&ids).unsqueeze(0)).select(0, 0).select(0, -1);
    let theirs: Vec<f64> = serde_json::from_value(expected[case["logits"].as_u64()? as usize].clone()).expect("logits");
    let difference = max_difference(&ours, &Tensor::from_slice(&theirs));
    if difference > 1e-10 {
        return Some(format!("logits differ by {difference:e}"));
    }
    let config = model.config();
    let windows: Vec<Option<i64>> = config.layers.iter().map(|layer| layer.window).collect();
    let about = json!({ "n_ctx": config.n_ctx, "windows": windows, "eos": config.eos_token_ids });
    ["n_ctx", "windows", "eos"]
        .into_iter()
        .find(|key| about[key] != case[key])
        .map(|key| format!("`{key}` is {}, not {}", about[key], case[key]))
}

#[test]
fn changed_configs_are_read_as_transformers_reads_them() {
    let cases = cases();
    let families = cases["families"].as_object().expect("families");
    let mut wrong = Vec::new();
    for (family, cases_of_family) in families {
        let mut checkpoint = Checkpoint::at(&fixture(&format!("config/{family}")));
        let base = checkpoint.config.clone();
        for case in cases_of_family.as_array().expect("cases") {
            if let Some(what) = judge(&mut checkpoint, &base, case, &cases["logits"]) {
                wrong.push(format!("{family} {} {}: {what}", case["set"], case["remove"]));
            }
        }
    }
    let mut covered: Vec<&str> = families.keys().map(String::as_str).collect();
    covered.sort_unstable();
    let mut supported = family::model_types();
    supported.sort_unstable();
    assert_eq!(covered, supported);
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rotary_frequencies_are_transformers_to_the_bit() {
    let cases = cases();
    let cases = cases["frequencies"].as_array().expect("cases");
    assert_eq!(cases.len(), 80);
    for case in cases {
        let config = family::parse(&case["config"]).unwrap_or_else(|error| panic!("{}: {error}", case["config"]));
        let rope = config.layers[0].rope.as_ref().expect("rotary");
        let ours = Vec::<f32>::try_from(&rope.frequencies(case["length"].as_i64().unwrap()).unwrap()).unwrap();
        let ours: Vec<u32> = ours.into_iter().map(f32::to_bits).collect();
        let theirs: Vec<u32> = serde_json::from_value(case["bits"].clone()).unwrap();
        assert_eq!(ours, theirs, "{}", case["config"]["rope_parameters"]);
    }
}

/// Every field that a config class of transformers has is either read or known to change nothing.
#[test]
fn every_field_of_every_class_is_known() {
    let table = include_str!("../../src/model/family/config_classes.json");
    let table: Value = serde_json::from_str(table).unwrap();
    for model_type in family::model_types().into_iter().chain(["qwen3_vl_text"]) {
        let mut config = table["classes"][model_type]["fields"].clone();
        config["model_type"] = model_type.into();
        if model_type == "qwen3_vl_text" {
            // The outer config says it.
            config["tie_word_embeddings"] = json!(false);
        }
        for common in table["common"].as_array().unwrap().iter().chain(table["generation"].as_array().unwrap()) {
            config[common.as_str().unwrap()] = json!(false);
        }
        family::parse(&config).unwrap_or_else(|error| panic!("{model_type}: {error}"));
    }
}

#[test]
fn fields_that_nothing_reads_are_refused_by_name() {
    for (key, value) in [
        ("quantization_config", json!({ "quant_method": "gptq" })),
        ("num_local_experts", json!(8)),
        ("clip_qkv", json!(8.0)),
        ("some_new_option", json!(false)),
        ("some_list", json!([1, 2])),
        ("is_encoder_decoder", json!(true)),
        ("rope_interleaved", json!(true)),
        ("vision_config", json!({})),
    ] {
        let checkpoint = Checkpoint::of("llama2").with(key, value);
        checkpoint.write();
        assert_contains(&failure(checkpoint.load()), &["config.json", &format!("`{key}`"), "not supported"]);
    }
    let rope = json!({ "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1] });
    let checkpoint = Checkpoint::of("llama2").with("rope_scaling", Value::Null).with("rope_parameters", rope);
    checkpoint.write();
    assert_contains(&failure(checkpoint.load()), &["`rope_parameters.mrope_section` = […]"]);
    // As SmolLM2's own file has it, and what tools leave behind.
    let harmless = Checkpoint::of("llama2")
        .with("rope_interleaved", json!(false))
        .with("is_llama_config", json!(true))
        .with("transformers.js_config", json!({ "dtype": "q4" }))
        .with("unsloth_fixed", json!(true))
        .with("temperature", json!(0.7));
    harmless.write();
    harmless.load().expect("harmless fields");
}
