//! Data files: CSV, JSON, JSON lines, NumPy archives, parquet, SAEs, tasks.

use std::fs;
use std::path::Path;

use lancet::data::parquet::{Column, ColumnType, Writer};
use lancet::data::{csv, json, npz, record, task};
use lancet::sae;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::campaign::{Input, Target, fuzz};
use crate::json::JsonMutator;
use crate::mutation::Mutator;
use crate::seed;

const WORDS: &[&str] = &["{", "}", "[", "]", ",", ":", "\"", "true", "null", "\"a\":", "{}", "[]", "\n\n", "\\"];

/// Texts of every JSON type.
const JSON: &[u8] = br#"{"a": [1, -2.5e3, true, null, "x\u00e9\n"], "b": {"c": {}, "d": []}, "e": 9007199254740993}"#;

struct Csv(Mutator);

impl Target for Csv {
    fn new() -> Self {
        let quoted = b"query,\"the \"\"answer\"\"\",n\n\"a, b\",\"line\nbreak\",1\nx,,2\n".to_vec();
        let whole = [seed::contents("scripts/tasks", ".csv"), seed::fixtures(&["paper_ttest.csv"])].concat();
        // The first lines: files are read line by line.
        let first =
            whole.iter().map(|text| text.split_inclusive(|byte| *byte == b'\n').take(8).flatten().copied().collect());
        let seeds = first.chain([quoted, b"a\tb\n1\t2\n".to_vec()]).collect();
        Self(Mutator::new(seeds, &[",", "\t", ";", "\"", "\"\"", "\n", "\r\n", ",,", "\",\""]))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: (if random.gen_bool(0.8) { "data.csv" } else { "data.tsv" }).into(), bytes: self.0.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        let path = Path::new(&input.file);
        if let Ok(table) = csv::read(path, if input.file.ends_with(".tsv") { b'\t' } else { b',' }) {
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "rows fit their header");
        }
        let _ = record::read(path);
    }
}

struct Json(JsonMutator);

impl Target for Json {
    fn new() -> Self {
        let seeds = [
            vec![JSON.to_vec()],
            seed::contents("scripts/tasks", ".json"),
            seed::contents("tests/fixtures/config", "/config.json"),
        ];
        Self(JsonMutator::new(seeds.concat()))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: "data.json".into(), bytes: self.0.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        let _ = json::read(Path::new(&input.file));
        let _ = record::read(Path::new(&input.file));
    }
}

struct JsonLines(Mutator);

impl Target for JsonLines {
    fn new() -> Self {
        let short = b"{\"a\": 1, \"b\": [true, null]}\n\n{\"a\": -2.5e3, \"b\": \"x\"}\n".to_vec();
        Self(Mutator::new([vec![short], seed::contents("tests/fixtures/tasks", ".jsonl")].concat(), WORDS))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: "data.jsonl".into(), bytes: self.0.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        let _ = json::lines(Path::new(&input.file)).map(Iterator::count);
        let _ = record::read(Path::new(&input.file));
    }
}

struct Parquet(Mutator);

impl Target for Parquet {
    fn new() -> Self {
        let path = Path::new("seed.parquet");
        let columns = [
            ("n", Column::Integer(vec![1, 0, i64::MIN])),
            ("x", Column::Double(vec![0.5, f64::NAN, -0.0])),
            ("s", Column::Text(["", "é", "longer than what is stored beside others"].map(str::to_owned).to_vec())),
            ("l", Column::Integers(vec![vec![], vec![1, 2, 3], vec![4]])),
        ];
        let types: Vec<(&str, ColumnType)> =
            columns.iter().map(|(name, column)| (*name, column.column_type())).collect();
        let mut writer = Writer::create(path, &types).unwrap();
        writer.append(columns.into_iter().map(|(_, column)| column).collect()).unwrap();
        writer.finish().unwrap();
        let fixtures = seed::fixtures(&["twice.parquet", "tasks/snarks.parquet", "tasks/object_counting.parquet"]);
        Self(Mutator::new(
            [vec![fs::read(path).unwrap()], fixtures].concat(),
            &["PAR1", "PARE", "\u{15}", "\u{19}\u{1c}"],
        ))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let bytes = if random.gen_bool(0.4) { self.0.input(random) } else { self.0.in_place(random) };
        Input { file: "data.parquet".into(), bytes }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        let _ = record::read(Path::new(&input.file));
    }
}

struct Npz(Mutator);

impl Target for Npz {
    fn new() -> Self {
        let words =
            &["PK\u{1}\u{2}", "PK\u{3}\u{4}", "NUMPY", "'<f4'", "True", "(2, 3)", "(", "[", "'", "-1", "99999999999"];
        Self(Mutator::new(seed::fixtures(&["arrays.npz", "packed.npz", "sae/gemma_scope.npz"]), words))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let bytes = if random.gen_bool(0.4) { self.0.input(random) } else { self.0.in_place(random) };
        Input { file: "arrays.npz".into(), bytes }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        let _ = npz::read(Path::new(&input.file));
    }
}

/// The description of an SAE; what is read is also used.
struct Sae(JsonMutator);

impl Target for Sae {
    fn new() -> Self {
        fs::write("sae_weights.safetensors", seed::fixtures(&["sae/topk/sae_weights.safetensors"]).concat()).unwrap();
        Self(JsonMutator::new(seed::contents("tests/fixtures/sae", "/cfg.json")))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: "cfg.json".into(), bytes: self.0.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        let options = sae::file::LoadOptions {
            device: tch::Device::Cpu,
            kind: None,
            hook_name: None,
            hook_name_out: None,
            norm_scaling_factor: None,
            ignore: Vec::new(),
        };
        let Ok(read) = sae::file::load(Path::new("."), &options) else { return };
        let ones = tch::Tensor::ones([2, 16], (tch::Kind::Float, tch::Device::Cpu));
        assert_eq!(read.forward(&ones).unwrap().size(), [2, 16]);
    }
}

/// A task and its data; one of the files is changed.
struct TaskFile {
    task: JsonMutator,
    data: Mutator,
}

const TASK: &str = "task.json";
const DATA: &str = "adjectives.csv";

impl Target for TaskFile {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tasks");
        fs::create_dir("rephrasings").unwrap();
        for path in seed::files("scripts/tasks", ".csv") {
            fs::copy(&path, path.strip_prefix(&folder).unwrap()).unwrap();
        }
        let task = fs::read(folder.join("adj_comp.json")).unwrap();
        let data = fs::read(DATA).unwrap();
        Self {
            task: JsonMutator::new([vec![task], seed::contents("scripts/tasks", ".json")].concat()),
            data: Mutator::new(vec![data], &[",", "\"", "\n", "big", "bigger"]),
        }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        if random.gen_bool(0.8) {
            Input { file: TASK.into(), bytes: self.task.input(random) }
        } else {
            Input { file: DATA.into(), bytes: self.data.input(random) }
        }
    }

    fn run(&mut self, input: &Input) {
        let task = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tasks/adj_comp.json");
        if input.file == DATA {
            fs::copy(task, TASK).unwrap();
        }
        let data = fs::read(DATA).unwrap();
        fs::write(&input.file, &input.bytes).unwrap();
        let _ = task::load(Path::new(TASK));
        fs::write(DATA, data).unwrap();
    }
}

#[test]
fn csv_files() {
    fuzz::<Csv>("data::csv_files", 5_000);
}

#[test]
fn json_files() {
    fuzz::<Json>("data::json_files", 5_000);
}

#[test]
fn json_lines() {
    fuzz::<JsonLines>("data::json_lines", 5_000);
}

#[test]
fn numpy_archives() {
    fuzz::<Npz>("data::numpy_archives", 5_000);
}

#[test]
fn saes() {
    fuzz::<Sae>("data::saes", 5_000);
}

#[test]
fn parquet_files() {
    fuzz::<Parquet>("data::parquet_files", 3_000);
}

#[test]
fn tasks() {
    fuzz::<TaskFile>("data::tasks", 3_000);
}
