//! Gradients in scripts: what `grad` and `value_and_grad` give and refuse, and tensors that require gradients.

use crate::support::{assert_contains, eval, fixture, run_script, script_failure, session, tiny_path};
use lancet::session::Session;

/// A session with a tiny model in float64, `prompt` and `metric`, a function of the logits.
fn with_model(name: &str) -> Session {
    let mut session = session();
    session.set_variable("folder", tiny_path(name).display().to_string().into());
    run_script(
        &mut session,
        "let model = load_model(folder, #{ dtype: \"f64\", device: device }); let prompt = [3, 14, 15, 9, 26];
         let metric = |logits| logits[0, -1, 5] - logits[0, -1, 7];",
    );
    session
}

#[test]
fn a_named_metric_has_the_gradients_of_its_function() {
    let mut session = with_model("llama3");
    run_script(
        &mut session,
        "let named = model.value_and_grad(prompt, #{ kind: \"logit_difference\", against: 7 }, \"z\", #{ answer: 5 });
         let own = model.value_and_grad(prompt, metric, \"z\");
         assert(allclose(named.value, own.value.reshape([1])));
         for layer in 0..3 {
             assert(allclose(named.grad[\"z\", layer], own.grad[\"z\", layer], #{ rtol: 0.0, atol: 1e-12 }));
             assert_eq(own.cache[\"z\", layer], model.run_with_cache(prompt).cache[\"z\", layer]);
         }
         let probability = model.value_and_grad(prompt, \"log_probability\", \"z\", #{ answer: 5 });
         let own = model.grad(prompt, |logits| logits[0, -1].log_softmax(-1)[5], \"z\");
         assert(allclose(probability.grad[\"z\", 1], own[\"z\", 1], #{ rtol: 0.0, atol: 1e-12 }));
         let several = model.grad([prompt, [1, 2, 3, 4, 5]], \"logit\", \"z\", #{ answer: [5, 6] });
         let one = model.grad([1, 2, 3, 4, 5], \"logit\", \"z\", #{ answer: 6 });
         assert(allclose(several[\"z\", 1][1], one[\"z\", 1][0], #{ rtol: 0.0, atol: 1e-12 }));
         let all = model.grad(prompt, metric);
         assert(allclose(all[\"z\", 1], model.grad(prompt, metric, \"z\")[\"z\", 1], #{ rtol: 0.0, atol: 1e-12 }));",
    );
}

/// LXT's rules: `cp` holds gates constant, `half` gives each factor of a product half (`make_lxt_fixtures.py`).
#[test]
fn gradients_times_inputs_are_relevances_of_lxt() {
    for name in ["llama3", "qwen2", "qwen3", "gemma3", "gpt2"] {
        let mut session = with_model(name);
        session.set_variable("name", name.into());
        session.set_variable("file", fixture("lxt.json").display().to_string().into());
        run_script(
            &mut session,
            "let expected = read_json(file)[name];
             for rules in [[\"frozen\", \"cp\"], [\"relp\", \"half\"]] {
                 let options = #{ answer: expected.answer, backward: rules[0] };
                 let run = model.value_and_grad(expected.ids, \"logit\", \"blocks.0.hook_resid_pre\", options);
                 assert(allclose(run.value, tensor([expected.logit], #{ dtype: \"f64\" }), #{ rtol: 0.0, atol: 1e-10 }));
                 let parts = run.cache[\"resid_pre\", 0] * run.grad[\"resid_pre\", 0];
                 let relevance = tensor(expected[rules[1]], #{ dtype: \"f64\" });
                 assert(allclose(parts[0].sum(-1), relevance, #{ rtol: 0.0, atol: 1e-8 }), name + rules[0]);
             }
             let totals = model.linearize(expected.ids).totals(#{ ids: [expected.answer] })[:, 0];
             assert(allclose(totals, tensor(expected.cp, #{ dtype: \"f64\" }), #{ rtol: 0.0, atol: 1e-8 }), name);",
        );
    }
}

#[test]
fn what_has_no_gradients_is_refused() {
    let mut session = with_model("llama3");
    let cases = [
        // A metric that does not depend on the activation.
        ("model.grad(prompt, |logits| tensor(1.0), \"blocks.0.hook_resid_post\")", ["does not depend", "resid_post"]),
        (
            "model.grad(prompt, |logits| logits[0, 1, 5].detach(), \"z\")",
            ["does not depend on `z`", "computed from the logits"],
        ),
        (
            "model.grad(prompt, metric, \"z\", #{ hooks: [[\"blocks.2.hook_resid_post\", |x| x.detach()]] })",
            ["does not depend on `z`", "a later activation cuts it off"],
        ),
        (
            "model.grad(prompt, |logits| logits[0, 0, 5], \"blocks.2.attn.hook_attn_scores\")",
            ["does not depend", "hook_attn_scores"],
        ),
        (
            "model.grad(prompt, metric, [\"blocks.1.hook_q_input\", \"blocks.1.ln1.hook_out\"])",
            ["hook_q_input", "a call of its own"],
        ),
        // Metrics without one.
        ("model.grad(prompt, \"rr\", \"z\", #{ answer: 5 })", ["`rr` counts tokens", "log_probability"]),
        ("model.grad(prompt, \"rank\", \"z\", #{ answer: 5 })", ["`rank` counts tokens", "log_probability"]),
        ("model.grad(prompt, [\"logit\", \"probability\"], \"z\", #{ answer: 5 })", ["of one metric", ""]),
        (
            "model.grad(prompt, #{ kind: \"kl\", reference: \"clean\" }, \"z\", #{ answer: 5 })",
            ["compares runs", "function"],
        ),
        (
            "model.grad(prompt, #{ kind: \"logit\", normalised: true }, \"z\", #{ answer: 5 })",
            ["compares runs", "function"],
        ),
        ("model.grad(prompt, |logits| logits[0, -1], \"z\")", ["a metric is one number", "[97]"]),
        ("model.grad(prompt, |logits| 3.0, \"z\")", ["a tensor of one number", "logits[0, -1, 5]"]),
        // Answers.
        ("model.grad(prompt, \"logit\", \"z\", #{})", ["`logit` needs the option `answer`", "answer:"]),
        ("model.grad(prompt, metric, \"z\", #{ answer: 5 })", ["`answer` goes with a metric's name", "function"]),
        ("model.grad([prompt, prompt, prompt], \"logit\", \"z\", #{ answer: [1, 2] })", ["2 answers", "3 prompts"]),
        ("model.grad(prompt, \"logit\", \"z\", #{ answer: 97 })", ["97", "answer"]),
        // Prompts and names.
        ("model.grad([prompt, [1]], \"logit\", \"z\", #{ answer: 5 })", ["different lengths", "padding"]),
        ("model.grad(prompt, metric, \"zz\")", ["no hook is named `zz`", "hook_names"]),
        ("model.grad(prompt, metric, \"z\", #{ backwards: \"relp\" })", ["no option `backwards`", "`backward`"]),
        ("model.grad(prompt, metric, \"z\", #{ backward: \"lrp\" })", ["cannot be `lrp`", "relp"]),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), &parts);
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_refused_with_its_place() {
    let mut session = with_model("gpt2");
    // The derivative of a square root at 0.
    let script = "model.grad(prompt, |logits| (logits[0, -1] * 0.0).sqrt().sum(), \"blocks.1.hook_mlp_out\")";
    assert_contains(&script_failure(&mut session, script), &["`blocks.1.hook_mlp_out`[0, ", "is not finite"]);

    let script = "model.grad(prompt, metric, \"z\", #{ hooks: [[\"blocks.1.hook_mlp_out\", |x| x * (0.0 / 0.0)]] })";
    assert_contains(
        &script_failure(&mut session, script),
        &["the metric is not finite, nor is the activation at `blocks.", ".attn.hook_z`[0, "],
    );
}

#[test]
fn ordinary_runs_record_nothing() {
    let mut session = with_model("olmo2");
    run_script(
        &mut session,
        "let check = |where| {
             let run = model.run_with_cache(prompt);
             assert(!run.logits.requires_grad);
             for value in run.cache.values() { assert(!value.requires_grad); }
             assert(!model.forward(prompt).requires_grad);
             assert(!model.run_with_hooks(prompt, [zero(\"blocks.0.hook_mlp_out\", 1)]).requires_grad);
         };
         check.call(\"before\");
         let found = model.value_and_grad(prompt, metric, \"resid_post\");
         assert(!found.value.requires_grad && !found.grad[\"resid_post\", 0].requires_grad);
         assert(!found.cache[\"resid_post\", 0].requires_grad);
         check.call(\"after gradients\");
         let x = tensor([1.0]);
         x.requires_grad = true;
         check.call(\"beside tensors that require gradients\");",
    );
}

#[test]
fn a_script_differentiates_its_own_computations() {
    let mut session = session();
    run_script(
        &mut session,
        "let x = tensor([[1.0, 2.0], [3.0, 4.0]]);
         assert(!x.requires_grad && x.grad == ());
         x.requires_grad = true;
         let y = (x.matmul(x) * x).sum();
         assert(y.requires_grad);
         y.backward();
         // d/dx sum (x x) * x = x x + x (x^T) + (x^T) x, by hand.
         let t = x.detach();
         let wanted = t.matmul(t) + t.matmul(t.transpose(0, 1)) + t.transpose(0, 1).matmul(t);
         assert(allclose(x.grad, wanted));
         (x * 2.0).sum().backward();
         assert(allclose(x.grad, wanted + 2.0)); // gradients add up
         let of_x = grad((x * x).sum(), [x])[0];
         assert(allclose(of_x, t * 2.0));
         assert(allclose(x.grad, wanted + 2.0)); // and `grad` leaves them alone
         assert(!no_grad(|| (x * x).requires_grad) && (x * x).requires_grad);
         assert(!x.detach().requires_grad);
         x.requires_grad = false;
         assert(!(x * x).requires_grad);",
    );
    let cases = [
        ("let x = tensor([1, 2]); x.requires_grad = true;", ["floating-point", "to(\"f32\")"]),
        ("let x = tensor([1.0, 2.0]); x.requires_grad = true; (x * x).backward()", ["one number", "sum()"]),
        ("tensor([1.0]).sum().backward()", ["does not depend on any tensor", ""]),
        (
            "let x = tensor([1.0]); x.requires_grad = true; let y = tensor([2.0]); grad(x.sum(), [y])",
            ["does not require gradients", "requires_grad = true"],
        ),
        (
            "let x = tensor([1.0]); x.requires_grad = true; let y = tensor([2.0]); y.requires_grad = true; grad(x.sum(), [x, y])",
            ["does not depend on tensor 1", ""],
        ),
        (
            "let x = tensor([1.0]); x.requires_grad = true; let y = (x * x).sum(); y.backward(); y.backward()",
            ["already computed", "add the numbers up"],
        ),
        (
            "let x = tensor([1.0]); x.requires_grad = true; let y = (x * x).sum(); y.backward(); grad(y, #{ x: x })",
            ["already computed", "compute the number again"],
        ),
        (
            "let x = tensor([1.0]); x.requires_grad = true; grad(tensor([2.0]).sum() + x.sum(), #{ x: x, y: tensor([1.0]) })",
            ["`y` does not require gradients", "requires_grad = true"],
        ),
        ("grad(tensor([1.0]).sum(), [3])", ["tensor 0 of the array must be a tensor, not integer", ""]),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), &parts);
    }
}

#[test]
fn elements_that_are_replaced_by_equal_ones_have_the_new_ones_gradients() {
    let mut session = with_model("llama3");
    run_script(
        &mut session,
        "let zero = zeros([4]);
         zero.requires_grad = true;
         let x = ones([3, 4]);
         x[1] = x[1] + zero;
         assert(x.requires_grad);
         (x * x).sum().backward();
         assert_eq(zero.grad, ones([4]) * 2.0);
         x = ones([3, 4]) + zero;
         x[0] = x[0].detach();
         x[1] = x[1] + zero * 3.0;
         assert_eq(grad(x.sum(), [zero])[0], ones([4]) * 5.0);
         // What is only read stays what gradients are computed for.
         let leaf = ones([3, 4]);
         leaf.requires_grad = true;
         assert_eq(leaf[1].to_array().len() + leaf[..., 0].shape.len() + leaf.T.shape.len(), 7);
         leaf.sum().backward();
         assert_eq(leaf.grad, ones([3, 4]));
         let row = leaf[1].detach();
         row.requires_grad = true;
         leaf[1] = row;
         assert_eq(grad((leaf * 5.0).sum(), [row])[0], ones([4]) * 5.0);",
    );
    assert_contains(
        &script_failure(&mut session, "model.W_E.requires_grad = true;"),
        &["property `W_E` of a model cannot be set", "with_weights"],
    );
}

/// A vector that a hook adds has the gradient of the activation that it is added to, and descends by it.
#[test]
fn a_vector_that_a_hook_adds_is_trained() {
    let mut session = with_model("qwen3");
    let steps = eval(
        &mut session,
        "let wanted = model.grad(prompt, metric, \"blocks.1.hook_resid_post\")[\"resid_post\", 1][0, 2];
         let vector = zeros([model.cfg.d_model]).to(\"f64\");
         vector.requires_grad = true;
         let steer = |vector| model.run_with_hooks(prompt, [add(\"blocks.1.hook_resid_post\", 2, vector)]);
         metric.call(steer.call(vector)).backward();
         assert(allclose(vector.grad, wanted, #{ rtol: 0.0, atol: 1e-12 }));
         let first = metric.call(steer.call(vector)).item();
         for step in 0..3 {
             vector = vector.detach() + wanted * 0.1;
             vector.requires_grad = true;
             metric.call(steer.call(vector)).backward();
             wanted = vector.grad;
         }
         metric.call(steer.call(vector)).item() - first",
    );
    assert!(steps.as_float().unwrap() > 1e-3);
}

#[test]
fn recording_goes_on_after_scopes_that_turned_it_off() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        no_grad(|| { let x = tensor([1.0]); x.requires_grad = true; assert(!(x * 2.0).requires_grad); });
        let y = tensor([1.0, 2.0]);
        y.requires_grad = true;
        (y * y).sum().backward();
        assert_eq(y.grad, tensor([2.0, 4.0]));
        let model = load_model(path, #{ dtype: "f64", device: device });
        model.grad([[1, 2, 3]], |logits| {
            let w = tensor([2.0], #{ dtype: "f64", device: device });
            w.requires_grad = true;
            let inner = no_grad(|| (w * 3.0).requires_grad);
            assert(!inner && (w * 3.0).requires_grad);
            logits[0, -1, 5] * w[0]
        }, "embed");
        assert((y * y).requires_grad);
        try { model.grad([[1, 2, 3]], |logits| throw "stop", "embed"); } catch { }
        assert((y * y).requires_grad);
        // A tensor that was computed from others keeps its record.
        let z = y * 3.0;
        z.requires_grad = true;
        assert_eq(grad(z.sum(), [y]), [tensor([3.0, 3.0])]);
        "#,
    );
    let failure = script_failure(&mut session, "let x = tensor([1.0]); x.requires_grad = true; x[0] = 5.0; x.grad");
    assert!(failure.contains("this tensor was computed from others"), "{failure}");
}

#[test]
fn a_function_of_padded_prompts_sees_no_numbers_at_filling() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, "let model = load_model(path, #{ dtype: \"f64\", device: device });");
    run_script(
        &mut session,
        r#"
        let run = model.value_and_grad([[1, 2, 3], [4, 5]], |l| l[1, 1, 5] + l[0, 2, 5], "embed", #{ padding: "right" });
        assert(abs(run.value - model.forward([[4, 5]])[0, -1, 5] - model.forward([[1, 2, 3]])[0, -1, 5]).item() < 1e-10);
        assert(!run.grad["embed"][1, :2].isnan().any() && run.grad["embed"][1, 2].isnan().all());
        "#,
    );
    for position in ["-1", "2"] {
        let script =
            format!("model.grad([[1, 2, 3], [4, 5]], |l| l[1, {position}, 5], \"embed\", #{{ padding: \"right\" }})");
        let failure = script_failure(&mut session, &script);
        assert!(failure.contains("the metric is not finite"), "{failure}");
    }
}
