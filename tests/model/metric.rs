//! The metrics of patching grids: made of transformers' logits (`make_patching_fixtures.py`), and equal to what runs of
//! their own give.

use crate::support::{Expected, eval_tensor, fixture, max_difference, run_script, script_failure, session, tiny_path};
use lancet::session::Session;
use rhai::{Array, Dynamic};
use tch::{Kind, Tensor};

const METRICS: &str = r#"["logit", #{ kind: "logit_difference", against: [[(answer + 1) % 97, (answer + 2) % 97]] },
    "centred_logit", "log_probability", "probability", "rr", "rank", #{ kind: "kl", reference: "target" }]"#;

fn loaded(name: &str, expected: &Expected) -> Session {
    let mut session = session();
    for id in ["source_ids", "target_ids"] {
        let ids: Vec<i64> = expected.get(id).try_into().unwrap();
        session.set_variable(id, ids.into_iter().map(Dynamic::from).collect::<Array>().into());
    }
    session.set_variable("path", tiny_path(name).display().to_string().into());
    session.set_variable("answer", expected.get("answer_id").int64_value(&[]).into());
    run_script(&mut session, "let model = load_model(path, #{ device: device });");
    session
}

/// The metrics of logits, [row, d_vocab], in the order of `METRICS`, each [row].
fn metrics(logits: &Tensor, reference: &Tensor, answer: i64) -> Vec<Tensor> {
    let logits = logits.to_kind(Kind::Double);
    let own = logits.select(1, answer);
    let log_probabilities = logits.log_softmax(1, Kind::Double);
    let rank = logits.gt_tensor(&own.unsqueeze(1)).sum_dim_intlist(1, false, Kind::Double) + 1.0;
    let reference = reference.to_kind(Kind::Double).log_softmax(0, Kind::Double);
    let others = (logits.select(1, (answer + 1) % 97) + logits.select(1, (answer + 2) % 97)) / 2.0;
    vec![
        own.shallow_clone(),
        &own - others,
        &own - logits.mean_dim(1, false, Kind::Double),
        log_probabilities.select(1, answer),
        log_probabilities.select(1, answer).exp(),
        rank.reciprocal(),
        rank,
        (reference.exp() * (&reference - &log_probabilities)).sum_dim_intlist(1, false, Kind::Double),
    ]
}

#[test]
fn metrics_are_those_of_transformers_logits() {
    for name in ["olmo2", "llama3", "gpt2", "gpt_neox", "gemma2"] {
        let expected = Expected::open(&fixture(&format!("patching/{name}.safetensors")));
        let answer = expected.get("answer_id").int64_value(&[]);
        let clean = expected.get("clean.logits");
        let baseline = metrics(&clean.unsqueeze(0), clean, answer);
        let mut session = loaded(name, &expected);
        for (key, position) in [("pos0", 0), ("poslast", -1)] {
            let patched = metrics(expected.get(&format!("{key}.logits")), clean, answer);
            run_script(
                &mut session,
                &format!(
                    "let grid = model.patch_grid(#{{ source: source_ids, target: target_ids, answer: [answer], \
                     position: {position}, metric: {METRICS}, store: false, quiet: true }});"
                ),
            );
            for (number, (patched, baseline)) in patched.iter().zip(&baseline).enumerate() {
                let ours = eval_tensor(&mut session, &format!("grid.effect(grid.metrics[{number}]).squeeze(1)"));
                let difference = max_difference(&ours, &(patched - baseline));
                assert!(difference < 1e-4, "{name} {key} metric {number}: {difference:e}");
            }
        }
    }
}

#[test]
fn laws_hold() {
    let expected = Expected::open(&fixture("patching/llama3.safetensors"));
    let mut session = loaded("llama3", &expected);
    let folder = tempfile::tempdir().unwrap();
    session.set_variable("folder", folder.path().display().to_string().into());
    run_script(
        &mut session,
        r#"
        let other = target_ids.map(|id| (id + 7) % 97);
        let request = #{ source: source_ids, target: [target_ids, other], answer: [answer, 5], quiet: true, store: folder,
            metric: ["log_probability", #{ kind: "logit_difference", against: [3, 4], normalised: true },
                #{ kind: "kl", reference: "clean" }] };
        let grid = model.patch_grid(request);
        let digest = model.digest(source_ids);
        let difference = |logits, sample| logits[[answer, 5][sample]] - logits[[3, 4][sample]];
        for sample in 0..2 {
            let target = request.target[sample];
            let corrupted = model.forward(target)[0, -1];
            let clean = model.forward(source_ids + target)[0, -1];
            for (set, row) in grid.sets {
                let hooks = set.map(|layer| patch(`resid_post.${layer}`, 0, digest[layer]));
                let logits = model.run_with_hooks(target, hooks)[0, -1];
                let share = (difference.call(logits, sample) - difference.call(corrupted, sample))
                    / (difference.call(clean, sample) - difference.call(corrupted, sample));
                assert(allclose(grid.effect("logit_difference")[row, sample], share, #{ rtol: 1e-3, atol: 1e-3 }));
                let kl = kl_div(clean.log_softmax(0), logits.log_softmax(0))
                    - kl_div(clean.log_softmax(0), corrupted.log_softmax(0));
                assert((grid.effect("kl")[row, sample] - kl).abs().item() < 1e-4);
            }
        }

        // Finished samples come from the store with all their numbers; other tokens to compare with are other samples.
        let again = model.patch_grid(request);
        assert(again.plan.stored == 2 && equal(again.effect("kl"), grid.effect("kl")));
        assert(equal(again.effect("logit_difference"), grid.effect("logit_difference")));
        request.metric = #{ kind: "logit_difference", against: [3, 6] };
        assert_eq(model.patch_grid(request).plan.stored, 0);
        "#,
    );
}

#[test]
fn what_cannot_be_measured_is_named() {
    let expected = Expected::open(&fixture("patching/llama3.safetensors"));
    let mut session = loaded("llama3", &expected);
    for (metric, message) in [
        ("\"logits\"", "logits"),
        ("[]", "option `metric` is empty"),
        ("3", "a metric"),
        ("\"logit_difference\"", "needs tokens to compare"),
        ("\"kl\"", "needs a reference run"),
        ("#{ kind: \"rr\", against: 3 }", "only `logit_difference` compares"),
        ("#{ kind: \"kl\", reference: \"other\" }", "other"),
        ("#{ kind: \"logit_difference\", against: answer }", "has the answer of sample 0 itself"),
        ("#{ kind: \"logit_difference\", against: [[1], [2]] }", "for 2 samples"),
        ("#{ kind: \"logit_difference\", against: 1000 }", "1000"),
        ("#{ kind: \"rr\", normalized: true }", "normalized"),
        ("[\"rr\", \"rr\"]", "twice"),
    ] {
        let script = format!(
            "model.patch_grid(#{{ source: source_ids, target: target_ids, answer: [answer], metric: {metric}, \
             store: false, quiet: true }})"
        );
        let error = script_failure(&mut session, &script);
        assert!(error.contains(message), "{metric}: {error}");
    }
    let error = script_failure(
        &mut session,
        "model.patch_grid(#{ source: source_ids, target: target_ids, answer: [answer], store: false, quiet: true })
            .effect(\"logit_difference\")",
    );
    assert!(error.contains("no tokens to compare"), "{error}");
}

/// Several ids of a sample count as one token: their probabilities add up.
#[test]
fn an_answer_may_be_several_ids() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let answers = [[5, 9, 11], [6], [7, 8]];
        let targets = [[1, 2, 3], [7, 8, 9], [4, 4]];
        let request = #{ source: [3, 4], target: targets, answer: answers, quiet: true, store: false, verify: 6,
            metric: ["log_probability", #{ kind: "logit_difference", against: [1, 2, 3] }] };
        let grid = model.patch_grid(request);
        assert(grid.verified.max_logit_difference < 1e-12 && grid.verified.rank_differences == 0);
        for sample in 0..3 {
            let logits = model.forward(targets[sample])[0, -1];
            let of = |values| stack(answers[sample].map(|id| values[id]), 0);
            let own = of.call(logits);
            let baseline = |metric| grid.baseline[metric][sample];
            assert(allclose(baseline.call("probability"), of.call(logits.softmax(0)).sum(), #{ atol: 1e-12 }));
            assert(allclose(baseline.call("logit"), own.logsumexp(0), #{ atol: 1e-12 }));
            assert(baseline.call("rank").item() == 1 + (logits > own.max()).sum().item());
        }
        // One id is the same in an array of its own.
        let one = model.patch_grid(request + #{ answer: [5, 6, 7] });
        let in_arrays = model.patch_grid(request + #{ answer: [[5], [6], [7]] });
        assert(equal(one.effect("logit"), in_arrays.effect("logit")) && equal(one.rank, in_arrays.rank));
        let swept = model.sweep(#{ target: [[1, 2, 3]], answer: [[5, 9, 11]], over: [0], hooks: |_item| [] });
        assert(allclose(swept.probability[0, 0], grid.baseline.probability[0], #{ atol: 1e-12 }));
        "#,
    );
    for (answer, message) in [
        ("[[5], [6], []]", "sample 2 has no answer"),
        ("[[5], [6], [7, 7]]", "the id 7 twice"),
        ("[[5], [6], [7, 1]]", "`against` has the answer of sample 2"),
    ] {
        let script = format!(
            "model.patch_grid(request + #{{ answer: {answer}, metric: #{{ kind: \"logit_difference\", against: 1 }} }})"
        );
        let error = script_failure(&mut session, &script);
        assert!(error.contains(message), "{answer}: {error}");
    }
}

const CLOSURES: &str = r#"
    let model = load_model(path, #{ device: device, dtype: "f64" });
    let answers = [5, 6, 7, 5];
    let request = #{ source: [3, 4], target: [[1, 2, 3], [7, 8, 9], [4, 4], [1, 2, 5]], answer: answers, quiet: true };
"#;

#[test]
fn a_function_may_be_the_metric() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, CLOSURES);
    run_script(
        &mut session,
        r#"
        // By the samples' numbers, the metric that the grid has of its own.
        let own = |logits, samples| {
            let ids = tensor(samples.map(|sample| answers[sample]), #{ dtype: "i64" });
            logits.log_softmax(-1).gather(1, ids.unsqueeze(1)).squeeze(1)
        };
        for tokens in [1, 1000] {
            for site in ["resid_post", "z"] {
                let grid = model.patch_grid(request + #{ metric: ["log_probability", own], site: site,
                    tokens_at_once: tokens });
                assert(grid.metrics == ["log_probability", "closure"] && grid.plan.stored == 0);
                assert(allclose(grid.effect("closure"), grid.effect("log_probability"), #{ atol: 1e-12 }));
                assert(allclose(grid.interactions(#{ metric: "closure" }).values, grid.interactions(#{}).values,
                    #{ atol: 1e-12 }));
            }
        }
        // Without numbers: the same token of all samples; an array of numbers is as good.
        let fifth = model.patch_grid(request + #{ answer: [5, 5, 5, 5], metric: |logits| logits[:, 5] });
        assert(allclose(fifth.effect("closure"), fifth.effect("logit"), #{ atol: 1e-12 }));
        let rows = model.patch_grid(request + #{ answer: [5, 5, 5, 5],
            metric: |logits| logits[:, 5].to_array() });
        assert(equal(rows.effect("closure"), fifth.effect("closure")));

        let swept = model.sweep(#{ target: request.target, padding: "left", answer: answers, over: [0, 1],
            hooks: |layer| [zero(`blocks.${layer}.hook_mlp_out`)],
            metric: ["log_probability", own, #{ kind: "kl", reference: "target" }, "rank"] });
        assert(allclose(swept.closure, swept.log_probability, #{ atol: 1e-12 }));
        assert(swept.keys().len() == 4 && swept.kl.min().item() > 0.0 && swept.rank.shape == [2, 4]);
        "#,
    );
    for (script, message) in [
        ("model.patch_grid(request + #{ metric: |logits| logits })", "one number per sample"),
        ("model.patch_grid(request + #{ metric: |logits| logits.mean() })", "one number per sample"),
        ("model.patch_grid(request + #{ metric: |logits| \"a\" })", "an array of numbers"),
        (
            "model.patch_grid(request + #{ metric: |logits, samples| if samples.contains(2) { throw \"mine\" } else { logits[:, 0] } })",
            "fails at sample 2: mine",
        ),
        (
            "model.patch_grid(request + #{ metric: |logits, samples| samples.map(|sample| [1.0, 2.0, 3.0][sample]) })",
            "fails at sample 3",
        ),
        ("model.patch_grid(request + #{ metric: [|logits| logits[:, 0], |logits| logits[:, 1]] })", "two functions"),
        ("model.patch_grid(request + #{ metric: || 1.0 })", "|logits| ... or |logits, samples| ..."),
        (
            "model.patch_grid(request + #{ metric: |logits| logits[:, 0] / 0.0 - logits[:, 0] / 0.0 })",
            "function gives NaN",
        ),
        ("model.patch_grid(request + #{ metric: \"closure\" })", "is a function"),
        ("model.patch_grid(request).effect(\"closure\")", "not given a function"),
        (
            "model.sweep(#{ target: [1], answer: [1], over: [0], hooks: |_item| [], metric: #{ kind: \"rr\", normalised: true } })",
            "to normalise by",
        ),
        (
            "model.sweep(#{ target: [1], answer: [1], over: [0], hooks: |_item| [], metric: #{ kind: \"kl\", reference: \"clean\" } })",
            "has no source",
        ),
    ] {
        let error = script_failure(&mut session, script);
        assert!(error.contains(message), "{script}: {error}");
    }
}

/// A filler is a token of the target, but not of the run that it is compared with.
#[test]
fn stored_divergences_are_from_their_own_reference() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    session.set_variable("folder", folder.path().display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let request = #{ source: [3, 4], answer: [5], quiet: true, metric: #{ kind: "kl", reference: "clean" } };
        let filled = #{ target: [[2, 3]], filler: 9, position: 0 };
        let written = #{ target: [[9, 2, 3]], position: 0 };
        let alone = model.patch_grid(request + written + #{ store: false }).effect("kl");
        model.patch_grid(request + filled + #{ store: folder });
        let stored = model.patch_grid(request + written + #{ store: folder });
        assert(stored.plan.stored == 0 && equal(stored.effect("kl"), alone));
        "#,
    );
}

/// A vocabulary that is measured block by block gives what its logits give as a whole.
#[test]
fn blocks_of_a_vocabulary_add_up() {
    let mut session = session();
    run_script(
        &mut session,
        r#"
        let model = load_model("smollm2", #{ device: device, dtype: "f64" });
        let source = model.to_tokens("; short, shorter; loud, louder");
        let targets = ["; big,", "; old,", "; a very warm,"].map(|text| model.to_tokens(text));
        let ids = |texts| texts.map(|text| model.to_single_token(text));
        let answers = [ids.call([" bigger", " larger"]), ids.call([" older"]), ids.call([" warmer", " hotter", " the"])];
        let against = ids.call([" big", " old"]);
        let grid = model.patch_grid(#{
            source: source, target: targets, answer: answers, elements: [0, 9, 20], quiet: true, store: false,
            verify: 100, metric: ["rank", #{ kind: "logit_difference", against: [against, against, against] },
                #{ kind: "kl", reference: "clean" }],
        });
        assert(grid.verified.rank_differences == 0 && grid.verified.max_difference < 1e-9);
        let digest = model.digest(source);
        for (set, row) in grid.sets {
            for sample in 0..3 {
                let hooks = set.map(|layer| patch(`resid_post.${layer}`, 0, digest[layer]));
                let logits = model.run_with_hooks(targets[sample], hooks)[0, -1].to("f64");
                let value = |metric| (grid.effect(metric)[row, sample] + grid.baseline[metric][sample]).item();
                let own = stack(answers[sample].map(|id| logits[id]), 0).logsumexp(0);
                assert(abs(value.call("log_probability") - (own - logits.logsumexp(0)).item()) < 1e-9);
                assert(abs(value.call("centred_logit") - (own - logits.mean()).item()) < 1e-9);
                let difference = own - (logits[against[0]] + logits[against[1]]) / 2.0;
                let alone = model.forward(targets[sample])[0, -1].to("f64");
                let before = stack(answers[sample].map(|id| alone[id]), 0).logsumexp(0)
                    - (alone[against[0]] + alone[against[1]]) / 2.0;
                assert(abs((grid.effect("logit_difference")[row, sample] - (difference - before)).item()) < 1e-9);
                let clean = model.forward(source + targets[sample])[0, -1].to("f64").log_softmax(0);
                let divergence = kl_div(clean, logits.log_softmax(0)) - kl_div(clean, alone.log_softmax(0));
                assert(abs((grid.effect("kl")[row, sample] - divergence).item()) < 1e-9);
            }
        }
        "#,
    );
}
