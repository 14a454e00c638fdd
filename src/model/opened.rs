//! What a model's files say of it before any weight is read: its config, and where its weights are.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tch::Kind;

use super::config::{Config, RopeScaling};
use super::family::gguf::ROTARY_DIVISORS;
use super::family::{gguf_keys, multimodal};
use super::language_model::LoadOptions;
use super::lens_checkpoint::LensCheckpoint;
use super::source::{Checkpoint, WeightSource};
use super::text_part::TextPart;
use super::{built_in, family};
use crate::error::{Error, Result};
use crate::file;
use crate::gguf::Gguf;
use crate::hub::{self, Located};
use crate::output::error_line;
use crate::text::tokenizer::Tokenizer;

/// A model's files, opened.
pub(super) struct Opened {
    pub config: Config,
    /// The config.json that it was made from, or its equivalent
    pub json: Json,
    pub weights: Weights,
}

/// Where a model's weights are.
pub(super) enum Weights {
    Gguf(Gguf),
    /// A folder; None where its weights are not wanted
    Checkpoint(PathBuf, Option<Box<dyn WeightSource>>),
    /// Nowhere: only the config is known
    Absent,
}

impl Opened {
    /// Finds and opens a model's files, and those of its weights where they are wanted.
    ///
    /// # Errors
    /// No such model, a config that is not supported, weights that are missing or damaged.
    pub fn new(id: &str, options: &LoadOptions, want_weights: bool) -> Result<Self> {
        if let Some(json) = built_in::config(id).filter(|_| !want_weights) {
            return Ok(Self { config: family::parse(&json)?, json, weights: Weights::Absent });
        }
        match hub::locate(id, options.revision.as_deref(), options.offline, want_weights)? {
            Located::Gguf(path) => {
                let gguf = Gguf::open(&path)?;
                let in_file = |error: Error| error.context(format!("`{}`", path.display()));
                let json = family::gguf::config_json(&gguf).map_err(in_file)?;
                let config = gguf_config(&gguf, &json).map_err(in_file)?;
                Ok(Self { config, json, weights: Weights::Gguf(gguf) })
            }
            Located::Directory(directory) => {
                let path = directory.join("config.json");
                let json = read_json(&path)?;
                let in_config = |error: Error| error.context(format!("`{}`", path.display()));
                let (config, json, source) = match multimodal::find(&json) {
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
                Ok(Self { config, json, weights: Weights::Checkpoint(directory, source) })
            }
        }
    }

    /// The tokenizer, if there is one.
    ///
    /// # Errors
    /// One that cannot be read; metadata of a GGUF file that nothing has read.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        match &self.weights {
            Weights::Gguf(gguf) => {
                let (tokenizer, is_own) = gguf_tokenizer(gguf)?;
                gguf_keys::check(gguf, is_own)?;
                Ok(tokenizer)
            }
            Weights::Checkpoint(directory, _) => Tokenizer::from_directory(directory),
            Weights::Absent => Ok(None),
        }
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
