//! What the tests of models share: fixtures, loading, capturing, comparing.
#![allow(dead_code)] // each test binary uses its own part

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use lancet::model::cache::ActivationCache;
use lancet::model::decoder::Logits;
use lancet::model::hook;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::model::run::{Action, Hooks};
use tch::{Kind, Tensor};

/// A path below tests/fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Loads a model on the CPU.
pub fn load(id: &str, kind: Kind) -> LanguageModel {
    let options = LoadOptions { device: "cpu".into(), kind, ..LoadOptions::default() };
    LanguageModel::load(id, &options).unwrap_or_else(|error| panic!("loading {id}: {error}"))
}

/// Logits of `tokens`, and the activations at every hook point.
pub fn capture_all(model: &LanguageModel, tokens: &Tensor) -> (Tensor, ActivationCache) {
    let _guard = tch::no_grad_guard();
    let mut hooks = Hooks::none();
    hooks.add(model.config(), hook::points(model.config()), "all", Action::Capture);
    let logits = model.decoder.forward(tokens, Logits::All, &mut hooks).expect("the run succeeds");
    (logits, hooks.finish().expect("every hook ran"))
}

/// The largest absolute difference; infinite where one is infinite and the other is not, or shapes differ.
pub fn max_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    if ours.size() != theirs.size() {
        eprintln!("shapes differ: {:?} and {:?}", ours.size(), theirs.size());
        return f64::INFINITY;
    }
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    let same_infinity = ours.isinf().logical_and(&ours.eq_tensor(&theirs));
    let difference = (&ours - &theirs).abs().masked_fill(&same_infinity, 0.0);
    difference.nan_to_num(f64::INFINITY, f64::INFINITY, f64::INFINITY).max().double_value(&[])
}

/// Reference tensors by name.
pub struct Expected(HashMap<String, Tensor>);

impl Expected {
    /// Reads a safetensors file.
    pub fn open(path: &Path) -> Self {
        let tensors = Tensor::read_safetensors(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(tensors.into_iter().collect())
    }

    /// A tensor that must be there.
    pub fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the reference has no `{name}`"))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
