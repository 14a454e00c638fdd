//! The numbers of the experiments on a small random model: against single runs and paths (by
//! tests/scripts/experiment/naive.rhai), against explicit formulas, and against known answers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{run, small_model, write_model};

/// The model, the folder for results, and the results of the slow computation.
struct Bench {
    model: TempDir,
    out: TempDir,
}

/// Rows of a CSV file by column.
pub type Rows = Vec<HashMap<String, String>>;

impl Bench {
    fn new() -> Self {
        Self { model: small_model(), out: tempfile::tempdir().expect("folder") }
    }

    fn model(&self) -> String {
        self.model.path().join("small").display().to_string()
    }

    /// Runs an experiment on the small model in f64 and returns the folder of its results.
    fn experiment(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let out = self.out.path().join(name);
        let (model, out_text) = (self.model(), out.display().to_string());
        let common = ["--model", &model, "--init", "random", "--dtype", "f64", "--out", &out_text];
        run(&format!("scripts/{name}.rhai"), &[&common[..], arguments].concat(), self.out.path());
        out
    }

    /// The slow computation for a task.
    fn naive(&self, task: &str) -> Value {
        self.naive_of("small", task)
    }

    /// The same for a model by its name.
    fn naive_of(&self, model: &str, task: &str) -> Value {
        let file = self.out.path().join(format!("{model}_{task}.json"));
        let (model, out) = (self.model.path().join(model).display().to_string(), file.display().to_string());
        let task = format!("scripts/tasks/{task}.json");
        run(
            "tests/scripts/experiment/naive.rhai",
            &["--model", &model, "--task", &task, "--out", &out],
            self.out.path(),
        );
        serde_json::from_slice(&std::fs::read(file).expect("numbers")).expect("JSON")
    }
}

pub fn rows(folder: &Path, name: &str) -> Rows {
    let mut reader = csv::Reader::from_path(folder.join(name)).expect(name);
    reader.deserialize().map(|row| row.expect("a row")).collect()
}

/// The rows in which the columns have these values.
pub fn which(rows: &Rows, wanted: &[(&str, &str)]) -> Rows {
    rows.iter().filter(|row| wanted.iter().all(|(name, value)| row[*name] == *value)).cloned().collect()
}

/// The only row in which the columns have these values.
pub fn only(rows: &Rows, wanted: &[(&str, &str)]) -> HashMap<String, String> {
    let found = which(rows, wanted);
    assert_eq!(found.len(), 1, "{wanted:?}");
    found[0].clone()
}

pub fn number(row: &HashMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column}: {}", row[column]))
}

pub fn close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() < 1e-9 * theirs.abs().max(1.0), "{what}: {ours} is not {theirs}");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Pearson's r by its definition; None where it is undefined.
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mean_x, mean_y) = (mean(x), mean(y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mean_x, y - mean_y)).sum::<f64>();
    let size = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (size > 1e-12).then(|| sum(&|x, y| x * y) / size)
}

/// The metrics that experiments report if not asked for others.
const METRICS: [&str; 3] = ["log_probability", "rr", "logit"];

/// One measure for every sample.
fn by_sample(samples: &Value, measure: &str) -> Vec<f64> {
    let samples = samples.as_array().expect("samples");
    samples.iter().map(|sample| sample[measure].as_f64().expect("a number")).collect()
}

/// One measure of a set of layers for every sample.
fn effects(naive: &Value, set: &str, measure: &str) -> Vec<f64> {
    by_sample(&naive["effects"][set], measure)
}

/// The same of the reverse patch.
fn noised(naive: &Value, (i, j): (usize, usize), measure: &str) -> Vec<f64> {
    by_sample(&naive["noised"][name_of(i, j)], measure)
}

fn name_of(i: usize, j: usize) -> String {
    format!("({i}, {j})")
}

/// The sets of one and two of the four layers, in a grid's order.
fn sets() -> Vec<(usize, usize)> {
    (0..4).flat_map(|i| (i..4).map(move |j| (i, j))).collect()
}

/// f(i,j) - f(i) - f(j) for every sample.
fn interaction(naive: &Value, (i, j): (usize, usize), measure: &str) -> Vec<f64> {
    let of = |i, j| effects(naive, &name_of(i, j), measure);
    let (both, first, second) = (of(i, j), of(i, i), of(j, j));
    (0..both.len()).map(|sample| both[sample] - first[sample] - second[sample]).collect()
}

#[test]
fn patching_experiments_give_the_effects_of_single_runs() {
    let bench = Bench::new();
    let naive = bench.naive("anim_color");
    let common = ["--task", "anim_color", "--samples", "5"];

    let out = bench.experiment("activation_patching", &common);
    let grid = rows(&out, "grid.csv");
    assert_eq!(grid.len(), 10);
    for (i, j) in sets() {
        let row = only(&grid, &[("layer_i", &i.to_string()), ("layer_j", &j.to_string())]);
        for metric in METRICS {
            close(number(&row, &format!("effect_{metric}")), mean(&effects(&naive, &name_of(i, j), metric)), metric);
        }
    }

    let out = bench.experiment("localization", &common);
    let best = |measure: &str| {
        let means = sets().into_iter().map(|(i, j)| (mean(&effects(&naive, &name_of(i, j), measure)), (i, j)));
        means.max_by(|one, two| one.0.total_cmp(&two.0)).expect("sets")
    };
    for metric in METRICS {
        let summary = only(&rows(&out, "summary.csv"), &[("task", "anim_color"), ("metric", metric)]);
        close(number(&summary, "effect"), best(metric).0, "the best effect");
        assert_eq!((&*summary["cells_checked"], &*summary["rank_differences"]), ("4", "0"));
    }
    for row in rows(&out, "small_anim_color.csv") {
        let set: Vec<usize> = row["set"].split('+').map(|layer| layer.parse().expect("a layer")).collect();
        let (i, j) = (set[0], set[set.len() - 1]);
        let sample = row["sample"].parse::<usize>().expect("a sample");
        close(number(&row, "effect_logit"), effects(&naive, &name_of(i, j), "logit")[sample], "a cell");
    }

    let out = bench.experiment("controls", &[&common[..], &["--random", "1"]].concat());
    for metric in METRICS {
        let own = only(&rows(&out, "controls.csv"), &[("vectors", "own source"), ("metric", metric)]);
        let half = |set: (usize, usize), range: std::ops::Range<usize>| {
            mean(&effects(&naive, &name_of(set.0, set.1), metric)[range])
        };
        let chosen = sets().into_iter().find(|(i, j)| name_of(*i, *j) == own["chosen_set"]).expect("a set");
        assert!(
            sets().into_iter().all(|set| half(set, 0..2) <= half(chosen, 0..2) + 1e-12),
            "chosen on the first half"
        );
        close(number(&own, "effect_at_chosen"), half(chosen, 2..5), "measured on the second half");
        close(number(&own, "effect_at_own_best"), best(metric).0, "its own best");
    }
}

#[test]
fn superadditivity_gives_the_interactions_of_single_runs() {
    let bench = Bench::new();
    let naive = bench.naive("anim_color");
    let common = ["--task", "anim_color", "--samples", "5", "--resamples", "200"];
    let out = bench.experiment("superadditivity", &common);
    let (paper, sound) = (rows(&out, "paper_test.csv"), rows(&out, "verdicts.csv"));
    // A patch after the last layer does nothing here: its pairs are not tested.
    let pairs = [(0, 1), (0, 2), (1, 2)];
    assert_eq!(sound.len(), pairs.len() * (3 * METRICS.len() + 1), "by null and metric");
    for (i, j) in pairs {
        let row = only(&paper, &[("layers", &name_of(i, j))]);
        let k = interaction(&naive, (i, j), "logit").iter().filter(|excess| **excess >= 0.0).count();
        assert_eq!((row["k"].parse(), &*row["n"]), (Ok(k), "5"), "({i}, {j})");
        close(number(&row, "effect_rr"), mean(&effects(&naive, &name_of(i, j), "rr")), "the paper's ranking");
    }
    for metric in METRICS {
        let mut signs = Vec::new();
        for pair in pairs {
            let row = only(&sound, &[("layers", &name_of(pair.0, pair.1)), ("metric", metric), ("null", "additive")]);
            // Three of the five samples, for any halves.
            let all = interaction(&naive, pair, metric);
            let halves = (0..32_u32).filter(|chosen| chosen.count_ones() == 3).map(|chosen| {
                let kept: Vec<f64> =
                    (0..5).filter(|sample| chosen >> sample & 1 == 1).map(|sample| all[sample]).collect();
                (mean(&kept), kept)
            });
            let ours = number(&row, "interaction");
            let (_, kept) =
                halves.min_by(|one, two| (one.0 - ours).abs().total_cmp(&(two.0 - ours).abs())).expect("halves");
            close(ours, mean(&kept), "the interaction");
            let positive = kept.iter().filter(|value| **value > 1e-12).count();
            let negative = kept.iter().filter(|value| **value < -1e-12).count();
            close(number(&row, "positive"), positive as f64 / 3.0, "the share above 0");
            assert!(number(&row, "low") <= ours && ours <= number(&row, "high"));
            // Of three samples all sign flips give at least this p-value, and none is evidence.
            assert!(number(&row, "p_max_t") >= 0.25 && !row["verdict"].contains(" than "), "{row:?}");
            // The exact two-sided sign test; samples without an interaction do not count.
            let p = if positive * negative == 0 { 0.5_f64.powi((positive + negative) as i32 - 1) } else { 1.0 };
            signs.push((p.min(1.0), number(&row, "sign_p_holm")));
        }
        signs.sort_by(|one, two| one.0.total_cmp(&two.0));
        let mut largest = 0.0_f64;
        for (place, (p, holm)) in signs.into_iter().enumerate() {
            largest = largest.max((p * (3 - place) as f64).min(1.0));
            close(holm, largest, "the sign test by Holm");
        }
    }
}

#[test]
fn noising_gives_the_effects_of_single_runs() {
    let bench = Bench::new();
    let naive = bench.naive("anim_color");
    let common = ["--task", "anim_color", "--samples", "5", "--direction", "noise"];

    let out = bench.experiment("localization", &common);
    for metric in METRICS {
        let summary = only(&rows(&out, "summary.csv"), &[("metric", metric)]);
        let worst = sets().into_iter().map(|set| mean(&noised(&naive, set, metric))).fold(f64::INFINITY, f64::min);
        close(number(&summary, "effect"), worst, "the worst effect");
    }
    for row in rows(&out, "small_anim_color.csv") {
        let set: Vec<usize> = row["set"].split('+').map(|layer| layer.parse().expect("a layer")).collect();
        let sample = row["sample"].parse::<usize>().expect("a sample");
        close(number(&row, "effect_logit"), noised(&naive, (set[0], set[set.len() - 1]), "logit")[sample], "a cell");
    }
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    assert!(page.contains("noising does most harm at layers") && page.contains("what is needed"));

    let out = bench.experiment("controls", &[&common[..], &["--random", "0"]].concat());
    let own = only(&rows(&out, "controls.csv"), &[("vectors", "own source"), ("metric", "log_probability")]);
    let half = |set, range: std::ops::Range<usize>| mean(&noised(&naive, set, "log_probability")[range]);
    let chosen = sets().into_iter().find(|(i, j)| name_of(*i, *j) == own["chosen_set"]).expect("a set");
    assert!(sets().into_iter().all(|set| half(set, 0..2) >= half(chosen, 0..2) - 1e-12), "the worst of the first half");
    close(number(&own, "effect_at_chosen"), half(chosen, 2..5), "measured on the second half");

    // What both take away beyond the sum; above 0 is more.
    let out = bench.experiment("superadditivity", &[&common[..], &["--resamples", "200"]].concat());
    let pairs = rows(&out, "pairs.csv");
    let nulls: std::collections::BTreeSet<&str> = pairs.iter().map(|row| row["null"].as_str()).collect();
    assert_eq!(nulls, ["additive", "frozen", "maximum"].into());
    for (i, j) in [(0, 1), (0, 2), (1, 2)] {
        for metric in METRICS {
            let of = |set| noised(&naive, set, metric).into_iter().map(|effect| -effect).collect::<Vec<_>>();
            let (both, first, second) = (of((i, j)), of((i, i)), of((j, j)));
            let row = |null| {
                let place = [("layers", &*name_of(i, j)), ("metric", metric), ("null", null)];
                number(&only(&pairs, &place), "interaction")
            };
            close(row("additive"), mean(&both) - mean(&first) - mean(&second), "beyond the sum");
            let most: Vec<f64> = first.iter().zip(&second).map(|(first, second)| first.max(*second)).collect();
            close(row("maximum"), mean(&both) - mean(&most), "beyond the larger");
        }
    }
}

#[test]
fn shares_and_classes_are_those_of_single_runs_in_both_directions() {
    let bench = Bench::new();
    let naive = bench.naive("anim_color");
    let common = ["--task", "anim_color", "--samples", "5", "--resamples", "200", "--direction", "both"];
    let out = bench.experiment("superadditivity", &common);
    let (shares, classes) = (rows(&out, "shares.csv"), rows(&out, "classes.csv"));
    let tested = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];
    assert_eq!((shares.len(), classes.len()), (6 * METRICS.len(), 3 * METRICS.len()));
    // Of the 3 samples that the pairs were not chosen on, for any halves.
    let halves = (0..32_u32).filter(|chosen| chosen.count_ones() == 3);
    let kept = |values: Vec<f64>, half: u32| -> f64 {
        let kept: Vec<f64> = (0..5).filter(|sample| half >> sample & 1 == 1).map(|sample| values[sample]).collect();
        mean(&kept)
    };
    let row = |(i, j): (usize, usize), metric| {
        let name = if i == j { format!("({i})") } else { name_of(i, j) };
        only(&shares, &[("layers", &name), ("metric", metric)])
    };
    let share = |set: (usize, usize), metric, half| {
        let width = kept(by_sample(&naive["widths"], metric), half);
        let restored = kept(effects(&naive, &name_of(set.0, set.1), metric), half);
        (restored / width, -kept(noised(&naive, set, metric), half) / width)
    };
    let distance = |half: u32| (share((1, 1), "logit", half).0 - number(&row((1, 1), "logit"), "sufficiency")).abs();
    let half = halves.min_by(|one, two| distance(*one).total_cmp(&distance(*two))).expect("halves");
    for metric in METRICS {
        for set in tested {
            let (row, (sufficiency, necessity)) = (row(set, metric), share(set, metric, half));
            close(number(&row, "sufficiency"), sufficiency, "sufficiency");
            close(number(&row, "necessity"), necessity, "necessity");
            assert!(number(&row, "sufficiency_low") <= number(&row, "sufficiency_high"));
        }
        for (i, j) in [(0, 1), (0, 2), (1, 2)] {
            let row = only(&classes, &[("layers", &name_of(i, j)), ("metric", metric)]);
            let lost = |set| -kept(noised(&naive, set, metric), half);
            close(number(&row, "restored_joint"), kept(effects(&naive, &name_of(i, j), metric), half), "both restored");
            close(number(&row, "lost_joint"), lost((i, j)), "both lost");
            close(number(&row, "lost_first"), lost((i, i)), "the first lost");
            close(number(&row, "lost_second"), lost((j, j)), "the second lost");
            // Of three samples no sign flips are evidence.
            assert_eq!(row["class"], "additive");
            assert!(number(&row, "lost_joint_p") >= 0.125 && number(&row, "restored_above_p") >= 0.125);
        }
    }
}

#[test]
fn interactions_of_all_pairs_are_those_of_single_runs() {
    let bench = Bench::new();
    let naive = bench.naive("anim_color");
    let all = ["0", "1", "2"].map(|layer| ["--elements", layer]).concat();
    let common = ["--task", "anim_color", "--samples", "5", "--resamples", "200", "--order", "3", "--metric", "rr"];
    let out = bench.experiment("superadditivity", &[&common[..], &["--metric", "log_probability"], &all].concat());
    let pairs = rows(&out, "pairs.csv");
    assert_eq!(pairs.len(), 3 * (3 * METRICS.len() + 1), "pairs of three layers, by null and metric");
    for row in &pairs {
        let (metric, layers) = (row["metric"].as_str(), &row["layers"]);
        let set: Vec<usize> = [1, 4].iter().map(|place| layers[*place..=*place].parse().expect("a layer")).collect();
        if row["null"] == "frozen" {
            let predicted = match metric {
                "logit" => "predicted",
                "log_probability" => "predicted_log_probability",
                _ => continue,
            };
            let of = |measure| mean(&interaction(&naive, (set[0], set[1]), measure));
            close(number(row, "interaction"), of(metric) - of(predicted), "beyond the map's");
            continue;
        }
        let of = |i, j| effects(&naive, &name_of(i, j), metric);
        let (both, first, second) = (of(set[0], set[1]), of(set[0], set[0]), of(set[1], set[1]));
        let expected: Vec<f64> = (0..5)
            .map(|at| {
                let (both, first, second) = (both[at], first[at], second[at]);
                match row["null"].as_str() {
                    "additive" => both - first - second,
                    "maximum" => both - first.max(second),
                    _ => both - (first + second - first * second),
                }
            })
            .collect();
        close(number(row, "interaction"), mean(&expected), "the mean interaction");
        close(number(row, "effect"), mean(&both), "the mean effect");
        let crosses =
            |at: usize| first[at] * (both[at] - second[at]) < 0.0 || second[at] * (both[at] - first[at]) < 0.0;
        close(number(row, "crossovers"), (0..5).filter(|at| crosses(*at)).count() as f64 / 5.0, "crossovers");
    }
    // The page counts the pairs whose mean interaction has another sign on another scale.
    let sign = |metric: &str, pair: &(usize, usize)| mean(&interaction(&naive, *pair, metric)).signum();
    let of_pairs = [(0, 1), (0, 2), (1, 2)];
    let flips = of_pairs.iter().filter(|pair| sign("rr", pair) != sign("log_probability", pair)).count();
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    let said = format!("on all samples: {flips} of 3 verdicts flip between reciprocal rank and log-probability");
    assert!(page.contains(&said), "{said}");

    // All orders of Shapley-Taylor up to the triple add up to the effect of all layers.
    let indices = rows(&out, "indices.csv");
    for metric in METRICS {
        let of = |layers: &str, index: &str| number(&only(&indices, &[("metric", metric), ("layers", layers)]), index);
        let triple = only(&rows(&out, "triples.csv"), &[("metric", metric)]);
        assert_eq!((&*triple["layers"], &*triple["crossovers"]), ("(0, 1, 2)", ""));
        close(of("(0, 1, 2)", "shapley"), of("(0, 1, 2)", "shapley_taylor"), "no set holds the triple but itself");
        let eps = mean(&interaction(&naive, (0, 1), metric));
        close(of("(0, 1)", "shapley"), eps + of("(0, 1, 2)", "shapley") / 2.0, "half of the triple's is the pair's");
        close(of("(0, 1)", "shapley_taylor"), eps + of("(0, 1, 2)", "shapley") / 3.0, "a third of it");
    }
}

#[test]
fn the_linear_gap_is_that_of_single_patches() {
    let bench = Bench::new();
    let naive = bench.naive("anim_color");
    let out = bench.experiment("linear_gap", &["--task", "anim_color", "--samples", "5", "--layers", "1-2"]);
    let cells = rows(&out, "cells.csv");
    for (metric, prediction) in [("logit", "predicted"), ("log_probability", "predicted_log_probability")] {
        let (mut truth, mut predicted) = (Vec::new(), Vec::new());
        for (i, j) in sets() {
            let place = [("layer_i", i.to_string()), ("layer_j", j.to_string()), ("metric", metric.to_owned())];
            let row = only(&cells, &place.each_ref().map(|(name, value)| (*name, value.as_str())));
            truth.push(effects(&naive, &name_of(i, j), metric));
            predicted.push(effects(&naive, &name_of(i, j), prediction));
            close(number(&row, "effect"), mean(&truth[truth.len() - 1]), "the effect");
            close(number(&row, "predicted"), mean(&predicted[predicted.len() - 1]), "the prediction");
            if i == j {
                assert_eq!((&*row["eps"], &*row["eps_predicted"]), ("", ""), "one layer has no interaction");
            } else {
                close(number(&row, "eps"), mean(&interaction(&naive, (i, j), metric)), "eps");
                close(number(&row, "eps_predicted"), mean(&interaction(&naive, (i, j), prediction)), "predicted eps");
            }
        }
        let summary = only(&rows(&out, "summary.csv"), &[("task", "anim_color"), ("metric", metric)]);
        let means = |cells: &[Vec<f64>]| cells.iter().map(|cell| mean(cell)).collect::<Vec<_>>();
        let r = pearson(&means(&predicted), &means(&truth)).expect("a correlation");
        close(number(&summary, "effect_correlation"), r, "the correlation over cells");
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
        let explained = |truth: &[f64], predicted: &[f64]| {
            let gap = squares(&mut truth.iter().zip(predicted).map(|(truth, predicted)| truth - predicted));
            1.0 - gap / squares(&mut truth.iter().copied())
        };
        close(
            number(&summary, "effect_explained"),
            explained(&truth.concat(), &predicted.concat()),
            "the explained share",
        );
        // Of the single layers that --layers names, and of each.
        let single = |layer: usize| sets().iter().position(|set| *set == (layer, layer)).expect("a single layer");
        let some = |of: &[Vec<f64>]| [of[single(1)].clone(), of[single(2)].clone()].concat();
        close(number(&summary, "single_explained"), explained(&some(&truth), &some(&predicted)), "of layers 1 and 2");
        let layers = rows(&out, "layers.csv");
        // A patch after the last layer does not reach the last position.
        for layer in 0..3 {
            let row = only(&layers, &[("layer", &layer.to_string()), ("metric", metric)]);
            let place = single(layer);
            close(number(&row, "explained"), explained(&truth[place], &predicted[place]), "of one layer");
        }
    }
}

/// The largest |t| over some rows whose samples' signs are flipped by `flips`.
fn largest_t(rows: &[Vec<f64>], flips: u32) -> f64 {
    let t = |row: &Vec<f64>| {
        let sign = |sample: usize| if flips >> sample & 1 == 1 { -1.0 } else { 1.0 };
        let values: Vec<f64> = row.iter().enumerate().map(|(sample, value)| value * sign(sample)).collect();
        let middle = mean(&values);
        let squares: f64 = values.iter().map(|value| (value - middle) * (value - middle)).sum();
        let n = values.len() as f64;
        (middle / (squares / (n - 1.0) / n).sqrt()).abs()
    };
    rows.iter().map(t).fold(0.0, f64::max)
}

#[test]
fn models_differ_by_what_single_runs_give() {
    let bench = Bench::new();
    write_model(bench.model.path(), "other", 4, 0.3);
    let other = bench.model.path().join("other").display().to_string();
    let naive = ["small", "other"].map(|model| bench.naive_of(model, "anim_color"));
    let arguments = ["--task", "anim_color", "--samples", "5", "--resamples", "200", "--model", &other];
    let out = bench.experiment("compare", &[&arguments[..], &["--metric", "rr", "--metric", "logit"]].concat());
    let (cells, best) = (rows(&out, "cells.csv"), rows(&out, "best.csv"));
    for metric in ["rr", "logit"] {
        let of = |model: usize, (i, j)| effects(&naive[model], &name_of(i, j), metric);
        let mut differences = Vec::new();
        for (i, j) in sets() {
            let place = [("metric", metric), ("layer_i", &i.to_string()), ("layer_j", &j.to_string())];
            let row = only(&cells, &place);
            let (base, effect) = (of(0, (i, j)), of(1, (i, j)));
            let difference: Vec<f64> = effect.iter().zip(&base).map(|(effect, base)| effect - base).collect();
            close(number(&row, "base_effect"), mean(&base), "the first model's effect");
            close(number(&row, "effect"), mean(&effect), "the second model's effect");
            close(number(&row, "difference"), mean(&difference), "the difference");
            assert!(number(&row, "low") <= mean(&difference) && mean(&difference) <= number(&row, "high"));
            differences.push(difference);
        }
        let observed = largest_t(&differences, 0);
        let extreme = (0..32).filter(|flips| largest_t(&differences, *flips) >= observed - 1e-9).count();
        let least = which(&cells, &[("metric", metric)]).iter().map(|row| number(row, "p")).fold(1.0, f64::min);
        close(least, extreme as f64 / 32.0, "the p-value of the most extreme cell among all");

        // Chosen on the first two samples, measured on the other three.
        let half = |model, set, range: std::ops::Range<usize>| mean(&of(model, set)[range]);
        let measured = |name: &str, model: usize| {
            let row = only(&best, &[("model", name), ("metric", metric)]);
            let chosen = sets().into_iter().find(|(i, j)| name_of(*i, *j) == row["best_set"]).expect("a set");
            let most = half(model, chosen, 0..2);
            assert!(sets().into_iter().all(|set| half(model, set, 0..2) <= most + 1e-12), "the best of the first half");
            close(number(&row, "effect"), half(model, chosen, 2..5), "measured on the second half");
            (half(model, chosen, 2..5), row)
        };
        let ((base, _), (effect, row)) = (measured("small", 0), measured("other", 1));
        close(number(&row, "difference"), effect - base, "the difference of the best cells");
    }
}

/// Against one run per head and prompt, and products with W_O, by function_vectors.rhai in tests/scripts/experiment.
#[test]
fn function_vectors_are_those_of_single_runs() {
    let bench = Bench::new();
    let (task, file) = ("anim_color", "scripts/tasks/anim_color.json");
    let numbers = ["--samples", "8", "--prompts", "9", "--heads", "3", "--shots", "3"];
    let more = ["--task", task, "--layer", "1", "--random", "2", "--draws", "200"];
    let out = bench.experiment("function_vectors", &[&numbers[..], &more].concat()).display().to_string();
    let of = ["--model", &bench.model(), "--task", file, "--out", &out];
    let script = "tests/scripts/experiment/function_vectors.rhai";
    let printed = run(script, &[&of[..], &numbers].concat(), bench.out.path());
    assert!(printed.contains("32 effects, 2 vectors"), "{printed}");
    let overlap = only(&rows(Path::new(&out), "overlap.csv"), &[("metric", "probability")]);
    let top = rows(Path::new(&out), "top_heads.csv");
    let heads = |kind: &str| -> std::collections::BTreeSet<String> {
        which(&top, &[("kind", kind)]).iter().map(|row| format!("{}.{}", row["layer"], row["head"])).collect()
    };
    let (shown, told) = (heads("demonstrations"), heads("instruction"));
    assert_eq!((shown.len(), told.len()), (3, 3));
    let both = shown.intersection(&told).count() as f64;
    close(number(&overlap, "jaccard"), both / (6.0 - both), "the overlap");
}

/// The mean over samples with high-ranking paths of what each head has of them, [layer][head]: `activity`, the share of
/// them, or `carried`, the part of their logits.
fn activity(naive: &Value, what: &str) -> Vec<Vec<f64>> {
    let samples: Vec<&Value> =
        naive["paths"].as_array().expect("samples").iter().filter(|paths| paths["high_ranking"] != json!(0)).collect();
    let share = |layer: usize, head: usize| {
        let shares = samples.iter().map(|paths| paths[what][layer][head].as_f64().expect("a share"));
        mean(&shares.collect::<Vec<_>>())
    };
    (0..4).map(|layer| (0..4).map(|head| share(layer, head)).collect()).collect()
}

const PATHS: [&str; 6] = ["--samples", "5", "--max-rank", "8000", "--edges", "argmax"];

#[test]
fn experiments_with_paths_count_what_enumeration_counts() {
    let bench = Bench::new();
    let naive = [bench.naive("anim_color"), bench.naive("can_fly")];
    let tasks = ["--task", "anim_color", "--task", "can_fly"];

    let out = bench.experiment("path_contribution", &[&PATHS[..], &["--task", "anim_color"]].concat());
    let row = only(&rows(&out, "positions.csv"), &[("is_T_inst", "true")]);
    let of = |name: &str| {
        let samples = naive[0]["paths"].as_array().expect("samples");
        mean(&samples.iter().map(|paths| paths[name].as_f64().expect("a number")).collect::<Vec<_>>())
    };
    close(number(&row, "paths"), of("paths"), "all paths");
    close(number(&row, "high_ranking"), of("high_ranking"), "high-ranking paths");
    close(number(&row, "high_ranking_logit"), of("logit"), "their logits");

    let out = bench.experiment("head_activity", &[&PATHS[..], &tasks].concat());
    let shares = rows(&out, "activity.csv");
    for (what, scale) in [("activity", "count"), ("carried", "logit")] {
        for (naive, task) in naive.iter().zip(["anim_color", "can_fly"]) {
            let map = activity(naive, what);
            for row in shares.iter().filter(|row| row["from"].starts_with(task) && row["scale"] == scale) {
                let (layer, head) = (number(row, "layer") as usize, number(row, "head") as usize);
                close(number(row, "share"), map[layer][head], what);
            }
        }
    }
    let maps = naive.each_ref().map(|naive| activity(naive, "activity"));
    let r: Vec<Option<f64>> = (0..4).map(|layer| pearson(&maps[0][layer], &maps[1][layer])).collect();
    assert!(r.iter().any(Option::is_some), "a layer with activity");
    let same = |row: &HashMap<String, String>, r: Option<f64>| match r {
        Some(r) => close(number(row, "correlation"), r, "the correlation"),
        None => assert!(["", "NaN"].contains(&&*row["correlation"]), "no activity, no correlation"),
    };
    for (row, r) in which(&rows(&out, "layers.csv"), &[("scale", "count")]).iter().zip(&r) {
        same(row, *r);
        assert_eq!(row["rule"], r.map_or("", |r| if r >= 0.9 { "=" } else { "~" }));
    }

    let out = bench.experiment("circuit_selection", &[&PATHS[..], &tasks, &["--resamples", "200"]].concat());
    let layers = which(&rows(&out, "layers.csv"), &[("scale", "count")]);
    assert_eq!(layers.len(), 4);
    for (row, r) in layers.iter().zip(&r) {
        same(row, *r);
        let layer = number(row, "layer") as usize;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (a, b) = (&maps[0][layer], &maps[1][layer]);
        if dot(a, a) * dot(b, b) > 0.0 {
            close(number(row, "cosine"), dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(), "the cosine");
        }
        if r.is_some() {
            assert!(number(row, "p") >= 1.0 / 201.0 && number(row, "p") <= number(row, "p_holm"));
        }
    }
    let origins = rows(&out, "origins.csv");
    assert!(!origins.is_empty());
    for row in &origins {
        let map = &maps[usize::from(row["task"] == "can_fly")];
        let (layer, head) = (number(row, "layer") as usize, number(row, "head") as usize);
        close(number(row, "activity"), map[layer][head], "the activity");
        for column in ["query_share", "query_others", "key_share", "key_others", "probability"] {
            assert!((0.0..=1.0).contains(&number(row, column)), "{column}: {}", row[column]);
        }
        assert!(layer > 0, "in layer 0 a query or key is made of its own token alone");
    }
}

/// A layer without activity in a task has no correlation, and no value derived from it.
#[test]
fn a_layer_without_activity_is_left_out_of_circuit_selection() {
    let bench = Bench::new();
    let arguments = ["--task", "anim_color", "--task", "can_fly", "--samples", "5", "--max-rank", "8000"];
    let out = bench.experiment("circuit_selection", &[&arguments[..], &["--resamples", "200"]].concat());
    let layers = which(&rows(&out, "layers.csv"), &[("scale", "count")]);
    // With one edge per head, a single head is active in layer 1, none in the others.
    let defined: Vec<bool> = layers.iter().map(|row| row["correlation"] != "NaN").collect();
    assert_eq!(defined, [false, true, false, false]);
    for row in layers.iter().filter(|row| row["correlation"] == "NaN") {
        assert_eq!((&*row["p"], &*row["p_holm"], &*row["p_bh"]), ("NaN", "NaN", "NaN"));
    }
    assert_eq!(layers[1]["p"], layers[1]["p_holm"], "Holm's correction counts the layers that were tested");
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    for part in ["at 0 of 1 layers", "3 layers have no correlation", "first and the last third cannot be compared"] {
        assert!(page.contains(part), "{part}");
    }
    let html = page.split("<tbody>").nth(1).expect("a table");
    assert!(html.contains("<td class=\"number\"></td>"), "an undefined number is blank");
}

/// The labels of half of the samples are the model's answers; no model gives those of the others.
#[test]
fn competence_counts_right_answers() {
    let bench = Bench::new();
    let model = bench.model();
    let table = bench.out.path().join("words.csv");
    let file = bench.out.path().join("words.json");
    let task = |responses: &Value| {
        json!({
            "name": "words", "instruction": "Write.", "data": "words.csv", "column": "answer", "answer_prefix": " ",
            "query_template": " {query}:", "example_template": " {query}: {answer}", "responses": responses,
        })
    };
    let queries = ["cat", "dog", "bird", "fish"];
    let write = |answers: &[String], responses: Value| {
        let lines = queries.iter().zip(answers).map(|(query, answer)| format!("{query},{answer}\n"));
        std::fs::write(&table, format!("query,answer\n{}", lines.collect::<String>())).expect("written");
        std::fs::write(&file, task(&responses).to_string()).expect("written");
    };
    let path = file.display().to_string();
    let arguments = ["--task", &path, "--samples", "4", "--max-tokens", "3"];
    write(&["zzz".to_owned(), "zzz".into(), "zzz".into(), "zzz".into()], json!(["zzz"]));
    let out = bench.experiment("competence", &arguments);
    let row = only(&rows(&out, "competence.csv"), &[("task", "words")]);
    assert_eq!((number(&row, "ema"), number(&row, "ia"), &*row["judged"]), (0.0, 0.0, "4"));
    let said: Vec<String> = rows(&out, "answers.csv").iter().map(|row| normalized(&row["answer"])).collect();
    assert!(said.iter().all(|answer| !answer.is_empty()), "{said:?} from {model}");

    write(&[said[0].clone(), "zzz".into(), said[2].clone(), "zzz".into()], json!([said[0], said[1], said[2]]));
    let out = bench.experiment("competence", &arguments);
    let answers = rows(&out, "answers.csv");
    let exact: Vec<&str> = answers.iter().map(|row| row["exact"].as_str()).collect();
    assert_eq!(exact[..], ["true", "false", "true", "false"]);
    let row = only(&rows(&out, "competence.csv"), &[("task", "words")]);
    let in_scope = said.iter().filter(|answer| said[..3].contains(answer)).count() as f64 / 4.0;
    assert_eq!((number(&row, "ema"), number(&row, "ia")), (0.5, in_scope));
}

/// The first line of an answer, normalized as in competence.
fn normalized(answer: &str) -> String {
    let line = answer.trim().lines().next().unwrap_or_default();
    let plain = line.replace(['.', ',', ';', ':', '!', '?', '\'', '"', '(', ')'], " ");
    plain.to_lowercase().trim().to_owned()
}

/// Pinned from an inspected run: 32 rephrasings to train on and 8 to test on, of 32 dimensions.
#[test]
fn geometry_reports_what_its_probes_reach() {
    let bench = Bench::new();
    let tasks = ["--task", "adj_comp", "--task", "can_fly"];
    let out = bench.experiment("geometry", &[&tasks[..], &["--samples", "20", "--layer", "0"]].concat());
    let probes = rows(&out, "probe.csv");
    let column = |name: &str| probes.iter().map(|row| number(row, name)).collect::<Vec<_>>();
    assert_eq!(column("n_train"), [32.0; 4]);
    assert_eq!(column("n_test"), [8.0; 4]);
    assert_eq!(column("train_accuracy"), [1.0; 4], "more dimensions than samples separate any labels");
    assert_eq!(column("test_accuracy"), [0.5, 0.625, 0.5, 0.75]);
    assert_eq!(column("shuffled_test_accuracy"), [0.625, 0.0, 0.375, 0.625]);
}
