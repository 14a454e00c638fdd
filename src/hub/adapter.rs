//! Finds adapters, small changes of a model's weights: in a folder of this machine, or in a repository of the hub.

use std::path::{Path, PathBuf};

use super::{Hub, Located, Wanted, home};
use crate::error::{Error, Result};

/// The settings of an adapter.
pub const CONFIG: &str = "adapter_config.json";
/// The weights of an adapter.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// The folder of an adapter; settings come from the environment. See [`Hub::adapter`].
///
/// # Errors
/// As for [`Hub::from_env`] and [`Hub::adapter`].
pub fn locate(id: &str, offline: bool) -> Result<PathBuf> {
    let mut hub = Hub::from_env()?;
    hub.offline |= offline;
    hub.adapter(id)
}

impl Hub {
    /// The folder of the adapter `id`: a folder, or a repository of the hub as `owner/name`, whose files are fetched if
    /// the cache lacks them.
    ///
    /// # Errors
    /// No such folder or repository, missing files, downloads that are forbidden or fail, Ctrl-C.
    pub fn adapter(&self, id: &str) -> Result<PathBuf> {
        let path = home(id);
        if path.is_dir() && !id.is_empty() {
            return match lacking(&path) {
                None => Ok(path),
                Some(file) => Err(Error::new(format!("`{id}` has no {file}"))
                    .hint("give the folder in which peft's `save_pretrained` has put an adapter")),
            };
        }
        if path.is_absolute() || id.starts_with('.') || id.split('/').count() != 2 {
            return Err(Error::new(format!("there is no folder `{id}`"))
                .hint("an adapter is a folder or a repository of the hub, `owner/name`"));
        }
        let wanted = Wanted { is_adapter: true, ..Wanted::parse(id, None, true)? };
        let cached = self.snapshot(&wanted);
        let lacking = cached.as_deref().map_or(Some(CONFIG), lacking);
        match (cached, lacking) {
            (Some(folder), None) => Ok(folder),
            (_, Some(file)) if self.offline => Err(wanted.not_cached(file, &self.cache)),
            _ => match self.download(&wanted)? {
                Located::Directory(folder) | Located::Gguf(folder) => Ok(folder),
            },
        }
    }
}

/// The first of an adapter's files that a folder lacks.
fn lacking(folder: &Path) -> Option<&'static str> {
    [CONFIG, WEIGHTS].into_iter().find(|file| !folder.join(file).is_file())
}

/// The files of an adapter in a repository that has `files`.
///
/// # Errors
/// A file that it lacks.
pub(super) fn chosen(id: &str, files: &[String]) -> Result<Vec<String>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    match [CONFIG, WEIGHTS].into_iter().find(|name| !has(name)) {
        None => Ok(vec![CONFIG.to_owned(), WEIGHTS.to_owned()]),
        Some(WEIGHTS) if has("adapter_model.bin") => {
            Err(Error::new(format!("`{id}` has its adapter's weights in a pickle, adapter_model.bin"))
                .hint("pickles can run code when they are read: load it with peft and save it with `save_pretrained`"))
        }
        Some(name) => Err(Error::new(format!("`{id}` is no adapter: it has no `{name}`"))),
    }
}
