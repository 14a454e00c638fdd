//! A model as users load it: a decoder, its tokenizer if there is one, and its name.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tch::{Device, Kind};

use super::adapter::{Adapted, Adapter, Held};
use super::config::{Config, RopeScaling};
use super::decoder::Decoder;
use super::family::gguf::ROTARY_DIVISORS;
use super::family::gguf_keys;
use super::family::multimodal;
use super::fingerprint::fingerprint;
use super::lens_checkpoint::LensCheckpoint;
use super::source::{Checkpoint, GgufSource, RandomWeights, WeightSource};
use super::text_part::TextPart;
use super::{built_in, family, load, save};
use crate::device;
use crate::error::{Error, Result};
use crate::file;
use crate::gguf::Gguf;
use crate::hub::{self, Located};
use crate::output::error_line;
use crate::text::tokenizer::Tokenizer;

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `auto`, `cpu`, `cuda:N`
    pub device: String,
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
        let device = device::parse_device(&options.device)?;
        check_kind(options.kind)?;
        if options.adapter.is_some() && options.random_seed.is_some() {
            return Err(not_random());
        }
        let built_in = built_in::config(id).filter(|_| options.random_seed.is_some());
        if let Some(config) = built_in {
            return Self::build(id, (family::parse(&config)?, config), None, Weights::Absent, options, device);
        }
        let want_weights = options.random_seed.is_none();
        match hub::locate(id, options.revision.as_deref(), options.offline, want_weights)? {
            Located::Gguf(path) => {
                let gguf = Gguf::open(&path)?;
                let in_file = |error: Error| error.context(format!("`{}`", path.display()));
                let json = family::gguf::config_json(&gguf).map_err(in_file)?;
                let config = gguf_config(&gguf, &json).map_err(in_file)?;
                let (tokenizer, is_own) = gguf_tokenizer(&gguf)?;
                gguf_keys::check(&gguf, is_own)?;
                Self::build(id, (config, json), tokenizer, Weights::Gguf(&gguf), options, device)
            }
            Located::Directory(directory) => {
                let path = directory.join("config.json");
                let json = read_json(&path)?;
                let tokenizer = Tokenizer::from_directory(&directory)?;
                let in_config = |error: Error| error.context(format!("`{}`", path.display()));
                let (config, json, weights) = match multimodal::find(&json) {
                    None => {
                        let config = family::parse(&json).map_err(in_config)?;
                        let open = || -> Result<Box<dyn WeightSource>> {
                            Ok(match family::has_lens_names(&config) {
                                true => Box::new(LensCheckpoint::open(&directory, &config)?),
                                false => Box::new(Checkpoint::open(&directory)?),
                            })
                        };
                        let checkpoint = want_weights.then(open).transpose()?;
                        (config, json, checkpoint)
                    }
                    Some(kind) => {
                        let part = want_weights.then(|| TextPart::open(&directory, kind)).transpose()?;
                        let stores_unembedding = part.as_ref().map(|part| part.contains("lm_head.weight"));
                        let text = kind.text_config(&json, stores_unembedding).map_err(in_config)?;
                        let config = family::parse(&text).map_err(in_config)?;
                        let left_out = part.as_ref().map_or("its other parts".into(), TextPart::left_out);
                        error_line(&format!("note: of `{id}`, only the text part is loaded, without {left_out}"));
                        (config, text, part.map(|part| Box::new(part) as Box<dyn WeightSource>))
                    }
                };
                let weights = weights.map_or(Weights::Absent, |source| Weights::Checkpoint(&directory, source));
                Self::build(id, (config, json), tokenizer, weights, options, device)
            }
        }
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

    fn build(
        id: &str,
        (config, config_json): (Config, Json),
        tokenizer: Option<Tokenizer>,
        weights: Weights,
        options: &LoadOptions,
        device: Device,
    ) -> Result<Self> {
        let adapter = match &options.adapter {
            Some(adapter) => Some(Adapter::open(&hub::adapter::locate(adapter, options.offline)?)?),
            None => None,
        };
        let loaded = |config: Config, source: &dyn WeightSource| match &adapter {
            None => load::decoder(config, source, options.kind, device),
            Some(adapter) => adapted(id, config, source, adapter, (options.kind, device)),
        };
        let decoder = match (options.random_seed, weights) {
            (Some(seed), _) => {
                let source = RandomWeights::new(&config, seed);
                load::decoder(config, &source, options.kind, device)?
            }
            (None, Weights::Gguf(gguf)) => {
                let described = config.clone();
                loaded(config, &GgufSource::new(gguf, &described)?)?
            }
            (None, Weights::Checkpoint(directory, source)) => {
                loaded(config, source.as_ref()).map_err(|error| error.context(format!("`{}`", directory.display())))?
            }
            (None, Weights::Absent) => {
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
        let place = (self.decoder.kind, self.decoder.device);
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
    (kind, device): (Kind, Device),
) -> Result<Decoder> {
    let source = Adapted::new(source, adapter, &mut config)?;
    let decoder = load::decoder(config, &source, kind, device)?;
    source.check_used()?;
    if let Some(base) = adapter.base.as_ref().filter(|_| !adapter.fits(id)) {
        error_line(&format!("note: the adapter was trained on `{base}`, and this is `{id}`"));
    }
    Ok(decoder)
}

enum Weights<'a> {
    Gguf(&'a Gguf),
    Checkpoint(&'a Path, Box<dyn WeightSource>),
    Absent,
}

fn check_kind(kind: Kind) -> Result<()> {
    match kind {
        Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16 => Ok(()),
        other => Err(Error::new(format!("a model cannot be loaded as {}", crate::tensor::kind_name(other)))
            .hint("one of f32, bf16, f16, f64")),
    }
}

fn read_json(path: &Path) -> Result<Json> {
    let text = file::read_text(path)?;
    serde_json::from_str(&text).map_err(|error| Error::new(format!("`{}` is not valid JSON: {error}", path.display())))
}

/// A GGUF file's tokenizer, and whether it is the file's own. Where the file has none or one that is not understood, it is
/// the `tokenizer.json` beside it.
fn gguf_tokenizer(gguf: &Gguf) -> Result<(Option<Tokenizer>, bool)> {
    let own = Tokenizer::from_gguf(gguf);
    if matches!(own, Ok(Some(_))) {
        return Ok((own?, true));
    }
    let folder = gguf.path().parent().unwrap_or(Path::new(""));
    match Tokenizer::from_directory(folder)? {
        Some(beside) => Ok((Some(beside), false)),
        None => Ok((own?, true)),
    }
}

/// The config in a GGUF file's metadata, with the rotary divisors that newer Llama files store as a tensor.
fn gguf_config(gguf: &Gguf, json: &Json) -> Result<Config> {
    let mut config = family::parse(json)?;
    if gguf.contains(ROTARY_DIVISORS) {
        let divisors = Vec::<f64>::try_from(&gguf.load(ROTARY_DIVISORS)?.f_to_kind(Kind::Double)?)?;
        for rope in config.layers.iter_mut().filter_map(|layer| layer.rope.as_mut()) {
            if matches!(rope.scaling, RopeScaling::Divisors(_)) {
                rope.scaling = RopeScaling::Divisors(divisors.clone());
            }
        }
    }
    Ok(config)
}
