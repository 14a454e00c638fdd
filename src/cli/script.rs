//! Reads the script that the command line names.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Bounds, complain};
use crate::access::Access;
use crate::cache::Cache;
use crate::error::Error;
use crate::hub::Hub;
use crate::session::Options;
use crate::shipped;

/// The folders of Lancet's own files and of the hub's models; without a home folder there are none.
fn caches() -> Vec<PathBuf> {
    let own = Cache::from_env().map(|cache| [cache.folder().to_path_buf(), cache.store().to_path_buf()]);
    own.into_iter().flatten().chain(Hub::from_env().map(|hub| hub.cache)).collect()
}

/// A script's text and its name in errors.
pub(super) struct Script {
    pub(super) name: String,
    pub(super) path: Option<PathBuf>,
    pub(super) text: String,
    /// How it is run, where not by its path.
    pub(super) command: String,
}

impl Script {
    /// A file, or the shipped script of that name where there is no such file.
    pub(super) fn read(file: &str) -> Result<Self, u8> {
        if file == "-" {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text).map(|_| text);
            return Self::of("<standard input>", None, read);
        }
        if !Path::new(file).is_file() && shipped::is_name(file) {
            return Self::shipped(file);
        }
        Self::of(file, Some(file.into()), std::fs::read_to_string(file))
    }

    pub(super) fn shipped(name: &str) -> Result<Self, u8> {
        let path =
            Cache::from_env().and_then(|cache| shipped::script(&cache, name)).map_err(|error| complain(&error))?;
        let script = Self::of(&path.display().to_string(), Some(path.clone()), std::fs::read_to_string(&path))?;
        Ok(Self { command: format!("run {name}"), ..script })
    }

    fn of(name: &str, path: Option<PathBuf>, text: std::io::Result<String>) -> Result<Self, u8> {
        let text = text.map_err(|error| {
            let problem = Error::new(format!("`{name}`: {error}"));
            let near = path.as_deref().filter(|path| !path.exists()).and_then(shipped::meant_by);
            complain(&near.into_iter().fold(problem, |problem, near| {
                problem.hint(format!("did you mean `lancet run {near}`, which comes with Lancet?"))
            }))
        })?;
        Ok(Self { name: name.to_owned(), path, text, command: String::new() })
    }

    pub(super) fn options(&self, arguments: Vec<String>, bounds: Bounds) -> Result<Options, u8> {
        let access = Access::of_script(self.path.as_deref(), &arguments, caches(), &bounds.permissions);
        Ok(Options {
            script: self.path.clone(),
            arguments,
            text: self.text.clone(),
            command: self.command.clone(),
            access: access.map_err(|error| complain(&error))?,
            limits: bounds.limits,
        })
    }
}
