//! The answers that a script measures, as token ids.

use rhai::{Array, Dynamic};
use tch::{Device, Kind};

use crate::bind::convert::expected;
use crate::error::{Error, Result};
use crate::model::language_model::LanguageModel;
use crate::output;
use crate::tensor::Tensor;

/// Ids, one per sample, from integers, or from texts, of which the first token counts.
///
/// # Errors
/// Another value; a text without tokens.
pub fn ids(model: &LanguageModel, value: &Dynamic) -> Result<Vec<i64>> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        if tensor.tch().is_floating_point() {
            return Err(expected("an answer", "a tensor of token ids", value).hint("ids.to(\"i64\")"));
        }
        return Ok(Vec::<i64>::try_from(&tensor.tch().f_to_device_(Device::Cpu, Kind::Int64, false, false)?)?);
    }
    match value.read_lock::<Array>() {
        Some(items) => items.iter().map(|item| id(model, item)).collect(),
        None => id(model, value).map(|id| vec![id]),
    }
}

/// The ids that count as the answer of each sample: one each, or an array of several.
///
/// # Errors
/// As for [`ids`].
pub fn ids_by_sample(model: &LanguageModel, value: &Dynamic) -> Result<Vec<Vec<i64>>> {
    match value.read_lock::<Array>() {
        Some(items) => items.iter().map(|item| ids(model, item)).collect(),
        None => Ok(ids(model, value)?.into_iter().map(|id| vec![id]).collect()),
    }
}

fn id(model: &LanguageModel, item: &Dynamic) -> Result<i64> {
    if let Ok(id) = item.as_int() {
        return Ok(id);
    }
    let text = item.clone().into_string().map_err(|_| expected("an answer", "a token id or text", item))?;
    model.config().check_outputs_are_tokens("an answer by its text")?;
    match model.encode(&text, false)?.as_slice() {
        [] => Err(Error::new("an answer is empty").hint("give its text, with the space in front where it needs one")),
        [id] => Ok(*id),
        [id, rest @ ..] => {
            let first = model.decode(&[*id])?;
            output::error_line(&format!(
                "warning: the answer \"{text}\" is {} tokens; its first, \"{first}\", is measured",
                rest.len() + 1
            ));
            Ok(*id)
        }
    }
}
