//! Lancet's own folders, and other settings from the environment: the user's caches, and whether downloads are allowed.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folder of Lancet's own files.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    /// Where results are stored, if not in the folder itself.
    store: Option<PathBuf>,
}

impl Cache {
    /// Reads `LANCET_CACHE`, else `XDG_CACHE_HOME`, else takes `.cache` in the home folder; `LANCET_STORE` names another
    /// folder for results.
    ///
    /// # Errors
    /// No variable and no home folder say where caches go.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same, with variables from `lookup`.
    ///
    /// # Errors
    /// As for [`Cache::from_env`].
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let folder = match variable(&lookup, "LANCET_CACHE") {
            Some(folder) => folder.into(),
            None => user_caches(&lookup)?.join("lancet"),
        };
        Ok(Self { folder, store: variable(&lookup, "LANCET_STORE").map(PathBuf::from) })
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Models: set-up puts the built-in checkpoint there.
    pub fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// The folder of results that are stored across runs.
    pub fn store(&self) -> &Path {
        self.store.as_deref().unwrap_or(&self.folder)
    }

    /// Finished cells of grids.
    pub fn cells(&self) -> PathBuf {
        self.store().join("cells")
    }

    /// Values that scripts store across runs.
    pub fn values(&self) -> PathBuf {
        self.store().join("values")
    }

    /// Copies of the shipped scripts.
    pub fn scripts(&self) -> PathBuf {
        self.folder.join("scripts")
    }

    /// Data sets.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Answers of models behind a URL.
    pub fn answers(&self) -> PathBuf {
        self.folder.join("answers")
    }
}

/// The value of a variable that is set and not blank.
pub fn variable(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.trim().is_empty())
}

/// The folder of a user's caches, shared by all programs.
///
/// # Errors
/// No variable and no home folder name it.
pub fn user_caches(lookup: &impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    variable(lookup, "XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .ok_or_else(|| Error::new("there is no home folder for cached files").hint("set `LANCET_CACHE` and `HF_HOME`"))
}

/// Whether `HF_HUB_OFFLINE` forbids downloads, as `lancet --offline` does.
pub fn is_offline(lookup: &impl Fn(&str) -> Option<String>) -> bool {
    let yes = ["1", "true", "yes", "on"];
    variable(lookup, "HF_HUB_OFFLINE").is_some_and(|value| yes.iter().any(|yes| value.eq_ignore_ascii_case(yes)))
}
