//! Interactions of patched sets: shapiq's exact values (`make_interaction_fixtures.py`), laws, and errors.

use crate::made_grid::{layers, made_grid};
use crate::support::{eval_tensor, fixture, run_script, script_failure, session, tiny_path};
use lancet::grid::interaction::{Against, Index, Null, interactions};
use lancet::grid::metric::{Asked, Metric};
use lancet::grid::outcome::Grid;
use lancet::grid::request::Sizes;
use lancet::grid::set::{self, Set};
use serde_json::Value;
use tch::Tensor;

const PLAYERS: i64 = 5;

fn table(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A grid of all sets of five layers whose logits are the fixture's values.
fn grid(values: &[Vec<f64>]) -> Grid {
    let elements = layers(PLAYERS);
    let sizes = vec![1, 2, 3, 4, 5];
    let mask = |set: &Set| set.iter().map(|element| 1 << element.layer).sum::<usize>();
    let sets = set::all(&elements, &sizes);
    made_grid(elements, sets, Sizes::Of(sizes), values.len(), |set, sample| values[sample][mask(set)])
}

#[test]
fn interactions_are_those_of_shapiq() {
    let text = std::fs::read_to_string(fixture("interactions.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let grid = grid(&table(&expected["values"]));
    for (name, index) in [("moebius", Index::Mobius), ("sii", Index::Shapley), ("stii", Index::ShapleyTaylor)] {
        let additive = Against { null: Null::Additive, frozen: None };
        for order in [2, 3] {
            let ours = interactions(&grid, order, Asked::plain(Metric::Logit), additive, index).unwrap();
            let theirs = Tensor::from_slice2(&table(&expected[format!("{name} {order}")])).transpose(0, 1);
            let difference = (ours.values - theirs).abs().max().double_value(&[]);
            assert!(difference < 1e-10, "{name} {order}: {difference:e}");
            let sorted = ours.sets.is_sorted() && ours.sets.iter().all(|set| set.len() == order);
            assert!(sorted, "{:?}", ours.sets);
        }
    }
}

#[test]
fn laws_hold() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let request = #{ source: [3, 4, 5, 6], target: [[1, 2, 3, 4, 5], [4, 5, 6]], answer: [5, 7], quiet: true,
            store: false, sizes: [1, 2, 3] };
        let grid = model.patch_grid(request);
        let all = grid.sets;
        let unpatched = grid.baseline.log_probability;
        let value = |set| if set.is_empty() { unpatched } else {
            grid.effect("log_probability")[all.index_of(set)] + unpatched
        };

        // The definitions, written out.
        let pairs = grid.interactions(#{ order: 2, metric: "log_probability" });
        for (pair, row) in pairs.sets {
            let i = value.call([pair[0]]);
            let j = value.call([pair[1]]);
            let both = value.call(pair);
            assert(allclose(pairs.values[row], both - i - j + unpatched, #{ atol: 1e-12 }));
            let crosses = ((i - unpatched) * (both - j) < 0.0) | ((j - unpatched) * (both - i) < 0.0);
            assert(allclose(pairs.crossovers[row], crosses.to("f64").mean()));
        }
        let largest = grid.interactions(#{ null: "maximum" });
        assert(allclose(largest.values[0], value.call([0, 1]) - maximum(value.call([0]), value.call([1])), #{ atol: 1e-12 }));
        let bliss = grid.interactions(#{ null: "bliss" });
        let gain = |set| value.call(set).exp() - unpatched.exp();
        let expected = gain.call([0, 1]) - gain.call([0]) - gain.call([1]) + gain.call([0]) * gain.call([1]);
        assert(allclose(bliss.values[0], expected, #{ atol: 1e-12 }));
        let triples = grid.interactions(#{ order: 3 });
        assert(triples.sets.all(|set| set.len() == 3) && triples.values.shape == [triples.sets.len(), 2]);
        assert(!("crossovers" in triples) && pairs.mean.shape == [pairs.sets.len()]);

        // A shift that all tokens share is an interaction in the logit and none in the log-probability.
        let logit = grid.interactions(#{ metric: "logit" });
        let centred = grid.interactions(#{ metric: "centred_logit" });
        assert(!allclose(logit.values, pairs.values) && !allclose(centred.values, pairs.values));

        // Shapley-Taylor: the singles' coefficients and the pairs' indexes add up to the effect of all places.
        let few = model.patch_grid(request + #{ elements: [0, 1, 2], sizes: [1, 2, 3] });
        let taylor = few.interactions(#{ index: "shapley_taylor" }).values.sum(0);
        let effect = few.effect("log_probability");
        let singles = effect[few.sets.index_of([0])] + effect[few.sets.index_of([1])] + effect[few.sets.index_of([2])];
        assert(allclose(singles + taylor, effect[few.sets.index_of([0, 1, 2])], #{ atol: 1e-12 }));

        // Sets of chosen places are those of the whole grid.
        for (set, row) in few.sets { assert(allclose(effect[row], grid.effect("log_probability")[all.index_of(set)], #{ atol: 1e-12 })); }
        let heads = model.patch_grid(request + #{ site: "z", elements: [[0, 1], [1, 0]], sizes: [1, 2] });
        assert_eq(heads.sets, [[[0, 1]], [[0, 1], [1, 0]], [[1, 0]]]);
        "#,
    );
    let value = eval_tensor(&mut session, "grid.interactions(#{ order: 2 }).values");
    assert_eq!(value.size()[1], 2);
}

/// The runs that are patched are the same however effects are measured; drawn sets count once; a metric asked for as
/// normalised is.
#[test]
fn interactions_are_against_the_run_that_is_patched() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let request = #{ source: [3, 4], target: [[1, 2, 3], [7, 8]], answer: [5, 6], quiet: true, store: false };
        let plain = model.patch_grid(request);
        let other = model.patch_grid(request + #{ setting: "pt_vs_it" });
        assert(equal(plain.interactions(#{}).values, other.interactions(#{}).values));

        // A patch in the last layer, before the last position, changes nothing, to the last bit.
        let last = plain.sets.index_of([model.cfg.n_layers - 1]);
        assert(plain.effect("logit")[last].abs().max().item() == 0.0);
        let pairs = plain.interactions(#{});
        for (pair, row) in pairs.sets {
            assert((pairs.values[row].abs().max().item() == 0.0) == (model.cfg.n_layers - 1 in pair));
        }

        let metric = #{ kind: "logit", normalised: true };
        let normalised = model.patch_grid(request + #{ metric: metric, position: -1 });
        let width = model.patch_grid(request + #{ setting: "pt_vs_it" }).baseline.logit - plain.baseline.logit;
        let eps = model.patch_grid(request + #{ position: -1 }).interactions(#{ metric: "logit" }).values;
        for asked in ["logit", metric] {
            assert(allclose(normalised.interactions(#{ metric: asked }).values, eps / width, #{ atol: 1e-9 }));
            let first = normalised.effect("logit")[0].mean();
            assert(allclose(normalised.matrix(asked)[0, 0], first, #{ atol: 1e-12 }));
        }

        let drawn = model.patch_grid(request + #{ site: "z", elements: [[0, 0], [1, 1]], sizes: "random", subsets: 60 });
        assert(drawn.interactions(#{ order: 2 }).sets == [[[0, 0], [1, 1]]]);
        "#,
    );
}

/// A place without an effect has no interaction, not even one of rounding.
#[test]
fn what_cancels_leaves_no_rounding() {
    let elements = layers(3);
    let sizes = vec![1, 2, 3];
    let logit = |set: &Set, sample: usize| {
        let own = set.iter().filter(|element| element.layer < 2).map(|element| element.layer + 1).sum::<i64>();
        0.1 + (own * own) as f64 * 0.7 / (sample as f64 + 3.0)
    };
    let grid = made_grid(elements.clone(), set::all(&elements, &sizes), Sizes::Of(sizes), 50, logit);
    let additive = Against { null: Null::Additive, frozen: None };
    for order in [2, 3] {
        let found = interactions(&grid, order, Asked::plain(Metric::Logit), additive, Index::Mobius).unwrap();
        for (row, set) in (0..).zip(&found.sets) {
            let largest = found.values.get(row).abs().max().double_value(&[]);
            let has_idle = set.iter().any(|element| element.layer == 2);
            assert_eq!(largest == 0.0, has_idle, "{set:?}: {largest:e}");
        }
    }
}

/// Against the frozen maps: what the interactions of single predictions leave of the model's own.
#[test]
fn the_frozen_null_is_that_of_single_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session();
    session.set_variable("path", tiny_path("olmo2").display().to_string().into());
    session.set_variable("folder", folder.path().display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device, dtype: "f64" });
        let source = [3, 4, 5];
        let targets = [[1, 2, 3], [7, 8]];
        let answers = [5, 6];
        let request = #{ source: source, target: targets, answer: answers, quiet: true, store: folder, sizes: [1, 2] };
        let digest = model.digest(source);
        for direction in ["denoise", "noise"] {
            let grid = model.patch_grid(request + #{ direction: direction });
            let found = grid.interactions(#{ null: "frozen" });
            let additive = grid.interactions(#{});
            for sample in 0..2 {
                let prompt = if direction == "noise" { source + targets[sample] } else { targets[sample] };
                let position = if direction == "noise" { 2 } else { 0 };
                let vectors = if direction == "noise" { model.digest([targets[sample][0]]) } else { digest };
                let lin = model.linearize(prompt);
                let value = |set| {
                    let patches = set.map(|layer| patch(`blocks.${layer}.hook_resid_post`, position, vectors[layer]));
                    lin.predict(patches).predicted.log_softmax(0)[answers[sample]]
                };
                let clean = model.forward(prompt)[0, -1].log_softmax(0)[answers[sample]];
                for (pair, row) in found.sets {
                    let eps = value.call(pair) - value.call([pair[0]]) - value.call([pair[1]]) + clean;
                    assert(allclose(found.values[row, sample], additive.values[row, sample] - eps, #{ atol: 1e-9 }));
                }
            }
            // The same from the store, and by a function as metric, which is not stored.
            let again = model.patch_grid(request + #{ direction: direction });
            assert(equal(again.interactions(#{ null: "frozen" }).values, found.values));
            let own = |logits, samples| logits.log_softmax(1).gather(1, tensor(samples.map(|sample| [answers[sample]]),
                #{ dtype: "i64" })).squeeze(1);
            let by_function = model.patch_grid(request + #{ direction: direction, metric: own });
            let values = by_function.interactions(#{ null: "frozen", metric: "closure" }).values;
            assert(allclose(values, found.values, #{ atol: 1e-9 }));
        }
        let others = model.patch_grid(request + #{ site: "mlp_out" });
        "#,
    );
    let error = script_failure(&mut session, "others.interactions(#{ null: \"frozen\" })");
    assert!(error.contains("resid_post"), "{error}");
    let error = script_failure(
        &mut session,
        "let grid = load_model(path, #{ seed: 1, init: \"random\" }).patch_grid(request);
         grid.interactions(#{ null: \"frozen\" })",
    );
    assert!(error.contains("keep the model in a variable"), "{error}");
}

#[test]
fn what_has_no_interaction_is_named() {
    let mut session = session();
    session.set_variable("path", tiny_path("llama3").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        let request = #{ source: [3, 4], target: [1, 2, 3], answer: [5], quiet: true, store: false };
        let grid = model.patch_grid(request);
        "#,
    );
    for (script, message) in [
        ("grid.interactions(#{ order: 3 })", "no sets of 3 places"),
        ("grid.interactions(#{ order: 1 })", "no interactions of order 1"),
        ("grid.interactions(#{ null: \"bliss\", metric: \"logit\" })", "about probabilities"),
        ("grid.interactions(#{ index: \"shapley\" })", "needs all sets"),
        ("grid.interactions(#{ index: \"shapley\", null: \"maximum\" })", "additive null only"),
        ("grid.interactions(#{ metric: \"kl\" })", "no reference run"),
        ("model.patch_grid(request + #{ sizes: [2] }).interactions(#{})", "does not have the set 0"),
        (
            "model.patch_grid(request + #{ direction: \"noise\" }).interactions(#{ null: \"bliss\" })",
            "noising takes it away",
        ),
        (
            "model.patch_grid(request + #{ metric: |logits| logits[:, 0] }).interactions(#{ null: \"maximum\",
                metric: \"closure\" })",
            "whether more is better",
        ),
        ("model.patch_grid(request + #{ elements: [] })", "0 elements"),
        ("model.patch_grid(request + #{ elements: [2, 1] })", "stands before"),
        ("model.patch_grid(request + #{ elements: [99] })", "no element 99"),
        ("model.patch_grid(request + #{ elements: [[0, 1]] })", "no element 0.1"),
        ("model.patch_grid(request + #{ elements: [0, 1], sizes: [3] })", "1 to 2"),
        ("model.patch_grid(request + #{ elements: [\"a\"] })", "a layer, or"),
    ] {
        let error = script_failure(&mut session, script);
        assert!(error.contains(message), "{script}: {error}");
    }
}
