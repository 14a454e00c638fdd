//! Downloads the wanted files of a repository at one commit into the hub's cache.

use super::pickle;
use super::remote::Remote;
use super::snapshot::{INDEX, WEIGHTS, shards};
use super::transfer::Transfer;
use super::{Hub, Located, Wanted, adapter};
use crate::error::{Error, Result};
use crate::file::is_plain;
use crate::gguf::part;

/// The small files of a model, fetched if the repository has them.
const SMALL_FILES: &[&str] = &[
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

impl Hub {
    /// Fetches the files of `wanted` that are not in the cache.
    pub(super) fn download(&self, wanted: &Wanted) -> Result<Located> {
        let fetched = self.fetch(wanted);
        // A server may send back in an error what it was sent.
        fetched.map_err(|error| error.without(self.token.as_deref().unwrap_or_default()))
    }

    fn fetch(&self, wanted: &Wanted) -> Result<Located> {
        let remote = Remote::new(self, wanted)?;
        let listing = remote.listing()?;
        let (commit, files) = (listing.sha, listing.files);
        let repository = self.hub_cache().repo(wanted.repo(&wanted.revision));
        let folder = wanted.repo(&wanted.revision).folder_name();
        // All files come from one commit, even if the branch moves meanwhile.
        let transfer = Transfer {
            remote: &remote,
            commit: &commit,
            blobs: self.cache.join(&folder).join("blobs"),
            snapshot: repository.pointer_path(&commit),
            locks: self.cache.join(".locks").join(&folder),
        };
        let selection = select(wanted, &files)?;
        for file in &selection.files {
            transfer.file(file)?;
        }
        if selection.files.iter().any(|file| file == INDEX) {
            for file in shards(&transfer.snapshot.join(INDEX))? {
                transfer.file(&file)?;
            }
        }
        // Only now does the branch or tag name this commit: an interrupted download must not pass for a complete one.
        repository.create_ref(&commit).map_err(|error| Error::io(&self.cache, &error))?;
        Ok(match selection.gguf {
            Some(file) => Located::Gguf(transfer.snapshot.join(file)),
            None => Located::Directory(transfer.snapshot),
        })
    }
}

/// The files of a repository that are wanted, before the shards that an index names.
struct Selection<'a> {
    files: Vec<String>,
    gguf: Option<&'a str>,
}

fn select<'a>(wanted: &'a Wanted, files: &'a [String]) -> Result<Selection<'a>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let gguf_files: Vec<&str> =
        files.iter().map(String::as_str).filter(|file| file.ends_with(".gguf") && !part::is_later(file)).collect();
    let id = &wanted.id;
    if wanted.is_adapter {
        return Ok(Selection { files: adapter::chosen(id, files)?, gguf: None });
    }
    if let Some(file) = wanted.gguf.as_deref() {
        let files = part::files(file);
        return match files.iter().find(|file| !has(file)) {
            None => Ok(Selection { files, gguf: Some(file) }),
            Some(lacking) => Err(Error::new(format!("`{id}` has no file `{lacking}`")).hint(one_of(id, &gguf_files))),
        };
    }
    let weights = [WEIGHTS, INDEX].into_iter().find(|name| has(name));
    if has("config.json") && (weights.is_some() || !wanted.weights) {
        let weights = weights.filter(|_| wanted.weights);
        let chosen = SMALL_FILES.iter().copied().filter(|name| has(name)).chain(weights).map(str::to_owned).collect();
        return Ok(Selection { files: chosen, gguf: None });
    }
    match gguf_files[..] {
        [file] if is_plain(file) => Ok(Selection { files: part::files(file), gguf: Some(file) }),
        [] if has("config.json") => {
            let error = Error::new(format!("`{id}` has no safetensors weights"));
            Err(match pickle::of(files) {
                Some(file) => error.hint(format!("it has {file}, {}", pickle::hint(file))),
                None => error
                    .hint("other formats are not read: convert it, or choose a repository with `.safetensors` files"),
            })
        }
        [] => Err(Error::new(format!("`{id}` is not a model: it has neither `config.json` nor a `.gguf` file"))),
        _ => Err(Error::new(format!("`{id}` has several `.gguf` files")).hint(one_of(id, &gguf_files))),
    }
}

/// The hint that lists the GGUF files of a repository.
fn one_of(id: &str, files: &[&str]) -> String {
    match files {
        [] => format!("it has no `.gguf` files; `{id}` alone stands for its safetensors weights"),
        _ => format!("name one of them: `{id}/{}`", files.join(&format!("`, `{id}/"))),
    }
}
