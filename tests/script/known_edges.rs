//! Methods that score edges, on programs whose edges are known: areas under the ROC curve.

use crate::support::{run, run_on_simulated_gpu};

const METHODS: [&str; 7] = ["exact", "eap", "eap-ig-inputs", "eap-ig-activations", "clean-corrupted", "relp", "frozen"];

/// The areas by program, ablation and method.
fn areas(run: impl Fn(&[&str])) -> Vec<(String, String, [Option<f64>; 7])> {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().display().to_string();
    run(&["--pairs", "8", "--steps", "4", "--out", &out]);
    let mut reader = csv::Reader::from_path(folder.path().join("auroc.csv")).expect("a table");
    let names: Vec<String> = reader.headers().expect("names").iter().map(str::to_owned).collect();
    assert_eq!(names[names.len() - 7..], METHODS);
    assert!(folder.path().join("report.html").exists() && folder.path().join("auroc.tex").exists());
    let row = |row: csv::StringRecord| {
        let area = |number: usize| row[row.len() - 7 + number].parse().ok();
        (row[0].to_owned(), row[1].to_owned(), std::array::from_fn(area))
    };
    reader.records().map(|record| row(record.expect("a row"))).collect()
}

#[test]
fn methods_find_the_edges_of_compiled_programs_as_far_as_they_can() {
    let script = "scripts/tracr/auroc.rhai";
    let folder = tempfile::tempdir().expect("folder");
    let found = areas(|arguments| {
        let printed = run(script, arguments, folder.path());
        assert!(printed.contains("length: the length of a text alone decides its output"), "{printed}");
    });
    assert_eq!(found.len(), 11);
    for (program, ablation, values) in &found {
        let of = |method: &str| values[METHODS.iter().position(|name| *name == method).expect("a method")];
        assert_eq!(of("clean-corrupted").is_none(), ablation == "zero");
        // Patches find what carries the difference. Where one path can stand in for another they do not find both.
        let least = match program.as_str() {
            "length" => 0.6,
            "reverse" => 0.8,
            _ => 0.99,
        };
        assert!(of("exact").expect("an area") >= least, "{program} {ablation}: {values:?}");
        // A program without steps that saturate is found by gradients too.
        if program == "balance" {
            assert!(["eap", "eap-ig-inputs", "eap-ig-activations"].iter().all(|method| of(method) == Some(1.0)));
        }
        // Saturated patterns and steps have no gradients, however it is computed.
        if program == "histogram" {
            assert!(of("eap").expect("an area") < 0.8, "{values:?}");
        }
        assert!(values.iter().flatten().all(|area| (0.4..=1.0).contains(area)), "{program} {ablation}: {values:?}");
    }
    let on_gpu = areas(|arguments| drop(run_on_simulated_gpu(script, arguments, folder.path())));
    for ((program, ablation, ours), (.., theirs)) in found.iter().zip(&on_gpu) {
        for (one, other) in ours.iter().zip(theirs) {
            assert!(one.unwrap_or(0.0) - other.unwrap_or(0.0) == 0.0, "{program} {ablation}: {ours:?} {theirs:?}");
        }
    }
}
