//! Asking a chat model behind a URL from scripts.

use std::path::PathBuf;
use std::time::Duration;

use rhai::Map;
use rhai::plugin::*;
use serde_json::{Value, json};

use super::convert::expected;
use super::error::ScriptResult;
use super::file::to_json;
use super::module;
use super::option::Options;
use crate::access;
use crate::cache::{self, Cache};
use crate::catalog::topic::Topic;
use crate::chat_client::Request;
use crate::error::{Error, Result};

/// Makes the function known to `engine`.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Models, exported_manifest!(functions));
}

fn read(url: &str, options: &mut Options) -> Result<Request> {
    const HINT: &str = "#{ model: \"name\", messages: [#{ role: \"user\", content: \"text\" }] }";
    let model = options.needed("model", HINT)?;
    let model =
        model.clone().into_string().map_err(|_| expected("option `model` of `chat_completion`", "a string", &model))?;
    let messages = options.needed("messages", HINT)?;
    if !messages.is_array() {
        return Err(expected("option `messages` of `chat_completion`", "an array", &messages));
    }
    let mut body = json!({
        "model": model,
        "messages": to_json(&messages)?,
        "max_tokens": options.integer("max_tokens")?.unwrap_or(256),
        "temperature": options.number("temperature")?.unwrap_or(0.0),
    });
    if let (Some(extra), Some(fields)) = (options.map("extra")?, body.as_object_mut()) {
        for (key, value) in extra {
            // () takes a field out, for servers that do not know it.
            match to_json(&value)? {
                Value::Null => fields.remove(key.as_str()),
                value => fields.insert(key.to_string(), value),
            };
        }
    }
    let key = match options.string("api_key_env")? {
        None => None,
        Some(name) => Some(access::key(&name)?.ok_or_else(|| {
            Error::new(format!("the environment variable `{name}` is not set"))
                .hint("it should hold the server's key; leave `api_key_env` out for a server that needs none")
        })?),
    };
    let timeout = options.number("timeout")?.unwrap_or(60.0);
    let attempts = options.integer("attempts")?.unwrap_or(4);
    Ok(Request {
        url: url.to_owned(),
        body,
        key,
        timeout: Duration::try_from_secs_f64(timeout).ok().filter(|timeout| !timeout.is_zero()).ok_or_else(|| {
            Error::new(format!("option `timeout` must be a number of seconds above 0, not {timeout}"))
        })?,
        attempts: u32::try_from(attempts)
            .ok()
            .filter(|attempts| *attempts > 0)
            .ok_or_else(|| Error::new(format!("option `attempts` must be at least 1, not {attempts}")))?,
        offline: cache::is_offline(&|name: &str| std::env::var(name).ok()),
        store: match options.any("store") {
            None => None,
            Some(value) if value.is_bool() => match value.as_bool() {
                Ok(true) => Some(Cache::from_env()?.answers()),
                _ => None,
            },
            Some(value) if value.is_string() => value.into_string().ok().map(PathBuf::from),
            Some(value) => return Err(expected("option `store`", "true, false or a folder", &value)),
        },
    })
}

#[export_module(manifest)]
mod functions {
    /// Asks a chat model behind an OpenAI-compatible server and returns the text of its answer. `url` is the server's
    /// address with its version, such as `"http://127.0.0.1:8000/v1"`.
    ///
    /// Needed: `model` (the server's name of it), `messages` (maps with `role` and `content`). Options: `max_tokens`
    /// (256), `temperature` (0), `extra` (a map of more fields of the request; `()` takes one out), `api_key_env` (the
    /// name of the environment variable that holds the key; without it no key is sent), `timeout` (60 seconds for each
    /// attempt), `attempts` (4: after status 429 or 5xx, or a broken connection, the server is asked again), `store`
    /// (false; true: answers are cached and not asked for twice; or a folder).
    ///
    /// # Errors
    /// No connection, a non-2xx status (with the server's message), a timeout, an answer that is not a chat
    /// completion. With `lancet --offline` or `HF_HUB_OFFLINE` only servers on this machine are asked. A
    /// script of `lancet run` needs the permission `--allow net=HOST`, and `--allow env=NAME` for a key other than
    /// `LANCET_JUDGE_KEY`.
    ///
    /// # Example
    /// ```rhai
    /// let ask = |text| chat_completion("http://127.0.0.1:1/v1", #{
    ///     model: "any", messages: [#{ role: "user", content: text }], max_tokens: 4, attempts: 1,
    /// });
    /// // No server listens there.
    /// try { print(ask.call("Is 2 even? Reply with yes or no only.")); } catch (error) { print(error.error); }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn chat_completion(url: &str, request: Map) -> ScriptResult<String> {
        Ok(Options::read("chat_completion", request, |options| read(url, options))?.send()?)
    }
}
