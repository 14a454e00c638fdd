//! A model's tokenizer: text to token ids and back.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Map, Value as Json};
use tokenizers::AddedToken;

use super::{post_processor, vocabulary};
use crate::error::{Error, Result};
use crate::file;
use crate::gguf::Gguf;
use crate::guard;

/// Tokens that end a turn in a conversation; GGUF files name one end token only.
const TURN_ENDS: [&str; 5] = ["<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"];

/// A tokenizer with its special tokens and its chat template.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    chat_template: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct SpecialTokens {
    bos: Option<i64>,
    eos: Option<i64>,
    pad: Option<i64>,
    unk: Option<i64>,
    ends: Vec<i64>,
}

impl Tokenizer {
    /// The tokenizer of a checkpoint's folder: `tokenizer.json`, with the special tokens and the chat template of the
    /// files beside it. `None` where there is no `tokenizer.json`.
    ///
    /// # Errors
    /// A file that cannot be read or understood; the message names it.
    pub fn from_directory(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("tokenizer.json");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = file::read(&path)?;
        let broken = |reason: &str| Error::new(format!("`{}` is not a tokenizer: {reason}", path.display()));
        let mut inner = match guard::catch(|| tokenizers::Tokenizer::from_bytes(&bytes)) {
            Ok(parsed) => parsed.map_err(|error| broken(&error.to_string()))?,
            Err(_) => return Err(broken("its lists contradict each other")),
        };
        let incomplete = inner.get_post_processor().map(post_processor::token_without_ids).transpose();
        if let Some(token) = incomplete.map_err(|error| broken(&error.to_string()))?.flatten() {
            return Err(broken(&format!("its post-processor names `{token}`, which is not among its special tokens")));
        }
        let files = Files::read(directory)?;
        files.add_tokens(&mut inner)?;
        let mut tokenizer = Self::new(inner)?;
        tokenizer.special = files.special_tokens(&tokenizer.inner);
        tokenizer.chat_template = files.chat_template(directory)?;
        Ok(Some(tokenizer))
    }

    /// The tokenizer that is embedded in a GGUF file, or `None` where it has none.
    ///
    /// # Errors
    /// A vocabulary of an unknown kind, or a damaged one; the message names the file.
    pub fn from_gguf(gguf: &Gguf) -> Result<Option<Self>> {
        let in_file = |error: Error| error.context(format!("`{}`", gguf.path().display()));
        let Some(inner) = vocabulary::tokenizer(gguf).map_err(in_file)? else { return Ok(None) };
        let mut tokenizer = Self::new(inner)?;
        let id = |name: &str| gguf.integer(&format!("tokenizer.ggml.{name}_token_id"));
        let mut special =
            SpecialTokens { bos: id("bos")?, eos: id("eos")?, pad: id("padding")?, unk: id("unknown")?, ends: vec![] };
        special.ends.extend(special.eos);
        special.ends.extend(id("eot")?);
        special.ends.extend(id("eom")?);
        special.ends.extend(TURN_ENDS.iter().filter_map(|token| tokenizer.token_to_id(token)));
        special.sort();
        tokenizer.special = special;
        tokenizer.chat_template = gguf.string("tokenizer.chat_template")?.map(str::to_owned);
        Ok(Some(tokenizer))
    }

    fn new(mut inner: tokenizers::Tokenizer) -> Result<Self> {
        // Some files hold the training run's limits, which would cut or pad every text.
        inner.with_truncation(None).map_err(outside)?;
        inner.with_padding(None);
        Ok(Self { inner, special: SpecialTokens::default(), chat_template: None })
    }

    /// The token ids of a text. `add_special` puts the model's special tokens around it, such as the one at the
    /// beginning; special tokens that are written in the text are recognised either way.
    ///
    /// # Errors
    /// An error of the tokenizers library.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<i64>> {
        let encoding = library(|| self.inner.encode_fast(text, add_special))?;
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    }

    /// The text of token ids, special tokens included.
    ///
    /// # Errors
    /// An id that no token has.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids = ids.iter().map(|id| self.known(*id)).collect::<Result<Vec<u32>>>()?;
        library(|| self.inner.decode(&ids, false))
    }

    /// The text of each token by itself, with its leading space where it has one. A token that holds part of a
    /// character's bytes reads as `�`.
    ///
    /// # Errors
    /// An id that no token has.
    pub fn tokens(&self, ids: &[i64]) -> Result<Vec<String>> {
        ids.iter().map(|id| self.token(*id)).collect()
    }

    fn token(&self, id: i64) -> Result<String> {
        let id = self.known(id)?;
        let text = library(|| self.inner.decode(&[id], false))?;
        // Decoders of the SentencePiece kind drop the space at the beginning of a text.
        let piece = self.inner.id_to_token(id).unwrap_or_default();
        let spaces = piece.chars().take_while(|character| *character == '▁').count();
        let left = text.chars().take_while(|character| *character == ' ').count();
        Ok(format!("{}{text}", " ".repeat(spaces.saturating_sub(left))))
    }

    /// The id as the library wants it, if a token has it.
    fn known(&self, id: i64) -> Result<u32> {
        let token = u32::try_from(id).ok().filter(|id| self.inner.id_to_token(*id).is_some());
        token.ok_or_else(|| Error::new(format!("there is no token `{id}` in a vocabulary of {}", self.vocab_size())))
    }

    /// Whether a token has this id.
    pub fn contains(&self, id: i64) -> bool {
        self.known(id).is_ok()
    }

    /// The id of a token by its spelling in the vocabulary, such as `<|im_start|>` or `Ġbig`.
    pub fn token_to_id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// The number of tokens, added ones included; a model may have more embeddings.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The number of tokens without added ones.
    pub fn base_size(&self) -> usize {
        self.inner.get_vocab_size(false)
    }

    /// The texts of the special tokens, by the names that chat templates use: `bos_token`, `eos_token`, `unk_token` and
    /// `pad_token`, as far as there are such tokens.
    ///
    /// # Errors
    /// A special token whose id no token has.
    pub fn special_texts(&self) -> Result<Map<String, Json>> {
        let special = [("bos", self.bos()), ("eos", self.eos()), ("unk", self.unk()), ("pad", self.pad())];
        let texts = special.into_iter().filter_map(|(name, id)| Some((format!("{name}_token"), id?)));
        texts.map(|(name, id)| Ok((name, self.decode(&[id])?.into()))).collect()
    }

    /// The text of a `tokenizer.json`.
    ///
    /// # Errors
    /// An error of the tokenizers library.
    pub fn json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(outside)
    }

    /// What `tokenizer_config.json` and `generation_config.json` say beside it.
    ///
    /// # Errors
    /// A special token whose id no token has.
    pub fn side_files(&self) -> Result<(Json, Json)> {
        let mut settings = self.special_texts()?;
        settings.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        settings.insert("clean_up_tokenization_spaces".into(), false.into());
        if let Some(template) = &self.chat_template {
            settings.insert("chat_template".into(), template.as_str().into());
        }
        let ids = [("bos", self.special.bos), ("pad", self.special.pad)];
        let mut generation: Map<String, Json> =
            ids.into_iter().filter_map(|(name, id)| Some((format!("{name}_token_id"), id?.into()))).collect();
        if !self.special.ends.is_empty() {
            generation.insert("eos_token_id".into(), self.special.ends.clone().into());
        }
        Ok((settings.into(), generation.into()))
    }

    /// The id of the token that begins a text.
    pub fn bos(&self) -> Option<i64> {
        self.special.bos
    }

    /// The id of the token that ends a text.
    pub fn eos(&self) -> Option<i64> {
        self.special.eos
    }

    /// The id of the token that fills up a batch.
    pub fn pad(&self) -> Option<i64> {
        self.special.pad
    }

    /// The id of the token for unknown text.
    pub fn unk(&self) -> Option<i64> {
        self.special.unk
    }

    /// The ids of all tokens that end generation, ascending.
    pub fn eos_ids(&self) -> &[i64] {
        &self.special.ends
    }

    /// The chat template, in Jinja; see [`render`](super::chat::render).
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }
}

impl SpecialTokens {
    fn sort(&mut self) {
        self.ends.sort_unstable();
        self.ends.dedup();
    }
}

/// The files beside `tokenizer.json`; `null` for one that is missing.
struct Files {
    added_tokens: Json,
    tokenizer_config: Json,
    special_tokens_map: Json,
    generation_config: Json,
    config: Json,
}

impl Files {
    fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            if !path.exists() {
                return Ok(Json::Null);
            }
            let text = file::read_text(&path)?;
            serde_json::from_str(&text).map_err(|error| Error::new(format!("`{}`: {error}", path.display())))
        };
        Ok(Self {
            added_tokens: read("added_tokens.json")?,
            tokenizer_config: read("tokenizer_config.json")?,
            special_tokens_map: read("special_tokens_map.json")?,
            generation_config: read("generation_config.json")?,
            config: read("config.json")?,
        })
    }

    /// Adds the tokens that only the side files hold, as transformers does.
    fn add_tokens(&self, tokenizer: &mut tokenizers::Tokenizer) -> Result<()> {
        let mut tokens: BTreeMap<usize, AddedToken> = BTreeMap::new();
        for (content, id) in self.added_tokens.as_object().into_iter().flatten() {
            let id = id.as_u64().ok_or_else(|| Error::new(format!("`added_tokens.json`: `{content}` has no id")))?;
            tokens.insert(id as usize, AddedToken::from(content, true));
        }
        for (id, token) in self.tokenizer_config["added_tokens_decoder"].as_object().into_iter().flatten() {
            let broken = |reason: String| {
                Error::new(format!("`tokenizer_config.json`: token `{id}` of `added_tokens_decoder`: {reason}"))
            };
            let number = id.parse().map_err(|_| broken("its id is not a number".into()))?;
            let content = token["content"].as_str().ok_or_else(|| broken("it has no `content`".into()))?;
            let flag = |name: &str| token[name].as_bool();
            let mut added = AddedToken::from(content, flag("special").unwrap_or(false))
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false));
            added.normalized = flag("normalized").unwrap_or(added.normalized);
            tokens.insert(number, added);
        }
        for (id, added) in tokens {
            let next = tokenizer.get_vocab_size(true);
            match tokenizer.token_to_id(&added.content) {
                Some(known) if known as usize == id => {}
                None if id == next => {
                    let added = match added.special {
                        true => tokenizer.add_special_tokens([added]),
                        false => tokenizer.add_tokens([added]),
                    };
                    added.map_err(outside)?;
                }
                known => {
                    let elsewhere =
                        known.map_or(format!("the next id is {next}"), |known| format!("it has id {known}"));
                    return Err(Error::new(format!(
                        "a file beside `tokenizer.json` gives the token `{}` the id {id}, but in `tokenizer.json` {elsewhere}",
                        added.content
                    ))
                    .hint("the files do not belong together: save the tokenizer again with transformers"));
                }
            }
        }
        Ok(())
    }

    /// By name in the tokenizer's files first, else by id in the model's.
    fn special_tokens(&self, tokenizer: &tokenizers::Tokenizer) -> SpecialTokens {
        let named = |name: &str| {
            [&self.tokenizer_config, &self.special_tokens_map].into_iter().find_map(|file| {
                let token = &file[format!("{name}_token")];
                let token = token.as_str().or_else(|| token["content"].as_str())?;
                tokenizer.token_to_id(token).map(i64::from)
            })
        };
        let listed = |name: &str| {
            [&self.generation_config, &self.config]
                .into_iter()
                .map(|file| integers(&file[format!("{name}_token_id")]))
                .find(|ids| !ids.is_empty())
                .unwrap_or_default()
        };
        let one = |name: &str| named(name).or_else(|| listed(name).first().copied());
        let mut special =
            SpecialTokens { bos: one("bos"), eos: one("eos"), pad: one("pad"), unk: one("unk"), ends: listed("eos") };
        special.ends.extend(special.eos);
        special.sort();
        special
    }

    fn chat_template(&self, directory: &Path) -> Result<Option<String>> {
        let path = directory.join("chat_template.jinja");
        if path.exists() {
            return file::read_text(&path).map(Some);
        }
        let template = match &self.tokenizer_config["chat_template"] {
            Json::String(template) => Some(template.clone()),
            Json::Array(named) => {
                let templates: HashMap<&str, &str> =
                    named.iter().filter_map(|one| Some((one["name"].as_str()?, one["template"].as_str()?))).collect();
                templates.get("default").map(|template| (*template).to_owned())
            }
            _ => None,
        };
        Ok(template)
    }
}

/// An integer or an array of them.
fn integers(value: &Json) -> Vec<i64> {
    match value {
        Json::Array(items) => items.iter().filter_map(Json::as_i64).collect(),
        one => one.as_i64().into_iter().collect(),
    }
}

/// A call of the tokenizers library, which panics on some files whose settings contradict each other.
fn library<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match guard::catch(call) {
        Ok(result) => result.map_err(outside),
        Err(panic) => Err(Error::new(format!("the tokenizer failed: {panic}"))
            .hint("the settings in its `tokenizer.json` do not fit this text")),
    }
}

/// An error of the tokenizers library.
fn outside(error: tokenizers::Error) -> Error {
    Error::new(error.to_string())
}
