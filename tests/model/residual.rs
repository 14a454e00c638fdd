//! The residual stream taken apart: TransformerLens's numbers and labels (`make_residual_fixtures.py`), and that the parts
//! sum to the whole.

use crate::support::checksum::assert_checksum;
use crate::support::{
    TINY, assert_contains, eval, eval_tensor, fixture, run_script, script_failure, session, tiny_path,
};
use lancet::session::Session;
use serde_json::Value;

/// What the fixture's calls are here: `#{ stack, labels }`, or a tensor.
const CALLS: &[(&str, &str)] = &[
    ("accumulated", "cache.accumulated_resid()"),
    ("accumulated_mid", "cache.accumulated_resid(#{ layer: 2, incl_mid: true, mlp_input: true, pos: -1 })"),
    ("accumulated_ln", "cache.accumulated_resid(#{ apply_ln: true })"),
    ("decomposed", "cache.decompose_resid(#{ layer: -1 })"),
    ("decomposed_part", r#"cache.decompose_resid(#{ layer: 1, mode: "mlp", incl_embeds: false, pos: [1, 3] })"#),
    ("decomposed_ln", "cache.decompose_resid(#{ apply_ln: true })"),
    ("decomposed_mlp", "cache.decompose_resid(#{ layer: 1, mlp_input: true, apply_ln: true })"),
    ("heads", "cache.stack_heads()"),
    ("heads_rest", "cache.stack_heads(#{ layer: 2, incl_remainder: true, pos: -1 })"),
    ("neurons", "cache.stack_neurons(#{ layer: 2, neurons: [0, 3, 5], incl_remainder: true })"),
    ("neurons_of", "cache.neuron_results(1, #{ neurons: [2, 4], pos: -1 })"),
    ("stack", r#"cache.stack("resid_post")"#),
    ("directions", "model.tokens_to_residual_directions([5, 7])"),
    ("loss", "model.loss(ids)"),
    ("loss_per_token", "model.loss(ids, #{ per_token: true })"),
    ("stopped", "model.forward(ids, #{ stop_at_layer: 2 })"),
    ("logit_attrs", "cache.logit_attrs(cache.decompose_resid(#{ pos: -1 }), [5, 7], #{ pos: -1 })"),
    (
        "logit_attrs_diff",
        "cache.logit_attrs(cache.decompose_resid(#{ pos: -1 }).stack, tensor([5, 7]), #{ incorrect: [1, 2], pos: -1 })",
    ),
    ("logit_attrs_all", "cache.logit_attrs(cache.decompose_resid(), 5)"),
];

/// `model` and `cache`, of a run with every hook.
fn prepared(name: &str, ids: &Value) -> Session {
    let mut session = session();
    session.set_variable("path", tiny_path(name).display().to_string().into());
    run_script(
        &mut session,
        &format!(
            "let model = load_model(path, #{{ device: device }}); let ids = {ids}; let run = model.run_with_cache(ids); let cache = run.cache;"
        ),
    );
    session
}

#[test]
fn every_call_gives_the_numbers_and_labels_of_transformer_lens() {
    let reference: Value = serde_json::from_str(&std::fs::read_to_string(fixture("residual.json")).unwrap()).unwrap();
    for (name, expected) in reference["models"].as_object().unwrap() {
        let mut session = prepared(name, &reference["ids"]);
        let expected = expected.as_object().unwrap();
        assert!(expected.len() >= 11, "{name}");
        for (call, expected) in expected {
            let what = format!("{name} {call}");
            let (_, script) = CALLS.iter().find(|(known, _)| known == call).unwrap();
            let expected = expected.as_array().unwrap();
            let labels: Vec<String> = serde_json::from_value(expected[3].clone()).unwrap();
            let script = script.to_string();
            let value = if script.contains("_resid(") && !script.contains("logit_attrs") || script.contains("stack_") {
                let found = eval(&mut session, &format!("{script}.labels")).into_typed_array::<String>().unwrap();
                assert_eq!(found, labels, "{what}");
                eval_tensor(&mut session, &format!("{script}.stack"))
            } else {
                eval_tensor(&mut session, &script)
            };
            let shape: Vec<i64> = serde_json::from_value(expected[0].clone()).unwrap();
            assert_eq!(value.size(), shape, "{what}");
            assert_checksum(&what, &value, &expected[1..3]);
        }
    }
}

/// In every family: the parts are the residual stream, and their attributions with the biases the logits before the cap.
#[test]
fn the_parts_sum_to_the_whole() {
    for name in TINY {
        let mut session = prepared(name, &serde_json::json!([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]));
        run_script(
            &mut session,
            r#"
            let near = |left, right| {
                assert_eq(left.shape, right.shape);
                assert((left - right).abs().max().item() < 1e-4 * (1.0 + right.abs().max().item()));
            };
            let n = model.cfg.n_layers;
            near.call(cache.decompose_resid().stack.sum(0), cache.get("resid_post", -1));
            let middle = if model.cfg.attn_only { "resid_post" } else { "resid_mid" };
            near.call(cache.decompose_resid(#{ layer: 1, mlp_input: true }).stack.sum(0), cache.get(middle, 1));
            near.call(cache.stack_heads(#{ incl_remainder: true }).stack.sum(0), cache.get("resid_post", -1));
            let neurons = #{ layer: 1, incl_remainder: true, pos: [0, -1] };
            if model.cfg.num_experts == () && !model.cfg.attn_only {
                near.call(cache.stack_neurons(neurons).stack.sum(0), cache.get("resid_post", 0).index_select(1, [0, 4]));
            }
            // Heads are what attention adds, but for a bias.
            let bias = model.blocks[0].attn;
            let heads = cache.stack_heads(#{ layer: 1 }).stack.sum(0);
            if "b_O" in bias { heads = heads + bias.b_O; }
            near.call(heads, cache.get("attn_out", 0));
            // Each token's logit before the cap, but for the biases.
            let is_capped = model.cfg.output_logits_soft_cap != ();
            let all = if is_capped { cache["hook_unembed"] } else { run.logits };
            for token in [0, 5, 96] {
                let attributed = cache.logit_attrs(cache.decompose_resid(), token).sum(0);
                let bias = 0.0;
                if "b" in model.ln_final { bias += model.ln_final.b.matmul(model.W_U)[token].item(); }
                if model.b_U != () { bias += model.b_U[token].item(); }
                near.call(attributed + bias, all[:, :, token]);
            }
            "#,
        );
    }
}

#[test]
fn a_cache_without_samples_is_read_the_same_way() {
    let mut session = prepared("llama3", &serde_json::json!([[3, 1, 4, 1, 5]]));
    run_script(
        &mut session,
        r#"
        let one = cache.remove_batch_dim();
        assert_eq(one["resid_post.0"].shape, [5, 32]);
        assert_eq(one.stack_heads(#{ pos: -1 }).stack, cache.stack_heads(#{ pos: -1 }).stack.squeeze(1));
        let parts = one.decompose_resid();
        assert_eq(parts.stack.shape, [7, 5, 32]);
        assert_eq(one.logit_attrs(parts, 5), cache.logit_attrs(cache.decompose_resid(), 5).squeeze(1));
        "#,
    );
}

#[test]
fn a_cache_is_gone_through_by_name() {
    let mut session = prepared("llama3", &serde_json::json!([3, 1, 4]));
    run_script(
        &mut session,
        r#"
        let few = model.run_with_cache(ids, ["pattern", "resid_post.-1"]).cache;
        let seen = [];
        for name in few { seen.push(name); }
        assert_eq(seen, few.keys());
        assert_eq(seen.len(), 4);
        assert_eq(few.values().map(|value| value.shape), seen.map(|name| few[name].shape));
        assert_eq(few.items().map(|item| item[0]), seen);
        assert_eq(few.items()[0][1], few[seen[0]]);
        assert_eq(few["resid_post", -1], few.get("resid_post", 2));
        "#,
    );
}

#[test]
fn what_a_decomposition_lacks_is_named() {
    let mut session = prepared("llama3", &serde_json::json!([[3, 1, 4], [1, 5, 9]]));
    let cases: &[(&str, &[&str])] = &[
        (r#"model.run_with_cache(ids, "z").cache.decompose_resid()"#, &["`hook_embed` was not cached", "everything"]),
        ("cache.decompose_resid(#{ layer: 4 })", &["not read at layer 4"]),
        ("cache.decompose_resid(#{ layer: 3, mlp_input: true })", &["no MLP after the last layer"]),
        ("cache.decompose_resid(#{ pos: 3 })", &["position 3 is out of range"]),
        ("cache.stack_heads(#{ layer: 0 })", &["no parts before layer 0"]),
        ("cache.stack_neurons(#{ neurons: 48 })", &["neuron 48 is out of range"]),
        ("cache.logit_attrs(cache.decompose_resid(#{ pos: -1 }), 5)", &["do not fit the run", "`pos`"]),
        ("cache.logit_attrs(cache.decompose_resid(), [5, 6, 7])", &["do not fit the run"]),
        ("cache.logit_attrs(cache.decompose_resid(), 97)", &["97", "out of range"]),
        ("cache.logit_attrs(cache.decompose_resid(), 5, #{ incorrect: [1, 2] })", &["equally many"]),
        ("cache.logit_attrs(5, 5)", &["the stack must be a tensor"]),
        ("cache.remove_batch_dim()", &["the cache holds 2 samples"]),
        (r#"cache.stack("resid_pots")"#, &["no hook is named `resid_pots`"]),
        (r#"model.run_with_cache(ids, ["resid_post.0"]).cache.stack("resid_post")"#, &["was not cached"]),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), parts);
    }
    let mut experts = prepared("mixtral", &serde_json::json!([[3, 1, 4]]));
    assert_contains(&script_failure(&mut experts, "cache.stack_neurons()"), &["neurons of experts"]);
    let mut olmo = prepared("olmo2", &serde_json::json!([[3, 1, 4]]));
    let failure =
        script_failure(&mut olmo, "cache.apply_ln_to_stack(cache.decompose_resid(#{ layer: 1 }), #{ layer: 1 })");
    assert_contains(&failure, &["without a norm"]);
}
