//! Adapters as Hugging Face's PEFT writes them: low-rank changes (LoRA) of a model's weights, merged as they are loaded.

mod config;
mod held;
mod source;
mod weights;

use std::path::Path;

use crate::error::{Error, Result};
use crate::hub::adapter::{CONFIG, WEIGHTS};
use config::Settings;
use weights::Weights;

pub use held::Held;
pub use source::Adapted;

/// An adapter, read from its files.
#[derive(Debug)]
pub struct Adapter {
    /// The model that it was trained on, by the name that its file has.
    pub base: Option<String>,
    weights: Weights,
}

impl Adapter {
    /// Reads the adapter in a folder.
    ///
    /// # Errors
    /// A missing or damaged file, an adapter of another type than LoRA, a setting that is not supported, weights that do
    /// not fit the settings; the message names it.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let in_config = |error: Error| error.context(format!("`{}`", path.display()));
        let settings = Settings::read(&path).map_err(in_config)?;
        let base = settings.base.clone();
        let path = folder.join(WEIGHTS);
        let weights =
            Weights::read(&path, &settings).map_err(|error| error.context(format!("`{}`", path.display())))?;
        Ok(Self { base, weights })
    }

    /// Whether it changes one of these modules by more than rows that embedding and unembedding share.
    pub fn changes(&self, modules: &[&str]) -> bool {
        modules.iter().any(|module| self.weights.changes(module))
    }

    /// Whether a model's name is that of the model that it was trained on, as far as can be told.
    pub fn fits(&self, id: &str) -> bool {
        let last = |name: &str| name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        self.base.as_ref().is_none_or(|base| base.is_empty() || last(base) == last(id))
    }
}
