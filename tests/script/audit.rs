//! `lancet audit` on a small random model: its verdicts are those that its tables give, its numbers those of single runs,
//! and it goes on where it stopped.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::experiment_numbers::{Rows, close, number, only, rows, which};
use crate::support::{run, small_model, write_model};

const SCALES: [&str; 2] = ["log_probability", "rr"];

struct Bench {
    model: TempDir,
    place: TempDir,
}

impl Bench {
    fn new() -> Self {
        let model = small_model();
        write_model(model.path(), "other", 4, 0.3);
        Self { model, place: tempfile::tempdir().expect("folder") }
    }

    fn model(&self, name: &str) -> String {
        self.model.path().join(name).display().to_string()
    }

    /// Runs the audit outside the clone and returns what it printed, and the folder of its results.
    fn audit(&self, more: &[&str]) -> (String, PathBuf) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
        command.env("LANCET_CACHE", self.place.path().join("cache")).current_dir(self.place.path());
        command.args(["audit", &self.model("small"), "anim_color", "--init", "random", "--dtype", "f64"]);
        command.args([
            "--samples",
            "16",
            "--elements",
            "3",
            "--draws",
            "2",
            "--path-samples",
            "5",
            "--resamples",
            "200",
        ]);
        command.args(["--top", "2", "--max-rank", "8000", "--out", "results"]).args(more);
        let output = command.output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
        (text(&output.stdout), self.place.path().join("results"))
    }
}

/// The verdict of several that must all hold.
fn every<'a>(verdicts: impl IntoIterator<Item = &'a str>) -> &'static str {
    let verdicts: Vec<&str> = verdicts.into_iter().collect();
    match () {
        () if verdicts.contains(&"does not hold") => "does not hold",
        () if verdicts.is_empty() || verdicts.contains(&"undecided") => "undecided",
        () => "holds",
    }
}

fn above(low: f64, high: f64, bound: f64) -> &'static str {
    match () {
        () if low > bound => "holds",
        () if high < bound => "does not hold",
        () => "undecided",
    }
}

/// The verdict on a mean above 0, from the p-values in a row.
fn gain(row: &std::collections::HashMap<String, String>) -> &'static str {
    let equivalent = row["equivalence_p"].parse::<f64>().is_ok_and(|p| p <= 0.05);
    match number(row, "p") <= 0.05 {
        true if number(row, "difference") > 0.0 => "holds",
        true => "does not hold",
        false if equivalent => "does not hold",
        false => "undecided",
    }
}

fn said(out: &Path, demand: &str) -> (String, String) {
    let row = only(&rows(out, "verdicts.csv"), &[("demand", demand)]);
    (row["verdict"].clone(), row["numbers"].clone())
}

/// The rows on the scales of the verdicts.
fn judged(all: &Rows) -> Rows {
    SCALES.iter().flat_map(|scale| which(all, &[("scale", scale)])).collect()
}

#[test]
fn verdicts_are_those_that_the_tables_give() {
    let bench = Bench::new();
    let (printed, out) = bench.audit(&["--tuned", &bench.model("other")]);
    let verdicts = rows(&out, "verdicts.csv");
    let demands: Vec<&str> = verdicts.iter().map(|row| row["demand"].as_str()).collect();
    let expected = [
        "competence",
        "own effect",
        "both directions",
        "two scales",
        "four nulls",
        "orders",
        "stability",
        "base and tuned",
        "paths",
        "selector",
        "power",
    ];
    assert_eq!(demands, expected);
    let json: Value = serde_json::from_slice(&std::fs::read(out.join("verdicts.json")).expect("file")).expect("JSON");
    for (place, row) in verdicts.iter().enumerate() {
        assert!(["holds", "does not hold", "undecided"].contains(&row["verdict"].as_str()), "{row:?}");
        assert_eq!(json[place]["verdict"], row["verdict"].as_str());
        let line = format!("{} {}: {}. {}.", place + 1, row["demand"], row["verdict"], row["numbers"]);
        assert!(printed.contains(&line), "{line} is not in\n{printed}");
    }

    let competence = only(&rows(&out, "competence.csv"), &[("prompt", "after the source")]);
    let (low, high) = (number(&competence, "low"), number(&competence, "high"));
    let (n, right) = (16, (number(&competence, "accuracy") * 16.0).round() as i32);
    // Of the exact interval each end leaves 2.5% of the binomial distribution beyond what was seen.
    let tail = |p: f64, range: std::ops::RangeInclusive<i32>| -> f64 {
        let ways = |k: i32| (0..k).fold(1.0, |ways, i| ways * f64::from(n - i) / f64::from(i + 1));
        range.map(|k| ways(k) * p.powi(k) * (1.0 - p).powi(n - k)).sum()
    };
    assert!(
        (tail(high, 0..=right) - 0.025).abs() < 1e-9 && (right == 0 || (tail(low, right..=n) - 0.025).abs() < 1e-9)
    );
    assert_eq!(said(&out, "competence").0, above(low, high, 0.5));

    let own = rows(&out, "own_effect.csv");
    assert_eq!(own.len(), 3 * 4, "three scales, four comparisons");
    for row in &own {
        close(number(row, "own_effect") - number(row, "effect"), number(row, "difference"), "the difference");
        assert_eq!(row["verdict"], gain(row), "{row:?}");
    }
    assert_eq!(said(&out, "own effect").0, every(judged(&own).iter().map(gain)));

    let tests = rows(&out, "interactions.csv");
    let word =
        |row: &std::collections::HashMap<String, String>| row["verdict"].split(' ').next().unwrap_or("").to_owned();
    let nulls: std::collections::BTreeSet<&str> = tests.iter().map(|row| row["null"].as_str()).collect();
    assert_eq!(nulls.into_iter().collect::<Vec<_>>(), ["additive", "bliss", "frozen", "maximum"]);
    let pairs: std::collections::BTreeSet<&str> = tests.iter().map(|row| row["layers"].as_str()).collect();
    let counted = |pair: &str| -> Vec<String> {
        let of_pair = which(&tests, &[("layers", pair)]);
        of_pair.iter().filter(|row| row["metric"] != "logit").map(word).collect()
    };
    let more = pairs.iter().filter(|pair| counted(pair).iter().all(|word| word == "more")).count();
    let refuted = |pair: &&&str| counted(pair).iter().any(|word| word == "less" || word == "equivalent");
    let refuted = pairs.iter().filter(refuted).count();
    let (verdict, numbers) = said(&out, "four nulls");
    assert!(numbers.contains(&format!("more than all: {more}, refuted by at least one: {refuted}")), "{numbers}");
    let all_refuted = if refuted == pairs.len() { "does not hold" } else { "undecided" };
    assert_eq!(verdict, if more > 0 { "holds" } else { all_refuted });

    let by = |pair: &str, metric| word(&only(&tests, &[("layers", pair), ("metric", metric), ("null", "additive")]));
    let flips = pairs.iter().filter(|pair| by(pair, "log_probability") != by(pair, "rr")).count();
    let text = format!("{flips} of {} verdicts flip between log-probability and reciprocal rank", pairs.len());
    assert!(said(&out, "two scales").1.contains(&text), "{text}");

    let orders = rows(&out, "orders.csv");
    for scale in SCALES {
        let shares: f64 = which(&orders, &[("scale", scale)]).iter().map(|row| number(row, "share")).sum();
        close(shares, 1.0, "all orders");
    }
    let first = judged(&which(&orders, &[("order", "1")]));
    let verdict = every(first.iter().map(|row| above(number(row, "low"), number(row, "high"), 0.5)));
    assert_eq!(said(&out, "orders").0, verdict);

    let stability = judged(&rows(&out, "stability.csv"));
    let of = |row: &std::collections::HashMap<String, String>| match () {
        () if number(row, "jaccard_low") >= 0.5 => "holds",
        () if number(row, "jaccard_high") < 0.5 => "does not hold",
        () => "undecided",
    };
    assert_eq!(stability.len(), 2 * 4, "samples, seeds, precision and phrasings on two scales");
    assert_eq!(said(&out, "stability").0, every(stability.iter().map(of)));

    let tuned = rows(&out, "tuned.csv");
    for row in &tuned {
        close(number(row, "tuned_effect") - number(row, "base_effect"), number(row, "difference"), "the difference");
        assert_eq!(row["n"], "8");
    }
    let changed = |row| if number(row, "p") <= 0.05 { "holds" } else { gain(row) };
    assert_eq!(said(&out, "base and tuned").0, every(judged(&tuned).iter().map(changed)));

    let paths = rows(&out, "path_tests.csv");
    let counted =
        [which(&paths, &[("scale", "share of paths")]), which(&paths, &[("scale", "log_probability")])].concat();
    assert_eq!(counted.len(), 2);
    for row in &paths {
        close(number(row, "trained") - number(row, "random"), number(row, "difference"), "the difference");
    }
    assert_eq!(said(&out, "paths").0, every(counted.iter().map(gain)), "the map is complete in f64");

    let moved = rows(&out, "selector.csv");
    // Empty where too few samples have paths.
    let ends = |scale: &str, vector: &str, answer: &str| -> Option<(f64, f64)> {
        let row = only(&moved, &[("scale", scale), ("vector", vector), ("rank_of_answer", answer)]);
        Some((row["low"].parse().ok()?, row["high"].parse().ok()?))
    };
    let selects = ["count", "log_probability"].map(|scale| {
        let vector = ends(scale, "other's vector", "own");
        let controls = (ends(scale, "random vector", "own"), ends(scale, "none", "other's"));
        let (Some((low, high)), (Some(random), Some(answer))) = (vector, controls) else { return "undecided" };
        match () {
            () if low > 0.0 && low > random.1 && low > answer.1 => "holds",
            () if high < 0.0 || high < random.0 || high < answer.0 => "does not hold",
            () => "undecided",
        }
    });
    assert_eq!(said(&out, "selector").0, every(selects));

    let power = rows(&out, "power.csv");
    let known: Rows = power.iter().filter(|row| !row["power"].is_empty()).cloned().collect();
    let strong = known.iter().filter(|row| number(row, "power") >= 0.8).count();
    let (verdict, numbers) = said(&out, "power");
    assert!(numbers.starts_with(&format!("{strong} of {} tests", power.len())), "{numbers}");
    assert_eq!(verdict, if strong == known.len() { "holds" } else { "does not hold" });
}

#[test]
fn numbers_are_those_of_single_runs() {
    let bench = Bench::new();
    let (_, out) = bench.audit(&[]);
    let numbers = said(&out, "own effect").1;
    let layer = numbers.split(['r', ',']).find_map(|word| word.trim().parse::<i64>().ok()).expect("a layer");
    let file = bench.place.path().join("single.json").display().to_string();
    let tasks = ["--task", "scripts/tasks/anim_color.json", "--other", "scripts/tasks/can_fly.json"];
    let of = ["--model", &bench.model("small"), "--samples", "16", "--layer", &layer.to_string(), "--out", &file];
    run("tests/scripts/experiment/audit.rhai", &[&tasks[..], &of].concat(), bench.place.path());
    let single: Value = serde_json::from_slice(&std::fs::read(file).expect("numbers")).expect("JSON");
    let single = |name: &str| single[name].as_f64().expect("a number");
    let own = rows(&out, "own_effect.csv");
    let row = only(&own, &[("scale", "log_probability"), ("against", "source of can_fly")]);
    close(number(&row, "own_effect"), single("own"), "the own source's effect");
    close(number(&row, "effect"), single("other"), "the other source's effect");
    let lost = format!("its loss takes {:+.3}", single("lost"));
    assert!(said(&out, "both directions").1.contains(&lost), "{lost}");
}

#[test]
fn an_audit_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let steps = |printed: &str| -> (i64, i64) {
        let line = printed.lines().find(|line| line.contains("steps computed")).expect("the steps");
        let numbers: Vec<i64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        (numbers[0], numbers[1])
    };
    let (printed, out) = bench.audit(&[]);
    let first = std::fs::read(out.join("verdicts.csv")).expect("verdicts");
    let (computed, _) = steps(&printed);
    assert!(computed > 50, "{printed}");

    let (printed, out) = bench.audit(&[]);
    assert_eq!(steps(&printed).0, 0, "{printed}");
    assert_eq!(std::fs::read(out.join("verdicts.csv")).expect("verdicts"), first, "the same from the store");

    // One more sample of paths: its trace with either weights, and the selector.
    let (printed, _) = bench.audit(&["--path-samples", "6"]);
    assert_eq!(steps(&printed).0, 3, "{printed}");
}
