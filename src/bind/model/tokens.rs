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

/// The text of a list of ids, or an array of texts of several lists.
fn text_of(model: &LanguageModel, value: &Dynamic) -> Result<Dynamic> {
    let rows = match (value.read_lock::<Tensor>(), value.read_lock::<Array>()) {
        (Some(tensor), _) if tensor.ndim() == 2 => {
            tensor_rows(&tensor)?.into_iter().map(|row| to_array(row).into()).collect()
        }
        (Some(tensor), _) if tensor.ndim() > 2 => {
            return Err(Error::new(format!(
                "a tensor of tokens must be [pos] or [batch, pos], not {:?}",
                tensor.shape()
            )));
        }
        (_, Some(array)) if array.iter().any(Dynamic::is_array) => array.clone(),
        _ => return Ok(model.decode(&ids(value)?)?.into()),
    };
    rows.iter().map(|row| Ok(model.decode(&ids(row)?)?.into())).collect::<Result<Array>>().map(Dynamic::from)
}

/// The unembedding's directions of tokens, [.., d_model]: of one token (text or id), of each in an array, or of a tensor of
/// ids.
///
/// # Errors
/// Text of another number of tokens than one, an id that the model does not have.
pub fn directions(model: &LanguageModel, tokens: &Dynamic) -> Result<tch::Tensor> {
    let is_text = |value: &Dynamic| value.is_string();
    if is_text(tokens) || tokens.read_lock::<Array>().is_some_and(|array| array.iter().any(is_text)) {
        model.config().check_outputs_are_tokens("a direction by its token's text")?;
    }
    let (ids, shape) = if let Some(tensor) = tokens.read_lock::<Tensor>() {
        (self::ids(tokens)?, tensor.shape())
    } else if let Some(array) = tokens.read_lock::<Array>() {
        let ids = array.iter().map(|token| single(model, token)).collect::<Result<Vec<_>>>()?;
        let count = ids.len() as i64;
        (ids, vec![count])
    } else {
        (vec![single(model, tokens)?], Vec::new())
    };
    if ids.is_empty() {
        return Err(Error::new("the list of tokens is empty").hint("give at least one"));
    }
    model.decoder.check_outputs(&ids, "the list of tokens")?;
    let weight = &model.decoder.unembedding.weight;
    let index = tch::Tensor::f_from_slice(&ids)?.f_to(weight.device())?;
    let size: Vec<i64> = shape.into_iter().chain([model.config().d_model]).collect();
    Ok(weight.f_index_select(0, &index)?.f_reshape(&size)?)
}

/// The id of one token, as an id or as text.
///
/// # Errors
/// A text of another number of tokens than one.
pub fn single(model: &LanguageModel, token: &Dynamic) -> Result<i64> {
    if let Ok(id) = token.as_int() {
        return Ok(id);
    }
    let text = token.clone().into_string().map_err(|_| expected("a token", "an id or text", token))?;
    match model.encode(&text, false)?.as_slice() {
        [id] => Ok(*id),
        other => Err(Error::new(format!("`{text}` is {} tokens", other.len()))
            .hint("most words are one token with a space in front, as in \" word\"")),
    }
}

/// `ids` after the token that begins a text, unless they begin with it.
fn after_bos(model: &LanguageModel, ids: Vec<i64>) -> Result<Vec<i64>> {
    let bos = model.tokenizer()?.bos().ok_or_else(|| {
        Error::new("the tokenizer names no token that begins a text").hint("put one before the ids yourself")
    })?;
    Ok(if ids.first() == Some(&bos) { ids } else { [vec![bos], ids].concat() })
}

fn to_array(ids: Vec<i64>) -> Array {
    ids.into_iter().map(Dynamic::from).collect()
}

fn text_or_texts(model: &LanguageModel, text: &Dynamic, (special, bos): (bool, bool)) -> Result<Array> {
    let complete = |ids: Vec<i64>| Ok(to_array(if bos { after_bos(model, ids)? } else { ids }));
    let string = |text: &Dynamic| {
        text.clone().into_string().map_err(|_| expected("text", "a string or an array of strings", text))
    };
    let Some(texts) = text.read_lock::<Array>() else { return complete(model.encode(&string(text)?, special)?) };
    let texts = texts.iter().map(string).collect::<Result<Vec<_>>>()?;
    let rows = model.tokenizer()?.encode_all(&texts, special)?;
    rows.into_iter().map(|ids| complete(ids).map(Dynamic::from)).collect()
}

#[export_module(manifest)]
pub mod functions {
    /// The token ids of `text` (for an array of texts: an array of arrays). No special token is added.
    ///
    /// Options: `add_special` (false): also the special tokens that the tokenizer puts around a text; `prepend_bos` (false):
    /// first the token that begins a text, `model.bos_id`, unless the text begins with it.
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// assert_eq(model.to_string(model.to_tokens("Hello world")), "Hello world");
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn to_tokens(model: &mut Model, text: Dynamic, options: Map) -> ScriptResult<Array> {
        let which = Options::read("to_tokens", options, |options| {
            let special = options.boolean("add_special")?.unwrap_or(false);
            Ok((special, options.boolean("prepend_bos")?.unwrap_or(false)))
        })?;
        Ok(text_or_texts(model.get(), &text, which)?)
    }

    /// The id of the single token that `text` encodes to.
    ///
    /// Any other number of tokens is an error.
    #[rhai_fn(return_raw, pure)]
    pub fn to_single_token(model: &mut Model, text: &str) -> ScriptResult<i64> {
        Ok(single(model.get(), &text.into())?)
    }

    /// The id of the token that begins a text, or () if the tokenizer names none.
    #[rhai_fn(get = "bos_id", return_raw, pure)]
    pub fn bos_id(model: &mut Model) -> ScriptResult<Dynamic> {
        Ok(model.get().tokenizer()?.bos().map_or(Dynamic::UNIT, Dynamic::from))
    }

    /// The ids of the tokens that end a text: generation stops at them.
    #[rhai_fn(get = "eos_ids", pure)]
    pub fn eos_ids(model: &mut Model) -> Array {
        to_array(model.get().eos_ids())
    }

    /// The position of a token (text or id) in a text or an array of ids.
    ///
    /// Option: `mode` ("first" or "last" of several).
    ///
    /// # Example
    /// ```rhai
    /// let model = load_model("smollm2");
    /// assert_eq(model.get_token_position(" France", "The capital of France is"), 3);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn get_token_position(model: &mut Model, token: Dynamic, tokens: Dynamic, options: Map) -> ScriptResult<i64> {
        let model = model.get();
        let is_last = Options::read("get_token_position", options, |options| {
            options.choice("mode", &[("first", false), ("last", true)])
        })?;
        let id = single(model, &token)?;
        let rows = prompts(model, &tokens)?;
        let [row] = rows.as_slice() else {
            return Err(Error::new("a token is looked for in one text, not in several").into());
        };
        let mut found = row.iter().enumerate().filter(|(_, other)| **other == id).map(|(place, _)| place as i64);
        let place = if is_last.unwrap_or(false) { found.next_back() } else { found.next() };
        Ok(place.ok_or_else(|| Error::new(format!("the token `{token}` is not in the text")))?)
    }

    /// The directions in the residual stream that the unembedding reads a token by: its column of `W_U`, [d_model]; for an
    /// array of tokens [token, d_model], for a tensor of ids [.., d_model].
    #[rhai_fn(return_raw, pure)]
    pub fn tokens_to_residual_directions(model: &mut Model, tokens: Dynamic) -> ScriptResult<Tensor> {
        Ok(directions(model.get(), &tokens).map(Tensor::new)?)
    }

    /// The text of token ids (an array, a tensor, or one id); special tokens are shown. Of several lists of ids, the array
    /// of their texts.
    #[rhai_fn(name = "to_string", return_raw, pure)]
    pub fn ids_to_string(model: &mut Model, token_ids: Dynamic) -> ScriptResult<Dynamic> {
        Ok(text_of(model.get(), &token_ids)?)
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
