//! Chat completions from a server with an OpenAI-compatible interface: sends requests, retries, and caches the answers.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::Uri;
use ureq::http::header::LOCATION;

use crate::access;
use crate::error::{Error, Result};
use crate::interrupt::{self, GLANCE};
use crate::{file, http};

/// The longest wait that a server may ask for before the next attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Characters of an unparsable answer to show.
const EXCERPT: usize = 200;
/// The fewest characters of a key that is a secret: servers that need no key are often given a word.
const SHORTEST_SECRET: usize = 8;

/// A request and how to send it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where `/chat/completions` is appended, such as `http://127.0.0.1:8000/v1`
    pub url: String,
    /// The request's fields: `model`, `messages` and more
    pub body: Value,
    /// Sent as a bearer token to this server only; never shown
    pub key: Option<String>,
    /// For each attempt
    pub timeout: Duration,
    /// Largest number of attempts
    pub attempts: u32,
    /// Whether only servers on this machine are allowed
    pub offline: bool,
    /// Folder to cache answers in; None: no cache
    pub store: Option<PathBuf>,
}

/// Why an attempt gave no answer.
enum Failure {
    /// Another attempt may succeed, at the earliest after the wait that the server asks for.
    Passing(Error, Option<Duration>),
    Lasting(Error),
}

impl Request {
    /// The text of the model's answer.
    ///
    /// Attempts that fail for a passing reason (status 429 or 5xx, a connection that breaks off) are repeated after 1, 2, 4, ...
    /// seconds, or after what the server's `Retry-After` says, a minute at most.
    ///
    /// # Errors
    /// An invalid address, one beyond this machine while the network is off, or one that the running script may not
    /// connect to; no connection; a non-2xx status, redirects included; a timeout; an answer that is not a chat
    /// completion, or that holds the key; Ctrl-C.
    pub fn send(&self) -> Result<String> {
        // A server may send the key back.
        self.ask().map_err(|error| error.without(self.secret()))
    }

    /// The key, or nothing.
    fn secret(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    fn ask(&self) -> Result<String> {
        let uri = self.address()?;
        let cached = self.cache_path(&uri);
        if let Some(text) = cached.as_ref().and_then(|path| file::read_text(path).ok()) {
            return Ok(text);
        }
        let mut attempt = 1;
        let text = loop {
            match self.attempt(&uri) {
                Ok(text) => break text,
                Err(Failure::Passing(_, wait)) if attempt < self.attempts => {
                    pause(wait.unwrap_or(Duration::from_secs(1 << (attempt - 1).min(6))).min(LONGEST_WAIT))?;
                    attempt += 1;
                }
                Err(Failure::Passing(error, _)) if attempt > 1 => {
                    return Err(error.context(format!("after {attempt} attempts")));
                }
                Err(Failure::Passing(error, _) | Failure::Lasting(error)) => return Err(error),
            }
        };
        if let Some(path) = cached {
            file::write_atomic(&path, |out| out.write_all(text.as_bytes()))?;
        }
        Ok(text)
    }

    fn address(&self) -> Result<Uri> {
        let base = self.url.trim_end_matches('/');
        let text =
            if base.ends_with("/chat/completions") { base.to_owned() } else { format!("{base}/chat/completions") };
        let uri: Option<Uri> = text.parse().ok();
        let is_known = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        let Some(uri) = uri.filter(is_known) else {
            return Err(Error::new(format!("`{}` is not the address of a server", http::shown(&self.url)))
                .hint("give it with its version, such as http://127.0.0.1:8000/v1"));
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Error::new(format!("the address of `{}` holds a name or password", http::shown(&self.url)))
                .hint("take it out, and name the environment variable that holds the key with `api_key_env`"));
        }
        if self.offline && !on_this_machine(&uri) {
            return Err(Error::new(format!("`{}` is not on this machine, and the network is off", self.url))
                .hint("unset `HF_HUB_OFFLINE` or leave out `--offline`"));
        }
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        access::check_host(host(&uri), port)?;
        Ok(uri)
    }

    /// The file that caches the answer, named after everything the answer depends on.
    fn cache_path(&self, uri: &Uri) -> Option<PathBuf> {
        let folder = self.store.as_ref()?;
        let hash = Sha256::digest(format!("lancet answers 1 {uri} {}", self.body));
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(folder.join(name.get(..2)?).join(format!("{name}.txt")))
    }

    /// Asks once.
    fn attempt(&self, uri: &Uri) -> std::result::Result<String, Failure> {
        let (request, address) = (self.clone(), uri.clone());
        http::watched(move || request.exchange(&address)).map_err(Failure::Lasting)?
    }

    fn exchange(&self, uri: &Uri) -> std::result::Result<String, Failure> {
        let config = http::settings().http_status_as_error(false).timeout_global(Some(self.timeout));
        // A server on this machine needs no proxy, even if the environment sets one.
        let config = if on_this_machine(uri) { config.proxy(None) } else { config };
        let agent = Agent::new_with_config(config.build());
        let mut post = agent.post(uri.clone()).header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            post = post.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = post.send(self.body.to_string()).map_err(|error| self.explain(uri, error))?;
        let status = response.status().as_u16();
        let location =
            response.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = response.body_mut().read_to_string().map_err(|error| self.explain(uri, error))?;
        if (200..300).contains(&status) {
            return self.completion(&text).map_err(|error| Failure::Lasting(error.context(format!("`{uri}`"))));
        }
        let error = self.refusal(uri, status, &text, location.as_deref());
        Err(if status == 429 || status >= 500 {
            Failure::Passing(error, wait.map(Duration::from_secs))
        } else {
            Failure::Lasting(error)
        })
    }

    /// Explains an error of the HTTP client.
    fn explain(&self, uri: &Uri, error: ureq::Error) -> Failure {
        let check = "check the address, and that the server is running";
        match error {
            ureq::Error::HostNotFound => {
                Failure::Lasting(Error::new(format!("`{uri}`: there is no such host")).hint(check))
            }
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Failure::Lasting(Error::new(format!("`{uri}`: the connection was refused")).hint(check))
            }
            ureq::Error::Timeout(_) => Failure::Lasting(
                Error::new(format!("`{uri}`: no answer within {} seconds", self.timeout.as_secs_f64()))
                    .hint("give a longer `timeout`, in seconds"),
            ),
            ureq::Error::Io(_) | ureq::Error::Protocol(_) | ureq::Error::ConnectionFailed => {
                Failure::Passing(Error::new(format!("`{uri}`: the connection broke off: {error}")).hint(check), None)
            }
            error => Failure::Lasting(Error::new(format!("`{uri}`: {error}"))),
        }
    }

    /// The text in a chat completion.
    fn completion(&self, text: &str) -> Result<String> {
        let hint = "the address should be that of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1";
        let answer: Value = serde_json::from_str(text)
            .map_err(|_| Error::new(format!("the answer is not JSON: {}", self.excerpt(text))).hint(hint))?;
        let choice = answer.get("choices").and_then(|choices| choices.get(0));
        let message = choice.and_then(|choice| choice.get("message"));
        match message.map(|message| message.get("content").and_then(Value::as_str)) {
            Some(Some(content)) if self.secret().len() >= SHORTEST_SECRET && content.contains(self.secret()) => {
                Err(Error::new("the answer holds the key")
                    .hint("it is not kept: a server that repeats its key would put it into your results"))
            }
            Some(Some(content)) => Ok(content.to_owned()),
            Some(None) => Err(Error::new(format!("the answer has no text: {}", self.excerpt(text)))
                .hint("a model that reasons first may need a larger `max_tokens`")),
            None => Err(Error::new(format!("the answer is not a chat completion: {}", self.excerpt(text))).hint(hint)),
        }
    }

    /// The error for a non-2xx status, with the server's message.
    fn refusal(&self, uri: &Uri, status: u16, text: &str, location: Option<&str>) -> Error {
        let body: Option<Value> = serde_json::from_str(text).ok();
        let said = body.as_ref().and_then(|body| {
            let error = body.get("error").unwrap_or(body);
            error.get("message").or(error.get("detail")).unwrap_or(error).as_str()
        });
        let error =
            Error::new(format!("`{uri}` answered with status {status}: {}", self.excerpt(said.unwrap_or(text))));
        match (status, location) {
            (300..=399, Some(location)) => error.hint(format!(
                "it redirects to `{}`; give the address itself, as a key is sent to no other server",
                http::shown(location)
            )),
            (401 | 403, _) => error.hint("name the environment variable that holds the key with `api_key_env`"),
            (404, _) => error.hint("check the address (with its version, such as /v1) and the model's name"),
            (429, _) => error.hint("wait a few minutes, or send fewer requests"),
            _ => error,
        }
    }

    /// The beginning of a text from the server, in one line and without the key.
    fn excerpt(&self, text: &str) -> String {
        let text = if self.secret().is_empty() { text.to_owned() } else { text.replace(self.secret(), "***") };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(EXCERPT) {
            Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
            None if line.is_empty() => "nothing".to_owned(),
            None => line,
        }
    }
}

/// The host of an address; that of version 6 stands without brackets.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn on_this_machine(uri: &Uri) -> bool {
    let host = host(uri);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Waits, checking for Ctrl-C.
fn pause(wait: Duration) -> Result<()> {
    let start = Instant::now();
    while let Some(left) = wait.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        interrupt::check()?;
        std::thread::sleep(left.min(GLANCE));
    }
    interrupt::check()
}
