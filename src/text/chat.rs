//! Conversations as text, by the Jinja template that a model comes with. The environment is that of Jinja2 in
//! transformers' `apply_chat_template`.

use std::fmt::Write;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most templates.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// The inputs of a template besides the messages.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ends the text where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// The text of the token that begins a text; empty without one.
    pub bos_token: String,
    /// The text of the token that ends a text; empty without one.
    pub eos_token: String,
    /// More variables for the template, such as `date_string` or `enable_thinking`; they take precedence over the ones
    /// above.
    pub variables: Map<String, Json>,
}

/// The conversation as text in the model's chat format.
///
/// # Errors
/// A template that cannot be parsed or that fails, also by its own `raise_exception`; the message names the line.
pub fn render(template: &str, messages: &[Message], options: &Options) -> Result<String> {
    let environment = environment().map_err(|error| describe(&error))?;
    let template = without_generation_tags(template);
    let template = environment.template_from_str(&template).map_err(|error| describe(&error))?;
    let mut variables = Map::new();
    let messages = serde_json::to_value(messages).map_err(|error| Error::new(error.to_string()))?;
    variables.insert("messages".into(), messages);
    variables.insert("tools".into(), Json::Null);
    variables.insert("documents".into(), Json::Null);
    variables.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
    variables.insert("bos_token".into(), options.bos_token.as_str().into());
    variables.insert("eos_token".into(), options.eos_token.as_str().into());
    variables.extend(options.variables.clone());
    template.render(Serde(variables)).map_err(|error| describe(&error))
}

fn environment() -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> std::result::Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    Ok(environment)
}

/// Replaces transformers' own `generation` block, which marks the assistant's text and changes nothing, by an `if
/// true`.
fn without_generation_tags(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{%") {
        let Some((tag, after)) = after.split_once("%}") else { break };
        let name = tag.trim_matches(|character: char| character.is_whitespace() || matches!(character, '-' | '+'));
        let tag = match name {
            "generation" => tag.replace(name, "if true"),
            "endgeneration" => tag.replace(name, "endif"),
            _ => tag.to_owned(),
        };
        text.extend([before, "{%", &tag, "%}"]);
        rest = after;
    }
    text + rest
}

/// The current time, in UTC.
fn strftime_now(format: &str) -> std::result::Result<String, minijinja::Error> {
    let mut text = String::new();
    write!(text, "{}", DateTime::<Utc>::from(SystemTime::now()).format(format))
        .map_err(|_| minijinja::Error::new(ErrorKind::InvalidOperation, format!("`{format}` is not a time format")))?;
    Ok(text)
}

/// JSON as Python's `json.dumps` writes it: a space after colons and commas, and nothing escaped for HTML.
fn to_json(Serde(value): Serde<Json>, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut text = String::new();
    write_json(&value, indent, 0, &mut text);
    Ok(text)
}

fn write_json(value: &Json, indent: Option<usize>, depth: usize, text: &mut String) {
    let line = |depth: usize, text: &mut String| {
        if let Some(indent) = indent {
            text.push('\n');
            text.push_str(&" ".repeat(indent * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        Json::Array(items) if !items.is_empty() => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, text);
                write_json(item, indent, depth + 1, text);
            }
            line(depth, text);
            text.push(']');
        }
        Json::Object(entries) if !entries.is_empty() => {
            text.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                text.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, text);
                text.push_str(&Json::from(key.as_str()).to_string());
                text.push_str(": ");
                write_json(item, indent, depth + 1, text);
            }
            line(depth, text);
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
}

fn describe(error: &minijinja::Error) -> Error {
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => Error::new(format!("the chat template fails in line {line}: {reason}")),
        None => Error::new(format!("the chat template fails: {reason}")),
    }
}
