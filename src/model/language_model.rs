//! A model as users load it: a decoder, its tokenizer if there is one, and its name.

use std::cell::OnceCell;
use std::path::PathBuf;

use serde_json::Value as Json;
use tch::Kind;

use super::adapter::{Adapted, Adapter, Held};
use super::config::Config;
use super::decoder::Decoder;
use super::fingerprint::fingerprint;
use super::opened::{Opened, Weights};
use super::placement::Placement;
use super::room::{self, Machine};
use super::size::Counts;
use super::source::{GgufSource, RandomWeights, WeightSource};
use super::{built_in, load, save};
use crate::error::{Error, Result};
use crate::hub::{self, Located};
use crate::output::error_line;
use crate::text::tokenizer::Tokenizer;

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `auto`, `cpu`, `cuda:N`
    pub device: String,
    /// Consecutive layers go to all GPUs, where the device is `auto`
    pub split: bool,
    /// Element type of weights and activations
    pub kind: Kind,
    /// Branch, tag or commit of a hub repository
    pub revision: Option<String>,
    /// Draw the weights from this seed instead of reading them
    pub random_seed: Option<i64>,
    /// Never use the network
    pub offline: bool,
    /// An adapter to merge into the weights: a folder, or a repository of the hub
    pub adapter: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            split: false,
            kind: Kind::Float,
            revision: None,
            random_seed: None,
            offline: false,
            adapter: None,
        }
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct LanguageModel {
    /// The id it was loaded by
    pub name: String,
    /// Whether its weights are drawn at random
    pub random: bool,
    /// The network.
    pub decoder: Decoder,
    /// The config.json that the decoder was made from, or its equivalent
    pub(super) config_json: Json,
    tokenizer: Option<Tokenizer>,
    fingerprint: OnceCell<String>,
}

impl LanguageModel {
    /// Loads a built-in name, a Hugging Face repository, a folder, or a GGUF file.
    ///
    /// # Errors
    /// No such model, a config that is not supported, weights that are missing, damaged or do not fit; an unknown
    /// device.
    pub fn load(id: &str, options: &LoadOptions) -> Result<Self> {
        let places = Machine::this(None).places(options)?;
        check_kind(options.kind)?;
        if options.adapter.is_some() && options.random_seed.is_some() {
            return Err(not_random());
        }
        let opened = Opened::new(id, options, options.random_seed.is_none())?;
        let tokenizer = opened.tokenizer()?;
        let Opened { config, json: config_json, weights } = opened;
        let placement = room::placement(id, &Counts::new(&config), options.kind, places)?;
        let adapter = match &options.adapter {
            Some(adapter) => Some(Adapter::open(&hub::adapter::locate(adapter, options.offline)?)?),
            None => None,
        };
        let loaded = |config: Config, source: &dyn WeightSource| match &adapter {
            None => load::decoder(config, source, options.kind, &placement),
            Some(adapter) => adapted(id, config, source, adapter, (options.kind, &placement)),
        };
        let decoder = match (options.random_seed, &weights) {
            (Some(seed), _) => {
                let source = RandomWeights::new(&config, seed);
                load::decoder(config, &source, options.kind, &placement)?
            }
            (None, Weights::Gguf(gguf)) => {
                let described = config.clone();
                loaded(config, &GgufSource::new(gguf, &described)?)?
            }
            (None, Weights::Checkpoint(directory, Some(source))) => {
                loaded(config, source.as_ref()).map_err(|error| error.context(format!("`{}`", directory.display())))?
            }
            (None, Weights::Checkpoint(_, None) | Weights::Absent) => {
                return Err(Error::new(format!("`{id}` has no weights")).hint("load it with `init: \"random\"`"));
            }
        };
        // Tokens added later may lie beyond the embeddings, as Gemma 3's for images do; running one is refused.
        if let Some(size) = tokenizer.as_ref().map(Tokenizer::base_size)
            && size as i64 > decoder.config.d_vocab
        {
            return Err(Error::new(format!(
                "the tokenizer has {size} tokens and the model only {}",
                decoder.config.d_vocab
            ))
            .hint("tokenizer and weights do not belong together"));
        }
        Ok(Self {
            name: match &options.adapter {
                Some(adapter) => format!("{id} with {adapter}"),
                None => id.to_owned(),
            },
            random: options.random_seed.is_some(),
            decoder,
            config_json,
            tokenizer,
            fingerprint: OnceCell::new(),
        })
    }

    /// The files that [`LanguageModel::load`] reads; those missing from the hub's cache are downloaded.
    ///
    /// # Errors
    /// No such model or adapter.
    pub fn files(id: &str, options: &LoadOptions) -> Result<Vec<PathBuf>> {
        let is_random = options.random_seed.is_some();
        if is_random && built_in::config(id).is_some() {
            return Ok(Vec::new());
        }
        let mut files = hub::locate(id, options.revision.as_deref(), options.offline, !is_random)?.files()?;
        if let Some(adapter) = &options.adapter {
            files.extend(Located::Directory(hub::adapter::locate(adapter, options.offline)?).files()?);
        }
        Ok(files)
    }

    /// The config of a model. Its weights are neither read nor fetched.
    ///
    /// # Errors
    /// No such model; a config that is not supported; a GGUF file of the hub that is not in the cache.
    pub fn config_of(id: &str, options: &LoadOptions) -> Result<Config> {
        // A GGUF file holds config and weights, and comes as a whole.
        let is_whole = id.ends_with(".gguf");
        let options = LoadOptions { offline: options.offline || is_whole, ..options.clone() };
        Ok(Opened::new(id, &options, false)?.config)
    }

    /// The same model around another decoder, such as one with other weights.
    pub fn with_decoder(&self, decoder: Decoder) -> Self {
        Self {
            name: format!("{} (edited)", self.name.trim_end_matches(" (edited)")),
            random: self.random,
            decoder,
            config_json: self.config_json.clone(),
            tokenizer: self.tokenizer.clone(),
            fingerprint: OnceCell::new(),
        }
    }

    /// The same model with an adapter, a folder or a repository of the hub, merged into its weights. It shares those that
    /// the adapter leaves as they are, where the family's checkpoints store them apart.
    ///
    /// # Errors
    /// Random weights, or those that checkpoints of the family cannot hold; an adapter that is not found, not understood
    /// or does not fit.
    pub fn with_adapter(&self, adapter: &str, offline: bool) -> Result<Self> {
        if self.random {
            return Err(not_random());
        }
        let read = Adapter::open(&hub::adapter::locate(adapter, offline)?)?;
        let held = Held(save::weights(&self.decoder)?);
        let placement = self.decoder.placement();
        let place = (self.decoder.kind, &placement);
        let decoder = adapted(&self.name, self.config().clone(), &held, &read, place)?;
        Ok(Self { name: format!("{} with {adapter}", self.name), ..self.with_decoder(decoder) })
    }

    /// The decoder's configuration.
    pub fn config(&self) -> &Config {
        &self.decoder.config
    }

    /// Whether the model takes text, or token ids only.
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The model came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::new(format!("`{}` has no tokenizer", self.name))
                .hint("put its tokenizer.json beside config.json, or use token ids")
        })
    }

    /// Ids of `text`; special tokens (such as the one that begins a text) are added only if `add_special`.
    ///
    /// # Errors
    /// There is no tokenizer.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<i64>> {
        self.tokenizer()?.encode(text, add_special)
    }

    /// The text of token ids, special tokens included. Embeddings are often padded beyond the vocabulary: an id without
    /// a token decodes to `<|unused ID|>`.
    ///
    /// # Errors
    /// There is no tokenizer, or the model does not have an id.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let tokenizer = self.tokenizer()?;
        ids.chunk_by(|left, right| self.is_padding(tokenizer, *left) == self.is_padding(tokenizer, *right))
            .map(|run| match run.first() {
                Some(id) if self.is_padding(tokenizer, *id) => {
                    Ok(run.iter().map(|id| format!("<|unused {id}|>")).collect())
                }
                _ => tokenizer.decode(run),
            })
            .collect()
    }

    /// The text of each token by itself; otherwise as [`LanguageModel::decode`].
    ///
    /// # Errors
    /// There is no tokenizer, or the model does not have an id.
    pub fn tokens(&self, ids: &[i64]) -> Result<Vec<String>> {
        let tokenizer = self.tokenizer()?;
        ids.iter()
            .map(|id| {
                if self.is_padding(tokenizer, *id) {
                    self.decode(&[*id])
                } else {
                    tokenizer.tokens(&[*id]).map(|texts| texts.concat())
                }
            })
            .collect()
    }

    fn is_padding(&self, tokenizer: &Tokenizer, id: i64) -> bool {
        (0..self.decoder.config.d_vocab).contains(&id) && !tokenizer.contains(id)
    }

    /// Ids that end a generated text.
    pub fn eos_ids(&self) -> Vec<i64> {
        let mut ids = self.decoder.config.eos_token_ids.clone();
        if let Some(tokenizer) = &self.tokenizer {
            ids.extend(tokenizer.eos_ids());
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The number of weights.
    pub fn parameter_count(&self) -> i64 {
        self.decoder.weights().iter().map(|weight| weight.numel() as i64).sum()
    }

    /// A hash of the config and of every weight as it was loaded, computed once. Equal models have equal fingerprints
    /// on every device.
    ///
    /// # Errors
    /// Too little memory on the weights' device; Ctrl-C.
    pub fn fingerprint(&self) -> Result<&str> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known);
        }
        let computed = fingerprint(&self.decoder)?;
        Ok(self.fingerprint.get_or_init(|| computed))
    }
}

fn not_random() -> Error {
    Error::new("an adapter changes trained weights, not random ones")
}

/// The decoder with an adapter merged into its weights.
fn adapted(
    id: &str,
    mut config: Config,
    source: &dyn WeightSource,
    adapter: &Adapter,
    (kind, placement): (Kind, &Placement),
) -> Result<Decoder> {
    let source = Adapted::new(source, adapter, &mut config)?;
    let decoder = load::decoder(config, &source, kind, placement)?;
    source.check_used()?;
    if let Some(base) = adapter.base.as_ref().filter(|_| !adapter.fits(id)) {
        error_line(&format!("note: the adapter was trained on `{base}`, and this is `{id}`"));
    }
    Ok(decoder)
}

fn check_kind(kind: Kind) -> Result<()> {
    match kind {
        Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16 => Ok(()),
        other => Err(Error::new(format!("a model cannot be loaded as {}", crate::tensor::kind_name(other)))
            .hint("one of f32, bf16, f16, f64")),
    }
}
