//! Conversations as text, by the Jinja template that a model comes with. The environment is that of Jinja2 in
//! transformers' `apply_chat_template`.

use std::fmt::Write;

use chrono::Local;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{ArgType, Kwargs, Serde, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, escape_formatter};
use serde_json::{Map, Value as Json};

use super::python::{self, JsonOptions};
use crate::error::{Error, Result};

/// The steps that a template may take: a conversation of a thousand turns needs far fewer.
const FUEL: u64 = 10_000_000;

/// One turn of a conversation: `role`, `content`, and whatever else the template reads, such as `name` or `tool_calls`.
pub type Message = Map<String, Json>;

/// The inputs of a template besides the messages.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ends the text where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// The texts of special tokens by name, such as `bos_token`; a name without a token is undefined.
    pub special_tokens: Map<String, Json>,
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
    variables.insert("messages".into(), messages.iter().cloned().map(Json::Object).collect());
    variables.insert("tools".into(), Json::Null);
    variables.insert("documents".into(), Json::Null);
    variables.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
    variables.extend(options.special_tokens.clone());
    variables.extend(options.variables.clone());
    template.render(Serde(variables)).map_err(|error| describe(&error))
}

fn environment() -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> std::result::Result<String, minijinja::Error> {
        Err(invalid(message))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    environment.set_formatter(print);
    environment.set_fuel(Some(FUEL));
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

/// The current local time.
fn strftime_now(format: &str) -> std::result::Result<String, minijinja::Error> {
    let mut text = String::new();
    write!(text, "{}", Local::now().format(format)).map_err(|_| invalid(format!("`{format}` is not a time format")))?;
    Ok(text)
}

/// transformers' `tojson`.
fn to_json(Serde(value): Serde<Json>, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([comma, colon]) => Some((comma.clone(), colon.clone())),
        Some(_) => return Err(invalid("`separators` of `tojson` are two texts".into())),
    };
    let json = JsonOptions {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: options.get("indent")?,
        separators,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    python::json(&value, &json).map_err(|error| invalid(error.to_string()))
}

/// Prints a value as Jinja2 does: with Python's `str`.
fn print(
    output: &mut Output,
    state: &mut State,
    value: &minijinja::Value,
) -> std::result::Result<(), minijinja::Error> {
    match (value.kind(), Serde::<Json>::from_value(Some(value))) {
        (ValueKind::String | ValueKind::Undefined, _) | (_, Err(_)) => escape_formatter(output, state, value),
        (_, Ok(Serde(json))) => output.write_str(&python::text(&json)).map_err(minijinja::Error::from),
    }
}

fn invalid(message: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, message)
}

fn describe(error: &minijinja::Error) -> Error {
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => Error::new(format!("the chat template fails in line {line}: {reason}")),
        None => Error::new(format!("the chat template fails: {reason}")),
    }
}
