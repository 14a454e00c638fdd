//! Grids in both directions, against runs with hooks.

use crate::support::{run_script, script_failure, session, tiny_path};

const GRIDS: &str = r#"
    let model = load_model(path, #{ device: device, dtype: "f64" });
    let source = [3, 4, 5];
    let targets = [[1, 2, 3], [7, 8]];
    let answers = [5, 6];
    let request = #{ source: source, target: targets, answer: answers, quiet: true, store: false, elements: [0, 1] };
"#;

#[test]
fn noising_exchanges_the_two_places() {
    for name in ["olmo2", "gpt2", "gemma2"] {
        let mut session = session();
        session.set_variable("path", tiny_path(name).display().to_string().into());
        run_script(&mut session, GRIDS);
        run_script(
            &mut session,
            r#"
            let of = |logits, sample| logits[0, -1].log_softmax(-1)[answers[sample]];
            for position in [0, -1] {
                let grid = model.patch_grid(request + #{ direction: "noise", position: position, verify: 6 });
                assert(grid.verified.max_logit_difference < 1e-12 && grid.verified.cells == 6);
                for sample in 0..2 {
                    let clean = of.call(model.forward(source + targets[sample]), sample);
                    assert(allclose(grid.baseline.log_probability[sample], clean, #{ atol: 1e-12 }));
                    let alone = model.run_with_cache(targets[sample], "resid_post").cache;
                    for (set, row) in grid.sets {
                        let hooks = set.map(|layer|
                            patch(`resid_post.${layer}`, source.len() - 1, alone[`resid_post.${layer}`][0, position]));
                        let patched = of.call(model.run_with_hooks(source + targets[sample], hooks), sample);
                        assert(allclose(grid.effect("log_probability")[row, sample], patched - clean, #{ atol: 1e-12 }));
                    }
                }
                // The interaction is against the run that is patched.
                let pair = grid.interactions(#{ order: 2 }).values[0];
                let effect = grid.effect("log_probability");
                let of_set = |set| effect[grid.sets.index_of(set)];
                assert(allclose(pair, of_set.call([0, 1]) - of_set.call([0]) - of_set.call([1]), #{ atol: 1e-12 }));
                // Of what lowers the metric, the most is the lowest.
                let most = grid.interactions(#{ order: 2, null: "maximum" }).values[0];
                assert(allclose(most, of_set.call([0, 1]) - minimum(of_set.call([0]), of_set.call([1])), #{ atol: 1e-12 }));
            }
            // A patched place stands between the two runs: normalised, nothing is 1 in one direction and 0 in the other.
            let metric = #{ kind: "log_probability", normalised: true };
            let denoised = model.patch_grid(request + #{ metric: metric });
            let noised = model.patch_grid(request + #{ metric: metric, direction: "noise" });
            let other = model.patch_grid(request + #{ metric: metric, direction: "noise", setting: "pt_vs_to" });
            assert(equal(noised.effect("log_probability"), other.effect("log_probability")));
            assert(!allclose(noised.effect("logit"), other.effect("logit")));
            assert(allclose(noised.interactions(#{}).values, other.interactions(#{}).values, #{ atol: 1e-12 }));
            let width = noised.baseline.log_probability - denoised.baseline.log_probability;
            let share = |grid, effect| effect / width;
            assert(allclose(denoised.effect(metric), denoised.effect(#{ kind: "log_probability", normalised: true })));
            let plain = model.patch_grid(request + #{ direction: "noise" });
            assert(allclose(noised.effect(metric), 1.0 + plain.effect("log_probability") / width, #{ atol: 1e-9 }));
            "#,
        );
    }
}

#[test]
fn shares_are_of_what_the_source_does() {
    let mut session = session();
    session.set_variable("path", tiny_path("olmo2").display().to_string().into());
    run_script(&mut session, GRIDS);
    run_script(
        &mut session,
        r#"
        let denoised = model.patch_grid(request);
        let noised = model.patch_grid(request + #{ direction: "noise" });
        let mean = |values| values.mean().item();
        let of = |logits, sample| logits[0, -1].log_softmax(-1)[answers[sample]].item();
        let clean = (of.call(model.forward(source + targets[0]), 0) + of.call(model.forward(source + targets[1]), 1)) / 2.0;
        let bare = (of.call(model.forward(targets[0]), 0) + of.call(model.forward(targets[1]), 1)) / 2.0;
        for (found, row) in direction::shares(denoised, noised, #{ resamples: 200 }) {
            assert(found.set == denoised.sets[row]);
            let suffices = mean.call(denoised.effect("log_probability")[row]) / (clean - bare);
            let needed = -mean.call(noised.effect("log_probability")[row]) / (clean - bare);
            assert(abs(found.sufficiency - suffices) < 1e-9 && abs(found.necessity - needed) < 1e-9);
            assert(found.sufficiency_low <= suffices && suffices <= found.sufficiency_high);
        }
        let classes = direction::classes(denoised, noised, #{ metric: "rr", permutations: 100 });
        assert(classes.len() == 1 && classes[0].set == [0, 1]);
        assert(abs(classes[0].noised.joint + mean.call(noised.rr[noised.sets.index_of([0, 1])])) < 1e-12);
        "#,
    );
    for (script, message) in [
        ("direction::shares(noised, denoised, #{})", "first the denoised one"),
        ("direction::shares(denoised, noised, #{ metrics: 1 })", "no option \"metrics\""),
        ("direction::classes(denoised, noised, #{ metric: \"rank\" })", "need not be better"),
        (
            "direction::shares(denoised, model.patch_grid(request + #{ direction: \"noise\", sizes: [1] }), #{})",
            "different sets",
        ),
        (
            "direction::shares(denoised, model.patch_grid(request + #{ direction: \"noise\", setting: \"pt_vs_to\" }), #{})",
            "leave `setting` out",
        ),
    ] {
        let error = script_failure(&mut session, script);
        assert!(error.contains(message), "{script}: {error}");
    }
}

#[test]
fn noising_needs_a_source() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(&mut session, GRIDS);
    for (script, message) in [
        ("model.patch_grid(request + #{ direction: \"up\" })", "up"),
        (
            "model.patch_grid(request + #{ direction: \"noise\", source: \"zero\" })",
            "needs the run of source and target",
        ),
        ("model.patch_grid(request + #{ direction: \"noise\", source: [] })", "empty"),
    ] {
        let error = script_failure(&mut session, script);
        assert!(error.contains(message), "{script}: {error}");
    }
}
