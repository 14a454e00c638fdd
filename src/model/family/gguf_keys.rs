//! What becomes of every metadata key of a GGUF file: it is read, it changes no number, or it is refused. The list is that
//! of gguf-py's constants.py; `{arch}` stands for the architecture's name.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is read. Below `{arch}`, a file in which nothing has read it is refused.
    Used,
    /// It changes no number.
    Harmless,
    /// It would change the numbers in a way that is not known here, unless its value is 0 or false.
    Refused,
}

/// Keys that are read.
const USED: &[&str] = &[
    "general.alignment",
    "general.architecture",
    "general.type",
    "split.count",
    "split.no",
    "split.tensors.count",
    "tokenizer.chat_template",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.model",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.unknown_token_id",
    "{arch}.attention.causal",
    "{arch}.attention.head_count",
    "{arch}.attention.head_count_kv",
    "{arch}.attention.key_length",
    "{arch}.attention.layer_norm_epsilon",
    "{arch}.attention.layer_norm_rms_epsilon",
    "{arch}.attention.scale",
    "{arch}.attention.sliding_window",
    "{arch}.attention.sliding_window_pattern",
    "{arch}.attention.value_length",
    "{arch}.attn_logit_softcapping",
    "{arch}.block_count",
    "{arch}.context_length",
    "{arch}.embedding_length",
    "{arch}.expert_count",
    "{arch}.feed_forward_length",
    "{arch}.final_logit_softcapping",
    "{arch}.rope.dimension_count",
    "{arch}.rope.freq_base",
    "{arch}.rope.freq_base_swa",
    "{arch}.rope.scale_linear",
    "{arch}.rope.scaling.attn_factor",
    "{arch}.rope.scaling.factor",
    "{arch}.rope.scaling.original_context_length",
    "{arch}.rope.scaling.type",
    "{arch}.rope.scaling.yarn_beta_fast",
    "{arch}.rope.scaling.yarn_beta_slow",
    "{arch}.use_parallel_residual",
];

/// Keys that change no number. A name that ends with a dot stands for all keys below it.
const HARMLESS: &[&str] = &[
    // Where a file comes from, and what is recommended for sampling
    "general.",
    // Other programs' notes
    "imatrix.",
    "quantize.",
    // Tokens that only their users put into a text
    "tokenizer.chat_template.",
    "tokenizer.chat_templates",
    "tokenizer.ggml.cls_token_id",
    "tokenizer.ggml.fim_mid_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
    "tokenizer.ggml.fim_suf_token_id",
    "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.middle_token_id",
    "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.token_type_count",
    "tokenizer.huggingface.json",
    // The embedding's own size is read
    "{arch}.vocab_size",
    // How the original checkpoint was laid out, and whether it was trained with its scaling
    "{arch}.rope.scaling.finetuned",
    "{arch}.tensor_data_layout",
    // What is done with a text's last states where no logits are wanted
    "{arch}.pooling_type",
];

/// Keys of llama.cpp that no supported architecture may have. Any other key below `{arch}` or `tokenizer` is refused too.
const REFUSED: &[&str] = &[
    "adapter.",
    "clip.",
    "diffusion.",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.rwkv.world",
    "xielu.",
    "{arch}.",
];

/// What a key does, with the architecture's name written as `{arch}`; `None` for a key of another program.
pub fn role(key: &str) -> Option<Role> {
    let is_in =
        |list: &[&str]| list.iter().any(|name| if name.ends_with('.') { key.starts_with(name) } else { *name == key });
    if is_in(USED) {
        Some(Role::Used)
    } else if is_in(HARMLESS) {
        Some(Role::Harmless)
    } else if is_in(REFUSED) || key.starts_with("tokenizer.") {
        Some(Role::Refused)
    } else {
        None
    }
}

/// Fails on a key that would change the numbers and that nothing has read. Called when all is read. `with_tokenizer` is
/// whether the file's own tokenizer is in use.
///
/// # Errors
/// Such a key; it is named.
pub fn check(gguf: &Gguf, with_tokenizer: bool) -> Result<()> {
    let prefix = format!("{}.", gguf.architecture()?);
    if let Some(kind) = gguf.string("general.type")?.filter(|kind| *kind != "model") {
        return Err(Error::new(format!("`{}` holds no model: its `general.type` is `{kind}`", gguf.path().display())));
    }
    let mut keys: Vec<_> = gguf.keys().collect();
    keys.sort_by_key(|(key, ..)| *key);
    for (key, value, is_read) in keys {
        let below = key.strip_prefix(&prefix);
        let name = below.map_or(key.to_owned(), |rest| format!("{{arch}}.{rest}"));
        let refused = match role(&name) {
            None | Some(Role::Harmless) => false,
            Some(Role::Used) => below.is_some() && !is_read,
            Some(Role::Refused) if key.starts_with("tokenizer.") && !with_tokenizer => false,
            Some(Role::Refused) => !is_off(value),
        };
        if refused {
            return Err(Error::new(format!("`{}`: metadata `{key}` is not supported", gguf.path().display()))
                .hint("the model would compute something else than the file says"));
        }
    }
    Ok(())
}

/// Whether a value says that something is not in use.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Integer(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::Boolean(flag) => !flag,
        Value::Integers(numbers) => numbers.iter().all(|number| *number == 0),
        Value::Floats(numbers) => numbers.iter().all(|number| *number == 0.0),
        Value::Booleans(flags) => !flags.contains(&true),
        Value::String(text) => text.is_empty(),
        Value::Strings(texts) => texts.is_empty(),
        Value::Arrays(arrays) => arrays.is_empty(),
    }
}
