//! Builds a checkpoint: changes a tiny model's config and tensors and writes them to a separate folder.

use std::collections::BTreeMap;
use std::path::Path;

use lancet::error::Result;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use serde_json::Value;
use tch::Tensor;

use super::{device, is_split, one_thread, tiny_path};

/// Config and tensors, and the folder to write them to.
pub struct Checkpoint {
    pub config: Value,
    pub tensors: BTreeMap<String, Tensor>,
    folder: tempfile::TempDir,
}

impl Checkpoint {
    /// A copy of a tiny model.
    pub fn of(name: &str) -> Self {
        Self::at(&tiny_path(name))
    }

    /// A copy of a checkpoint in one file.
    pub fn at(path: &Path) -> Self {
        let config = std::fs::read_to_string(path.join("config.json")).expect("the config");
        let tensors = Tensor::read_safetensors(path.join("model.safetensors")).expect("the tensors");
        Self {
            config: serde_json::from_str(&config).expect("JSON"),
            tensors: tensors.into_iter().collect(),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes config and tensors.
    pub fn write(&self) -> &Self {
        self.write_text("config.json", &self.config.to_string());
        self.write_tensors("model.safetensors", |_| true);
        self
    }

    /// Writes the tensors with the chosen names.
    pub fn write_tensors(&self, file: &str, chosen: impl Fn(&str) -> bool) {
        let tensors: Vec<_> = self.tensors.iter().filter(|(name, _)| chosen(name)).collect();
        Tensor::write_safetensors(&tensors, self.path().join(file)).expect("written");
    }

    /// Writes a text file.
    pub fn write_text(&self, file: &str, text: &str) {
        std::fs::write(self.path().join(file), text).expect("written");
    }

    /// The same with one field of the config changed; null removes it.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        let fields = self.config.as_object_mut().expect("an object");
        if value.is_null() {
            fields.remove(key)
        } else {
            fields.insert(key.into(), value)
        };
        self
    }

    /// The result of loading the folder.
    pub fn load(&self) -> Result<LanguageModel> {
        self.load_with(LoadOptions::default())
    }

    /// The same with options, on the CPU.
    pub fn load_with(&self, options: LoadOptions) -> Result<LanguageModel> {
        one_thread();
        LanguageModel::load(
            &self.path().display().to_string(),
            &LoadOptions { device: device(), split: is_split(), ..options },
        )
    }
}
