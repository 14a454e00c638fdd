//! Downloads the wanted files of a repository at one commit into the hub's cache, and checks their lengths.

use std::any::Any;
use std::cell::Cell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::rc::Rc;

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use indicatif::{ProgressBar, ProgressStyle};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::snapshot::{INDEX, WEIGHTS, shards};
use super::{Hub, Located, Wanted};
use crate::error::{Error, Result};
use crate::file::{is_plain, make_dir};
use crate::gguf::part;
use crate::interrupt;

/// The characters that an address does not contain as they are: all but letters, digits and `-._~/`.
const ADDRESS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

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
        let api = self.api().map_err(|error| wanted.explain(error, None))?;
        let asked = api.repo(wanted.repo(&utf8_percent_encode(&wanted.revision, ADDRESS).to_string()));
        let info = guarded(|| asked.info())?.map_err(|error| wanted.explain(error, None))?;
        if !is_plain(&info.sha) {
            return Err(Error::new(format!("the hub gave `{}` as the commit of `{}`", info.sha, wanted.id)));
        }
        let files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        // All files come from one commit, even if the branch moves meanwhile.
        let fetch = Fetch { wanted, repo: api.repo(wanted.repo(&info.sha)), folder: self.folder(wanted, &info.sha) };
        let selection = select(wanted, &files)?;
        for file in &selection.files {
            fetch.file(file)?;
        }
        if selection.files.iter().any(|file| file == INDEX) {
            for file in shards(&fetch.folder.join(INDEX))? {
                fetch.file(&file)?;
            }
        }
        // Only now does the branch or tag name this commit: an interrupted download must not pass for a complete one.
        let record = self.hub_cache().repo(wanted.repo(&wanted.revision)).create_ref(&info.sha);
        record.map_err(|error| Error::io(&self.cache, &error))?;
        Ok(match selection.gguf {
            Some(file) => Located::Gguf(fetch.folder.join(file)),
            None => Located::Directory(fetch.folder),
        })
    }

    fn folder(&self, wanted: &Wanted, commit: &str) -> PathBuf {
        self.hub_cache().repo(wanted.repo(&wanted.revision)).pointer_path(commit)
    }

    fn api(&self) -> std::result::Result<Api, ApiError> {
        let builder = ApiBuilder::from_cache(self.hub_cache()).with_token(self.token.clone());
        match &self.endpoint {
            Some(address) => builder.with_endpoint(address.clone()).build(),
            None => builder.build(),
        }
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
        [] if has("config.json") => Err(Error::new(format!("`{id}` has no safetensors weights"))
            .hint("other formats are not read: convert it, or choose a repository with `.safetensors` files")),
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

/// The download of one commit's files.
struct Fetch<'a> {
    wanted: &'a Wanted,
    repo: ApiRepo,
    folder: PathBuf,
}

impl Fetch<'_> {
    /// Fetches one file unless it is in the cache.
    fn file(&self, name: &str) -> Result<()> {
        interrupt::check()?;
        if self.folder.join(name).is_file() {
            return Ok(());
        }
        let meter = Meter::new();
        let expected = Rc::clone(&meter.size);
        // The client puts a name into the address as it is, and the address's name into the cache.
        let encoded = utf8_percent_encode(name, ADDRESS).to_string();
        let fetched = guarded(|| self.repo.download_with_progress(&encoded, meter))?
            .map_err(|error| self.wanted.explain(error, Some(name)))?;
        let path = self.folder.join(name);
        if encoded != name {
            make_dir(path.parent().unwrap_or(&self.folder))?;
            std::fs::rename(&fetched, &path).map_err(|error| Error::io(&path, &error))?;
        }
        let blob = path.canonicalize().map_err(|error| Error::io(&path, &error))?;
        let length = blob.metadata().map_err(|error| Error::io(&blob, &error))?.len();
        if length == expected.get() {
            return Ok(());
        }
        for broken in [&path, &blob] {
            std::fs::remove_file(broken).map_err(|error| Error::io(broken, &error))?;
        }
        let message =
            format!("`{name}` of `{}` came with {length} bytes instead of {}", self.wanted.id, expected.get());
        Err(Error::new(message).hint("run it again"))
    }
}

impl Wanted {
    /// Explains an error of the client, for a `file` or for the repository itself.
    fn explain(&self, error: ApiError, file: Option<&str>) -> Error {
        let Self { id, revision, .. } = self;
        let what = file.map_or_else(|| format!("`{id}`"), |file| format!("`{file}` of `{id}`"));
        let again = "run it again: it continues where it stopped";
        let error = match error {
            ApiError::RequestError(error) => *error,
            ApiError::IoError(error) => ureq::Error::Io(error),
            ApiError::LockAcquisition(_) => {
                return Error::new(format!("{what} is being downloaded by another process")).hint("wait for it to end");
            }
            ApiError::InvalidResume => ureq::Error::StatusCode(416),
            other => return Error::new(format!("{what}: the hub's answer cannot be read: {other}")),
        };
        match error {
            ureq::Error::StatusCode(401 | 403) if file.is_some() => Error::new(format!("access to {what} is denied"))
                .hint("accept the model's licence on its page, then set `HF_TOKEN` to a token of that account"),
            ureq::Error::StatusCode(401 | 403) => Error::new(format!("there is no model {what}, or it is private"))
                .hint("check the name; for a private model set `HF_TOKEN` to a token that may read it"),
            ureq::Error::StatusCode(404) if revision == "main" => Error::new(format!("the hub has no {what}")),
            ureq::Error::StatusCode(404) => Error::new(format!("the hub has no {what} at revision `{revision}`")),
            // The partial file of an earlier try does not match the file.
            ureq::Error::StatusCode(416) => {
                Error::new(format!("an earlier download of {what} left a damaged partial file"))
                    .hint("remove the `.part` files in the `blobs` folder of this model in the cache")
            }
            ureq::Error::StatusCode(429) => Error::new("the hub refuses more requests for now")
                .hint("wait a few minutes, or set `HF_TOKEN` for a higher limit"),
            ureq::Error::StatusCode(code) => Error::new(format!("{what}: the hub answered with status {code}")),
            ureq::Error::HostNotFound => Error::new(format!("{what}: the hub cannot be found by name"))
                .hint("check the network, and `HF_ENDPOINT` if it is set"),
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Error::new(format!("{what}: the connection to the hub was refused"))
                    .hint("check the network, and `HF_ENDPOINT` if it is set")
            }
            error => Error::new(format!("the download of {what} broke off: {error}")).hint(again),
        }
    }
}

/// The payload with which a cancelled download unwinds.
struct Cancelled;

/// Calls the hub's client, and catches its panics and the unwinding of `Meter` after Ctrl-C.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload: Box<dyn Any + Send>| {
        if payload.is::<Cancelled>() { Error::Interrupted } else { Error::new("the hub's client failed") }
    })
}

/// Shows the progress of a download, on a terminal only, and ends it after Ctrl-C.
struct Meter {
    bar: ProgressBar,
    /// The length of the whole file as the hub states it.
    size: Rc<Cell<u64>>,
}

impl Meter {
    fn new() -> Self {
        Self { bar: ProgressBar::no_length(), size: Rc::new(Cell::new(0)) }
    }
}

impl Progress for Meter {
    fn init(&mut self, size: usize, file: &str) {
        self.size.set(size as u64);
        self.bar.set_length(size as u64);
        self.bar.set_message(file.to_owned());
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
    }

    fn update(&mut self, size: usize) {
        self.bar.inc(size as u64);
        if interrupt::is_pending() {
            self.bar.abandon();
            // The client has no other way to stop a download. A later one resumes it.
            resume_unwind(Box::new(Cancelled));
        }
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}
