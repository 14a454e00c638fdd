//! What is refused of sparse autoencoders and transcoders.

use crate::sae::prepared;
use crate::support::{assert_contains, run_script, script_failure};

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
