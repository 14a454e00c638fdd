//! Runs of some layers, runs after a prefix, hooks of single heads, filters of names, the loss, and how often hooks act.

use crate::support::{TINY, assert_contains, run_script, script_failure, session, tiny_path};
use lancet::session::Session;

fn prepared(name: &str) -> Session {
    let mut session = session();
    session.set_variable("path", tiny_path(name).display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        let ids = [[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]];
        let near = |left, right| {
            assert_eq(left.shape, right.shape);
            assert((left - right).abs().max().item() < 5e-5);
        };
        let part = |from, to| ids.map(|row| row.extract(from, to - from));
        "#,
    );
    session
}

#[test]
fn a_run_can_stop_at_a_layer_and_start_there() {
    for name in TINY {
        run_script(
            &mut prepared(name),
            r#"
            let whole = model.run_with_cache(ids, "resid_pre");
            let middle = model.forward(ids, #{ stop_at_layer: 1 });
            assert_eq(middle, whole.cache.get("resid_pre", 1));
            assert_eq(model.forward(middle, #{ start_at_layer: 1 }), whole.logits);
            assert_eq(model.forward(ids, #{ stop_at_layer: -1 }), whole.cache.get("resid_pre", -1));
            // Later layers do not run: their hooks are not called, and nothing of them is cached.
            let seen = [];
            let note = |x, name| { seen.push(name); };
            model.run_with_hooks(ids, [["resid_post", note]], #{ stop_at_layer: 1 });
            assert_eq(seen, ["blocks.0.hook_resid_post"]);
            let cache = model.run_with_cache(ids, #{ stop_at_layer: 1 }).cache;
            assert(cache.keys().all(|name| name.starts_with("hook_") || name.starts_with("blocks.0.")));
            let rest = model.run_with_cache(middle, #{ start_at_layer: 1 });
            assert("hook_unembed" in rest.cache && !("hook_embed" in rest.cache) && !("resid_pre.0" in rest.cache));
            "#,
        );
    }
}

#[test]
fn what_a_partial_run_cannot_do_is_refused() {
    let mut session = prepared("llama3");
    let cases: &[(&str, &[&str])] = &[
        ("model.forward(ids, #{ stop_at_layer: 4 })", &["there is no layer 4"]),
        ("model.forward(ids, #{ start_at_layer: 1 })", &["a residual stream", "start_at_layer"]),
        ("model.forward(zeros([1, 2, 7]), #{ start_at_layer: 1 })", &["[batch, pos, d_model]", "32"]),
        ("model.forward(tensor([[1, 2]]), #{ start_at_layer: 1 })", &["a float type, not i64"]),
        ("model.forward(zeros([1, 2, 32]), #{ start_at_layer: 2, stop_at_layer: 1 })", &["before layer 2"]),
        (r#"model.forward(ids, #{ stop_at_layer: 1, logits: "last" })"#, &["exclude each other"]),
        (r#"model.run_with_hooks(ids, [zero("resid_post.1")], #{ stop_at_layer: 1 })"#, &["never ran"]),
        ("model.forward(ids, #{ prefix: ids })", &["`prefix` must be what"]),
        ("model.forward([1], #{ prefix: load_model(path, #{ device: device }).prefix([2]) })", &["another model"]),
        ("model.forward([[1], [2], [3]], #{ prefix: model.prefix(ids) })", &["2 texts cannot be continued by 3"]),
        (r#"model.run_with_hooks([1], [zero("resid_post.1", 0)], #{ prefix: model.prefix([2]) })"#, &["never ran"]),
        ("model.loss([3])", &["no next token"]),
        (r#"model.run_with_cache(ids, |name| false)"#, &["keeps no hook"]),
        (r#"model.run_with_cache(ids, |name| 1)"#, &["true or false"]),
        ("model.run_with_cache(ids, 3)", &["what is cached must be a name"]),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}

/// The activations of a run after a prefix are those of the whole run at the new positions, and so is what it writes.
#[test]
fn a_run_after_a_prefix_is_the_end_of_the_whole_run() {
    for name in TINY {
        run_script(
            &mut prepared(name),
            r#"
            let prefix = model.prefix(part.call(0, 4));
            assert_eq(prefix.len(), 4);
            let whole = model.run_with_cache(ids, ["resid_post", "k", "pattern"]);
            let rest = model.run_with_cache(part.call(4, 6), ["resid_post", "k", "pattern"], #{ prefix: prefix });
            near.call(rest.logits, whole.logits.slice(1, 4, 6));
            for name in rest.cache {
                let dim = if name.ends_with("pattern") { 2 } else { 1 };
                near.call(rest.cache[name], whole.cache[name].slice(dim, 4, 6));
            }
            // A second run from the same prefix gives the same.
            assert_eq(model.forward(part.call(4, 6), #{ prefix: prefix }), rest.logits);
            // Positions count in the whole text.
            let change = [scale("resid_post.0", 5, -1.0), scale("z.1", -2, 2.0)];
            near.call(model.run_with_hooks(part.call(4, 6), change, #{ prefix: prefix }),
                model.run_with_hooks(ids, change).slice(1, 4, 6));
            // Hooks in the prefix act on what follows.
            let change = [scale("resid_post.0", 1, -1.0)];
            near.call(model.forward(part.call(4, 6), #{ prefix: model.prefix(part.call(0, 4), #{ hooks: change }) }),
                model.run_with_hooks(ids, change).slice(1, 4, 6));
            // One text, continued twice.
            let one = model.prefix(ids[0].extract(0, 4));
            let twice = model.forward([ids[0].extract(4), [7, 8]], #{ prefix: one });
            near.call(twice[0], whole.logits[0].slice(0, 4, 6));
            if name_has_room {
                assert_eq(model.generate(part.call(4, 6), #{ max_tokens: 3, prefix: prefix, stop_ids: [] }),
                    model.generate(ids, #{ max_tokens: 3, stop_ids: [] }));
            }
            "#
            .replace("name_has_room", if *name == "phi3_longrope" { "false" } else { "true" })
            .as_str(),
        );
    }
    let mut long = prepared("phi3_longrope");
    let failure = script_failure(
        &mut long,
        "let long = [3]; long.pad(20, 3); model.forward(long, #{ prefix: model.prefix([1, 2]) })",
    );
    assert_contains(&failure, &["rotates the keys of its prefix differently"]);
}

#[test]
fn single_heads_can_be_changed_alone() {
    for name in ["llama3", "gpt2", "gpt_neox", "olmo2", "gemma2", "qwen2"] {
        run_script(
            &mut prepared(name),
            r#"
            let clean = model.run_with_cache(ids, ["q", "k", "v", "z", "attn_out", "hook_q_input", "result"]).cache;
            for pair in [["q_input", "q"], ["k_input", "k"], ["v_input", "v"]] {
                let other = model.run_with_cache(ids, ["q", "k", "v"], #{ hooks: [zero(`hook_${pair[0]}.1`, 2, #{ head: 1 })] }).cache;
                for kind in ["q", "k", "v"] {
                    let changed = ((clean.get(kind, 1) - other.get(kind, 1)).abs().sum(-1) > 0.0).to("i64");
                    assert_eq(changed.sum().item(), if kind == pair[1] { 2 } else { 0 });
                    if kind == pair[1] { assert_eq(changed[0, 2, 1].item(), 1); }
                }
            }
            "#,
        );
    }
    // What a head writes is its part of the sum.
    run_script(
        &mut prepared("llama3"),
        r#"
        let clean = model.run_with_cache(ids, ["result", "attn.hook_out"]).cache;
        near.call(clean.get("result", 1).sum(2), clean.get("attn.hook_out", 1));
        let without = model.run_with_cache(ids, "attn.hook_out", #{ hooks: [zero("result.1", "all", #{ head: 2 })] }).cache;
        near.call(without.get("attn.hook_out", 1), clean.get("attn.hook_out", 1) - clean.get("result", 1).select(2, 2));
        near.call(model.run_with_hooks(ids, [zero("result.1", "all", #{ head: 2 })]),
            model.run_with_hooks(ids, [zero("z.1", "all", #{ head: 2 })]));
        // One change among several side by side leaves the others as they are.
        let swept = model.sweep(#{ target: ids, over: [0, 1, 2], metric: |logits| logits,
            hooks: |item| if item == 1 { [zero("hook_q_input.1", 2, #{ head: 1 })] } else { [] } });
        near.call(swept[1], model.run_with_hooks(ids, [zero("hook_q_input.1", 2, #{ head: 1 })], #{ logits: "last" }).squeeze(1));
        near.call(swept[2], model.forward(ids, #{ logits: "last" }).squeeze(1));
        "#,
    );
}

#[test]
fn a_function_chooses_what_is_cached_and_per_head_sites_wait_to_be_asked_for() {
    run_script(
        &mut prepared("qwen3"),
        r#"
        let usual = model.run_with_cache(ids).cache.keys();
        let left_out = model.hook_names.filter(|name| !(name in usual));
        assert_eq(left_out.len(), 5 * model.cfg.n_layers);
        assert(left_out.all(|name| name.ends_with("_input") || name.ends_with("attn_in") || name.ends_with("result")));
        assert_eq(model.run_with_cache(ids, "*").cache.keys(), model.hook_names);
        assert_eq(model.run_with_cache(ids, |name| name.contains("_norm.")).cache.len(), 4 * model.cfg.n_layers);
        assert_eq(model.run_with_cache(ids, ["pattern", "blocks.[0-1].hook_out"]).cache.len(), model.cfg.n_layers + 2);
        assert_eq(model.all_head_labels()[model.cfg.n_heads], "L1H0");
        "#,
    );
}

#[test]
fn the_loss_is_the_mean_of_the_tokens_and_sees_hooks() {
    run_script(
        &mut prepared("gemma2"),
        r#"
        let each = model.loss(ids, #{ per_token: true });
        assert_eq(each.shape, [2, 5]);
        assert_eq(model.log_probs(ids), -each);
        near.call(model.loss(ids), each.mean());
        assert_eq(model.loss(ids).shape, []);
        let change = [zero("z.0")];
        let logits = model.run_with_hooks(ids, change).log_softmax(-1);
        near.call(model.log_probs(ids, #{ hooks: change })[0],
            stack([0, 1, 2, 3, 4].map(|p| logits[0, p, ids[0][p + 1]])));
        "#,
    );
}

#[test]
fn a_generation_says_how_often_hooks_acted() {
    let mut session = prepared("llama3");
    run_script(
        &mut session,
        r#"
        let hooks = [["mlp_out.1", |x| ()], scale("resid_post.0", 2, 1.0), add("resid_post.1", "all", 0.0)];
        let run = model.generate(ids, #{ max_tokens: 4, stop_ids: [], hooks: hooks, fired: true });
        assert_eq(run.fired, [
            #{ hook: "mlp_out.1", times: 4 },
            #{ hook: "blocks.0.hook_resid_post", times: 1 },
            #{ hook: "blocks.1.hook_resid_post", times: 4 },
        ]);
        assert_eq(run.output, model.generate(ids, #{ max_tokens: 4, stop_ids: [] }));
        // A hook at the logits sees all positions of the prompt, and acts on what is chosen.
        let seen = [];
        let only = |x| { seen.push(x.shape[1]); x[:, :, 7] = 1e6; x };
        assert_eq(model.generate(ids[0], #{ max_tokens: 2, stop_ids: [], hooks: [["hook_unembed", only]] }), [7, 7]);
        assert_eq(seen, [6, 1]);
        "#,
    );
}

#[test]
fn the_rotation_is_every_samples() {
    let mut session = prepared("llama3");
    let failure = script_failure(&mut session, r#"model.run_with_hooks(ids, [zero("cos.1", 1, #{ rows: [0] })])"#);
    assert_contains(&failure, &["the same for all samples"]);
    let sweep = r#"model.sweep(#{ target: ids, over: [0, 1], metric: |x| x, hooks: |i| [zero("cos.1", 1)] })"#;
    assert_contains(&script_failure(&mut session, sweep), &["the same for all samples"]);
}

#[test]
fn tokens_begin_and_are_found() {
    let mut session = session();
    run_script(
        &mut session,
        r#"
        let model = load_model("smollm2");
        let plain = model.to_tokens("The capital of the capital");
        let begun = model.to_tokens("The capital of the capital", #{ prepend_bos: true });
        assert_eq(begun, [model.bos_id] + plain);
        assert_eq(model.to_string([model.bos_id]), "<|im_start|>");
        assert_eq(model.to_tokens("<|im_start|>The", #{ prepend_bos: true }), model.to_tokens("<|im_start|>The"));
        assert_eq(model.to_tokens(["The", "A"], #{ prepend_bos: true }).map(|row| row[0]), [model.bos_id, model.bos_id]);
        assert("<|im_end|>" in model.eos_ids.map(|id| model.to_string([id])));
        assert_eq(model.get_token_position(" capital", plain), 1);
        assert_eq(model.get_token_position(" capital", "The capital of the capital", #{ mode: "last" }), 4);
        assert_eq(model.tokens_to_residual_directions(" capital"), model.W_U.select(1, plain[1]));
        let rows = [plain, model.to_tokens("The")];
        assert_eq(model.to_string(rows), ["The capital of the capital", "The"]);
        assert_eq(model.to_string(tensor([plain, plain])), ["The capital of the capital", "The capital of the capital"]);
        assert_eq(model.to_string(tensor(plain)), "The capital of the capital");
        "#,
    );
    assert_contains(&script_failure(&mut session, r#"model.get_token_position(" Rome", plain)"#), &["not in the text"]);
}
