//! Sparse autoencoders and transcoders: SAELens's numbers (`make_sae_fixtures.py`), laws, and what is refused.

use lancet::session::Session;
use serde_json::{Value, json};
use tch::Kind;

use crate::support::{
    Expected, assert_contains, eval, eval_tensor, fixture, max_difference, run_script, script_failure, session,
    tiny_path,
};

/// A session in which `folder` is that of the SAEs.
fn prepared() -> Session {
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

#[test]
fn what_cannot_be_computed_is_named() {
    let mut session = prepared();
    let folder = tempfile::tempdir().unwrap();
    session.set_variable("changed", folder.path().join("sae").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        fn load_changed(folder, changed, name, changes, options) {
            let cfg = read_json(join_path(folder, name + "/cfg.json"));
            for key in changes.keys() { if changes[key] == () { cfg.remove(key); } else { cfg[key] = changes[key]; } }
            write_json(join_path(changed, "cfg.json"), cfg);
            let weights = "sae_weights.safetensors";
            save_safetensors(join_path(changed, weights), load_safetensors(join_path(folder, name + "/" + weights)));
            load_sae(changed, options)
        }
        "#,
    );
    for (name, changes, parts) in [
        ("standard", r#"architecture: "temporal""#, &["`architecture` cannot be `temporal`", "jumprelu"] as &[&str]),
        ("standard", r#"architecture: "batchtopk""#, &["for training only", "save_inference_model"]),
        ("standard", "architecture: ()", &["no `architecture`"]),
        ("standard", r#"architecture: "jumprelu""#, &["needs the weight `threshold`"]),
        ("jumprelu", r#"architecture: "standard""#, &["has no weight `threshold`"]),
        ("standard", "surprise: 3", &["`surprise` is not known", r#"ignore: ["surprise"]"#]),
        ("standard", r#"activation_fn: "tanh-relu""#, &["`activation_fn` cannot be tanh-relu"]),
        ("standard", "k: 3", &["has no `k`"]),
        ("standard", "rescale_acts_by_decoder_norm: true", &["has no `rescale_acts_by_decoder_norm`"]),
        ("topk", "k: ()", &["needs `k`"]),
        ("topk", "k: 100", &["`k` cannot be 100", "1 to 24"]),
        ("topk", "k: 2.5", &["`k` must be an integer"]),
        ("standard", r#"normalize_activations: "covariance_whitening""#, &["covariance_whitening", "layer_norm"]),
        ("standard", "normalize_activations: true", &["`normalize_activations` cannot be true"]),
        ("standard", r#"reshape_activations: "hook_q""#, &["`reshape_activations` cannot be `hook_q`"]),
        ("standard", "d_in: 17", &["`d_in` is 17", "16"]),
        ("standard", "d_sae: 25", &["`d_sae` is 25", "24"]),
        ("transcoder", "d_out: 11", &["`d_out` is 11", "12"]),
        ("transcoder", "apply_b_dec_to_input: true", &["`apply_b_dec_to_input` cannot be true of a transcoder"]),
        ("standard", "finetuning_scaling_factor: true", &["finetuning_scaling_factor", "no `scaling_factor`"]),
        ("standard", r#"dtype: "int7""#, &["`dtype`", "int7"]),
        ("scaled", "seed: 1", &["expected_average_only_in", "norm_scaling_factor"]),
        ("older", "hook_head_index_out: 2", &["`hook_head_index_out`"]),
        ("transcoder", "hook_head_index: 2", &["transcoder of a single head"]),
        ("older", r#"activation_fn_kwargs: #{ p: 2 }"#, &["`p` in `activation_fn_kwargs`"]),
        ("older", r#"hook_name: "blocks.0.hook_resid_pre""#, &["both `hook_name` and `hook_point`"]),
    ] {
        let script = format!("load_changed(folder, changed, {name:?}, #{{ {changes} }}, #{{}})");
        assert_contains(&script_failure(&mut session, &script), parts);
    }
    run_script(
        &mut session,
        r#"
        fn sae_of(weights, options) {
            let all = #{ W_enc: eye(4), b_enc: zeros([4]), W_dec: eye(4), b_dec: zeros([4]) } + weights;
            new_sae(all, #{ apply_b_dec_to_input: false } + options)
        }
        let own = load_sae(join_path(folder, "in_stream"), #{ device: device });
        let kept = load_changed(folder, changed, "standard", #{ surprise: 3 }, #{ ignore: ["surprise"], dtype: "f64" });
        assert(kept.cfg.dtype == "f64" && kept.cfg.d_sae == 24);
        "#,
    );
    for (script, parts) in [
        (
            "new_sae(#{ W_enc: eye(4), b_enc: zeros([4]), W_dec: eye(4), b_dec: zeros([4]) })",
            &["`b_dec`", "Gemma Scope"] as &[&str],
        ),
        ("sae_of(#{ W_dec: ones([5, 4]) }, #{})", &["`W_dec`", "[5, 4]"]),
        ("sae_of(#{ W_dec: ones([4, 3]), b_dec: ones([3]) }, #{})", &["reads 4 numbers and gives 3", "hook_name_out"]),
        ("sae_of(#{ W_enc: ones([4]) }, #{})", &["[4]", "two dimensions"]),
        ("sae_of(#{ b_dec: ones([4]).to(\"f64\") }, #{})", &["`b_dec`", "one dtype"]),
        ("sae_of(#{ scale: ones([4]) }, #{})", &["no weight `scale`"]),
        ("sae_of(#{ threshold: \"a\" }, #{})", &["`threshold` must be a tensor"]),
        ("sae_of(#{}, #{ tied: true })", &["no option `tied`"]),
        ("sae_of(#{}, #{ rescale_acts_by_decoder_norm: true })", &["goes with `k`"]),
        ("sae_of(#{ w_enc: eye(4) }, #{})", &["`w_enc` and `W_enc` are the same weight"]),
        ("sae_of(#{}, #{}).encode(ones([5]))", &["[5]", "must end with 4"]),
        ("sae_of(#{}, #{}).decode(ones([5]))", &["[5]", "do not end with 4"]),
        ("sae_of(#{}, #{ normalize_activations: \"layer_norm\" }).decode(ones([4]))", &["decode(latents, input)"]),
        ("sae_of(#{}, #{}).to(\"i64\")", &["floats"]),
        (
            "sae_of(#{}, #{ k: 2, hook_name: \"a\", hook_name_out: \"b\" }).save(\"x\")",
            &["no architecture `topk_transcoder`"],
        ),
        ("load_sae(join_path(folder, \"gemma_scope.npz\"))", &["does not say which hook", "hook_name"]),
        ("load_sae(join_path(folder, \"model.json\"), #{ hook_name: \"resid_pre.1\" })", &["neither a folder nor"]),
        ("load_sae(join_path(folder, \"standard\"), #{ norm_scaling_factor: 2.0 })", &["no scaling factor"]),
        ("load_sae(join_path(folder, \"standard\"), #{ ignore: [\"k\"] })", &["no field `k` to ignore"]),
        ("load_sae(join_path(folder, \"topk\"), #{ ignore: [\"k\"] })", &["no field `k` to ignore"]),
        ("load_sae(join_path(folder, \"gemma_scope.npz\"), #{ hook_name: \"hook_embed\" })", &["√d_model"]),
        ("sae::splice(sae_of(#{}, #{}), true)", &["does not say which hook it reads"]),
        (
            "model.run_with_hooks([1, 2], sae::splice(sae_of(#{}, #{ hook_name: \"resid_pre.1\" }), true))",
            &["[1, 2, 32]", "must end with 4"],
        ),
        ("model.run_with_hooks([1, 2], sae::splice(own, true, |latents| ()))", &["returns no tensor"]),
        ("sae::latents(model, sae_of(#{}, #{ hook_name: \"resid_per.1\" }), [1, 2])", &["resid_per.1"]),
        ("sae::ablate(own, [40])", &["no latent 40", "0 to 39"]),
        ("sae::steer(own, -1, 1.0)", &["no latent -1"]),
        (
            "sae::top_logits(model, load_sae(join_path(folder, \"in_heads\"), #{ device: device }), [1], 2)",
            &["not added to the residual stream"],
        ),
        ("sae::evaluate(model, own, [], #{})", &["no prompts"]),
        ("sae::evaluate(model, own, [[1]], #{})", &["the prompt [1] has no next token"]),
        ("sae::evaluate(model, own, [[1, 2]], #{ exclud: [] })", &["no option \"exclud\""]),
        ("sae::evaluate(model, own, [[1, 2]], #{ exclude: [1, 2] })", &["no token is left"]),
        ("model.run_with_hooks([1, 2], [[[\"mlp_out.1\", \"resid_pre.1\"], |a, b| b]])", &["do not run in this order"]),
        ("model.run_with_hooks([1, 2], [[[\"mlp_out.1\", \"mlp_out.1\"], |a, b| b]])", &["do not run in this order"]),
        ("model.run_with_hooks([1, 2], [[[\"mlp_out\", \"resid_post.2\"], |a, b| b]])", &["names 3 hooks"]),
        ("model.run_with_hooks([1, 2], [[[], |a| a]])", &["needs a name"]),
        (
            "model.run_with_hooks([1, 2], [[[\"mlp_out.1\", \"resid_post.2\"], |a| a]])",
            &["wrong number of arguments", "each of the 2"],
        ),
        ("model.run_with_hooks([1, 2], [[[\"mlp_out.1\", 3], |a, b| b]])", &["a hook must be"]),
    ] {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}
