//! The tokenizer that is embedded in a GGUF file: tokens, merges or scores, and the name of a way to split text into
//! words. The file holds no more than that; the rest follows the Hugging Face tokenizers that such files are converted
//! from.

use std::cmp::Reverse;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};
use tokenizers::{decoders, normalizers, pre_tokenizers};

use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// The token types of GGUF that matter here.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// The way out where a file's own vocabulary is not understood.
const BESIDE: &str = "put the model's `tokenizer.json` beside the file";

/// SentencePiece's word separator.
const SEPARATOR: &str = "▁";

/// The embedded tokenizer, or `None` where the file has none.
///
/// # Errors
/// An unknown kind of vocabulary or way to split words, or lists that contradict each other.
pub(super) fn tokenizer(gguf: &Gguf) -> Result<Option<Tokenizer>> {
    let (Some(model), Some(tokens)) = (gguf.string("tokenizer.ggml.model")?, gguf.strings("tokenizer.ggml.tokens")?)
    else {
        return Ok(None);
    };
    let types = gguf.integers("tokenizer.ggml.token_type")?;
    if types.is_some_and(|types| types.len() != tokens.len()) {
        return Err(Error::new("there are not as many token types as tokens"));
    }
    let vocabulary = Vocabulary { gguf, tokens, types };
    match model {
        "gpt2" => vocabulary.byte_level().map(Some),
        "llama" => vocabulary.sentence_piece().map(Some),
        "none" | "no_vocab" => Ok(None),
        other => Err(Error::new(format!("the embedded vocabulary is of the kind `{other}`, which is not supported"))
            .hint(format!("the kinds `gpt2` and `llama` are; {BESIDE}"))),
    }
}

struct Vocabulary<'a> {
    gguf: &'a Gguf,
    tokens: &'a [String],
    types: Option<&'a [i64]>,
}

impl Vocabulary<'_> {
    /// Byte-level BPE with a list of merges, as in GPT-2, Llama 3 and Qwen.
    fn byte_level(&self) -> Result<Tokenizer> {
        let splitting = self.splitting()?;
        let lines =
            self.gguf.strings("tokenizer.ggml.merges")?.ok_or_else(|| self.gguf.missing("tokenizer.ggml.merges"))?;
        let merges = lines
            .iter()
            .map(|line| {
                let parts = line.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
                let (left, right) = parts.ok_or_else(|| Error::new(format!("the merge `{line}` is not two tokens")))?;
                Ok((left.to_owned(), right.to_owned()))
            })
            .collect::<Result<Vec<_>>>()?;
        let ids = self.ids(|token, _| token.clone())?;
        let model = build(BPE::builder().ignore_merges(splitting.whole_words), ids, merges)?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(splitting.composes.then_some(NFC)).map_err(outside)?;
        tokenizer.with_pre_tokenizer(Some(splitting.pre_tokenizer()?));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        self.finish(tokenizer, splitting.begins)
    }

    /// How text is split into words. Files from before the key say nothing; only GPT-2 can be meant in one way.
    fn splitting(&self) -> Result<Splitting> {
        match self.gguf.string("tokenizer.ggml.pre")? {
            Some(name) => Splitting::of(name),
            None if self.gguf.architecture()? == "gpt2" => Splitting::of("gpt-2"),
            None => {
                Err(Error::new("the file does not say how text is split into words: it has no `tokenizer.ggml.pre`")
                    .hint(BESIDE))
            }
        }
    }

    /// SentencePiece BPE with scores and bytes to fall back on, as in Llama 2, Mistral, Gemma and Phi-3.
    fn sentence_piece(&self) -> Result<Tokenizer> {
        let scores = self
            .gguf
            .floats("tokenizer.ggml.scores")?
            .filter(|scores| scores.len() == self.tokens.len())
            .ok_or_else(|| Error::new("`tokenizer.ggml.scores` must hold one score a token"))?;
        let ids = self.ids(|token, kind| sentence_piece_spelling(token, kind))?;
        let merges = self.merges(&ids, scores);
        let mut builder = BPE::builder().byte_fallback(true).fuse_unk(true);
        if let Some(token) = self.special("tokenizer.ggml.unknown_token_id")? {
            builder = builder.unk_token(token.to_owned());
        }
        let mut tokenizer = Tokenizer::new(build(builder, ids, merges)?);
        let prefix = self.gguf.boolean("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let replace = Replace::new(" ", SEPARATOR).map_err(outside)?;
        let mut normalizers: Vec<NormalizerWrapper> = vec![replace.into()];
        let mut decoders: Vec<DecoderWrapper> =
            vec![Replace::new(SEPARATOR, " ").map_err(outside)?.into(), ByteFallback::new().into(), Fuse::new().into()];
        if prefix {
            normalizers.insert(0, Prepend::new(SEPARATOR.to_owned()).into());
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_normalizer(Some(normalizers::Sequence::new(normalizers))).map_err(outside)?;
        tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(decoders)));
        self.finish(tokenizer, true)
    }

    fn kind(&self, id: usize) -> Option<i64> {
        self.types.and_then(|types| types.get(id)).copied()
    }

    /// Token to id, each token as `spelling` gives it.
    fn ids(&self, spelling: impl Fn(&String, i64) -> String) -> Result<Vocab> {
        let mut ids = Vocab::default();
        for (id, token) in self.tokens.iter().enumerate() {
            let number = u32::try_from(id).map_err(|_| Error::new("there are too many tokens"))?;
            // Among tokens with the same spelling the first counts; later ones are padding.
            ids.entry(spelling(token, self.kind(id).unwrap_or(NORMAL))).or_insert(number);
        }
        Ok(ids)
    }

    /// The merges that SentencePiece's scores stand for, best first: every way to put a token together from two others.
    /// Ties are broken as in transformers' `generate_merges`.
    fn merges(&self, ids: &Vocab, scores: &[f64]) -> Vec<(String, String)> {
        let mut merges = Vec::new();
        for (id, (token, score)) in self.tokens.iter().zip(scores).enumerate() {
            let kind = self.kind(id).unwrap_or(NORMAL);
            if matches!(kind, UNKNOWN | CONTROL | BYTE) {
                continue;
            }
            let token = sentence_piece_spelling(token, kind);
            if ids.get(&token).is_none_or(|meant| *meant as usize != id) {
                continue;
            }
            let parts = token.char_indices().skip(1).filter_map(|(at, _)| token.split_at_checked(at));
            let known = parts.filter(|(left, right)| ids.contains_key(*left) && ids.contains_key(*right));
            merges.extend(known.map(|(left, right)| (*score, left.to_owned(), right.to_owned())));
        }
        let lengths = |left: &str, right: &str| Reverse((left.chars().count(), right.chars().count()));
        merges.sort_by(|(score, left, right), (other, other_left, other_right)| {
            other.total_cmp(score).then_with(|| lengths(left, right).cmp(&lengths(other_left, other_right)))
        });
        merges.into_iter().map(|(_, left, right)| (left, right)).collect()
    }

    /// The token that a metadata key names by id.
    fn special(&self, key: &str) -> Result<Option<&str>> {
        let Some(id) = self.gguf.integer(key)? else { return Ok(None) };
        let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        token
            .map(|token| Some(token.as_str()))
            .ok_or_else(|| Error::new(format!("metadata `{key}` is {id}, and there are {} tokens", self.tokens.len())))
    }

    /// Marks the special tokens and sets those put around a text; `begins` is the default for the first one.
    fn finish(&self, mut tokenizer: Tokenizer, begins: bool) -> Result<Tokenizer> {
        let of_kind = |wanted: &'static [i64]| {
            let types = self.types.unwrap_or_default().iter();
            types.zip(self.tokens).filter(|(kind, token)| wanted.contains(kind) && !token.is_empty())
        };
        // Phi-3's special tokens swallow the white space after them; the metadata does not mention it.
        let swallows =
            self.gguf.architecture()? == "phi3" && self.gguf.string("tokenizer.ggml.model")? == Some("llama");
        let swallows = |token: &str| swallows && !matches!(token, "<unk>" | "<s>" | "<|endoftext|>");
        let special = of_kind(&[UNKNOWN, CONTROL])
            .map(|(_, token)| AddedToken::from(token.as_str(), true).rstrip(swallows(token)));
        let user = of_kind(&[USER_DEFINED]).map(|(_, token)| AddedToken::from(separated(token), false));
        tokenizer.add_special_tokens(special.map(|token| token.normalized(false))).map_err(outside)?;
        tokenizer.add_tokens(user.map(|token| token.normalized(false))).map_err(outside)?;

        let around = [
            ("bos", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", begins),
            ("eos", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false),
        ];
        let (mut template, mut tokens) = (vec!["$A"], Vec::new());
        for (name, wanted, key, default) in around {
            if !self.gguf.boolean(wanted)?.unwrap_or(default) {
                continue;
            }
            let Some(token) = self.special(key)? else { continue };
            let id = tokenizer.token_to_id(token).ok_or_else(|| {
                Error::new(format!("the token `{token}` of metadata `{key}` is not in the vocabulary"))
            })?;
            let at = if name == "bos" { 0 } else { template.len() };
            template.insert(at, name);
            tokens.push(SpecialToken::new(name.to_owned(), vec![id], vec![token.to_owned()]).map_err(outside)?);
        }
        if !tokens.is_empty() {
            let mut builder = TemplateProcessing::builder();
            builder.try_single(template).map_err(Error::new)?;
            let processor = builder.special_tokens(tokens).build().map_err(|error| Error::new(error.to_string()))?;
            tokenizer.with_post_processor(Some(processor));
        }
        Ok(tokenizer)
    }
}

/// How SentencePiece spells a token of a file.
fn sentence_piece_spelling(token: &str, kind: i64) -> String {
    if matches!(kind, NORMAL | USER_DEFINED) { separated(token) } else { token.to_owned() }
}

/// Runs of spaces, which llama.cpp's converters write out, as SentencePiece spells them.
fn separated(token: &str) -> String {
    if token.chars().all(|character| character == ' ') { token.replace(' ', SEPARATOR) } else { token.to_owned() }
}

fn build(builder: tokenizers::models::bpe::BpeBuilder, ids: Vocab, merges: Vec<(String, String)>) -> Result<BPE> {
    // The builder fails on merges of unknown tokens, but panics where their result is longer than every token.
    for (left, right) in &merges {
        let merged = format!("{left}{right}");
        if !ids.contains_key(&merged) {
            return Err(Error::new(format!("the merge of `{left}` and `{right}` is not in the vocabulary")));
        }
    }
    builder.vocab_and_merges(ids, merges).build().map_err(outside)
}

/// An error of the tokenizers library.
fn outside(error: tokenizers::Error) -> Error {
    Error::new(error.to_string())
}

/// How text is split into words before byte-level BPE, by llama.cpp's name for it.
struct Splitting {
    words: Words,
    /// Whether the text is put in Unicode's composed form first.
    composes: bool,
    /// Whether a word that is a token stays whole, without merges.
    whole_words: bool,
    /// Whether a text begins with the first special token unless the file says otherwise.
    begins: bool,
}

enum Words {
    /// GPT-2's own pattern.
    Gpt2,
    /// GPT-2's pattern after taking out every digit.
    DigitsThenGpt2,
    /// A pattern; Unicode classes as in Oniguruma.
    Pattern(&'static str),
}

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

impl Splitting {
    fn of(name: &str) -> Result<Self> {
        let plain = Self { words: Words::Gpt2, composes: false, whole_words: false, begins: false };
        Ok(match name {
            "gpt-2" | "mpt" | "phi-2" | "roberta-bpe" => plain,
            "olmo" => Self { composes: true, ..plain },
            "smollm" | "starcoder" | "refact" | "codeshell" => Self { words: Words::DigitsThenGpt2, ..plain },
            "llama-bpe" | "llama3" | "llama-v3" => {
                Self { words: Words::Pattern(LLAMA3), whole_words: true, begins: true, ..plain }
            }
            "dbrx" | "smaug-bpe" => Self { words: Words::Pattern(LLAMA3), ..plain },
            "qwen2" | "deepseek-r1-qwen" => Self { words: Words::Pattern(QWEN2), composes: true, ..plain },
            "tekken" => Self { words: Words::Pattern(TEKKEN), whole_words: true, begins: true, ..plain },
            "gpt-4o" => Self { words: Words::Pattern(GPT4O), ..plain },
            other => {
                return Err(Error::new(format!(
                    "the embedded vocabulary splits words as `{other}`, which is not known"
                ))
                .hint(BESIDE));
            }
        })
    }

    fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper> {
        let bytes = |splits: bool| PreTokenizerWrapper::from(ByteLevel::new(false, true, splits));
        let before: PreTokenizerWrapper = match self.words {
            Words::Gpt2 => return Ok(bytes(true)),
            Words::DigitsThenGpt2 => Digits::new(true).into(),
            Words::Pattern(pattern) => {
                let pattern = SplitPattern::Regex(pattern.to_owned());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(outside)?.into()
            }
        };
        let splits = matches!(self.words, Words::DigitsThenGpt2);
        Ok(pre_tokenizers::sequence::Sequence::new(vec![before, bytes(splits)]).into())
    }
}
