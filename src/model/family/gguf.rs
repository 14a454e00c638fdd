//! GGUF files of every family: Hugging Face's config.json from the file's metadata, weights' names, and the changes of
//! llama.cpp's converter to the weights. Names as in gguf-py's tensor_mapping.py, changes as in convert_hf_to_gguf.py.

use std::fmt::Display;

use serde_json::{Value as Json, json};
use tch::Tensor;

use super::ARCHITECTURES;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use crate::model::naming::{AttentionNaming, MlpNaming, Naming, NormNaming};

/// The tensor with the divisors of Llama 3's rotary frequencies.
pub const ROTARY_DIVISORS: &str = "rope_freqs.weight";
/// The tensors with the divisors of longrope's frequencies, in long and in short texts.
pub const LONG_FACTORS: &str = "rope_factors_long.weight";
/// See [`LONG_FACTORS`].
pub const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// One of llama.cpp's architectures.
#[derive(Debug)]
pub struct Architecture {
    /// llama.cpp's name
    pub name: &'static str,
    /// The names of the weights in the original checkpoint
    pub naming: Naming,
    /// The converter's changes of the weights
    pub conversion: Conversion,
    /// The config.json of the original checkpoint
    pub(super) config: fn(&Metadata) -> Result<Json>,
}

/// The converter's changes of an architecture's weights, which the loader undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// Rows of the query and key projections (and of their biases) are permuted within each head: see
    /// [`unpermute_rotary`].
    pub rotary_permuted: bool,
    /// Every norm weight is stored with one added, where Hugging Face's code adds it when it computes.
    pub norm_plus_one: bool,
    /// Linear weights are stored `[out, in]`, where Hugging Face's checkpoint has `Conv1D` weights, `[in, out]`.
    pub linear_layout: bool,
    /// The fused projection holds all queries, then all keys, then all values, where Hugging Face interleaves the three
    /// head by head.
    pub qkv_split: bool,
}

impl Conversion {
    /// No change.
    pub const NONE: Self =
        Self { rotary_permuted: false, norm_plus_one: false, linear_layout: false, qkv_split: false };
}

/// llama.cpp's architecture of that name.
pub fn find(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|architecture| architecture.name == name)
}

/// The architecture of a file.
///
/// # Errors
/// A missing architecture, or one that is not supported.
pub fn architecture(gguf: &Gguf) -> Result<&'static Architecture> {
    let name = gguf.architecture()?;
    find(name).ok_or_else(|| {
        let supported: Vec<&str> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
        Error::new(format!("`{}`: the architecture `{name}` is not supported", gguf.path().display()))
            .hint(format!("the supported ones are {}", supported.join(", ")))
    })
}

/// The `config.json` of the original checkpoint, as far as metadata and tensors determine it.
///
/// Two fields differ from Hugging Face's files. `rope_scaling` is `{"rope_type": "frequency_factors"}` if the file has
/// a tensor `rope_freqs.weight` (Llama 3.1 and later): each inverse frequency is divided by its factor. And sliding
/// windows are always written as `layer_types`.
///
/// # Errors
/// An architecture that is not supported, or a required key that is missing or of the wrong type.
pub fn config_json(gguf: &Gguf) -> Result<Json> {
    let architecture = architecture(gguf)?;
    (architecture.config)(&Metadata { gguf, architecture: architecture.name })
}

/// Reads the keys that begin with the architecture's name.
pub(super) struct Metadata<'a> {
    pub gguf: &'a Gguf,
    pub architecture: &'static str,
}

impl<'a> Metadata<'a> {
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub fn error(&self, message: impl Display) -> Error {
        Error::new(format!("`{}`: {message}", self.gguf.path().display()))
    }

    /// An integer; an array of equal integers, one a layer, counts as one.
    pub fn optional_integer(&self, name: &str) -> Result<Option<i64>> {
        let key = self.key(name);
        match self.gguf.metadata(&key) {
            Some(Value::Integers(layers)) => match layers.first() {
                Some(first) if layers.iter().all(|layer| layer == first) => Ok(Some(*first)),
                _ => Err(self.error(format!("metadata `{key}` differs between layers, which is not supported"))),
            },
            _ => self.gguf.integer(&key),
        }
    }

    pub fn integer(&self, name: &str) -> Result<i64> {
        self.optional_integer(name)?.ok_or_else(|| self.gguf.missing(&self.key(name)))
    }

    /// A float, as the shortest decimal that names the stored 32-bit value: the file's `1e-5` is 9.999999747378752e-6.
    pub fn optional_float(&self, name: &str) -> Result<Option<f64>> {
        let stored = self.gguf.float(&self.key(name))?;
        Ok(stored.map(|stored| (stored as f32).to_string().parse().unwrap_or(stored)))
    }

    pub fn float(&self, name: &str) -> Result<f64> {
        self.optional_float(name)?.ok_or_else(|| self.gguf.missing(&self.key(name)))
    }

    pub fn string(&self, name: &str) -> Result<Option<&'a str>> {
        self.gguf.string(&self.key(name))
    }

    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        self.gguf.boolean(&self.key(name))
    }

    /// The number of stored embeddings; the metadata may have another number or none.
    fn vocabulary_size(&self) -> Result<i64> {
        match self.gguf.shape("token_embd.weight").as_deref() {
            Some([size, _]) => Ok(*size),
            _ => Err(self.error("there is no matrix `token_embd.weight`")),
        }
    }

    pub fn heads(&self) -> Result<i64> {
        let heads = self.integer("attention.head_count")?;
        if heads < 1 {
            return Err(self.error(format!("metadata `{}` is {heads}", self.key("attention.head_count"))));
        }
        Ok(heads)
    }

    /// The common fields of every architecture's config.
    pub fn common(&self, model_type: &str) -> Result<Json> {
        if self.optional_integer("expert_count")?.unwrap_or(0) > 0 {
            return Err(self.error("mixtures of experts are not supported"));
        }
        if self.boolean("attention.causal")? == Some(false) {
            return Err(self.error("the model's attention is not causal, which is not supported"));
        }
        let mut config = json!({
            "model_type": model_type,
            "vocab_size": self.vocabulary_size()?,
            "tie_word_embeddings": !self.gguf.contains("output.weight"),
        });
        for name in ["bos_token_id", "eos_token_id"] {
            config[name] = json!(self.gguf.integer(&format!("tokenizer.ggml.{name}"))?);
        }
        Ok(config)
    }

    /// Fails unless the keys about heads agree with heads of `head_dim`, whose scores are scaled by 1 / √`scalar`.
    pub fn check_heads(&self, head_dim: i64, scalar: i64) -> Result<()> {
        for name in ["attention.key_length", "attention.value_length"] {
            if let Some(length) = self.optional_integer(name)?.filter(|length| *length != head_dim) {
                return Err(self.error(format!("metadata `{}` is {length}, and heads have {head_dim}", self.key(name))));
            }
        }
        let expected = (scalar as f64).powf(-0.5);
        match self.optional_float("attention.scale")? {
            Some(scale) if scale != 0.0 && (scale / expected - 1.0).abs() > 1e-6 => {
                Err(self.error(format!("metadata `{}` is {scale}, not {expected}", self.key("attention.scale"))))
            }
            _ => Ok(()),
        }
    }

    /// For each layer, whether it has a sliding window: by the file's pattern, or all but every `period`-th.
    pub fn slides(&self, period: i64) -> Result<Vec<bool>> {
        let layers = self.integer("block_count")?;
        let key = self.key("attention.sliding_window_pattern");
        let period = match self.gguf.metadata(&key) {
            None => period,
            Some(Value::Integer(period)) if *period > 0 => *period,
            Some(Value::Booleans(pattern)) if i64::try_from(pattern.len()) == Ok(layers) => return Ok(pattern.clone()),
            Some(_) => {
                return Err(self.error(format!("metadata `{key}` should be a period or {layers} truth values")));
            }
        };
        Ok((1..=layers).map(|layer| layer % period != 0).collect())
    }
}

/// The share of a head's dimensions that gives `rotary` of them again when a config is read.
pub(super) fn share(rotary: i64, head_dim: i64) -> f64 {
    let share = rotary as f64 / head_dim as f64;
    if (head_dim as f64 * share) as i64 == rotary { share } else { share.next_up() }
}

/// Sets a field to the file's value, if there is one.
pub(super) fn set(config: &mut Json, field: &str, value: Option<impl Into<Json>>) {
    if let Some(value) = value {
        config[field] = value.into();
    }
}

/// The field `layer_types`.
pub(super) fn layer_types(slides: impl IntoIterator<Item = bool>) -> Json {
    slides.into_iter().map(|slides| if slides { "sliding_attention" } else { "full_attention" }).collect()
}

/// The GGUF name of a Hugging Face weight (`model.layers.3.self_attn.q_proj.weight` is `blk.3.attn_q.weight`), or
/// `None` for an architecture or a weight that llama.cpp does not store. The root (`model.`) may be left out.
pub fn tensor_name(architecture: &str, name: &str) -> Option<String> {
    let naming = &find(architecture)?.naming;
    let (name, suffix) = name.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))?;
    if name == naming.unembedding {
        return Some(format!("output.{suffix}"));
    }
    let name = name.strip_prefix(naming.root).unwrap_or(name);
    let outer = [
        (Some(naming.embedding), "token_embd"),
        (naming.position_embedding, "position_embd"),
        (Some(naming.final_norm), "output_norm"),
    ];
    if let Some((_, found)) = outer.iter().find(|(theirs, _)| *theirs == Some(name)) {
        return Some(format!("{found}.{suffix}"));
    }
    let (number, part) = name.strip_prefix(naming.layers)?.split_once('.')?;
    let number: usize = number.parse().ok()?;
    let (_, found) = layer_names(naming).into_iter().find(|(theirs, _)| *theirs == part)?;
    Some(format!("blk.{number}.{found}.{suffix}"))
}

/// Hugging Face's name and llama.cpp's of each weight of a layer.
fn layer_names(naming: &Naming) -> Vec<(&'static str, &'static str)> {
    let mut names = vec![
        (naming.attention_output, "attn_output"),
        (naming.query_norm, "attn_q_norm"),
        (naming.key_norm, "attn_k_norm"),
        (naming.mlp_down, "ffn_down"),
    ];
    match naming.attention {
        AttentionNaming::Separate { query, key, value } => {
            names.extend([(query, "attn_q"), (key, "attn_k"), (value, "attn_v")]);
        }
        AttentionNaming::Stacked(fused) | AttentionNaming::StackedColumns(fused) | AttentionNaming::PerHead(fused) => {
            names.push((fused, "attn_qkv"));
        }
    }
    match naming.mlp {
        MlpNaming::Gated { gate, up } => names.extend([(gate, "ffn_gate"), (up, "ffn_up")]),
        MlpNaming::GatedStacked(up) | MlpNaming::Plain { up } => names.push((up, "ffn_up")),
        // No architecture with experts is read from GGUF files.
        MlpNaming::Experts { .. } | MlpNaming::StackedExperts { .. } => {}
    }
    match naming.norms {
        NormNaming::Shared(both) => names.push((both, "attn_norm")),
        NormNaming::Pre { attention, mlp } => names.extend([(attention, "attn_norm"), (mlp, "ffn_norm")]),
        NormNaming::Post { attention, mlp } => {
            names.extend([(attention, "post_attention_norm"), (mlp, "post_ffw_norm")]);
        }
        NormNaming::Both { attention, attention_post, mlp, mlp_post } => names.extend([
            (attention, "attn_norm"),
            (attention_post, "post_attention_norm"),
            (mlp, "ffn_norm"),
            (mlp_post, "post_ffw_norm"),
        ]),
    }
    names
}

/// Undoes a change of llama.cpp's converter to the query and key projections of Llama models: it interleaves the two
/// halves of each head's rotary dimensions. `tensor` is a weight `[heads * head_dim, in]` or a bias `[heads *
/// head_dim]`; `heads` counts query heads for the query and key heads for the key.
///
/// # Errors
/// A first dimension that does not divide into `heads` of even size.
pub fn unpermute_rotary(tensor: &Tensor, heads: i64) -> Result<Tensor> {
    let shape = tensor.size();
    let pairs = heads.checked_mul(2).filter(|pairs| *pairs > 0);
    let Some((rows, pair_rows)) = shape.first().zip(pairs).filter(|(rows, pairs)| *rows % pairs == 0) else {
        return Err(Error::new(format!(
            "a projection of shape {shape:?} does not divide into {heads} heads of even size"
        )));
    };
    let mut split = vec![heads, rows / pair_rows, 2];
    split.extend(shape.iter().skip(1));
    Ok(tensor.f_reshape(&split)?.f_transpose(1, 2)?.f_reshape(&shape)?)
}
