//! The standard library's patching, heads and circuits: TransformerLens's numbers (`make_library_fixtures.py`), and the
//! laws that they follow.

use crate::support::checksum::assert_checksum;
use crate::support::{assert_contains, eval_tensor, fixture, run_script, script_failure, session, tiny_path};
use lancet::session::Session;
use serde_json::Value;

/// What a fixture's call is here.
fn script(call: &str) -> String {
    let words: Vec<&str> = call.split(' ').collect();
    match words[..] {
        [name, measure, ref options @ ..] if name.ends_with("_head") => {
            let options: Vec<String> = options.iter().map(|option| format!("{option}: true")).collect();
            format!("heads::detect_head(model, repeated, \"{name}\", \"{measure}\", #{{ {} }})", options.join(", "))
        }
        ["composition", mode] => format!("circuits::composition_scores(model, \"{mode}\", [0, 1, 2])"),
        ["direct_path", component] => format!(
            "let other = model.run_with_cache(corrupted).cache; patching::get_act_patch_direct_path(model, corrupted, \
             cache, other, metric, 0, 1, \"{component}\").nan_to_num()"
        ),
        ["induction"] => "heads::induction_scores(model, [repeated], 4)".into(),
        ["copying"] => "heads::copying_scores(model)".into(),
        _ => format!("patching::get_act_patch_{call}(model, corrupted, cache, metric).nan_to_num()"),
    }
}

/// `model`, the fixture's prompts, and what patching takes.
fn prepared(name: &str, reference: &Value) -> Session {
    let mut session = session();
    session.set_variable("path", tiny_path(name).display().to_string().into());
    let prompts = ["clean", "corrupted", "repeated"].map(|name| format!("let {name} = {};", reference[name])).concat();
    run_script(
        &mut session,
        &format!(
            "{prompts} let model = load_model(path, #{{ device: device }}); \
             let metric = |logits| logits.log_softmax(-1)[:, 5].mean(); let cache = model.run_with_cache(clean).cache;"
        ),
    );
    session
}

fn reference() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("library.json")).unwrap()).unwrap()
}

#[test]
fn every_function_gives_the_numbers_of_transformer_lens() {
    let reference = reference();
    for (name, expected) in reference["models"].as_object().unwrap() {
        let mut session = prepared(name, &reference);
        let expected = expected.as_object().unwrap();
        assert!(expected.len() >= 42, "{name}");
        for (call, expected) in expected {
            let what = format!("{name} {call}");
            let value = eval_tensor(&mut session, &script(call));
            let shape: Vec<i64> = serde_json::from_value(expected[0].clone()).unwrap();
            assert_eq!(value.size(), shape, "{what}");
            assert_checksum(&what, &value, &expected.as_array().unwrap()[1..3]);
        }
    }
}

#[test]
fn laws_hold() {
    let reference = reference();
    for (law, script) in LAWS {
        println!("{law}");
        run_script(&mut prepared("qwen2", &reference), script);
    }
}

/// Laws on the model qwen2, whose keys and values have fewer heads than its queries.
const LAWS: &[(&str, &str)] = &[
    (
        "patching is one run after the other",
        r#"
        let found = patching::get_act_patch_attn_head_out_by_pos(model, corrupted, cache, metric);
        for layer in 0..3 { for position in 0..7 { for head in 0..4 {
            let set = |z| { z[:, position, head] = cache["z", layer][:, position, head]; z };
            let logits = model.run_with_hooks(corrupted, [[model.hook_name("z", layer), set]]);
            assert((metric.call(logits[:, -1]) - found[layer, position, head]).abs().item() < 1e-5);
        } } }
        "#,
    ),
    (
        "an ablation by data is one by a function",
        r#"
        let parts = ablate::heads(model) + [ablate::layer(model, "mlp_out", 1), ablate::neuron(model, 2, 5)];
        let means = ablate::means(model, clean, parts, "positions");
        let found = ablate::sweep(model, corrupted, parts, means, metric);
        let plain = metric.call(model.forward(corrupted)[:, -1]).item();
        assert((found.baseline - plain).abs() < 1e-6 && found.effects.shape == [14]);
        for (part, place) in parts {
            let mean = cache[part.name].mean([0, 1]);
            let set = |value| {
                if "head" in part { value[:, :, part.head] = mean[part.head]; value }
                else if "neuron" in part { value[..., part.neuron] = mean[part.neuron]; value }
                else { value * 0.0 + mean }
            };
            let value = metric.call(model.run_with_hooks(corrupted, [[part.name, set]])[:, -1]).item();
            assert((value - found.values[place].item()).abs() < 1e-5);
        }
        "#,
    ),
    (
        "prompts whose every activation is another's give the other's logits",
        r#"
        let part = ablate::layer(model, "resid_post", 0);
        let hooks = ablate::hooks([part], ablate::resampled(model, clean, [part]));
        assert(allclose(model.run_with_hooks(corrupted, hooks), model.forward(clean), #{ atol: 1e-5 }));
        let mean = ablate::means(model, clean, [part], "prompts")[part.name];
        assert(allclose(mean[0], cache["resid_post", 0].mean(0), #{ atol: 1e-6 }));
        "#,
    ),
    (
        "attributions sum to the logit",
        r#"
        let last = model.forward(clean)[:, -1];
        let found = direct::components(model, clean, [5, 7], [1, 2]);
        let differences = stack([last[0, 5] - last[0, 1], last[1, 7] - last[1, 2]]);
        assert(allclose(found.effects.sum(0), differences, #{ atol: 1e-5 }));
        let heads = direct::heads(model, clean, [5, 7], [1, 2]);
        let attention = found.effects[["0_attn_out", "1_attn_out", "2_attn_out"].map(|part| found.labels.index_of(part)), ...];
        assert(allclose(direct::by_layer(model, heads).sum(1), attention.mean(1), #{ atol: 1e-5 }));
        "#,
    ),
    (
        "the tuned lens is the logit lens at the last layer and exact where positions are few",
        r#"
        let model = load_model("smollm2", #{ device: device });
        let prompt = "The capital of France is";
        let tuned = lens::fit_tuned(model, [prompt], 1e-6);
        let plain = lens::logit(model, prompt);
        assert(lens::read(model, tuned, prompt).kl.max().item() < 1e-2 && plain.kl[0].min().item() > 1.0);
        assert(plain.kl[30].max().item() < 1e-6);
        assert(allclose(tuned.maps[30], eye(576), #{ atol: 1e-5 }));
        "#,
    ),
    (
        "the frozen lens is exact after each layer, and its last layer the model",
        r#"
        let model = load_model("smollm2", #{ device: device });
        let prompt = "; big,";
        let lin = model.linearize(prompt);
        let last = lin.tokens.len() - 1;
        let frozen = lens::fit_frozen(model, [prompt], "last");
        let stream = model.run_with_cache(prompt, "resid_pre.20").cache["resid_pre", 20][0, -1];
        let carried = lin.apply(stream, #{ from: [20, last], to: [30, last] });
        assert(allclose(stream.matmul(frozen.maps[20]), carried, #{ rtol: 1e-3, atol: 1e-2 }));
        let read = lens::frozen(model, prompt).logit[30, -1];
        assert((read - model.forward(prompt)[0, -1].max()).abs().item() < 1e-3);
        "#,
    ),
    (
        "a factored circuit is the full product",
        r#"
        let attention = model.blocks[1].attn;
        let full = attention.W_V[1].matmul(attention.W_O[3]);
        let ov = circuits::ov(model, 1, 3);
        assert(allclose(factored::full(ov), full, #{ atol: 1e-6 }));
        assert(allclose(factored::norm(ov), full.norm(), #{ atol: 1e-5 }));
        assert(allclose(factored::svd(ov).S, full.svd().S[:8], #{ atol: 1e-5 }));
        let all = factored::full(circuits::full_ov(model, 1, 3));
        assert(allclose(all, model.W_E.matmul(full).matmul(model.W_U), #{ atol: 1e-4 }));
        let own = (all.argmax(-1) == arange(97)).to("f64").mean().item();
        assert_eq(circuits::share_copied(model, 1, 3, (0..97).to_array()), own);
        let qk = attention.W_Q[3].matmul(attention.W_K[1].T);
        assert(allclose(factored::full(circuits::full_qk(model, 1, 3)), model.W_E.matmul(qk).matmul(model.W_E.T), #{ atol: 1e-4 }));
        "#,
    ),
    (
        "evaluations are what they say of log-probabilities",
        r#"
        let log_probs = model.log_probs([repeated]);
        assert((evals::induction_loss(model, [repeated], 4) + log_probs[0, 4:].mean().item()).abs() < 1e-6);
        let found = evals::perplexity(model, [repeated, clean[0]]);
        let sum = log_probs.sum().item() + model.log_probs([clean[0]]).sum().item();
        assert(found.tokens == 13 && (found.loss + sum / 13).abs() < 1e-5);
        let samples = [#{ prompt: clean[0], answer: 5, wrong: 7 }, #{ prompt: clean[1], answer: 5, wrong: 7 }];
        let last = model.forward(clean)[:, -1];
        let difference = (last[:, 5] - last[:, 7]).mean().item();
        assert((evals::answers(model, samples).logit_difference - difference).abs() < 1e-5);
        "#,
    ),
    (
        "a function vector of all heads is what attention adds, and an ablated direction is gone",
        r#"
        let every = [];
        for layer in 0..3 { for head in 0..4 { every.push([layer, head]); } }
        let attention = cache.stack("attn_out")[:, :, -1].mean(1).sum(0);
        assert(allclose(vectors::function_vector(model, clean, every), attention, #{ atol: 1e-5 }));
        let direction = vectors::difference_of_means(model, clean, corrupted, "resid_post.1", -1);
        let expected = cache["resid_post", 1][:, -1].mean(0) - model.run_with_cache(corrupted, "resid_post.1").cache["resid_post", 1][:, -1].mean(0);
        assert(allclose(direction, expected, #{ atol: 1e-6 }));
        let hooks = vectors::directional_ablation(model, direction);
        for stream in model.run_with_cache(clean, "resid_post", #{ hooks: hooks }).cache.values() {
            assert(stream.matmul(direction / direction.norm()).abs().max().item() < 1e-4);
        }
        let chances = |prompts| model.forward(prompts)[:, -1].softmax(-1)[:, 5].mean().item();
        let effects = vectors::indirect_effects(model, [clean[0]], [clean[0]], [5]);
        assert(effects.abs().max().item() < 1e-6);      // each head already has that mean
        "#,
    ),
    (
        "the area under the curve of ranks is the share of pairs in order",
        r#"
        let scores = [0.1, 0.9, 0.4, 0.4, 0.7];
        let labels = [false, true, false, true, false];
        assert((probe::auc(scores, labels) - 4.5 / 6).abs() < 1e-12);
        "#,
    ),
];

#[test]
fn what_does_not_fit_is_named() {
    let mut session = prepared("qwen2", &reference());
    let cases: &[(&str, &[&str])] = &[
        ("patching::get_act_patch_resid_pre(model, [[1, 2, 3]], cache, metric)", &["2 prompts of 7", "1 of 3"]),
        (
            r#"patching::get_act_patch_mlp_out(model, corrupted, model.run_with_cache(clean, "z").cache, metric)"#,
            &["hook_mlp_out"],
        ),
        (r#"heads::pattern([1, 2], "induction")"#, &[r#"no kind of head "induction""#, "induction_head"]),
        (r#"heads::detect_head(model, repeated, eye(3), "mul")"#, &["[3, 3]", "[8, 8]"]),
        (r#"heads::detect_head(model, repeated, eye(8), "mull")"#, &[r#"no measure "mull""#]),
        (r#"heads::detect_head(model, repeated, eye(8) * 0.5, "mul")"#, &["zeros and ones"]),
        (r#"heads::detect_head(model, repeated, eye(8), "abs", #{ bos: true })"#, &[r#"no option "bos""#]),
        ("heads::induction_scores(model, clean, 3)", &["do"]),
        (r#"circuits::composition_scores(model, "O", [0])"#, &[r#"no mode "O""#]),
        (r#"circuits::composition_scores(model, "Q", [1, 0])"#, &["ascending"]),
        ("circuits::ov(model, 0, 4)", &["no head 4", "0 to 3"]),
        ("factored::eigenvalues(circuits::full_ov(model, 0, 0) + #{ B: ones([8, 3]) })", &["[97, 3]"]),
        ("factored::new_product(ones([2, 3]), ones([2, 3]))", &["have no product"]),
        ("ablate::neuron(model, 0, 48)", &["no neuron 48", "0 to 47"]),
        ("ablate::hooks([ablate::head(model, 0, 0)], #{})", &["no value for L0H0"]),
        (r#"ablate::means(model, [[1], [1, 2]], [ablate::head(model, 0, 0)], "prompts")"#, &["1 to 2 tokens"]),
        ("lens::logit(model, clean)", &["2 prompts", "one at a time"]),
        ("lens::fit_tuned(model, clean, 0)", &["14 positions do not determine", "more than 32"]),
        (r#"lens::fit_frozen(model, clean, "first")"#, &[r#""first""#]),
        ("direct::by_layer(model, direct::components(model, clean, 5))", &["7 parts and 12 heads"]),
        ("vectors::directional_ablation(model, zeros([32]))", &["length 0"]),
        (r#"vectors::activation_addition(model, [1], [1, 2], "resid_pre.1", 1.0)"#, &["1 and 2 tokens"]),
        ("evals::induction_loss(model, [repeated], 5)", &["no repetition of 5"]),
        ("probe::auc([1.0], [true])", &["all labels are equal"]),
        ("probe::with_controls(ones([4, 2]), [0, 1, 0, 1], 0, #{})", &["0 controls"]),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}
