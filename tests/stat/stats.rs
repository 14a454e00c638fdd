//! The module `stats` as scripts see it: against SciPy, scikit-learn, statsmodels, mpmath and the paper's tables.

use lancet::tensor::Tensor;
use rhai::{Array, Dynamic, Map, Scope};
use serde_json::Value;

use crate::support::{engine, fixture, message};

fn reference(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(file)).unwrap()).unwrap()
}

fn script_value(value: &Value) -> Dynamic {
    match value {
        Value::Array(items) => items.iter().map(script_value).collect::<Array>().into(),
        Value::Number(number) => number.as_i64().map_or_else(|| number.as_f64().unwrap().into(), Dynamic::from),
        other => panic!("{other} is no input"),
    }
}

/// The variables for scripts: the inputs of the fixtures as arrays.
fn scope(reference: &Value) -> Scope<'static> {
    let mut scope = Scope::new();
    for (name, value) in reference["inputs"].as_object().unwrap() {
        scope.push_dynamic(name.as_str(), script_value(value));
    }
    scope
}

fn eval(scope: &Scope, script: &str) -> Dynamic {
    let mut scope = scope.clone();
    engine().eval_with_scope(&mut scope, script).unwrap_or_else(|error| panic!("{script}: {}", message(&error)))
}

fn wanted_number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        other => other.as_f64().unwrap(),
    }
}

fn number(value: &Dynamic) -> f64 {
    None.or_else(|| value.as_float().ok())
        .or_else(|| value.as_int().ok().map(|value| value as f64))
        .or_else(|| value.as_bool().ok().map(|value| f64::from(u8::from(value))))
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// The differences between `got` and the expected value; maps may have more fields.
fn difference(got: &Dynamic, wanted: &Value, relative: f64, absolute: f64) -> Option<String> {
    match wanted {
        Value::Object(fields) => {
            let map = got.as_map_ref().unwrap();
            fields.iter().find_map(|(name, wanted)| {
                let got = map.get(name.as_str()).unwrap_or_else(|| panic!("no field `{name}`"));
                difference(got, wanted, relative, absolute).map(|text| format!("{name}: {text}"))
            })
        }
        Value::Array(items) => {
            let array = got.as_array_ref().unwrap();
            if array.len() != items.len() {
                return Some(format!("{} items instead of {}", array.len(), items.len()));
            }
            array.iter().zip(items).enumerate().find_map(|(index, (got, wanted))| {
                difference(got, wanted, relative, absolute).map(|text| format!("[{index}] {text}"))
            })
        }
        _ => {
            let (got, wanted) = (number(got), wanted_number(wanted));
            let equal = got == wanted
                || (got.is_nan() && wanted.is_nan())
                || (got - wanted).abs() <= absolute + relative * wanted.abs();
            (!equal).then(|| format!("{got:e} instead of {wanted:e}, {:.1e} off", (got / wanted - 1.0).abs()))
        }
    }
}

/// SciPy's `pearsonr(axis=...)` gives the same, with a warning for the constant.
#[test]
fn correlations_along_a_dimension_are_those_of_its_rows_and_undefined_for_constants() {
    let code = r#"
        let x = randn([2, 5, 3], #{ seed: 1, dtype: "f64" });
        let y = randn([2, 5, 3], #{ seed: 2, dtype: "f64" });
        x[1, :, 0] = 7.0;
        let along = stats::pearsonr(x, y, #{ dim: 1 });
        assert_eq(along.r.shape, [2, 3]);
        assert_eq(along.n, 5);
        for i in 0..2 {
            for j in 0..3 {
                let alone = stats::pearsonr(x[i, :, j], y[i, :, j]);
                let undefined = i == 1 && j == 0;
                for name in ["r", "p", "log10_p"] {
                    let ours = along[name][i, j].item();
                    let same = if undefined { ours != ours && alone[name] != alone[name] } else { ours == alone[name] };
                    assert(same, `${name} at ${i}, ${j}`);
                }
            }
        }
        for function in [stats::pearsonr([1, 2, 3], [5, 5, 5]), stats::spearmanr([5, 5, 5], [1, 2, 3]),
            stats::kendalltau([1, 2, 3], [5, 5, 5])] {
            assert(function.r != function.r && function.p != function.p);
        }
    "#;
    engine().run(code).unwrap_or_else(|error| panic!("{}", message(&error)));
}

#[test]
fn values_are_scipys() {
    compare(&reference("stat.json"));
}

#[test]
fn tails_are_mpmaths_and_edges_scipys() {
    compare(&reference("tail.json"));
}

/// Made by make_inference_fixtures.py.
#[test]
fn inferences_are_those_of_scipy_statsmodels_mne_and_mpmath() {
    compare(&reference("inference.json"));
}

fn compare(reference: &Value) {
    let (engine, scope) = (engine(), scope(reference));
    let mut failures = Vec::new();
    for case in reference["cases"].as_array().unwrap() {
        let script = case["script"].as_str().unwrap();
        let mut scope = scope.clone();
        match engine.eval_with_scope::<Dynamic>(&mut scope, script) {
            Err(error) => failures.push(format!("{script}: {}", message(&error))),
            Ok(got) => {
                let (relative, absolute) = (case["relative"].as_f64().unwrap(), case["absolute"].as_f64().unwrap());
                let text = difference(&got, &case["expected"], relative, absolute);
                failures.extend(text.map(|text| format!("{script}: {text}")));
            }
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

/// As the paper prints numbers: `-1.003e+03`.
fn printed(value: f64) -> String {
    if value.is_infinite() {
        return value.to_string();
    }
    let text = format!("{value:.3e}");
    let (mantissa, exponent) = text.split_once('e').unwrap();
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[test]
fn the_papers_tables_are_reproduced_to_every_digit() {
    let mut reader = csv::Reader::from_path(fixture("paper_ttest.csv")).unwrap();
    let engine = engine();
    let mut count = 0;
    for row in reader.records() {
        let row = row.unwrap();
        let script = format!(
            "let booleans = []; for i in 0..100 {{ booleans.push(i < {}); }} stats::paper_ttest(booleans)",
            &row[0]
        );
        let map = engine.eval::<Map>(&script).unwrap();
        let (t, p) = (map["t"].as_float().unwrap(), map["p"].as_float().unwrap());
        assert_eq!((printed(t).as_str(), printed(p).as_str()), (&row[1], &row[2]), "k = {}", &row[0]);
        count += 1;
    }
    assert!(count > 90, "the table has lost its rows");
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => vec![wanted_number(other)],
    }
}

fn elements(value: &Dynamic) -> (Vec<i64>, Vec<f64>) {
    let tensor = value.clone().cast::<Tensor>();
    let flat = tensor.tch().to_kind(tch::Kind::Double).reshape([-1]);
    (tensor.shape(), Vec::<f64>::try_from(&flat).unwrap())
}

/// The largest difference, relative to the largest value; with `signs`, each column may have the other sign.
fn tensor_difference(got: &Dynamic, wanted: &Value, signs: bool) -> f64 {
    let (shape, mut got) = elements(got);
    let wanted = flat(wanted);
    assert_eq!(got.len(), wanted.len());
    let columns = if signs { *shape.last().unwrap() as usize } else { 1 };
    for column in 0..columns {
        let places: Vec<usize> = (column..got.len()).step_by(columns).collect();
        let product: f64 = places.iter().map(|place| got[*place] * wanted[*place]).sum();
        if signs && product < 0.0 {
            places.into_iter().for_each(|place| got[place] = -got[place]);
        }
    }
    let scale = wanted.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    got.iter().zip(&wanted).fold(0.0, |a: f64, (got, wanted)| a.max((got - wanted).abs())) / scale
}

#[test]
fn discriminants_and_components_are_scikit_learns() {
    let reference = reference("stat.json");
    let scope = scope(&reference);
    let matrices = &reference["matrices"];
    for name in ["narrow", "wide"] {
        let x = format!("tensor({name}, #{{ dtype: \"f64\" }})");
        let found = eval(&scope, &format!("stats::lda({x}, labels, #{{ n_components: 3 }})")).cast::<Map>();
        let wanted = &matrices[format!("lda {name}")];
        for (field, signs) in
            [("transformed", true), ("scalings", true), ("means", false), ("explained_variance_ratio", false)]
        {
            let difference = tensor_difference(&found[field], &wanted[field], signs);
            assert!(difference < 1e-9, "lda of {name}: {field} differs by {difference:e}");
        }
        assert_eq!(number(&found["accuracy"]), wanted_number(&wanted["accuracy"]));
        let found = eval(&scope, &format!("stats::pca({x}, 4)")).cast::<Map>();
        let wanted = &matrices[format!("pca {name}")];
        for field in ["transformed", "components", "explained_variance", "explained_variance_ratio", "mean"] {
            let difference = tensor_difference(&found[field], &wanted[field], false);
            assert!(difference < 1e-10, "pca of {name}: {field} differs by {difference:e}");
        }
    }
}

#[test]
fn probes_are_scikit_learns() {
    let reference = reference("stat.json");
    let scope = scope(&reference);
    for (key, wanted) in reference["matrices"]["probe"].as_object().unwrap() {
        let [name, l2, standardize] = key.split(' ').collect::<Vec<_>>().try_into().unwrap();
        // Of two groups, the one with a fifth of the rows is the test side.
        let script = format!(
            "let x = tensor({name}, #{{ dtype: \"f64\" }});
             let groups = labels.map(|label| 0) + labels.extract(0..15).map(|label| 1);
             stats::logistic_probe(cat([x, x[0..15]], 0), labels + labels.extract(0..15), #{{
                 groups: groups, l2: {l2}, standardize: {standardize}, max_iterations: 20000,
             }})"
        );
        let found = eval(&scope, &script).cast::<Map>();
        assert_eq!((number(&found["n_train"]), number(&found["n_test"])), (60.0, 15.0));
        assert!(number(&found["converged"]) == 1.0, "{key} did not converge");
        let difference = tensor_difference(&found["weights"], &wanted["weights"], false);
        assert!(difference < 1e-4, "{key}: weights differ by {difference:e}");
        let intercept = difference_of_intercepts(&found["intercept"], &wanted["intercept"]);
        assert!(intercept < 1e-3, "{key}: intercepts differ by {intercept:e}");
        for field in ["train_accuracy", "test_accuracy"] {
            assert_eq!(number(&found[field]), wanted_number(&wanted[field]), "{key}: {field}");
        }
    }
}

fn difference_of_intercepts(got: &Dynamic, wanted: &Value) -> f64 {
    let got: Vec<f64> = got.as_array_ref().unwrap().iter().map(number).collect();
    got.iter().zip(flat(wanted)).fold(0.0, |a: f64, (got, wanted)| a.max((got - wanted).abs()))
}

#[test]
fn probes_keep_groups_together_and_see_no_labels_that_are_shuffled() {
    let script = r#"
        let x = []; let labels = []; let groups = [];
        for i in 0..300 {
            let row = [];
            for j in 0..5 { row.push((i * 37 + j * 101) % 97 * 0.01); }
            row[0] += i % 3 * 2.0;
            x.push(row);
            labels.push(["a", "b", "c"][i % 3]);
            groups.push("g" + i / 4);
        }
        let x = tensor(x);
        let probe = stats::logistic_probe(x, labels, #{ groups: groups, seed: 3 });
        let tested = probe.test_rows.map(|row| groups[row]);
        for row in 0..300 {
            assert(probe.test_rows.contains(row) == tested.contains(groups[row]), `row ${row}`);
        }
        assert(probe.n_train + probe.n_test == 300 && probe.n_test == 60, `${probe.n_test}`);
        assert(probe.test_accuracy > 0.95 && probe.converged, `${probe.test_accuracy}`);
        assert_eq(probe.classes, ["a", "b", "c"]);
        let control = stats::logistic_probe(x, labels, #{ groups: groups, seed: 3, shuffle_labels: true });
        assert(control.test_accuracy < 0.6 && control.test_rows == probe.test_rows, `${control.test_accuracy}`);
        let again = stats::logistic_probe(x, labels, #{ groups: groups, seed: 3 });
        assert_eq(again.weights.to_array(), probe.weights.to_array());
        assert(stats::logistic_probe(x, labels, #{ groups: groups, seed: 4 }).test_rows != probe.test_rows);
        // The weights apply to the features as given.
        let scores = x.to("f64").matmul(probe.weights) + tensor(probe.intercept, #{ dtype: "f64" });
        let chosen = scores.argmax(1).to_array();
        let right = 0;
        for row in probe.test_rows { if probe.classes[chosen[row]] == labels[row] { right += 1; } }
        assert_eq(right / 60.0, probe.test_accuracy);
    "#;
    let _ = eval(&Scope::new(), script);
}

#[test]
fn embeddings_keep_groups_apart_and_depend_on_the_seed_alone() {
    let script = r#"
        let x = [];
        for i in 0..60 { x.push([i % 7 * 0.1, i % 11 * 0.1, i % 3 * 20.0]); }
        x.push(x[0]);
        let x = tensor(x);
        let map = stats::tsne(x, #{ perplexity: 8, n_iter: 300, seed: 1 });
        assert_eq(map.shape, [61, 2]);
        assert_eq(stats::tsne(x, #{ perplexity: 8, n_iter: 300, seed: 1 }).to_array(), map.to_array());
        assert(stats::tsne(x, #{ perplexity: 8, n_iter: 300, seed: 2 }).to_array() != map.to_array());
        let nearest = 0;
        for i in 0..60 {
            let best = -1; let least = 1e300;
            for j in 0..60 {
                let d = (map[i] - map[j]).norm().item();
                if j != i && d < least { best = j; least = d; }
            }
            if best % 3 == i % 3 { nearest += 1; }
        }
        assert(nearest > 54, `${nearest} of 60 lie beside their own group`);
    "#;
    let _ = eval(&Scope::new(), script);
}

#[test]
fn pairs_are_not_ranked_by_the_samples_that_test_them() {
    // On sample s only the s-th pair has an effect, so a pair ranks first by a sample that its test must not include.
    let script = r#"
        let sets = []; let effects = [];
        for i in 0..9 { sets.push([i]); effects.push([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]); }
        for i in 0..8 {
            sets.push([i + 1, i]);
            let row = [];
            for s in 0..8 { row.push(if s == i { 100.0 } else { s * 0.01 }); }
            effects.push(row);
        }
        for seed in 0..5 {
            let options = #{ seed: seed, top: 1, n_resamples: 100 };
            let best = stats::superadditivity(sets, tensor(effects), options)[0];
            assert(best.n == 4 && best.mean_effect < 1.0, `${best.mean_effect}`);
            options.split = false;
            let best = stats::superadditivity(sets, tensor(effects), options)[0];
            assert(best.n == 8 && best.mean_effect > 12.0 && best.set[0] < best.set[1]);
        }
        let options = #{ null_sets: [[0, 1], [2, 3]], split: false, n_resamples: 100 };
        let rest = stats::superadditivity(sets, effects, options);
        assert(rest.len() == 6 && !rest.map(|pair| pair.set).contains([2, 3]));
        options.diagonal = true;
        let all = stats::superadditivity(sets, effects, options);
        let single = all.filter(|pair| pair.set == [4, 4])[0];
        assert(all.len() == 15 && (single.mean + 0.45).abs() < 1e-6 && single.k == 0 && single.sign.negative == 8);
        assert(single.low < single.mean && single.mean < single.high);
    "#;
    let _ = eval(&Scope::new(), script);
}

#[test]
fn intervals_hold_the_mean_as_often_as_they_say() {
    // Means of 12 exponential numbers: BCa is known to be somewhat below its level there, percentile further below.
    let script = r#"
        let state = 12345; let held = #{ BCa: 0, percentile: 0 };
        for trial in 0..300 {
            let x = [];
            for i in 0..12 {
                state = (state * 1103515245 + 12345) % 2147483648;
                x.push(-ln((state + 1.0) / 2147483649.0));
            }
            for method in held.keys() {
                let found = stats::bootstrap_ci(x, #{ method: method, n_resamples: 400, seed: trial });
                if found.low <= 1.0 && found.high >= 1.0 { held[method] += 1; }
            }
        }
        held
    "#;
    let held = eval(&Scope::new(), script).cast::<Map>();
    for (method, count) in held {
        let share = number(&count) / 300.0;
        assert!((0.82..0.97).contains(&share), "{method}: {share}");
    }
}

#[test]
fn faults_say_what_would_be_right() {
    let engine = engine();
    for (script, wanted) in [
        ("stats::ttest_1samp([1.0], 0)", "needs at least 2 numbers, not 1"),
        ("stats::ttest_1samp([1.0, 0.0 / 0.0], 0)", "holds NaN at position 1"),
        ("stats::ttest_1samp([1.0, 2.0], 0.0 / 0.0)", "`popmean` must be finite"),
        ("stats::ttest_1samp([1.0, \"a\"], 0)", "each item of `x` of `ttest_1samp` must be a number, not string"),
        ("stats::ttest_1samp(tensor([[1.0]]), 0)", "must have one dimension, not shape [1, 1]"),
        ("stats::ttest_1samp(3, 0)", "must be an array of numbers or a tensor of one dimension, not integer"),
        ("stats::ttest_1samp([1, 2], 0, #{ alternativ: \"less\" })", "did you mean `alternative`?"),
        ("stats::ttest_1samp([1, 2], 0, #{ alternative: \"two_sided\" })", "did you mean `two-sided`?"),
        ("stats::ttest_rel([1, 2], [1, 2, 3])", "pairs its samples, but they have 2 and 3 numbers"),
        ("stats::wilcoxon([1, 2], [1])", "pairs its samples, but they have 2 and 1 numbers"),
        ("stats::wilcoxon([], #{})", "needs at least 1 numbers, not 0"),
        ("stats::wilcoxon([1], #{ method: \"exakt\" })", "did you mean `exact`?"),
        (
            "let a = []; for i in 0..1001 { a.push(i + 1); } stats::wilcoxon(a, #{ method: \"exact\" })",
            "at most 1000 numbers",
        ),
        ("stats::sign_test([])", "needs at least 1 numbers"),
        ("stats::paper_ttest([true, 2])", "takes true, false, 0 or 1, not 2 at position 1"),
        ("stats::binom_test(3, 2, 0.5)", "3 successes in 2 trials are too many"),
        ("stats::binom_test(0, 0, 0.5)", "at least 1 trial"),
        ("stats::binom_test(-1, 2, 0.5)", "`k` must not be negative"),
        ("stats::binom_test(1, 2, 1.5)", "a probability lies between 0 and 1"),
        ("stats::norm_ppf(2)", "a probability lies between 0 and 1"),
        ("stats::t_sf(1.0, 0)", "degrees of freedom must be positive"),
        ("stats::holm([0.1, -0.2])", "p-value -0.2 at position 1 is not between 0 and 1; for logarithms"),
        ("stats::holm([0.1], #{ log10: true })", "at most 0"),
        ("stats::benjamini_hochberg([0.0 / 0.0])", "p-value NaN"),
        ("stats::bootstrap_ci([1.0])", "needs at least 2 numbers"),
        ("stats::bootstrap_ci([1, 2], #{ level: 95 })", "`level` lies between 0 and 1, 95 does not"),
        ("stats::bootstrap_ci([1, 2], #{ statistic: \"mode\" })", "`statistic` cannot be `mode`"),
        ("stats::bootstrap_ci([1, 2], #{ n_resamples: 0 })", "must be at least 2"),
        ("stats::permutation_test([1, 2], [3], #{ paired: true })", "they have 2 and 1 numbers"),
        ("stats::permutation_test([1], [2], #{ n_resamples: 0 })", "at least 1"),
        ("stats::cohens_d([2, 2, 2])", "needs numbers that differ"),
        ("stats::hedges_g([1, 2])", "at least 3 numbers"),
        ("stats::pearsonr([1, 2, 3], [5, 5, 0.0 / 0.0])", "the second sample holds NaN"),
        ("stats::pearsonr(ones([2, 1]), ones([2, 1]), #{ dim: 1 })", "at least 2 pairs, but dimension 1 has 1"),
        ("stats::pearsonr([1], [1])", "at least 2 numbers"),
        ("stats::kendalltau([1, 2], [1, 2])", "at least 3 numbers"),
        ("stats::pearsonr(ones([2, 3]), ones([3, 2]), #{ dim: 1 })", "one shape, not [2, 3] and [3, 2]"),
        ("stats::pearsonr(ones([2, 3]), ones([2, 3]), #{ dim: 2 })", "no dimension 2 to correlate over"),
        ("stats::spearmanr([1, 2], [1, 2])", "needs at least 3 numbers"),
        ("stats::kendalltau([1, 1, 2], [1, 2, 3], #{ method: \"exact\" })", "without ties"),
        ("stats::describe([])", "needs at least 1 numbers"),
        ("stats::lda([[1, 2], [3, 4]], [0, 1])", "needs more samples than classes"),
        ("stats::lda([[1], [2], [3]], [0, 0, 0])", "at least 2 classes"),
        ("stats::lda([[1], [2], [3]], [0, 1])", "got 3 samples but 2 labels"),
        ("stats::lda([[1], [2], [3]], [0, 0, 1], #{ n_components: 2 })", "cannot give 2 components; from 1 to 1"),
        ("stats::lda([[1], [1], [3], [3]], [0, 0, 1, 1])", "vary within their classes"),
        ("stats::lda([[1], [2], [1], [2]], [0, 0, 1, 1])", "whose means differ"),
        // Means and deviations that differ by rounding do not differ.
        (
            "let x = rand([12, 3], #{ seed: 1 }); let labels = []; labels.pad(12, 0); labels.pad(24, 1); stats::lda(cat([x, x], 0), labels)",
            "whose means differ",
        ),
        (
            "let x = rand([7, 3], #{ seed: 1, dtype: \"f64\" }) + 1e6; let labels = []; labels.pad(7, 0); labels.pad(14, 1); stats::lda(cat([x, x], 0), labels)",
            "whose means differ",
        ),
        ("stats::lda([[0.1], [0.1], [0.1], [0.7], [0.7], [0.7]], [0, 0, 0, 1, 1, 1])", "vary within their classes"),
        ("stats::lda([[1], [2], [3]], [0, 0, 1], #{ solver: \"eigen\" })", "`solver` cannot be `eigen`"),
        ("stats::lda([[1], [2], [0.0 / 0.0]], [0, 0, 1])", "needs finite numbers"),
        ("stats::lda([[1], [2, 3]], [0, 1])", "must have one length"),
        ("stats::lda(tensor([1.0, 2.0]), [0, 1])", "needs a matrix [sample, feature], not [2] f32"),
        ("stats::pca([[1, 2], [3, 5]], 3)", "cannot give 3 components; from 1 to 2"),
        ("stats::pca([[1, 2], [1, 2]], 1)", "needs samples that differ"),
        ("stats::bootstrap_ci([1, 2], #{ n_resamples: 100000000000 })", "at most 1000000, not 100000000000"),
        ("stats::pca([], 1)", "needs samples and features"),
        ("stats::tsne([[1, 2], [1, 3], [4, 4]], #{ perplexity: 5 })", "a perplexity of 5 does not fit 3 samples"),
        ("stats::tsne([[1, 2], [1, 2], [1, 2], [1, 2]], #{ perplexity: 1 })", "needs samples that differ"),
        ("stats::tsne([[1], [2], [3], [4]], #{ perplexity: 1 })", "at least 2 features"),
        ("stats::logistic_probe([[1], [2]], [0, 1], #{ groups: [1, 1] })", "at least 2 groups"),
        ("stats::logistic_probe([[1], [2]], [0, 1], #{ groups: [1] })", "2 labels but 1 groups"),
        ("stats::logistic_probe([[1], [2], [3]], [0, 0, 0])", "all training samples have one label"),
        ("stats::logistic_probe([[1], [2]], [0, 1], #{ train_share: 1 })", "`train_share` lies between 0 and 1"),
        ("stats::logistic_probe([[1], [2]], [0, 1], #{ l2: -1 })", "`l2` must not be negative"),
        ("stats::logistic_probe([[1], [2]], [0.5, 1])", "each item of `labels` of `logistic_probe` must be an integer"),
        ("stats::max_t([])", "at least 1 hypothesis"),
        ("stats::max_t([[1], [2]])", "hypothesis 0 of `max_t` needs at least 2 numbers, not 1"),
        ("stats::max_t([[1, 2], [1, 0.0 / 0.0]])", "hypothesis 1 of `max_t` holds NaN at position 1"),
        ("stats::max_t([[1, 2], [1, 2, 3]])", "hypothesis 1 has 3 and the first 2"),
        ("stats::max_t([[1, 2]], #{ permutations: 0 })", "`permutations` must be at least 1"),
        ("stats::max_t([[1, 2]], #{ n_resamples: 9 })", "the options are permutations, seed, alternative, clusters"),
        ("stats::max_t([[1, 2]], #{ clusters: [0] })", "`max_t` got 2 numbers but 1 clusters"),
        ("stats::max_t([[1, 2]], #{ clusters: [0, 0] })", "`max_t` needs at least 2 clusters, not 1"),
        ("stats::tost([1, 2], #{ alpha: 0.05 })", "`margin` of `tost` must be a number, not map"),
        ("stats::tost([1, 2], 0)", "the margin of `tost` is a positive number, 0 is not one"),
        ("stats::tost([1, 2], -0.5)", "the largest mean that would not matter"),
        ("stats::tost([1, 2], 1.0 / 0.0)", "`margin` of `tost` must be finite"),
        ("stats::tost([1, 2], 1, #{ alpha: 0.5 })", "`alpha` of `tost` lies between 0 and 0.5, 0.5 does not"),
        ("stats::tost([1], 1)", "at least 2 numbers"),
        ("stats::ttest_power(0.5, 1)", "at least 2 samples, not 1"),
        ("stats::ttest_power(0.5, -1)", "`n` must not be negative"),
        ("stats::ttest_power(0.0 / 0.0, 9)", "`effect_size` of `ttest_power` must be finite"),
        ("stats::ttest_power(0.5, 9, #{ alpha: 1 })", "`alpha` lies between 0 and 1, 1 does not"),
        ("stats::ttest_samples(0.5, #{ power: 80 })", "`power` lies between 0 and 1, 80 does not"),
        ("stats::ttest_samples(0)", "no number of samples up to 1e12 finds an effect size of 0 with power 0.8"),
        ("stats::ttest_samples(-0.5, #{ alternative: \"greater\" })", "not on the side of `alternative`"),
        ("stats::cluster_ttest([1, 2], [0])", "got 2 numbers but 1 clusters"),
        (
            "stats::cluster_ttest([1, 2], [0.5, 1.5])",
            "each item of `clusters` of `cluster_ttest` must be an integer or",
        ),
        ("stats::cluster_ttest([1, 2], [\"a\", \"a\"])", "needs at least 2 clusters, not 1"),
        ("stats::cluster_bootstrap_ci([1, 0.0 / 0.0], [0, 1])", "holds NaN at position 1"),
        ("stats::cluster_bootstrap_ci([1, 2], [0, 1], #{ statistic: \"mean\" })", "has no option `statistic`"),
        ("stats::jaccard([], [])", "both are empty"),
        ("stats::jaccard([1.5], [1])", "each item of `a` of `jaccard` must be an integer or a string, not"),
        ("stats::superadditivity([[0], [1]], [[1, 2, 3, 4]])", "there are 2 sets but effects of 1"),
        ("stats::superadditivity([[0], [0, 1]], [[1, 2], [3, 4]], #{ split: false })", "effect of layer 1 alone"),
        ("stats::superadditivity([[0], [1]], [[1, 2], [3, 4]])", "at least 4 samples, not 2; `split: false`"),
        ("stats::superadditivity([[0], [1]], [[1, 2], [3, 4]], #{ split: false })", "no pair with an interaction"),
        ("stats::superadditivity([[0], [0]], [[1, 2], [3, 4]], #{ split: false })", "appears twice"),
        ("stats::superadditivity([[0, 1, 2]], [[1, 2]], #{ split: false })", "not a set of one or two layers"),
        ("stats::superadditivity([0], [[1, 2]], #{ split: false })", "must be an array of layers, not integer"),
    ] {
        match engine.eval::<Dynamic>(script) {
            Ok(value) => panic!("{script} gives {value}"),
            Err(error) => {
                let message = message(&error);
                assert!(message.contains(wanted), "{script}: {message}\n  instead of: {wanted}");
            }
        }
    }
}
