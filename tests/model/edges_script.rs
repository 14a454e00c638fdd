//! Edges and circuits in scripts: options, single runs, files, and what is refused.

use crate::support::{fixture, run_script, script_failure, session, tiny_path};
use lancet::session::Session;

fn with_models() -> Session {
    let mut session = session();
    for name in ["gpt2", "llama3"] {
        session.set_variable(name, tiny_path(name).display().to_string().into());
    }
    session.set_variable("circuit_file", fixture("edges/circuit.json").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(llama3, #{ dtype: "f64", device: device });
        let clean = [[3, 14, 15, 9], [6, 5, 35, 8], [7, 9, 3, 2]];
        let corrupted = [[3, 14, 1, 9], [6, 11, 35, 8], [7, 2, 3, 2]];
        let request = #{ clean: clean, corrupted: corrupted, answer: [4, 5, 6] };
        "#,
    );
    session
}

#[test]
fn samples_side_by_side_are_those_alone() {
    run_script(
        &mut with_models(),
        r#"
        for method in ["eap", "eap-ig-inputs", "eap-ig-activations", "relp"] {
            let all = model.edges(request + #{ method: method, metric: "probability" });
            for sample in 0..3 {
                let alone = model.edges(#{
                    clean: [clean[sample]], corrupted: [corrupted[sample]], answer: 4 + sample, method: method,
                    metric: "probability",
                });
                assert(allclose(all.scores[sample], alone.mean, #{ atol: 1e-12 }), method);
            }
            assert(allclose(all.scores.mean(0), all.mean, #{ atol: 1e-12 }));
        }
        "#,
    );
}

#[test]
fn a_function_is_a_metric_and_kl_counts_from_the_clean_run() {
    run_script(
        &mut with_models(),
        r#"
        let named = model.edges(request + #{ metric: #{ kind: "logit_difference", against: [[8], [9], [10]] } });
        let own = model.edges(#{ clean: clean, corrupted: corrupted, metric: |logits, samples| {
            let ids = tensor(samples);
            logits.gather(-1, (ids + 4).unsqueeze(-1)).squeeze(-1) - logits.gather(-1, (ids + 8).unsqueeze(-1)).squeeze(-1)
        } });
        assert(allclose(named.scores, own.scores, #{ atol: 1e-12 }));
        let all = circuit(model.edges(request + #{ metric: "logit" }), #{ keep: 1.0 });
        assert(abs(all.faithfulness() - 1.0) < 1e-12);
        let kl = #{ kind: "kl", reference: "clean" };
        let scored = model.edges(#{ clean: clean, corrupted: corrupted, metric: kl, method: "eap-ig-inputs" });
        assert(allclose(circuit(scored, #{ keep: 1.0 }).metric(), zeros([3], #{ dtype: "f64" }), #{ atol: 1e-12 }));
        assert(circuit(scored, #{ keep: 0 }).metric().min().item() > 1e-6);
        "#,
    );
}

#[test]
fn patched_edges_and_ablated_components_are_what_hooks_do() {
    run_script(
        &mut with_models(),
        r#"
        let base = #{ clean: clean, corrupted: corrupted, answer: [4, 5, 6], metric: "logit" };
        let logit = |logits, sample| logits[sample, -1, 4 + sample];
        // A head's edge to the logits: its result is exchanged in the last residual stream alone.
        let runs = [clean, corrupted].map(|tokens| model.run_with_cache(tokens, "blocks.0.attn.hook_result").cache);
        let change = runs[1]["blocks.0.attn.hook_result"][:, :, 1] - runs[0]["blocks.0.attn.hook_result"][:, :, 1];
        let last = `blocks.${model.cfg.n_layers - 1}.hook_resid_post`;
        let hooked = model.run_with_hooks(clean, [[last, |x| x + change]]);
        let patched = model.path_patch(base + #{ edges: ["a0.h1->logits"] });
        for sample in 0..3 { assert(abs(patched.metric[sample] - logit.call(hooked, sample)).item() < 1e-10); }
        let plain = model.forward(clean);
        for sample in 0..3 { assert(abs(patched.baseline[sample] - logit.call(plain, sample)).item() < 1e-10); }
        assert(allclose(patched.metric - patched.baseline, patched.effect));

        // All edges of a component: what it adds is exchanged, or removed.
        let out = model.run_with_cache(corrupted, "blocks.1.hook_mlp_out").cache["blocks.1.hook_mlp_out"];
        let hooks = #{ corrupted: |x| out, zero: |x| x * 0.0, mean: |x| x.mean(0, #{ keepdim: true }) + x * 0.0 };
        for ablation in hooks.keys() {
            let hook = hooks[ablation];
            let ours = model.ablate(base + #{ nodes: ["m1"], ablation: ablation });
            let theirs = model.run_with_hooks(clean, [["blocks.1.hook_mlp_out", hook]]);
            for sample in 0..3 { assert(abs(ours.metric[sample] - logit.call(theirs, sample)).item() < 1e-10, ablation); }
        }
        let back = model.ablate(base + #{ nodes: ["m1"], direction: "denoise" });
        let clean_out = model.run_with_cache(clean, "blocks.1.hook_mlp_out").cache["blocks.1.hook_mlp_out"];
        let theirs = model.run_with_hooks(corrupted, [["blocks.1.hook_mlp_out", |x| clean_out]]);
        for sample in 0..3 { assert(abs(back.metric[sample] - logit.call(theirs, sample)).item() < 1e-10); }
        let resampled = model.ablate(base + #{ nodes: ["m1"], ablation: "resample", seed: 3 });
        assert_eq(resampled.metric, model.ablate(base + #{ nodes: ["m1"], ablation: "resample", seed: 3 }).metric);
        assert(resampled.effect.abs().min().item() > 0.0);
        "#,
    );
}

#[test]
fn tables_of_circuits_follow_their_definitions() {
    run_script(
        &mut with_models(),
        r#"
        let edges = model.edges(request);
        let found = circuit(edges, #{ keep: 40, select: "greedy" });
        assert_eq(found.len(), 40);
        let whole = found.faithfulness();
        let needed = found.minimality();
        assert_eq(needed.len(), 40);
        let first = needed.rows()[0];
        let rest = circuit(edges, #{ keep: found.edges.filter(|edge| edge != first.edge) });
        assert(abs(whole - rest.faithfulness() - first.lost) < 1e-12);
        let complete = found.completeness(#{ sets: 3, share: 0.25 });
        assert_eq(complete.len(), 3);
        for row in complete.rows() { assert(row.size == 10 && abs(row.circuit_without - row.model_without - row.difference) < 1e-12); }
        // Nothing is left of a circuit without its edges.
        let bare = found.completeness(#{ sets: 1, share: 1.0 });
        assert(abs(bare.rows()[0].circuit_without) < 1e-12);
        for row in found.stability(#{ draws: 50 }).rows() { assert(row.share >= 0.0 && row.share <= 1.0); }
        // An edge that samples disagree on is kept later.
        let plain = circuit(edges, #{ keep: 30 }).edges;
        let careful = circuit(edges, #{ keep: 30, stability: 2.0 }).edges;
        assert(plain != careful);
        assert(edges.auroc(edges.top(10).column("edge")) == 1.0);
        assert(edges.auroc(edges.table().column("edge").extract(10)) == 0.0);
        "#,
    );
}

#[test]
fn circuits_are_ablated_as_the_scores_were_and_distances_are_from_the_clean_run() {
    run_script(
        &mut with_models(),
        r#"
        let zero = model.edges(request + #{ ablation: "zero" });
        let found = circuit(zero, #{ keep: 60 });
        assert_eq(found.metric(), found.metric(#{ ablation: "zero" }));
        assert(!allclose(found.metric(), found.metric(#{ ablation: "corrupted" })));
        assert_eq(zero.curve(#{ shares: [0.1, 1.0] }).empty, zero.curve(#{ shares: [0.1, 1.0], ablation: "zero" }).empty);
        let kl = #{ clean: clean, corrupted: corrupted, metric: #{ kind: "kl", reference: "clean" }, edges: ["m0->m1"] };
        let back = model.path_patch(kl + #{ direction: "denoise" });
        for sample in 0..3 {
            let logs = [clean, corrupted].map(|prompts| model.forward([prompts[sample]])[0, -1].log_softmax(0));
            let expected = (logs[0].exp() * (logs[0] - logs[1])).sum();
            assert(abs(back.baseline[sample] - expected).item() < 1e-10);
        }
        "#,
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let mut session = with_models();
    for (script, expected) in [
        (
            "model.edges(#{ clean: [[1, 2, 3]], corrupted: [[1, 2]], answer: 4 })",
            "the prompts of sample 0 have 3 (clean) and 2 (corrupted) tokens",
        ),
        (
            "model.edges(#{ clean: [[1, 2]], corrupted: [[1, 2]], answer: 4 })",
            "the clean and the corrupted prompt of sample 0 are the same",
        ),
        (
            "model.edges(#{ clean: [[1, 2]], corrupted: [[1, 3], [1, 4]], answer: 4 })",
            "there are 1 clean and 2 corrupted prompts",
        ),
        ("model.edges(#{ clean: [[1, 2]], answer: 4 })", "ablation \"corrupted\" needs the option `corrupted`"),
        ("model.edges(#{ clean: [[1, 2]], answer: 4, ablation: \"mean\" })", "sample 0 is alone"),
        ("model.edges(#{ clean: [[1, 2]], corrupted: [[1, 3]] })", "the metric `log_probability` needs `answer`"),
        (
            "model.edges(#{ clean: [[1, 2]], corrupted: [[1, 3]], answer: 4, metric: \"rr\" })",
            "`rr` counts tokens, so it has no gradient",
        ),
        (
            "model.edges(#{ clean: [[1, 2]], corrupted: [[1, 3]], answer: 4000 })",
            "token id 4000 at position 0 of an answer is out of range",
        ),
        ("model.edges(request + #{ metod: \"eap\" })", "`edges` has no option `metod`"),
        ("model.edges(request + #{ method: \"eep\" })", "`method` cannot be `eep`"),
        ("model.edges(request + #{ steps: 3 })", "options `steps` and `rule` go with \"eap-ig-inputs\""),
        ("model.edges(request + #{ method: \"eap-ig-inputs\", steps: 0 })", "a mean over 0 steps"),
        ("model.edges(request + #{ seed: 3 })", "option `seed` goes with `ablation: \"resample\"`"),
        ("model.edges(request + #{ edges: [\"m0->m1\"] })", "option `edges` goes with `method: \"exact\"`"),
        (
            "model.edges(#{ clean: clean, corrupted: corrupted, metric: |logits| tensor([1.0, 1.0, 1.0]) })",
            "the metric does not depend on",
        ),
        ("model.edges(request)[\"m1->m0\"]", "m0 reads the residual stream before m1 writes to it"),
        ("model.edges(request)[\"m0->a1.h0<k>\"]", "share"),
        ("model.edges(request)[\"m0\"]", "the model has no edge `m0`"),
        ("model.edges(request)[\"m0->m9\"]", "the model has no edge `m0->m9`"),
        ("model.edges(request + #{ scores: circuit_file })", "4 key-value heads"),
        ("circuit(model.edges(request), #{ keep: 2.0 })", "option `keep` cannot be 2"),
        ("circuit(model.edges(request), #{ keep: 100000 })", "100000 edges cannot be kept"),
        ("circuit(model.edges(request), #{ keep: \"file\" })", "the scores were not read from a file"),
        ("circuit(model.edges(request), #{})", "`circuit` needs `keep`"),
        (
            "circuit(model.edges(request + #{ method: \"exact\", edges: [\"m0->m1\"] }), #{ keep: 0.1 })",
            "some edges have no score",
        ),
        ("model.edges(request).curve(#{ shares: [0.5, 0.1] })", "shares of a curve must ascend"),
        (
            "model.path_patch(request + #{ edges: [\"m0->m1\"], direction: \"denoise\", ablation: \"zero\" })",
            "direction \"denoise\"",
        ),
        ("model.ablate(request + #{ nodes: [\"a0.h9\"] })", "the model has no component `a0.h9`"),
        ("model.edges(request + #{ method: \"exact\", edges: [] })", "option `edges` is empty"),
        ("model.edges(request + #{ method: \"exact\", edges: [\"m0->m1\"] }).save(\"never.json\")", "has no score"),
        (
            "model.edges(#{ clean: clean, corrupted: corrupted, metric: #{ kind: \"kl\", reference: \"clean\" } })",
            "its gradient there is zero",
        ),
        ("model.edges(request + #{ metric: #{ kind: \"kl\", reference: \"clean\" } })", "option `answer` is of no use"),
        ("model.edges(request + #{ method: \"clean-corrupted\", ablation: \"zero\" })", "there is one"),
        ("model.edges(request + #{ method: \"eap-ig-inputs\", steps: 4000000000000 })", "cannot be taken"),
        (
            "model.edges(#{ clean: clean, corrupted: corrupted, method: \"exact\", metric: |l| (l[.., 5] * 0.0 - 1.0).log() })",
            "the metric of sample 0 is not finite in the clean run",
        ),
        ("circuit(model.edges(request), #{ keep: 5, stability: 0.0 / 0.0 })", "a number of standard errors"),
        ("circuit(model.edges(request), #{ keep: 5 }).completeness(#{ sets: -5 })", "at least one set"),
        ("model.edges(request).top(-1)", "there are no -1 first edges"),
        ("model.edges(request)[\"a99999999999.h0->m1\"]", "the model has no edge"),
        ("model.edges(request)[\"m-1->logits\"]", "the model has no edge"),
        ("model.edges(request).auroc([])", "all of one class"),
    ] {
        let failure = script_failure(&mut session, script);
        assert!(failure.contains(expected), "{script}: {failure}");
    }
}

#[test]
fn files_of_circuits_are_read_as_they_are_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = with_models();
    let text = std::fs::read_to_string(fixture("edges/circuit.json")).unwrap();
    let changes: [(&str, &str, &str); 8] = [
        ("\"input->m0\"", "\"input->m00\"", "the model has no edge `input->m00`"),
        ("\"m0->m1\"", "\"m0->m2\"", "an object has `m0->m2` twice"),
        ("\"m0->m1\":", "\"m0->m1\": 0, \"m0->m1\":", "twice"),
        ("\"n_layers\": 3", "\"n_layers\": 4", "the circuit is of another model: `n_layers` is 4 there and 3 here"),
        ("\"in_graph\": true", "\"in_graph\": 1", "in_graph"),
        ("\"cfg\"", "\"config\"", "a circuit file has the object `cfg`"),
        ("\"n_heads\": 4", "\"n_heads\": 4, \"n_key_value_heads\": 2", "2 key-value heads"),
        ("{\"cfg\"", "[{\"cfg\"", "EOF while parsing"),
    ];
    run_script(&mut session, "let gpt2_model = load_model(gpt2, #{ device: device });");
    for (number, (from, to, expected)) in changes.into_iter().enumerate() {
        assert!(text.contains(from), "{from}");
        let path = folder.path().join(format!("{number}.json"));
        std::fs::write(&path, text.replacen(from, to, if from.contains("in_graph") { usize::MAX } else { 1 })).unwrap();
        session.set_variable("changed", path.display().to_string().into());
        let failure = script_failure(&mut session, "gpt2_model.edges(request + #{ scores: changed })");
        assert!(failure.contains(expected), "{to}: {expected}: {failure}");
    }
}
