//! Conversations as text, by the Jinja template that a model comes with. The environment is that of Jinja2 in
//! transformers' `apply_chat_template`.

use std::fmt::Write;
use std::time::Duration;

use chrono::Local;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{ArgType, Kwargs, Serde, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, escape_formatter, filters};
use serde_json::{Map, Value as Json};

use super::python::{self, JsonOptions};
use super::template_limit::{self, FUEL, invalid, pay_for};
use super::template_source::{self, ITERABLE};
use crate::error::{Error, Result};
use crate::interrupt::{self, Bounds};

/// What the thread that renders may take. The stack has room for as deep a nesting as the fuel allows; operators on
/// nested lists cost little fuel, but much memory or time.
const BOUNDS: Bounds = Bounds { stack: 1 << 28, memory: 1 << 29, time: Duration::from_secs(60) };

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
/// A template that cannot be parsed or that fails, also by its own `raise_exception`; the message names the line. One
/// that takes too many steps; Ctrl-C.
pub fn render(template: &str, messages: &[Message], options: &Options) -> Result<String> {
    let (template, messages, options) = (template.to_owned(), messages.to_vec(), options.clone());
    let render = move || render_here(&template, &messages, &options);
    interrupt::watched(BOUNDS, render).map_err(|error| error.context("the chat template"))?
}

fn render_here(template: &str, messages: &[Message], options: &Options) -> Result<String> {
    let environment = environment().map_err(|error| describe(&error))?;
    let template = template_source::adapted(template);
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
    environment.set_unknown_method_callback(template_limit::method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter(ITERABLE, iterable);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |state: &State, value: &minijinja::Value| {
        pay_for(state, value)?;
        filters::string(state, value)
    });
    environment.add_filter("pprint", |state: &State, value: &minijinja::Value| {
        pay_for(state, value).map(|()| filters::pprint(value))
    });
    environment.set_formatter(print);
    environment.set_fuel(Some(FUEL));
    Ok(environment)
}

fn raise_exception(
    state: &State,
    message: &minijinja::Value,
) -> std::result::Result<minijinja::Value, minijinja::Error> {
    pay_for(state, message)?;
    Err(invalid(message.to_string()))
}

/// What a loop runs over. minijinja takes `none` for an empty list.
fn iterable(value: minijinja::Value) -> std::result::Result<minijinja::Value, minijinja::Error> {
    if value.is_none() { Err(invalid("'NoneType' object is not iterable".into())) } else { Ok(value) }
}

/// The current local time.
fn strftime_now(format: &str) -> std::result::Result<String, minijinja::Error> {
    let mut text = String::new();
    write!(text, "{}", Local::now().format(format)).map_err(|_| invalid(format!("`{format}` is not a time format")))?;
    Ok(text)
}

/// transformers' `tojson`.
fn to_json(state: &State, value: &minijinja::Value, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    pay_for(state, value)?;
    let Serde(value) = Serde::<Json>::from_value(Some(value))?;
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
    if matches!(value.kind(), ValueKind::String | ValueKind::Undefined) {
        return escape_formatter(output, state, value);
    }
    pay_for(state, value)?;
    match Serde::<Json>::from_value(Some(value)) {
        Err(_) => escape_formatter(output, state, value),
        Ok(Serde(json)) => output.write_str(&python::text(&json)).map_err(minijinja::Error::from),
    }
}

fn describe(error: &minijinja::Error) -> Error {
    if error.kind() == ErrorKind::OutOfFuel {
        let place = error.line().map_or_else(String::new, |line| format!(" in line {line}"));
        return Error::new(format!("the chat template takes more than {FUEL} steps{place}"))
            .hint("a step is an instruction or 64 bytes of text; no conversation needs that many");
    }
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => Error::new(format!("the chat template fails in line {line}: {reason}")),
        None => Error::new(format!("the chat template fails: {reason}")),
    }
}
