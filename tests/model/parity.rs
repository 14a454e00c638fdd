//! Numbers against Hugging Face transformers, and TransformerLens for its own models: tiny random models of every family
//! (all hooks), and the real SmolLM2.

use crate::support::{Expected, TINY, capture_all, fixture, load, max_difference, tiny_path};
use lancet::model::hook::{self, HookPoint};
use lancet::model::language_model::LanguageModel;
use tch::Kind;

const RUNS: &[&str] = &["short", "long"];

#[test]
fn every_family_is_covered() {
    let mut covered: Vec<String> =
        TINY.iter().map(|name| load(&model_path(name), Kind::Float).config().model_type.clone()).collect();
    covered.sort();
    covered.dedup();
    covered.retain(|family| !["transformer_lens", "toy"].contains(&family.as_str()));
    let mut families = lancet::model::family::model_types();
    families.sort_unstable();
    assert_eq!(covered, families);
}

#[test]
fn float32_logits_and_every_hook_match() {
    for name in TINY {
        let model = load(&model_path(name), Kind::Float);
        let expected = Expected::open(&fixture(&format!("models/{name}/expected.safetensors")));
        for run in RUNS {
            let (logits, cache) = capture_all(&model, expected.get(&format!("{run}.input_ids")));
            assert_close(&format!("{name} {run} logits"), &logits, expected.get(&format!("{run}.logits")), 5e-5);
            for point in hooks_of(&model, &expected, run) {
                let key = format!("{run}.{}", point.name());
                let value = cache.get(point).expect("every hook point is captured");
                assert_close(&format!("{name} {key}"), value, expected.get(&key), 5e-5);
            }
        }
    }
}

#[test]
fn float64_logits_and_residuals_match() {
    for name in TINY {
        let model = load(&model_path(name), Kind::Double);
        let expected = Expected::open(&fixture(&format!("models/{name}/expected.safetensors")));
        for run in RUNS {
            let (logits, cache) = capture_all(&model, expected.get(&format!("{run}.input_ids")));
            let wanted = expected.get(&format!("{run}.f64.logits"));
            assert_eq!(wanted.kind(), Kind::Double);
            assert_close(&format!("{name} {run} f64 logits"), &logits, wanted, 1e-10);
            for layer in 0..model.config().n_layers {
                let hook = format!("blocks.{layer}.hook_resid_post");
                let value = cache.named(&hook, model.config()).expect("captured");
                assert_close(
                    &format!("{name} {run} f64 {hook}"),
                    value,
                    expected.get(&format!("{run}.f64.{hook}")),
                    1e-10,
                );
            }
        }
    }
}

#[test]
fn smollm2_matches_in_float32_and_float64() {
    let expected = Expected::open(&fixture("smollm2/expected.safetensors"));
    for (kind, prefix, logit_tolerance, residual_tolerance) in
        [(Kind::Float, "", 2e-3, 5e-3), (Kind::Double, "f64.", 1e-8, 1e-8)]
    {
        let model = load("smollm2", kind);
        for prompt in ["p1", "p2", "p3"] {
            let ids = expected.get(&format!("{prompt}.input_ids")).reshape([1, -1]);
            let (logits, cache) = capture_all(&model, &ids);
            let logits = logits.select(0, 0);
            let what = |name: &str| format!("smollm2 {prompt} {prefix}{name}");
            let key = |name: &str| expected.get(&format!("{prompt}.{prefix}{name}"));
            assert_close(&what("logits_last"), &logits.select(0, -1), key("logits_last"), logit_tolerance);
            let sample = logits.index_select(1, &expected.get("vocab_sample").to_device(logits.device()));
            assert_close(&what("logits_sample"), &sample, key("logits_sample"), logit_tolerance);
            for layer in [0, 7, 15, 29] {
                let hook = format!("blocks.{layer}.hook_resid_post");
                let value = cache.named(&hook, model.config()).expect("captured").select(0, 0).select(0, -1);
                assert_close(&what(&hook), &value, key(&hook), residual_tolerance);
            }
        }
    }
}

fn model_path(name: &str) -> String {
    tiny_path(name).display().to_string()
}

fn assert_close(what: &str, ours: &tch::Tensor, theirs: &tch::Tensor, tolerance: f64) {
    let difference = max_difference(ours, theirs);
    assert!(difference <= tolerance, "{what}: largest difference {difference:e}, allowed {tolerance:e}");
}

/// The hooks in the reference, all of which the model has. (`hook_name.rs` compares the others with TransformerLens's.)
fn hooks_of(model: &LanguageModel, expected: &Expected, run: &str) -> Vec<HookPoint> {
    let prefix = format!("{run}.");
    let names = expected.names().filter_map(|name| name.strip_prefix(&prefix));
    let hooks = names.filter(|name| !name.starts_with("f64.") && !matches!(*name, "input_ids" | "logits"));
    hooks
        .map(|name| {
            let point = hook::parse(name, model.config()).expect("the model has every hook of the reference");
            assert_eq!(point.name(), name);
            point
        })
        .collect()
}
