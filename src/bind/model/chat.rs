//! Conversations as scripts give them: messages and variables for a model's chat template.

use rhai::{Array, Dynamic, Map};
use serde_json::Value as Json;

use crate::bind::convert::expected;
use crate::bind::file::to_json;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::model::language_model::LanguageModel;
use crate::text::chat::{self, Message};

/// The keys of messages and of the schemas of tools, in the order that transformers writes them.
const KEY_ORDER: [&str; 16] = [
    "role",
    "content",
    "type",
    "id",
    "function",
    "name",
    "description",
    "arguments",
    "parameters",
    "properties",
    "items",
    "enum",
    "nullable",
    "additionalProperties",
    "required",
    "return",
];

/// A conversation as the text that the model was trained on.
///
/// # Errors
/// A model without a template, messages that are none, an error raised by the template.
pub fn render(model: &LanguageModel, conversation: &Array, options: Map) -> Result<String> {
    let (variables, add_generation_prompt) = Options::read("apply_chat_template", options, |options| {
        Ok((options.map("variables")?, options.boolean("add_generation_prompt")?.unwrap_or(true)))
    })?;
    let tokenizer = model.tokenizer()?;
    let template = tokenizer.chat_template().ok_or_else(|| {
        Error::new(format!("`{}` has no chat template", model.name)).hint("a base model is prompted with plain text")
    })?;
    let chat = chat::Options {
        add_generation_prompt,
        special_tokens: tokenizer.special_texts()?,
        variables: variables.unwrap_or_default().iter().map(variable).collect::<Result<_>>()?,
    };
    let messages = conversation.iter().map(message).collect::<Result<Vec<_>>>()?;
    chat::render(template, &messages, &chat)
}

fn variable((name, value): (&rhai::Identifier, &Dynamic)) -> Result<(String, Json)> {
    let json = match (name.as_str(), to_json(value)?) {
        ("tools", Json::String(text)) => {
            serde_json::from_str(&text).map_err(|error| Error::new(format!("variable `tools` is not JSON: {error}")))?
        }
        (_, json) => in_order(json),
    };
    Ok((name.to_string(), json))
}

fn message(item: &Dynamic) -> Result<Message> {
    const HINT: &str = "#{ role: \"user\", content: \"...\" }";
    let Json::Object(message) = in_order(to_json(item)?) else {
        return Err(expected("each message", "a map #{ role, content }", item));
    };
    if !message.get("role").is_some_and(Json::is_string) {
        return Err(Error::new("a message has no text `role`").hint(HINT));
    }
    if !message.contains_key("content") && !message.contains_key("tool_calls") {
        return Err(Error::new("a message has neither `content` nor `tool_calls`").hint(HINT));
    }
    Ok(message)
}

/// The value with the keys of its maps in the order of [`KEY_ORDER`]; keys that are not in it stay in theirs, behind.
fn in_order(value: Json) -> Json {
    let place = |key: &str| KEY_ORDER.iter().position(|known| *known == key).unwrap_or(KEY_ORDER.len());
    match value {
        Json::Array(items) => items.into_iter().map(in_order).collect(),
        Json::Object(map) => {
            let mut entries: Vec<(String, Json)> = map.into_iter().map(|(key, value)| (key, in_order(value))).collect();
            entries.sort_by_key(|(key, _)| place(key));
            Json::Object(entries.into_iter().collect())
        }
        other => other,
    }
}
