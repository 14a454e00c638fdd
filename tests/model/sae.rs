//! Sparse autoencoders and transcoders: SAELens's numbers (`make_sae_fixtures.py`), and laws.

use lancet::session::Session;
use serde_json::{Value, json};
use tch::Kind;

use crate::support::{Expected, eval, eval_tensor, fixture, max_difference, run_script, session, tiny_path};

/// A session in which `folder` is that of the SAEs.
pub fn prepared() -> Session {
    let mut session = session();
    session.set_variable("folder", fixture("sae").display().to_string().into());
    session.set_variable("path", tiny_path("gpt2").display().to_string().into());
    session
}

/// How an SAE of the fixtures is loaded, if not by its name alone.
fn load(name: &str) -> String {
    let (file, options) = match name {
        "scaled" => (name, "norm_scaling_factor: 0.37"),
        "gemma_scope" => ("gemma_scope.npz", r#"hook_name: "blocks.1.hook_resid_post""#),
        "gemma_scope_packed" => ("gemma_scope_packed.npz", r#"hook_name: "blocks.1.hook_resid_post""#),
        "gemma_scope_transcoder" => {
            ("gemma_scope.npz", r#"hook_name: "ln2.hook_normalized.1", hook_name_out: "mlp_out.1""#)
        }
        "gemma_scope_2" => ("gemma_scope_2.safetensors", r#"hook_name: "mlp.hook_in.1", hook_name_out: "mlp_out.1""#),
        _ => (name, ""),
    };
    format!("load_sae(join_path(folder, {file:?}), #{{ device: device, {options} }})")
}

#[test]
fn every_architecture_gives_the_numbers_of_saelens() {
    let expected = Expected::open(&fixture("sae/expected.safetensors"));
    let mut session = prepared();
    run_script(&mut session, r#"let inputs = load_safetensors(join_path(folder, "expected.safetensors"));"#);
    let names: Vec<&str> = expected.names().filter_map(|name| name.strip_suffix(".latents")).collect();
    assert!(names.len() >= 24, "{names:?}");
    for name in names {
        run_script(&mut session, &format!("let own = {};", load(name)));
        let input = if ["heads", "older_topk"].contains(&name) { "inputs.z" } else { "inputs.x" };
        let double = expected.get(&format!("{name}.latents")).kind() == Kind::Double;
        let tolerance = if double { 1e-10 } else { 1e-5 };
        for (part, script) in [
            ("latents", format!("own.encode({input})")),
            ("output", format!("own.forward({input})")),
            ("output", format!("own.decode(own.encode({input}), {input})")),
        ] {
            let wanted = expected.get(&format!("{name}.{part}"));
            let found = eval_tensor(&mut session, &script);
            let difference = max_difference(&found, wanted);
            assert!(difference < tolerance && found.kind() == wanted.kind(), "{name} {part}: {difference:e}");
        }
        // What was saved again is the same; SAELens reads that too.
        let again = tempfile::tempdir().unwrap();
        session.set_variable("again", again.path().join("sae").display().to_string().into());
        run_script(
            &mut session,
            &format!(
                "own.save(again); let copy = load_sae(again, #{{ device: device }}); let kept = copy.cfg; \
                 kept.metadata = own.cfg.metadata; assert_eq(kept, own.cfg); \
                 assert_eq(copy.forward({input}), own.forward({input}));"
            ),
        );
    }
    let packed = eval_tensor(&mut session, &format!("{}.forward(inputs.x)", load("gemma_scope_packed")));
    assert!(max_difference(&packed, expected.get("gemma_scope.output")) < 1e-5);
}

fn close(what: &str, found: &[f64], wanted: &Value) {
    let wanted: Vec<f64> = serde_json::from_value(wanted.clone()).unwrap();
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{what}: {found} and {wanted}");
    }
}

#[test]
fn splicing_and_metrics_are_those_of_saelens() {
    let reference: Value = serde_json::from_str(&std::fs::read_to_string(fixture("sae/model.json")).unwrap()).unwrap();
    let mut session = prepared();
    run_script(
        &mut session,
        &format!("let model = load_model(path, #{{ device: device }}); let tokens = {};", reference["tokens"]),
    );
    for name in ["in_stream", "in_heads", "in_mlp"] {
        let wanted = &reference[name];
        run_script(&mut session, &format!("let own = {}; let ids = {};", load(name), wanted["strongest"]));
        for (part, script) in [
            ("latents", "sae::latents(model, own, tokens).sum([0, 1])"),
            ("spliced", "model.run_with_hooks(tokens, sae::splice(own, false))[:, -1]"),
            ("with_error", "model.run_with_hooks(tokens, sae::splice(own, true))[:, -1]"),
            ("ablated", "model.run_with_hooks(tokens, sae::ablate(own, ids))[:, -1]"),
        ] {
            let found = lancet::tensor::raw::numbers(&eval_tensor(&mut session, script)).unwrap();
            let flat = match &wanted[part] {
                Value::Array(rows) if rows[0].is_array() => {
                    rows.iter().flat_map(|row| row.as_array().unwrap().clone()).collect::<Vec<_>>().into()
                }
                values => values.clone(),
            };
            close(&format!("{name} {part}"), &found, &flat);
        }
        let Some(metrics) = wanted.get("metrics") else { continue };
        run_script(
            &mut session,
            &format!("let found = sae::evaluate(model, own, tokens, #{{ exclude: {} }});", metrics["excluded"]),
        );
        for (metric, value) in metrics["numbers"].as_object().unwrap() {
            let found = eval(&mut session, &format!("found.{metric}")).as_float().unwrap();
            close(&format!("{name} {metric}"), &[found], &json!([value]));
        }
        let density =
            lancet::tensor::raw::numbers(&eval_tensor(&mut session, "let density = found.density; density")).unwrap();
        close(&format!("{name} density"), &density, &metrics["density"]);
        run_script(&mut session, "assert_eq(found.dead, (0..40).filter(|id| density[id].item() == 0.0));");
    }
}

#[test]
fn laws_hold() {
    for (law, script) in LAWS {
        println!("{law}");
        let mut session = prepared();
        let again = tempfile::tempdir().unwrap();
        session.set_variable("again", again.path().join("sae").display().to_string().into());
        run_script(
            &mut session,
            r#"
            let model = load_model(path, #{ device: device });
            let tokens = [[3, 1, 4, 1, 5, 9, 2], [2, 6, 5, 3, 5, 8, 9]];
            let load = |name| load_sae(join_path(folder, name), #{ device: device });
            let clean = model.forward(tokens);
            "#,
        );
        run_script(&mut session, script);
    }
}

const LAWS: &[(&str, &str)] = &[
    (
        "with the error term and no edit a run stays as it was, however it is made",
        r#"
        let hooks = ["in_stream", "in_heads", "in_mlp"].map(|name| sae::splice(load.call(name), true)[0]);
        assert_eq(model.run_with_hooks(tokens, hooks), clean);
        let continued = model.generate(tokens[0], #{ max_tokens: 5 });
        assert_eq(model.generate(tokens[0], #{ max_tokens: 5, hooks: hooks }), continued);
        let found = model.sweep(#{
            target: tokens, over: [0, 1, 2], hooks: |index| [hooks[2], hooks[2]], metric: |logits| logits, quiet: true,
        });
        for logits in found { assert(allclose(logits, clean[:, -1], #{ atol: 1e-5 })); }
        "#,
    ),
    (
        "a spliced run is one with a hook made by hand",
        r#"
        let own = load.call("in_stream");
        let by_hand = [["blocks.1.hook_resid_pre", |x| own.decode(own.encode(x))]];
        assert_eq(model.run_with_hooks(tokens, sae::splice(own, false)), model.run_with_hooks(tokens, by_hand));
        let found = sae::evaluate(model, own, tokens, #{});
        assert((found.ce_loss_with_sae - model.loss(tokens, #{ hooks: by_hand }).item()).abs() < 1e-5);
        assert((found.ce_loss_without_sae - model.loss(tokens).item()).abs() < 1e-5);
        "#,
    ),
    (
        "a transcoder replaces the MLP by what it makes of its input",
        r#"
        let own = load.call("in_mlp");
        let input = model.run_with_cache(tokens, "ln2.hook_normalized.1").cache["ln2.hook_normalized.1"];
        let by_hand = [["blocks.1.hook_mlp_out", |out| own.forward(input)]];
        let spliced = model.run_with_hooks(tokens, sae::splice(own, false));
        assert(allclose(spliced, model.run_with_hooks(tokens, by_hand), #{ atol: 1e-6 }));
        assert(!allclose(spliced, clean, #{ atol: 1e-2 }));
        "#,
    ),
    (
        "a transcoder is measured against what it replaces",
        r#"
        let own = load.call("in_mlp");
        let cache = model.run_with_cache(tokens, ["ln2.hook_normalized.1", "mlp_out.1"]).cache;
        let missed = cache["mlp_out", 1] - own.forward(cache["ln2.hook_normalized", 1]);
        let found = sae::evaluate(model, own, tokens, #{});
        let mse = missed.to("f64").square().sum(-1).mean().item();
        assert((found.mse - mse).abs() < 1e-6 * mse);
        let spread = cache["mlp_out", 1].to("f64").reshape([14, -1]);
        let variance = (spread - spread.mean(0)).square().sum(-1).mean().item();
        assert((found.explained_variance - (1.0 - mse / variance)).abs() < 1e-6 * mse / variance);
        "#,
    ),
    (
        "transcoders of several items of a sweep keep apart",
        r#"
        let own = load.call("in_mlp");
        let edit = |item| sae::splice(own, false, |latents| latents * item);
        let found = model.sweep(#{
            target: tokens, over: [0.0, 1.0, 2.0], hooks: edit, metric: |logits| logits, quiet: true,
        });
        for item in [0, 1, 2] {
            let alone = model.run_with_hooks(tokens, edit.call(item.to_float()))[:, -1];
            assert(allclose(found[item], alone, #{ atol: 1e-5 }));
        }
        "#,
    ),
    (
        "an ablated latent is one whose direction is taken away, and a steered one is added",
        r#"
        let own = load.call("in_stream");
        let name = "blocks.1.hook_resid_pre";
        let before = model.run_with_cache(tokens, name).cache[name];
        let latents = sae::latents(model, own, tokens);
        let id = latents.sum([0, 1]).argmax().item();
        let after = model.run_with_cache(tokens, name, #{ hooks: sae::ablate(own, [id]) }).cache[name];
        assert(allclose(before - after, latents[..., id].unsqueeze(-1) * own.W_dec[id], #{ atol: 1e-5 }));
        let after = model.run_with_cache(tokens, name, #{ hooks: sae::steer(own, id, 2.5) }).cache[name];
        assert(allclose(after, before + own.W_dec[id] * 2.5, #{ atol: 1e-5 }));
        let heads = load.call("in_heads");
        let name = "blocks.2.attn.hook_z";
        let before = model.run_with_cache(tokens, name).cache[name];
        let after = model.run_with_cache(tokens, name, #{ hooks: sae::steer(heads, 3, 2.0) }).cache[name];
        assert(allclose(after, before + heads.W_dec[3].reshape([4, 8]) * 2.0, #{ atol: 1e-5 }));
        "#,
    ),
    (
        "an SAE of one head changes that head only",
        r#"
        let weights = #{ W_enc: randn([8, 20]), b_enc: zeros([20]), W_dec: randn([20, 8]), b_dec: zeros([8]) };
        let name = "blocks.1.attn.hook_z";
        let own = new_sae(weights, #{ apply_b_dec_to_input: true, hook_name: name, hook_head_index: 2 });
        let own = own.to(model.cfg.device);
        let before = model.run_with_cache(tokens, name).cache[name];
        let after = model.run_with_cache(tokens, name, #{ hooks: sae::splice(own, false) }).cache[name];
        assert(allclose(after[:, :, 2], own.forward(before[:, :, 2]), #{ atol: 1e-5 }));
        assert_eq(after[:, :, [0, 1, 3]], before[:, :, [0, 1, 3]]);
        assert_eq(sae::latents(model, own, tokens).shape, [2, 7, 20]);
        assert(sae::evaluate(model, own, tokens, #{}).ce_loss_with_sae > 0.0);
        "#,
    ),
    (
        "the logits of latents are those of the model with folded norms",
        r#"
        let own = load.call("in_stream");
        let folded = model.fold_ln();
        let logits = own.W_dec[5].matmul(folded.W_U);
        let found = sae::top_logits(model, own, [2, 5], 4)[1];
        let expected = logits.topk(4);
        assert_eq(found.top.map(|entry| entry.token), expected.indices.to_array());
        assert(allclose(tensor(found.top.map(|entry| entry.logit)), expected.values, #{ atol: 1e-5 }));
        assert_eq(found.bottom.map(|entry| entry.token), (logits * -1.0).topk(4).indices.to_array());
        "#,
    ),
    (
        "a function sees the activations of several hooks, and of one pass",
        r#"
        let names = ["resid_pre.1", "attn_out.1", "resid_mid.1"].map(|name| model.hook_name(name));
        let sums = |before, attention, after| {
            assert(allclose(before + attention, after, #{ atol: 1e-5 }));
            ()
        };
        assert_eq(model.run_with_hooks(tokens, [[names, sums]]), clean);
        let continued = model.generate(tokens[0], #{ max_tokens: 4 });
        assert_eq(model.generate(tokens[0], #{ max_tokens: 4, hooks: [[names, sums]] }), continued);
        let named = |before, after, name| { assert_eq(name, "blocks.2.hook_resid_post"); before };
        let skipped = model.run_with_hooks(tokens, [[["resid_pre.2", "resid_post.2"], named]]);
        let zeroed = model.run_with_hooks(tokens, [zero("attn_out.2"), zero("mlp_out.2")]);
        assert(allclose(skipped, zeroed, #{ atol: 1e-5 }));
        "#,
    ),
    (
        "a model that was processed as the file asks is accepted",
        r#"
        let own = load.call("in_stream");
        own.save(again);
        let cfg = read_json(join_path(again, "cfg.json"));
        cfg.metadata.model_from_pretrained_kwargs = #{ center_writing_weights: true, fold_ln: true };
        write_json(join_path(again, "cfg.json"), cfg);
        let own = load_sae(again, #{ device: device });
        let message = |model| {
            let found = "";
            try { sae::latents(model, own, tokens); } catch (error) { found = error.error; }
            found
        };
        assert(message.call(model).contains("without"));
        assert(message.call(model.fold_ln()).contains("center_writing_weights"));
        assert(message.call(model.center_writing_weights()).contains("fold_ln"));
        assert_eq(message.call(model.fold_ln().center_writing_weights()), "");
        "#,
    ),
];
