//! Finds the files of a model by its name: a local file or folder, a built-in name, or a repository of the Hugging Face
//! hub, which is read from the hub's cache or downloaded into it.

pub mod adapter;
pub mod alias;
mod checksum;
mod download;
mod part;
mod pickle;
mod remote;
mod snapshot;
mod timeout;
mod transfer;

use std::path::{Path, PathBuf};

use hf_hub::{Cache as HubCache, Repo, RepoType};

use crate::cache::{self, Cache};
use crate::error::{Error, Result, nearest};
use crate::file::is_plain;
use snapshot::Snapshot;

pub use checksum::{Verified, verify};
pub use pickle::hint as pickle_hint;
pub use snapshot::shards;
pub use timeout::Timeouts;

/// Where the files of a model are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// A folder in the hub's layout: `config.json`, the tokenizer's files and safetensors weights.
    Directory(PathBuf),
    /// One GGUF file, which holds the configuration, the tokenizer and the weights.
    Gguf(PathBuf),
}

impl Located {
    /// The files that describe the model: weights, configuration, tokenizer.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let folder = match self {
            Self::Gguf(path) => return Ok(vec![path.clone()]),
            Self::Directory(folder) => folder,
        };
        let is_part = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            path.is_file() && matches!(extension, Some("json" | "safetensors" | "model" | "txt" | "jinja"))
        };
        let entries = std::fs::read_dir(folder).map_err(|error| Error::io(folder, &error))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_part).collect();
        files.sort();
        Ok(files)
    }

    fn lacks_tokenizer(&self) -> bool {
        matches!(self, Self::Directory(folder) if !folder.join("tokenizer.json").is_file())
    }
}

/// A model with a short name.
#[derive(Debug)]
pub struct BuiltIn {
    /// The name to load it by.
    pub name: &'static str,
    /// Where its files come from.
    pub origin: Origin,
    /// One line on what it is.
    pub summary: &'static str,
}

/// Where the files of a built-in model come from.
#[derive(Debug)]
pub enum Origin {
    /// A GGUF file that set-up puts into Lancet's own cache.
    Gguf {
        /// The file's name in the cache.
        file: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// Its SHA-256 in hexadecimal.
        sha256: &'static str,
    },
    /// A repository of the hub.
    Hub(&'static str),
}

/// All built-in names.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        name: "smollm2",
        origin: Origin::Gguf {
            file: "smollm2-135m-instruct.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        summary: "SmolLM2 135M Instruct, 4-bit; fetched by `lancet data smollm2` or `make setup`",
    },
    hub("olmo2-1b", "allenai/OLMo-2-0425-1B", "OLMo 2 1B, base"),
    hub("olmo2-1b-sft", "allenai/OLMo-2-0425-1B-SFT", "OLMo 2 1B after supervised fine-tuning"),
    hub("olmo2-1b-dpo", "allenai/OLMo-2-0425-1B-DPO", "OLMo 2 1B after preference optimisation"),
    hub("olmo2-7b", "allenai/OLMo-2-1124-7B", "OLMo 2 7B, base"),
    hub("olmo2-7b-sft", "allenai/OLMo-2-1124-7B-SFT", "OLMo 2 7B after supervised fine-tuning"),
    hub("olmo2-7b-dpo", "allenai/OLMo-2-1124-7B-DPO", "OLMo 2 7B after preference optimisation"),
    hub("olmo3-7b", "allenai/Olmo-3-1025-7B", "OLMo 3 7B, base"),
];

const fn hub(name: &'static str, repository: &'static str, summary: &'static str) -> BuiltIn {
    BuiltIn { name, origin: Origin::Hub(repository), summary }
}

/// The built-in model of this name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|model| model.name == name)
}

/// Finds the files of model `id`, downloading those missing from the hub's cache; settings come from the environment.
/// See [`Hub::locate`]. `offline` forbids downloads, as `HF_HUB_OFFLINE=1` does.
///
/// # Errors
/// As for [`Hub::from_env`] and [`Hub::locate`].
pub fn locate(id: &str, revision: Option<&str>, offline: bool, want_weights: bool) -> Result<Located> {
    let mut hub = Hub::from_env()?;
    hub.offline |= offline;
    hub.locate(id, revision, want_weights)
}

/// Where models are on this machine and how the hub is reached.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Lancet's own folder of models, where set-up puts the built-in checkpoint.
    pub models: PathBuf,
    /// The hub's cache, shared with the Python tools.
    pub cache: PathBuf,
    /// The hub's address, if it is not the default.
    pub endpoint: Option<String>,
    /// The access token.
    pub token: Option<String>,
    /// Whether downloads are forbidden.
    pub offline: bool,
    /// How long the hub may take.
    pub timeouts: Timeouts,
}

impl Hub {
    /// Reads `LANCET_CACHE`, `XDG_CACHE_HOME`, `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` (or the token file
    /// that the hub's own tools write), `HF_HUB_OFFLINE`, `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_DOWNLOAD_TIMEOUT`.
    ///
    /// # Errors
    /// No variable and no home folder for caches; a timeout that is not a whole number of seconds.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same, with variables from `lookup`.
    ///
    /// # Errors
    /// As for [`Hub::from_env`].
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| cache::variable(&lookup, name);
        let shared = match variable("HF_HOME") {
            Some(folder) => folder.into(),
            None => cache::user_caches(&lookup)?.join("huggingface"),
        };
        let token_file = std::fs::read_to_string(shared.join("token")).ok();
        let token = variable("HF_TOKEN").or(token_file).map(|token| token.trim().to_owned());
        Ok(Self {
            models: Cache::from_variables(&lookup)?.models(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| shared.join("hub"), PathBuf::from),
            endpoint: variable("HF_ENDPOINT").map(|address| address.trim_end_matches('/').to_owned()),
            token: token.filter(|token| !token.is_empty()),
            offline: cache::is_offline(&lookup),
            timeouts: Timeouts::from_variables(&lookup)?,
        })
    }

    /// Finds the files of a model. `id` is, in this order: a `.gguf` file, a folder, a built-in name, a short name of a
    /// repository, or a repository of the hub as `owner/name` or, for one GGUF file of it, `owner/name/file.gguf`.
    /// `revision` is a branch, tag or commit of the repository, which may also stand behind its name, `owner/name@v1`.
    /// Without `want_weights` safetensors weights are left out.
    ///
    /// # Errors
    /// Unknown names, a revision given twice, missing or broken files, downloads that are forbidden or fail, Ctrl-C.
    pub fn locate(&self, id: &str, revision: Option<&str>, want_weights: bool) -> Result<Located> {
        let (local, built_in) = (local(id)?, built_in(id));
        if let (None, None, Some((name, named))) = (&local, built_in, id.split_once('@')) {
            return match revision {
                None => self.locate(name, Some(named), want_weights),
                Some(other) => Err(Error::new(format!("`{id}` names a revision, and so does `{other}`"))
                    .hint("give it once, behind the name or as the option `revision`")),
            };
        }
        let located = match (local, built_in) {
            (Some(located), _) => located,
            (None, Some(BuiltIn { origin: Origin::Gguf { file, bytes, .. }, .. })) => {
                self.built_in_file(file, *bytes)?
            }
            (None, Some(BuiltIn { origin: Origin::Hub(id), .. })) => {
                return self.repository(id, revision, want_weights);
            }
            (None, None) => {
                let id = alias::repository(id).unwrap_or(id);
                return self.repository(id, revision, want_weights);
            }
        };
        match revision {
            None => Ok(located),
            Some(_) => {
                Err(Error::new(format!("`{id}` has no revisions")).hint("only models of the hub have revisions"))
            }
        }
    }

    /// A file that set-up puts into Lancet's cache.
    fn built_in_file(&self, file: &str, bytes: u64) -> Result<Located> {
        let path = self.models.join(file);
        let found = std::fs::metadata(&path).map(|data| data.len());
        match found {
            Ok(size) if size == bytes => Ok(Located::Gguf(path)),
            Ok(size) => Err(Error::new(format!("`{}` has {size} bytes instead of {bytes}", path.display()))
                .hint("`lancet data smollm2` fetches it again")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let missing = Error::new(format!("`{}` is missing", path.display()));
                Err(missing.hint("`lancet data smollm2` fetches it (92 MB), and so does `make setup` in a checkout"))
            }
            Err(error) => Err(Error::io(&path, &error)),
        }
    }

    fn repository(&self, id: &str, revision: Option<&str>, want_weights: bool) -> Result<Located> {
        let wanted = Wanted::parse(id, revision, want_weights)?;
        match self.cached(&wanted) {
            // Other tools may have cached a model without its tokenizer. Some models have none, so ignore failures.
            Some(Snapshot::Complete(located)) if !self.offline && located.lacks_tokenizer() => {
                match self.download(&wanted) {
                    Err(Error::Interrupted) => Err(Error::Interrupted),
                    fetched => fetched.or(Ok(located)),
                }
            }
            Some(Snapshot::Complete(located)) => Ok(located),
            // The repository may hold other files, so this one is the answer only offline.
            Some(Snapshot::OneGguf(path)) if self.offline => Ok(Located::Gguf(path)),
            _ if !self.offline => self.download(&wanted),
            Some(Snapshot::Lacks(files)) => Err(wanted.not_cached(&files.join("`, `"), &self.cache)),
            _ => Err(wanted.not_cached(wanted.gguf.as_deref().unwrap_or("config.json"), &self.cache)),
        }
    }

    /// The cached files of a repository's revision; `None` if it was never fetched.
    fn cached(&self, wanted: &Wanted) -> Option<Snapshot> {
        Some(Snapshot::read(&self.snapshot(wanted)?, wanted.gguf.as_deref(), wanted.weights))
    }

    /// The folder with the cached files of a repository's revision; `None` if it was never fetched.
    fn snapshot(&self, wanted: &Wanted) -> Option<PathBuf> {
        let repository = self.hub_cache().repo(wanted.repo(&wanted.revision));
        let folder = self.cache.join(wanted.repo(&wanted.revision).folder_name());
        // A branch or tag is recorded with its commit; a commit is a snapshot by its own name.
        let commit = std::fs::read_to_string(folder.join("refs").join(&wanted.revision));
        let commit = commit.unwrap_or_else(|_| wanted.revision.clone());
        let snapshot = is_plain(commit.trim()).then(|| repository.pointer_path(commit.trim()))?;
        Some(snapshot).filter(|snapshot| snapshot.is_dir())
    }

    fn hub_cache(&self) -> HubCache {
        HubCache::new(self.cache.clone())
    }
}

/// The wanted files of one repository.
#[derive(Debug)]
struct Wanted {
    /// `owner/name`.
    id: String,
    revision: String,
    /// One GGUF file by name.
    gguf: Option<String>,
    weights: bool,
    /// The files of an adapter instead of a model's.
    is_adapter: bool,
}

impl Wanted {
    fn parse(id: &str, revision: Option<&str>, weights: bool) -> Result<Self> {
        let parts: Vec<&str> = id.splitn(3, '/').collect();
        let is_word = |part: &str| {
            is_plain(part) && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
        };
        let (owner, name, gguf) = match parts[..] {
            [owner, name] if is_word(owner) && is_word(name) => (owner, name, None),
            [owner, name, file] if is_word(owner) && is_word(name) && file.ends_with(".gguf") && is_plain(file) => {
                (owner, name, Some(file.to_owned()))
            }
            _ => return Err(unknown(id)),
        };
        let revision = revision.unwrap_or("main");
        if !is_plain(revision) {
            return Err(Error::new(format!("`{revision}` cannot be a revision")).hint("give a branch, tag or commit"));
        }
        Ok(Self { id: format!("{owner}/{name}"), revision: revision.to_owned(), gguf, weights, is_adapter: false })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_owned())
    }

    fn not_cached(&self, files: &str, cache: &Path) -> Error {
        let Self { id, revision, .. } = self;
        Error::new(format!("`{files}` of `{id}` ({revision}) is not in the cache `{}`", cache.display()))
            .hint("downloads are off: unset `HF_HUB_OFFLINE` or leave out `--offline` to fetch it")
    }
}

/// A path, in which `~/` stands for the home folder.
fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// A file or folder of this machine, if `id` names one.
fn local(id: &str) -> Result<Option<Located>> {
    let path = home(id);
    if path.is_file() {
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        return if is_gguf {
            Ok(Some(Located::Gguf(path)))
        } else {
            Err(Error::new(format!("`{id}` is a file, but not a `.gguf` file"))
                .hint("give the folder of a model with `config.json`, or a `.gguf` file"))
        };
    }
    if path.is_dir() && !id.is_empty() {
        return match Snapshot::read(&path, None, false) {
            Snapshot::Complete(located) => Ok(Some(located)),
            Snapshot::OneGguf(file) => Ok(Some(Located::Gguf(file))),
            Snapshot::Lacks(_) => Err(Error::new(format!("folder `{id}` has no `config.json`"))
                .hint("the folder of a model has `config.json`, `tokenizer.json` and `.safetensors` files")),
        };
    }
    let is_path = path.is_absolute() || id.starts_with('.') || id.starts_with('~');
    if is_path || (id.ends_with(".gguf") && id.split('/').count() < 3) {
        return Err(Error::new(format!("there is no file or folder `{id}`")));
    }
    Ok(None)
}

/// The error for an id that is not a path, a built-in name or a repository.
fn unknown(id: &str) -> Error {
    let forms =
        "a model is a `.gguf` file, a folder, a hub id `owner/name`, a built-in name or one of TransformerLens's";
    let names = || BUILT_IN.iter().map(|model| model.name);
    let hint = match nearest(id, names().chain(alias::names())) {
        Some(name) => format!("did you mean `{name}`? {forms}"),
        None => format!("{forms}: `{}`", names().collect::<Vec<_>>().join("`, `")),
    };
    Error::new(format!("unknown model `{id}`")).hint(hint)
}
