//! Grids of ablations, against runs with hooks.

use crate::support::{run_script, script_failure, session, tiny_path};

#[test]
fn ablations_are_those_of_hooks() {
    for name in ["olmo2", "gpt2", "qwen3"] {
        let mut session = session();
        session.set_variable("path", tiny_path(name).display().to_string().into());
        run_script(
            &mut session,
            r#"
            let model = load_model(path, #{ device: device, dtype: "f64" });
            let targets = [[1, 2, 3], [7, 8], [9, 4, 6, 2], [11, 3]];
            let answers = [5, 6, 7, 8];
            let request = #{ target: targets, answer: answers, quiet: true, store: false, position: -1, verify: 8 };
            let of = |logits, sample| logits[0, -1].log_softmax(-1)[answers[sample]];
            // The sites: their names as hooks, and places of them.
            let sites = [["resid_post", "hook_resid_post", [[0], [0, 1]]], ["mlp_out", "hook_mlp_out", [[1]]],
                ["z", "attn.hook_z", [[[0, 1]], [[0, 0], [1, 1]]]], ["q", "attn.hook_q", [[[1, 1]]]],
                ["k", "attn.hook_k", [[[1, 0]]]], ["v_input", "hook_v_input", [[[1, 0]]]],
                ["post", "mlp.hook_post", [[[1, 3]], [[0, 2], [0, 5]]]]];
            for entry in sites {
                let site = entry[0];
                let name = |layer| `blocks.${layer}.${entry[1]}`;
                // A layer's activation, or one of its heads or neurons, at the last position.
                let own = targets.map(|tokens| model.run_with_cache(tokens, [0, 1].map(name)).cache);
                let place_of = |cache, place| {
                    let layer = if type_of(place) == "array" { place[0] } else { place };
                    let whole = cache[name.call(layer)][0, -1];
                    if type_of(place) == "array" { whole[place[1]] } else { whole }
                };
                let patched = |sample, set, value| {
                    let hooks = set.map(|place| if type_of(place) == "array" {
                        patch(name.call(place[0]), -1, value.call(place), #{ head: place[1] })
                    } else { patch(name.call(place), -1, value.call(place)) });
                    of.call(model.run_with_hooks(targets[sample], hooks), sample)
                };
                for set in entry[2] {
                    let places = if type_of(set[0]) == "array" { set } else { [0, 1] };
                    let ask = request + #{ site: site, elements: places, sizes: [set.len()] };
                    for source in ["zero", "mean", "resample"] {
                        let grid = model.patch_grid(ask + #{ source: source });
                        assert(grid.verified.max_logit_difference < 1e-12);
                        let row = grid.sets.index_of(set);
                        let takers = [];
                        for sample in 0..4 {
                            let clean = of.call(model.forward(targets[sample]), sample);
                            let effect = grid.effect("log_probability")[row, sample];
                            if source == "resample" {
                                let from = [0, 1, 2, 3].filter(|other| allclose(effect, patched.call(sample, set,
                                    |place| place_of.call(own[other], place)) - clean, #{ atol: 1e-12, rtol: 0.0 }));
                                assert(from.len() == 1 && from[0] != sample, `${site} ${set} ${sample}: ${from}`);
                                takers.push(from[0]);
                                continue;
                            }
                            let value = |place| if source == "zero" { place_of.call(own[0], place) * 0.0 } else {
                                stack(own.map(|cache| place_of.call(cache, place)), 0).mean(0)
                            };
                            let expected = patched.call(sample, set, value) - clean;
                            assert(allclose(effect, expected, #{ atol: 1e-12, rtol: 1e-9 }), `${site} ${set} ${source}`);
                        }
                        takers.sort();
                        assert(takers == [] || takers == [0, 1, 2, 3], `${takers}`);
                    }
                }
            }
            "#,
        );
    }
}

#[test]
fn an_input_of_queries_is_patched_as_the_queries_are() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let request = #{ source: [3, 4, 5], target: [[1, 2, 3], [7, 8]], answer: [5, 6], quiet: true, store: false,
            sizes: [1, 2] };
        for kind in ["q", "k", "v"] {
            for position in [0, -1] {
                let by_input = model.patch_grid(request + #{ site: `${kind}_input`, position: position });
                let by_value = model.patch_grid(request + #{ site: kind, position: position });
                assert(by_input.sets == by_value.sets && by_input.sets[0] == [[0, 0]]);
                assert(allclose(by_input.effect("logit"), by_value.effect("logit"), #{ atol: 1e-12 }));
                // The first query sees itself alone, whatever it asks for.
                let is_idle = kind == "q" && position == 0;
                assert((by_input.effect("logit").abs().max().item() == 0.0) == is_idle);
            }
        }
        // Given vectors of any site act as the source that has them.
        for site in ["q", "k", "v", "k_input", "post"] {
            let chosen = #{ site: site, elements: [[0, 0], [1, 1]] };
            let given = request + chosen;
            given.remove("source");
            given.vectors = model.digest([3, 4, 5], #{ site: site });
            assert(equal(model.patch_grid(given).effect("logit"), model.patch_grid(request + chosen).effect("logit")));
        }
        "#,
    );
    for (script, message) in [
        (
            "model.patch_grid(request + #{ source: \"resample\", target: [[1, 2]], answer: [5] })",
            "at least two samples",
        ),
        ("model.patch_grid(request + #{ source: \"mean\", setting: \"pt_vs_it\" })", "`mean` has no source text"),
        ("model.patch_grid(request + #{ site: \"post\", elements: [[0, 99999]] })", "no element 0.99999"),
        ("model.patch_grid(request + #{ site: \"z\", vectors: [tensor([1.0])], source: [1] })", "exclude each other"),
    ] {
        let error = script_failure(&mut session, script);
        assert!(error.contains(message), "{script}: {error}");
    }
}

/// A mean is that of the samples it was taken over: other samples beside one give it other stored cells.
#[test]
fn a_stored_mean_is_of_its_own_samples() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    session.set_variable("folder", folder.path().display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        let grid = |targets, source| model.patch_grid(#{ target: targets, source: source, answer: targets.map(|_target| 5),
            sizes: [1], store: folder, quiet: true });
        let first = grid.call([[1, 2], [3, 4]], "mean");
        assert(grid.call([[1, 2], [3, 4]], "mean").plan.stored == 2);
        let second = grid.call([[1, 2], [5, 6]], "mean");
        assert(second.plan.stored == 0 && !equal(first.logit[0, 0], second.logit[0, 0]));
        assert(grid.call([[1, 2], [3, 4]], "zero").plan.stored == 0);
        assert(grid.call([[1, 2], [3, 4]], "resample").plan.stored == 0);
        assert(grid.call([[1, 2], [3, 4]], "resample").plan.stored == 2);
        "#,
    );
}
