//! Every shipped script runs, on a small random model, and every example, on the real one.

use std::path::Path;

use crate::support::{fixture, run, run_in, run_on_simulated_gpu, run_with, small_model, write_model};
use assert_cmd::Command;
use serde_json::{Value, json};

fn files(folder: &str, ending: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut names: Vec<String> = std::fs::read_dir(path)
        .expect(folder)
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names
}

#[test]
fn every_example_runs_and_asserts() {
    let folder = tempfile::tempdir().expect("folder");
    for name in files("examples", ".rhai") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(&name);
        let text = std::fs::read_to_string(&script).expect("text");
        assert!(text.lines().any(|line| line.starts_with("assert")), "{name} asserts nothing");
        assert!(text.lines().count() < 60, "{name} is long");
        let printed = run_in(folder.path(), &script);
        assert!(printed.lines().count() > 1, "{name}: {printed}");
        let known = match name.as_str() {
            "01_load.rhai" => "\" Paris\" with probability 0.77",
            "04_induction_heads.rhai" => "[\"L18H6\", \"L17H4\", \"L17H3\"]",
            "07_patch.rhai" => "clean answer \" Paris\", corrupted answer \" Rome\"",
            "10_indirect_objects.rhai" => "L23H3 attends to the wrong name",
            "11_causal_tracing.rhai" => "early layers: \"um\", late layers: \" of\"",
            _ => "",
        };
        assert!(printed.contains(known), "{name}: {printed}");
    }
}

#[test]
fn examples_say_the_same_on_a_gpu() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["01_load", "03_cache", "07_patch", "14_paths"] {
        let script = format!("examples/{name}.rhai");
        let on_gpu = run_on_simulated_gpu(&script, &[], folder.path());
        assert_eq!(on_gpu, run(&script, &[], folder.path()).replace("cpu", "cuda:0"), "{name}");
    }
}

/// Every experiment with arguments that keep it short, and the files it must write.
const EXPERIMENTS: &[(&str, &[&str], &[&str])] = &[
    (
        "activation_patching",
        &["--task", "anim_color", "--source", "few-shot"],
        &[
            "rr.svg",
            "rr.png",
            "log_probability.pdf",
            "logit.svg",
            "grid.csv",
            "cells.csv",
            "samples.csv",
            "summary.json",
        ],
    ),
    (
        "attribution",
        &["--task", "anim_color", "--samples", "2", "--steps", "2"],
        &[
            "report.html",
            "agreement.csv",
            "agreement.tex",
            "misses.csv",
            "summary.json",
            "names_head_log_probability.svg",
            "vectors_resid_post_logit.png",
        ],
    ),
    (
        "audit",
        &[
            "--task",
            "anim_color",
            "--samples",
            "8",
            "--elements",
            "3",
            "--draws",
            "2",
            "--path-samples",
            "5",
            "--resamples",
            "100",
            "--top",
            "2",
            "--max-rank",
            "8000",
            "--tuned",
            "OTHER",
        ],
        &[
            "report.html",
            "verdicts.csv",
            "verdicts.tex",
            "verdicts.json",
            "power.csv",
            "interactions.csv",
            "selector.tex",
            "layers_rr.svg",
            "tuned_layers.png",
        ],
    ),
    (
        "localization",
        &["--task", "anim_color", "--task", "can_fly", "--setting", "pt_vs_it", "--metric", "rr", "--metric", "kl"],
        &[
            "report.html",
            "summary.csv",
            "summary.tex",
            "small_anim_color.csv",
            "small_can_fly_rr.svg",
            "small_can_fly_kl.png",
            "small_can_fly_logit.pdf",
        ],
    ),
    (
        "superadditivity",
        &["--task", "anim_color", "--resamples", "200", "--order", "3", "--metric", "rank"],
        &[
            "report.html",
            "paper_test.csv",
            "verdicts.csv",
            "verdicts.tex",
            "triples.csv",
            "pairs.csv",
            "small_anim_color_interaction_rank.svg",
        ],
    ),
    (
        "superadditivity",
        &["--task", "anim_color", "--resamples", "200", "--direction", "both"],
        &["report.html", "shares.csv", "shares.tex", "classes.csv", "classes.tex"],
    ),
    (
        "controls",
        &["--task", "anim_color", "--task", "can_fly", "--random", "1"],
        &["report.html", "controls.csv", "controls.tex"],
    ),
    (
        "compare",
        &["--task", "anim_color", "--model", "OTHER", "--resamples", "200"],
        &[
            "report.html",
            "best.csv",
            "comparison.tex",
            "cells.csv",
            "anim_color_layers_rr.svg",
            "other_less_small_anim_color_log_probability.png",
        ],
    ),
    (
        "competence",
        &["--task", "can_fly", "--task", "anim_color", "--judge", "MODEL"],
        &["report.html", "competence.csv", "competence.tex", "answers.csv"],
    ),
    (
        "geometry",
        &["--task", "adj_comp", "--task", "can_fly", "--samples", "20", "--layer", "0", "--layer", "-1"],
        &[
            "report.html",
            "probe.csv",
            "probe.tex",
            "small_probe.svg",
            "small_log_loss.svg",
            "small_lda_0.png",
            "small_lda_3.pdf",
        ],
    ),
    (
        "path_contribution",
        &["--task", "anim_color", "--samples", "2", "--max-rank", "3000", "--limit", "30", "--sample", "20"],
        &["report.html", "positions.csv", "summary.csv", "summary.tex", "small_anim_color_paths.svg"],
    ),
    (
        "head_activity",
        &["--task", "anim_color", "--task", "can_fly", "--max-rank", "8000", "--all-paths", "--position", "can_fly=11"],
        &[
            "report.html",
            "activity.csv",
            "layers.csv",
            "layers.tex",
            "small_can_fly_11.svg",
            "small_can_fly_11_all.png",
        ],
    ),
    (
        "circuit_selection",
        &["--task", "anim_color", "--task", "can_fly", "--max-rank", "8000", "--resamples", "200"],
        &[
            "report.html",
            "layers.csv",
            "layers.tex",
            "patched.csv",
            "patched.tex",
            "origins.csv",
            "small_anim_color_can_fly.svg",
        ],
    ),
    (
        "edges",
        &["--samples", "2", "--verify", "20", "--steps", "2", "--keep", "20", "--set", "capitals"],
        &[
            "report.html",
            "agreement.csv",
            "circuits.tex",
            "edges.csv",
            "capitals_log_probability_curve.svg",
            "capitals_logit_circuit.svg",
            "capitals_logit_circuit.json",
        ],
    ),
    (
        "function_vectors",
        &["--task", "anim_color", "--samples", "8", "--prompts", "5", "--heads", "3", "--draws", "200"],
        &[
            "report.html",
            "overlap.csv",
            "accuracy.tex",
            "top_heads.csv",
            "cells.csv",
            "small_anim_color_instruction_probability.svg",
            "small_anim_color_log_probability.png",
        ],
    ),
    (
        "linear_gap",
        &["--task", "anim_color", "--task", "can_fly", "--samples", "3"],
        &[
            "report.html",
            "cells.csv",
            "best.csv",
            "layers.csv",
            "summary.tex",
            "small_can_fly_logit_gap.svg",
            "small_can_fly_log_probability_eps_true.png",
        ],
    ),
];

/// Every figure is saved as SVG, PDF and PNG, every table as CSV and LaTeX that compiles.
fn complete(name: &str, out: &Path) {
    let with = |extension: &str, others: &[&str]| {
        let found = entries_with(out, extension);
        for path in &found {
            for other in others {
                assert!(path.with_extension(other).exists(), "{name}: {} without its {other}", path.display());
            }
        }
        found
    };
    assert!(
        !with("svg", &["pdf", "png"]).is_empty() || name == "controls" || name == "competence",
        "{name}: no figure"
    );
    with("png", &["svg"]);
    let tables = with("tex", &["csv"]);
    assert!(!tables.is_empty(), "{name}: no table");
    let stems: Vec<String> =
        tables.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into())).collect();
    super::latex::compile(out, &stems.iter().map(String::as_str).collect::<Vec<_>>());
}

fn entries_with(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn every_experiment_writes_its_results() {
    let shipped = files("scripts", ".rhai");
    let covered = EXPERIMENTS.iter().map(|(name, ..)| format!("{name}.rhai"));
    assert_eq!(covered.collect::<std::collections::BTreeSet<_>>(), shipped.into_iter().collect());
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    write_model(model.path(), "other", 4, 0.3);
    let other = model.path().join("other").display().to_string();
    for (name, arguments, written) in EXPERIMENTS {
        let folder = tempfile::tempdir().expect("folder");
        let out = folder.path().join("out");
        let mut all = vec!["--model", &path, "--init", "random", "--dtype", "f64"];
        let out_text = out.display().to_string();
        all.extend(["--out", &out_text]);
        all.extend(arguments.iter().map(|word| match *word {
            "MODEL" => &path,
            "OTHER" => &other,
            word => word,
        }));
        if !arguments.contains(&"--samples") {
            all.extend(["--samples", "5"]);
        }
        let printed = run(&format!("scripts/{name}.rhai"), &all, folder.path());
        for file in *written {
            assert!(out.join(file).metadata().is_ok_and(|file| file.len() > 0), "{name}: {file}\n{printed}");
        }
        if let Ok(page) = std::fs::read_to_string(out.join("report.html")) {
            assert!(page.contains(&format!("scripts/{name}.rhai --model")), "{name}: the command");
            assert!(!page.contains("src=") && !page.contains("href="), "{name}: the page stands alone");
            assert!(page.contains("<p class=\"finding\">"), "{name}: what was found");
            assert!(page.contains(" verdicts flip between "), "{name}: on two scales");
            let has_ranking = !["competence", "geometry"].contains(name);
            assert_eq!(page.contains("Jaccard@"), has_ranking, "{name}: how stable the ranking is");
        }
        complete(name, &out);
        let (folder, on_gpu) = (tempfile::tempdir().expect("folder"), out.with_file_name("gpu"));
        let on_gpu_text = on_gpu.display().to_string();
        all.iter_mut().filter(|word| **word == out_text).for_each(|word| *word = &on_gpu_text);
        run_on_simulated_gpu(&format!("scripts/{name}.rhai"), &all, folder.path());
        for path in entries_with(&out, "csv") {
            same_numbers(&path, &on_gpu.join(path.file_name().expect("a name")));
        }
    }
}

/// Fails unless two CSV files have the same texts, and the same numbers up to rounding.
fn same_numbers(one: &Path, other: &Path) {
    let read = |path: &Path| std::fs::read_to_string(path).expect("a CSV file");
    let (left, right) = (read(one), read(other));
    assert_eq!(left.lines().count(), right.lines().count(), "{}", one.display());
    for (left, right) in
        left.lines().flat_map(|line| line.split(',')).zip(right.lines().flat_map(|line| line.split(',')))
    {
        let close = match (left.parse::<f64>(), right.parse::<f64>()) {
            (Ok(left), Ok(right)) => (left - right).abs() <= 1e-9 * left.abs().max(1.0),
            _ => false,
        };
        assert!(close || left == right, "{}: {left} on the CPU, {right} on the GPU", one.display());
    }
}

/// A judge behind a URL that says yes, no and something else in turn, and the number of questions it was asked.
fn judge() -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let length =
                lines.filter_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).last();
            let mut question = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut question).expect("a question");
            assert!(String::from_utf8_lossy(&question).contains("Criterion: "), "the task's criterion is asked for");
            let said = ["Yes.", " no", "maybe"][count.fetch_add(1, Ordering::SeqCst) % 3];
            let body = json!({ "choices": [{ "message": { "content": said } }] }).to_string();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).ok();
        }
    });
    (url, asked)
}

#[test]
fn a_judge_behind_a_url_is_asked_once_per_answer() {
    let folder = tempfile::tempdir().expect("folder");
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    let out = folder.path().join("out");
    let (url, asked) = judge();
    let arguments = ["--model", &path, "--init", "random", "--dtype", "f64", "--task", "anim_color", "--samples", "3"];
    let out_text = out.display().to_string();
    let with_judge = ["--out", &out_text, "--judge", &url, "--judge-model", "any"];
    for _ in 0..2 {
        let arguments = [&arguments[..], &with_judge].concat();
        let printed = run_with(&["--allow", "net=127.0.0.1"], "scripts/competence.rhai", &arguments, folder.path());
        assert!(
            printed.contains("IA 50% of 2 judged") && printed.contains("neither yes nor no to 1 of 3"),
            "{printed}"
        );
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 3, "kept answers are not asked for again");
    }
    let answers = std::fs::read_to_string(out.join("answers.csv")).expect("answers");
    let verdicts: Vec<&str> = answers.lines().skip(1).filter_map(|line| line.rsplit(',').next()).collect();
    assert_eq!(verdicts, ["true", "false", ""]);
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    assert!(page.contains(&format!("any at {url}")), "the judge is named");
}

#[test]
fn activation_patching_reports_what_it_measured() {
    let folder = tempfile::tempdir().expect("folder");
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    let out = folder.path().join("out").display().to_string();
    let arguments = ["--model", &path, "--init", "random", "--task", "anim_color", "--samples", "3"];
    let all = [&arguments[..], &["--dtype", "f64", "--out", &out]].concat();
    let printed = run("scripts/activation_patching.rhai", &all, folder.path());
    assert!(printed.contains("the model's own accuracy"), "{printed}");
    assert!(printed.contains("ranks in 0 of them"), "{printed}");
    let read = |name: &str| std::fs::read_to_string(Path::new(&out).join(name)).expect(name);
    assert_eq!(read("grid.csv").lines().count(), 1 + 10, "sets of one and two of four layers");
    assert_eq!(read("cells.csv").lines().count(), 1 + 30);
    let summary: Value = serde_json::from_str(&read("summary.json")).expect("JSON");
    assert_eq!((&summary["samples"], &summary["verified"]["rank_differences"]), (&json!(3), &json!(0)));
}

/// Files below a folder with their modification times.
fn written(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, std::time::SystemTime> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()) {
        if entry.is_dir() {
            found.extend(written(&entry));
        } else {
            let time = entry.metadata().and_then(|file| file.modified()).expect("a time");
            found.insert(entry, time);
        }
    }
    found
}

/// Whether two tables have the same cells, numbers up to rounding: sums over threads differ in their last digits.
fn same_table(first: &str, second: &str) -> bool {
    let same = |(one, other): (&str, &str)| match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => (one - other).abs() <= 1e-9 || (one.is_nan() && other.is_nan()),
        _ => one == other,
    };
    let cells = |text: &str| text.split([',', '\n']).map(str::to_owned).collect::<Vec<_>>();
    let (first, second) = (cells(first), cells(second));
    first.len() == second.len() && first.iter().zip(&second).all(|(one, other)| same((one.as_str(), other.as_str())))
}

#[test]
fn an_interrupted_experiment_computes_only_what_is_missing_or_damaged() {
    let cache = tempfile::tempdir().expect("folder");
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    let results = |out: &str, more: &[&str]| {
        let out = cache.path().join(out).display().to_string();
        let arguments = ["--model", &path, "--init", "random", "--task", "can_fly", "--samples", "2", "--dtype", "f64"];
        let options = ["--max-rank", "300", "--limit", "15", "--sample", "20", "--out", &out];
        run("scripts/path_contribution.rhai", &[&arguments[..], &options, more].concat(), cache.path());
        std::fs::read_to_string(Path::new(&out).join("positions.csv")).expect("positions.csv")
    };
    let first = results("first", &[]);
    let values = cache.path().join("values");
    let before = written(&values);
    assert_eq!(before.len(), 6, "for each sample one file of its paths, and two of its answer as the next token");
    // One is deleted, one truncated, one changed in a digit.
    let files: Vec<_> = before.keys().cloned().collect();
    std::fs::remove_file(&files[0]).expect("removed");
    std::fs::write(&files[1], "{").expect("written");
    let text = std::fs::read_to_string(&files[2]).expect("text").replace("\"tokens\":[", "\"tokens\":[9");
    std::fs::write(&files[2], text).expect("written");
    let damaged = written(&values);
    assert!(same_table(&results("second", &[]), &first));
    let after = written(&values);
    assert_eq!(after.len(), before.len());
    for (place, file) in files.iter().enumerate() {
        assert_eq!(damaged.get(file) == after.get(file), place > 2, "{}", file.display());
    }
    assert!(same_table(&results("third", &["--no-keep"]), &first));
    assert_eq!(written(&values), after);
}

#[test]
fn the_bench_compares_ways_in_one_run() {
    let folder = tempfile::tempdir().expect("folder");
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    let out = folder.path().join("out");
    let out_text = out.display().to_string();
    for task in ["random", "anim_color"] {
        let arguments = ["--model", &path, "--init", "random", "--samples", "3", "--task", task];
        let few = ["--plain", "6", "--products", "2", "--repeats", "2", "--out", &out_text];
        let printed = run("benches/patch_grid.rhai", &[&arguments[..], &few].concat(), folder.path());
        for part in ["of the matrix-product rate", "batches without a plan", "one run per cell"] {
            assert!(printed.contains(part), "{printed}");
        }
        let written = std::fs::read_to_string(out.join("lancet.json")).expect("what other libraries go on with");
        let written: Value = serde_json::from_str(&written).expect("JSON");
        let cells = written["patched_logit"].as_array().expect("sets");
        assert_eq!((cells.len(), cells[0].as_array().map(Vec::len)), (10, Some(3)), "{task}");
    }
}

/// Against explicit products of paths, in the peer's output format.
#[test]
fn the_bench_of_paths_compares_them_with_its_peers() {
    let folder = tempfile::tempdir().expect("folder");
    let text = std::fs::read_to_string(fixture("linear/paths.json")).expect("the fixture");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let expected = &expected["olmo2_mha"];
    let peer = json!({
        "input_ids": expected["input_ids"], "answer_id": expected["answer_id"], "dtype": "float64",
        "paths": expected["argmax"]["eq3"], "paths_per_second": 1.0,
        "seconds": { "surrogates": 1.0, "edges": 1.0 }, "bytes": { "peak": 1e9 },
    });
    let file = folder.path().join("peer.json");
    std::fs::write(&file, peer.to_string()).expect("written");
    let (model, peer) = (fixture("models/olmo2_mha").display().to_string(), file.display().to_string());
    let out = folder.path().join("out").display().to_string();
    let arguments = ["--model", &model, "--peer", &peer, "--dtype", "f64", "--repeats", "1", "--out", &out];
    let printed = run("benches/paths.rhai", &arguments, folder.path());
    for part in ["1 x 7 tokens, 21 paths", "the same 21 paths", "0 ranks differ"] {
        assert!(printed.contains(part), "{printed}");
    }
    let words = printed.split_once("logits differ by ").expect("a difference").1;
    let difference: f64 = words.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(difference < 1e-10, "{printed}");

    let arguments =
        ["--model", &model, "--prompts", "3", "--length", "6", "--from", "2", "--repeats", "1", "--out", &out];
    let printed = run("benches/paths.rhai", &arguments, folder.path());
    assert!(printed.contains("3 x 6 tokens, ") && printed.contains("ranks up to 100: "), "{printed}");
}

#[test]
fn names_that_cannot_work_are_refused_before_the_work() {
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    for (arguments, said) in [
        (&["--task", "adj_comp", "--task", "nosuch"][..], "there is no task \"nosuch\""),
        (&["--task", "can_fly", "--task", "can_fly"], "--task names \"can_fly\" twice"),
        (&["--model", &path], "--model names \"small\" twice"),
        (&["--metric", "rr", "--metric", "rr"], "--metric names \"rr\" twice"),
        (&["--metric", "loss"], "`--metric` must be one of centred_logit, kl, log_probability, logit, "),
        (&["--metric", "logit_difference"], "--metric logit_difference needs tokens to compare the answer with"),
        (&["--against", "yes"], "--against goes with --metric logit_difference"),
        (&["--out", "Cargo.toml/results"], "Cargo.toml/results"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lancet"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["run", "scripts/localization.rhai", "--init", "random", "--model", &path])
            .args(arguments)
            .output()
            .expect("runs");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{said}");
        assert!(output.stdout.is_empty() && matches!(output.status.code(), Some(1 | 2)), "{said}");
    }
}

#[test]
fn options_that_mean_nothing_to_an_experiment_are_refused() {
    let nine: Vec<String> = (0..9).flat_map(|layer| ["--elements".to_owned(), layer.to_string()]).collect();
    let nine: Vec<&str> = ["--order", "3"].into_iter().chain(nine.iter().map(String::as_str)).collect();
    for (script, arguments, said) in [
        ("geometry", &["--metric", "rr"][..], "this script measures a probe's accuracy and log-loss"),
        ("geometry", &["--direction", "noise"], "there is no option `--direction`"),
        ("linear_gap", &["--direction", "noise"], "there is no option `--direction`"),
        ("controls", &["--direction", "noise"], "random vectors have none"),
        ("localization", &["--direction", "both"], "`--direction` must be one of "),
        ("controls", &["--metric", "kl"], "it cannot compare sources"),
        ("competence", &["--metric", "kl"], "`--metric` must be one of "),
        (
            "head_activity",
            &["--metric", "rr"],
            "must be one of log_probability, logit, logit_difference, centred_logit",
        ),
        ("superadditivity", &["--margin", "0"], "--margin must be above 0"),
        ("superadditivity", &nine, "--order 3 computes all sets of the 9 --elements"),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let output = Command::new(env!("CARGO_BIN_EXE_lancet"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["run", &format!("scripts/{script}.rhai"), "--out", &folder.path().display().to_string()])
            .args(arguments)
            .output()
            .expect("runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said) && !output.status.success(), "{script}: {stderr}");
    }
}

#[test]
fn models_are_compared_as_far_as_they_can_be() {
    let model = small_model();
    for step in ["step8", "step9", "step10"] {
        write_model(model.path(), step, 4, 0.3);
    }
    write_model(model.path(), "deep", 6, 0.4);
    let of = |name: &str| model.path().join(name).display().to_string();
    let allowed = format!("read={}", model.path().display());
    let out = of("out");
    let common = ["--init", "random", "--dtype", "f64", "--task", "anim_color", "--samples", "6", "--out", &out];
    let arguments = |models: &[&str]| -> Vec<String> {
        let named = models.iter().flat_map(|name| ["--model".to_owned(), of(name)]);
        common.iter().map(|word| (*word).to_owned()).chain(named).collect()
    };
    for (models, said) in [
        (&["step{8..10}", "deep"][..], "step10 against step8, reciprocal rank: of 10 cells 0 do more and 0 less"),
        (&["step{10..8..2}"], "step8 against step10"),
        (&["deep", "small"], "small, log-probability: the best cell is"),
    ] {
        let arguments = arguments(models);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let printed = run_with(&["--allow", &allowed], "scripts/compare.rhai", &arguments, model.path());
        assert!(printed.contains(said), "{printed}");
        assert!(!printed.contains("deep against") && !printed.contains("against deep"), "{printed}");
    }
    let page = std::fs::read_to_string(model.path().join("out/report.html")).expect("page");
    assert!(page.contains("small has 4 layers and deep 6: their cells are not compared"));
    for (models, said) in [
        (&["small"][..], "there is one model to compare"),
        (&["step{8..9}", "step9"], "--model names \"step9\" twice"),
        (&["step{8..x}"], "has no range that can be read"),
        (&["step{08..10}"], "has no range that can be read"),
        (&["step{8..10..0}"], "has no range that can be read"),
        (&["step{1..2000}"], "stands for 2000 models"),
    ] {
        let mut lancet = Command::new(env!("CARGO_BIN_EXE_lancet"));
        lancet.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--allow", &allowed, "run", "scripts/compare.rhai"]);
        let output = lancet.args(arguments(models)).output().expect("runs");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{said}");
    }
}

/// The scripts of tests/scripts/stdlib contain their own assertions.
#[test]
fn numbers_and_the_standard_library_behave() {
    let folder = tempfile::tempdir().expect("folder");
    for name in files("tests/scripts/stdlib", ".rhai") {
        run(&format!("tests/scripts/stdlib/{name}"), &[], folder.path());
    }
}

/// An embedding that is longer than the vocabulary.
#[test]
fn ids_that_no_token_has_can_be_shown() {
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    run("tests/scripts/experiment/unused_ids.rhai", &["--model", &path], model.path());
}

#[test]
fn every_task_loads_and_its_examples_are_in_its_table() {
    let model = small_model();
    let path = model.path().join("small").display().to_string();
    for name in files("scripts/tasks", ".json") {
        let task = format!("scripts/tasks/{name}");
        run("tests/scripts/experiment/task_samples.rhai", &["--model", &path, "--task", &task], model.path());
    }
}

#[test]
fn repeated_queries_are_left_out_and_noted() {
    let model = small_model();
    let table = model.path().join("words.csv");
    std::fs::write(&table, "query,answer\nbig,bigger\nold,older\nbig,bigger\n").expect("written");
    let folder = model.path().display().to_string();
    run("tests/scripts/experiment/repeated_queries.rhai", &["--folder", &folder], model.path());
}
