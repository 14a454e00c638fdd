//! Task files and their data: BIG-bench's layouts, tables in every format, and the errors of broken ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fixture;
use lancet::data::task::{self, Task};
use serde_json::{Value, json};

const BIGBENCH: &[&str] = &["metaphor_boolean", "implicatures", "object_counting", "snarks"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A shipped task file with other fields, written to `folder`.
fn changed(folder: &Path, shipped: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let text = fs::read_to_string(root().join("scripts/tasks").join(format!("{shipped}.json"))).expect(shipped);
    let mut fields: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut fields);
    let path = folder.join("task.json");
    fs::write(&path, fields.to_string()).expect("written");
    path
}

fn load(path: &Path) -> Task {
    task::load(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pairs(task: &Task) -> Vec<(&str, &str)> {
    task.samples.iter().map(|sample| (sample.query.as_str(), sample.answer.as_str())).collect()
}

#[test]
fn the_layouts_of_bigbench_are_one_task() {
    let folder = tempfile::tempdir().unwrap();
    for name in BIGBENCH {
        let tasks: Vec<Task> = ["json", "parquet", "jsonl"]
            .iter()
            .map(|ending| {
                let data = fixture(&format!("tasks/{name}.{ending}"));
                load(&changed(folder.path(), &format!("bigbench/{name}"), |fields| fields["data"] = json!(data)))
            })
            .collect();
        // The queries and answers of the fixtures' original table.
        let table = load(&root().join(format!("scripts/tasks/{name}.json")));
        let expected: Vec<(String, String)> = pairs(&table)
            .into_iter()
            .take(8)
            .map(|(query, answer)| match *name {
                "metaphor_boolean" => (query.replacen(". ", ". Sentence 2: ", 1), answer.to_owned()),
                "snarks" => (query.replace("(a)", "A:").replace("(b)", "B:"), answer.to_uppercase()),
                _ => (query.to_owned(), answer.to_owned()),
            })
            .collect();
        for task in &tasks {
            let expected: Vec<_> = expected.iter().map(|(query, answer)| (query.as_str(), answer.as_str())).collect();
            assert_eq!(pairs(task), expected, "{name}: {}", task.data.display());
            assert_eq!(task.examples.len(), 5);
        }
    }
}

#[test]
fn fetched_data_is_found_and_its_absence_explained() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| {
        let code = format!("print(read_task(\"scripts/tasks/bigbench/{name}.json\").rows.len())");
        let mut lancet = Command::new(env!("CARGO_BIN_EXE_lancet"));
        lancet.current_dir(root()).env("LANCET_CACHE", folder.path()).args(["-e", &code]).output().unwrap()
    };
    let text = String::from_utf8(read("snarks").stderr).unwrap();
    assert!(text.contains("scripts/tasks/bigbench/snarks.json:5:11"), "{text}");
    assert!(text.contains("run `lancet data bigbench` to fetch it"), "{text}");
    let data = folder.path().join("data/bigbench");
    fs::create_dir_all(&data).unwrap();
    for name in BIGBENCH {
        fs::copy(fixture(&format!("tasks/{name}.json")), data.join(format!("{name}.json"))).unwrap();
        let output = read(name);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "8\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_table_can_be_in_any_format() {
    let folder = tempfile::tempdir().unwrap();
    let rows = json!([{"word": "big", "plural": 3}, {"word": "old", "plural": "olds"}, {"word": "big", "plural": 3}]);
    let lines: String = rows.as_array().unwrap().iter().map(|row| format!("{row}\n\n")).collect();
    for (name, text) in [
        ("words.csv", "\u{feff}word,plural\nbig,3\nold,olds\nbig,3\n".to_owned()),
        ("words.tsv", "plural\tword\n3\tbig\nolds\told\n3\tbig\n".to_owned()),
        ("words.JSON", rows.to_string()),
        ("words.json", json!({"examples": rows}).to_string()),
        ("words.jsonl", format!("\u{feff}{lines}")),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
        let path = changed(folder.path(), "adj_comp", |fields| {
            *fields = json!({
                "name": "plural", "instruction": "Say the plural.", "data": name, "query_column": "word",
                "column": "plural", "query_template": "{query}", "example_template": "{query}{answer}",
                "answer_prefix": "", "replace": {"b": "B", "Big": "huge"}, "examples": ["old"], "judge": null,
            });
        });
        let task = load(&path);
        assert_eq!(pairs(&task), [("huge", "3"), ("old", "olds")], "{name}");
        assert_eq!((task.repeated, task.title.as_str(), task.examples.len()), (1, "plural", 1));
    }
}

/// The form of function vectors' data sets, of several lines.
#[test]
fn pairs_of_input_and_output_are_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        fs::write(folder.path().join("pairs.json"), text).unwrap();
        task::load(&changed(folder.path(), "country_capital", |fields| fields["data"] = json!("pairs.json")))
    };
    let text = "[\n  {\"input\": \"Peru\", \"output\": \"Lima\"},\n  {\n    \"output\": 4, \"input\": 2.5\n  }\n]\n";
    let task = read(text).unwrap();
    assert_eq!(pairs(&task), [("Peru", "Lima"), ("2.5", "4")]);
    assert_eq!(task.samples[1].record.place, format!("{}:3", folder.path().join("pairs.json").display()));
    assert_eq!(task.examples, ["Peru", "2.5"], "five from the top, as far as there are");
    for (old, new, message) in [
        ("\"output\": 4, ", "", "pairs.json:3`: there is no column `output`"),
        ("4", "[4, 5]", "pairs.json:3`: `output` is neither a text nor a number"),
        ("2.5\n", "\"\"\n", "pairs.json:3`: the query is empty"),
        ("2.5\n", "2.5,\n", "pairs.json:5:3`: trailing comma"),
    ] {
        let error = read(&text.replace(old, new)).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// Errors in data, in addition to tests/errors.
#[test]
fn broken_data_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, message) in [
        ("a.csv", "query,adj_comp\n", "a.csv`: there are no records"),
        ("a.csv", "query,adj_comp\n\"big\n\nbig\",bigger\n,older\n", "a.csv:5`: the query is empty"),
        ("a.csv", "query,adj_comp,query\n", "a.csv:1`: the header names the column `query` twice"),
        (
            "a.jsonl",
            "{\"query\": \"big\", \"adj_comp\": \"x\"}\n{\"query\": \"ü\", }\n",
            "a.jsonl:2:16`: trailing comma",
        ),
        ("a.jsonl", "{\"query\": \"big\"}\n", "a.jsonl:1`: there is no column `adj_comp`"),
        ("a.jsonl", "[1]\n", "a.jsonl:1`: each line must be an object"),
        ("a.json", "[\n1]", "a.json:2:1`: each record must be an object"),
        ("a.json", "{\"rows\": []}", "a.json:1:1`: there are no records"),
        (
            "a.json",
            "[{\"query\": \"big\",\n\"adj_comp\": [1]}]",
            "a.json:1`: `adj_comp` is neither a text nor a number",
        ),
        ("a.parquet", "PAR1", "a.parquet`: not a complete parquet file"),
        ("a.txt", "", "a.txt`: unknown file extension"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
        let path = changed(folder.path(), "adj_comp", |fields| {
            fields["data"] = json!(name);
            fields["examples"] = json!([]);
            fields["rephrasings"] = Value::Null;
        });
        let error = task::load(&path).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
    for (record, message) in [
        (json!({"question": "Is it?"}), "neither `input` nor `inputs`"),
        (json!({"input": 3, "target": "yes"}), "the input is not a text"),
        (json!({"input": "Is it?", "target_scores": {"yes": 1, "no": 1}}), "no answer is correct"),
        (json!({"input": "Is it?", "target_scores": {"yes": "1"}}), "no answer is correct"),
        (json!({"inputs": "Q: Is it?\nA:", "targets": []}), "no answer is correct"),
        (json!({"input": "Is it?", "target": ["perhaps"]}), "the answer `perhaps` is not one of `answers`: yes, no"),
        (json!({"input": " ", "target": ["yes"]}), "the query is empty"),
        (json!({"input": "Is it?", "target": ""}), "the answer is empty"),
    ] {
        fs::write(folder.path().join("a.jsonl"), record.to_string()).unwrap();
        let path = changed(folder.path(), "bigbench/implicatures", |fields| fields["data"] = json!("a.jsonl"));
        let error = task::load(&path).expect_err(message).to_string();
        assert!(error.contains("a.jsonl:1`") && error.contains(message), "{error}");
    }
}

#[test]
fn right_answers_are_chosen_by_score_and_form() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |record: Value, answers: Value| {
        fs::write(folder.path().join("a.jsonl"), record.to_string()).unwrap();
        let path = changed(folder.path(), "bigbench/implicatures", |fields| {
            fields["data"] = json!("a.jsonl");
            fields["answers"] = answers;
        });
        load(&path).samples[0].answer.clone()
    };
    assert_eq!(answer(json!({"input": "?", "target_scores": {"a": 0.2, "b": 0.9, "c": 0.9}}), Value::Null), "b");
    assert_eq!(answer(json!({"input": "?", "target": 7, "target_scores": {"a": 1, "b": 0}}), Value::Null), "7");
    assert_eq!(answer(json!({"input": "?", "target": ["seven", "7"]}), json!("number")), "7");
    assert_eq!(answer(json!({"input": "?", "target": ["x", "y"]}), json!({"y": "why"})), "why");
    let scores =
        json!({"inputs": "?", "targets": [], "multiple_choice_targets": ["a", "b"], "multiple_choice_scores": [0, 1]});
    assert_eq!(answer(scores, Value::Null), "b");
}

#[test]
fn fields_of_task_files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    for (change, message) in [
        (json!({"format": "bigbnch"}), "`format` cannot be `bigbnch`"),
        (json!({"format": "bigbench"}), "`column` is for tables"),
        (json!({"answers": "letter"}), "`answers` cannot be `letter`"),
        (json!({"answers": {"a": 1}}), "`a` must be a text, not a number"),
        (json!({"replace": ["a"]}), "replace must be an object, not an array"),
        (json!({"examples": -1}), "`examples` must be an array of texts, not a number"),
        (json!({"data": "{data}/../x.csv"}), "is not the file of a data set"),
        (json!({"rephrasings": "none.csv"}), "there is no file"),
        (json!({"name": null}), "the task has no `name`"),
    ] {
        let path = changed(folder.path(), "adj_comp", |fields| {
            let data = root().join("scripts/tasks/adjectives.csv");
            fields["data"] = json!(data);
            fields["rephrasings"] = Value::Null;
            for (name, value) in change.as_object().unwrap() {
                fields[name] = value.clone();
            }
        });
        let error = task::load(&path).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
    fs::write(folder.path().join("task.json"), "{\"name\": \"a\",\n \"name\": \"b\"}").unwrap();
    let error = task::load(&folder.path().join("task.json")).unwrap_err().to_string();
    assert!(error.contains("task.json:2:2`: the task has `name` twice"), "{error}");
}
