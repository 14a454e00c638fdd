//! Files in which results are kept between runs.

use std::fs;
use std::path::PathBuf;

use lancet::file::text_checksum;
use lancet::grid::measured::Cell;
use lancet::grid::request::{Origin, Request, Sizes};
use lancet::grid::sample::Sample;
use lancet::grid::store::Store;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::session::Session;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::campaign::{Input, Target, fuzz};
use crate::json::JsonMutator;
use crate::mutation::Mutator;
use crate::script::evaluate;
use crate::support::{fixture, session};

/// The only file in a folder and those below it.
fn only_file(folder: &str) -> PathBuf {
    let mut path = PathBuf::from(folder);
    while path.is_dir() {
        path = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    }
    path
}

/// The cells of a sample of a grid.
struct Cells {
    store: Store,
    path: PathBuf,
    mutator: Mutator,
}

impl Target for Cells {
    fn new() -> Self {
        let options = LoadOptions { device: "cpu".into(), ..LoadOptions::default() };
        let model = LanguageModel::load(&fixture("config/qwen2").display().to_string(), &options).unwrap();
        let request = Request {
            store: Some("cells".into()),
            sizes: Sizes::Of(vec![1]),
            ..Request::new(Origin::Source(vec![vec![1]]), vec![vec![2]], vec![vec![3]])
        };
        let sample = Sample { prompt: vec![2], position: 0, target: vec![2], source: vec![1] };
        let store = Store::open("cells", &model, &request, &[sample], &[&[0]], false).unwrap().unwrap();
        let cell = |logit, rank| Cell { logit, rank, log_sum_exp: 1.5, mean: 0.1, against: 0.2, kl: 0.3, closure: 0.0 };
        store.put(0, &[vec![cell(0.5, 1), cell(-2.0, 7)]]).unwrap();
        let path = only_file("cells");
        let mutator = Mutator::new(vec![fs::read(&path).unwrap()], &["\u{1}\0\0\0\0\0\0\0"]);
        Self { store, path, mutator }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: "sample.cells".into(), bytes: self.mutator.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&self.path, &input.bytes).unwrap();
        if let Some(samples) = self.store.get(0, 1, 2) {
            let cells = samples.concat();
            assert!(cells.len() == 2 && cells.iter().all(|cell| cell.is_measured()), "cells are numbers");
        }
    }
}

/// Where the content of such a file begins, behind its hash.
const CONTENT: usize = 65;

/// A value that the module `kept` has kept.
struct Kept {
    session: Session,
    path: PathBuf,
    mutator: JsonMutator,
}

impl Target for Kept {
    const LIFE: u64 = 1_000;

    fn new() -> Self {
        let _ = fs::remove_dir_all("cache");
        let mut session = session();
        evaluate(&mut session, "kept", "kept::store(#{ a: 1, b: [\"x\"] }, #{ c: [1, 2.5, ()], d: \"\\u00e9\" })");
        let path = only_file("cache");
        let mutator = JsonMutator::new(vec![fs::read(&path).unwrap()[CONTENT..].to_vec()]);
        Self { session, path, mutator }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let mut content = self.mutator.input(random);
        let hash = text_checksum(&String::from_utf8_lossy(&content));
        // Seldom, the hash or the sign behind it is wrong.
        let mut bytes = [hash.as_bytes(), b"\n"].concat();
        bytes.append(&mut content);
        if random.gen_bool(0.1) {
            bytes[random.gen_range(0..CONTENT)] = random.r#gen();
        }
        Input { file: "kept.json".into(), bytes }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&self.path, &input.bytes).unwrap();
        evaluate(&mut self.session, "kept", "kept::lookup(#{ a: 1, b: [\"x\"] })");
    }
}

#[test]
fn cells_of_grids() {
    fuzz::<Cells>("store::cells_of_grids", 5_000);
}

#[test]
fn kept_values() {
    fuzz::<Kept>("store::kept_values", 3_000);
}
