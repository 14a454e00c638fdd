//! Text and token ids: what scripts give to a model's functions, and the tokenizer's own functions.

use rhai::plugin::*;
use rhai::{Array, Dynamic, ImmutableString, Map};
use tch::Kind;

use super::{Model, chat};
use crate::bind::convert::{expected, integers};
use crate::bind::error::ScriptResult;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::language_model::LanguageModel;
use crate::tensor::Tensor;

/// Prompts as a script gives them: text, ids, several of either, or a tensor of ids. Returns one row of ids per prompt.
///
/// # Errors
/// A value of another kind, text for a model without a tokenizer, an empty text.
pub fn prompts(model: &LanguageModel, tokens: &Dynamic) -> Result<Vec<Vec<i64>>> {
    const WANTED: &str = "text, an array of token ids, an array of such arrays, or an integer tensor";
    if let Some(tensor) = tokens.read_lock::<Tensor>() {
        return tensor_rows(&tensor);
    }
    if let Some(text) = tokens.read_lock::<ImmutableString>() {
        return Ok(vec![encode(model, &text)?]);
    }
    let Some(array) = tokens.read_lock::<Array>() else { return Err(expected("tokens", WANTED, tokens)) };
    if array.first().is_none_or(Dynamic::is_int) {
        return Ok(vec![integers("tokens", &array)?]);
    }
    array
        .iter()
        .map(|row| match (row.read_lock::<Array>(), row.read_lock::<ImmutableString>()) {
            (Some(ids), _) => integers("tokens", &ids),
            (None, Some(text)) => encode(model, &text),
            (None, None) => Err(expected("each prompt", "text or an array of token ids", row)),
        })
        .collect()
}

fn encode(model: &LanguageModel, text: &str) -> Result<Vec<i64>> {
    let ids = model.encode(text, false)?;
    if ids.is_empty() {
        return Err(Error::new("the prompt is empty").hint("a prompt needs at least one token"));
    }
    Ok(ids)
}

fn tensor_rows(tensor: &Tensor) -> Result<Vec<Vec<i64>>> {
    if !matches!(tensor.kind(), Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8) {
        return Err(Error::new("a tensor of tokens must hold integers").hint("convert it with .to(\"i64\")"));
    }
    let shape = tensor.shape();
    let (rows, length) = match shape.as_slice() {
        [length] => (1, *length),
        [rows, length] => (*rows, *length),
        _ => return Err(Error::new(format!("a tensor of tokens must be [pos] or [batch, pos], not {shape:?}"))),
    };
    let flat = tensor.tch().f_to_device_(tch::Device::Cpu, Kind::Int64, false, false)?.f_reshape([-1])?;
    let flat = Vec::<i64>::try_from(&flat)?;
    if length == 0 {
        return Ok(vec![Vec::new(); rows.max(0) as usize]);
    }
    Ok(flat.chunks(length as usize).map(<[i64]>::to_vec).collect())
}

/// Ids as a script gives them: an array, one integer, or a tensor of one dimension.
fn ids(value: &Dynamic) -> Result<Vec<i64>> {
    if let Ok(id) = value.as_int() {
        return Ok(vec![id]);
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return Ok(tensor_rows(&Tensor::new(tensor.tch().f_reshape([-1])?))?.swap_remove(0));
    }
    match value.read_lock::<Array>() {
        Some(array) => integers("ids", &array),
        None => Err(expected("ids", "an array of token ids", value)),
    }
}

fn to_array(ids: Vec<i64>) -> Array {
    ids.into_iter().map(Dynamic::from).collect()
}

fn text_or_texts(model: &LanguageModel, text: &Dynamic, add_special: bool) -> Result<Array> {
    if let Some(texts) = text.read_lock::<Array>() {
        return texts.iter().map(|text| text_or_texts(model, text, add_special).map(Dynamic::from)).collect();
    }
    let text = text.clone().into_string().map_err(|_| expected("text", "a string or an array of strings", text))?;
    model.encode(&text, add_special).map(to_array)
}

#[export_module(manifest)]
pub mod functions {
    /// The token ids of `text` (for an array of texts: an array of arrays). No special token is added.
    ///
    /// Option: `add_special` (false): also the special tokens that the tokenizer puts around a text.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// assert_eq(model.to_string(model.to_tokens("Hello world")), "Hello world");
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn to_tokens(model: &mut Model, text: Dynamic, options: Map) -> ScriptResult<Array> {
        let add_special = Options::read("to_tokens", options, |options| options.boolean("add_special"))?;
        Ok(text_or_texts(model.get(), &text, add_special.unwrap_or(false))?)
    }

    /// The id of the single token that `text` encodes to.
    ///
    /// Any other number of tokens is an error.
    #[rhai_fn(return_raw, pure)]
    pub fn to_single_token(model: &mut Model, text: &str) -> ScriptResult<i64> {
        match model.get().encode(text, false)?.as_slice() {
            [id] => Ok(*id),
            other => Err(Error::new(format!("`{text}` is {} tokens", other.len()))
                .hint("most words are one token with a space in front, as in \" word\"")
                .into()),
        }
    }

    /// The text of token ids (an array, a tensor, or one id); special tokens are shown.
    #[rhai_fn(name = "to_string", return_raw, pure)]
    pub fn ids_to_string(model: &mut Model, token_ids: Dynamic) -> ScriptResult<String> {
        Ok(ids(&token_ids).and_then(|ids| model.get().decode(&ids))?)
    }

    /// The text of each token of a text, or of each id of an array.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// assert_eq(model.to_str_tokens("Hello world"), ["Hello", " world"]);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn to_str_tokens(model: &mut Model, tokens: Dynamic) -> ScriptResult<Array> {
        let model = model.get();
        let ids = match tokens.read_lock::<ImmutableString>() {
            Some(text) => model.encode(&text, false)?,
            None => ids(&tokens)?,
        };
        Ok(model.tokens(&ids)?.into_iter().map(Dynamic::from).collect())
    }

    /// Whether the model came with a chat template.
    #[rhai_fn(get = "has_chat_template", pure)]
    pub fn has_chat_template(model: &mut Model) -> bool {
        model.get().tokenizer().is_ok_and(|tokenizer| tokenizer.chat_template().is_some())
    }

    /// Renders a conversation, an array of `#{ role, content }`, as the text that the model was trained on, up to the
    /// start of the assistant's answer. The template gets every further field of a message, such as `name` or
    /// `tool_calls`; `content` may be a list of parts.
    ///
    /// Options: `add_generation_prompt` (true), `variables` (a map of further variables for the template, such as
    /// `tools`). A map of a script has no order of its own: the keys of JSON schemas come in the order that transformers
    /// writes (`type`, `function`, `name`, `description`, `parameters`, ...), the others by name. Give `tools` as JSON
    /// text to keep another order.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// let text = model.apply_chat_template([#{ role: "user", content: "Say hello." }]);
    /// assert(text.contains("Say hello."));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn apply_chat_template(model: &mut Model, conversation: Array, options: Map) -> ScriptResult<String> {
        Ok(chat::render(model.get(), &conversation, options)?)
    }
}
