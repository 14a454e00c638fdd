//! HTTP requests that Ctrl-C ends at once. Names, passwords and tokens are sent to one server only, and never shown.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::percent_decode_str;
use ureq::config::ConfigBuilder;
use ureq::http::header::{AUTHORIZATION, HeaderName, LOCATION};
use ureq::http::{HeaderValue, Method, Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};
use url::Url;

use crate::error::{Error, Result};
use crate::interrupt::{self, Bounds};

/// The stack of a thread that waits for the network, in bytes.
const STACK: usize = 2 << 20;
/// The most redirects followed for one request.
const MOST_REDIRECTS: usize = 10;
/// The bytes that are read at a time, and the blocks read ahead.
const BLOCK: usize = 1 << 18;
const AHEAD: usize = 4;

/// What the HTTP client answers.
pub type Answer<T> = std::result::Result<T, ureq::Error>;

/// The settings of every HTTP client: the system's certificates, to which organisations add their own, and no redirect
/// that is followed unseen.
pub fn settings() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .user_agent(concat!("lancet/", env!("CARGO_PKG_VERSION")))
        .max_redirects(0)
        .max_redirects_will_error(false)
}

/// Runs `work` so that Ctrl-C need not wait for it.
///
/// # Errors
/// Ctrl-C; no thread.
pub fn watched<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    // The client has its own timeouts.
    interrupt::watched(Bounds { stack: STACK, memory: usize::MAX, time: Duration::MAX }, work)
}

fn start(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name("http".into()).spawn(work);
    started.map(drop).map_err(|error| Error::new(format!("no thread can be started: {error}")))
}

/// Asks one server, and follows where it leads.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    /// The server's address, without a name and password.
    address: Url,
    /// Sent to this server only: that is its scheme, host and port.
    authorization: Option<HeaderValue>,
}

/// Which redirects are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// All.
    All,
    /// Those within the server; another is the answer itself.
    WithinServer,
}

impl Client {
    /// A client of the server at `address`, which gets the name and password in it, or else the `token`. The server
    /// may take `patience` for each step: to be found, to be connected, to answer, and to send more.
    ///
    /// # Errors
    /// A name, password or token that no header can hold.
    pub fn new(address: &Url, token: Option<&str>, patience: Duration) -> Result<Self> {
        let patience = Some(patience);
        let agent = settings()
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_send_request(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .build();
        let authorization = basic(address).or(token.map(|token| format!("Bearer {token}"))).map(|text| {
            let value = HeaderValue::try_from(text);
            value.map_err(|_| Error::new("a token or password has characters that cannot be sent"))
        });
        Ok(Self { agent: agent.into(), address: bare(address), authorization: authorization.transpose()? })
    }

    /// The server's address, without a name and password.
    pub fn address(&self) -> &Url {
        &self.address
    }

    /// Sends a request without content. Returns the response with the address that it came from. A status of 400 or
    /// more is an error of the client.
    ///
    /// # Errors
    /// Ctrl-C; no thread.
    pub fn ask(
        &self,
        method: &Method,
        address: &Url,
        headers: &[(HeaderName, String)],
        redirects: Redirects,
    ) -> Result<Answer<(Url, Response<Body>)>> {
        let (client, method, address, headers) = (self.clone(), method.clone(), bare(address), headers.to_vec());
        watched(move || client.follow(&method, address, &headers, redirects))
    }

    fn follow(
        &self,
        method: &Method,
        mut address: Url,
        headers: &[(HeaderName, String)],
        redirects: Redirects,
    ) -> Answer<(Url, Response<Body>)> {
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::builder().method(method.clone()).uri(address.as_str());
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(value) = self.authorization.as_ref().filter(|_| self.is_own(&address)) {
                request = request.header(AUTHORIZATION, value);
            }
            let response = self.agent.run(request.body(())?)?;
            let Some(next) = leads_to(&address, &response)? else { return Ok((address, response)) };
            if redirects == Redirects::WithinServer && !self.is_own(&next) {
                return Ok((address, response));
            }
            address = next;
        }
        Err(ureq::Error::TooManyRedirects)
    }

    /// Whether an address is the server's own. An opaque origin equals no other.
    fn is_own(&self, address: &Url) -> bool {
        address.origin() == self.address.origin()
    }
}

/// Where a response redirects to, if it does.
fn leads_to(address: &Url, response: &Response<Body>) -> Answer<Option<Url>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
    match address.join(location) {
        Ok(next) if matches!(next.scheme(), "http" | "https") && !location.is_empty() => Ok(Some(bare(&next))),
        _ => Err(ureq::Error::BadUri(shown(location))),
    }
}

/// The header's value for the name and password in an address, if it has some.
fn basic(address: &Url) -> Option<String> {
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (name, password) = (decoded(address.username()), decoded(address.password().unwrap_or_default()));
    let pair = [&name[..], b":", &password[..]].concat();
    (pair.len() > 1).then(|| format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// An address without its name, password and fragment.
fn bare(address: &Url) -> Url {
    let mut address = address.clone();
    // Only addresses that cannot have any refuse this.
    let _ = address.set_username("");
    let _ = address.set_password(None);
    address.set_fragment(None);
    address
}

/// An address as it may be shown: without the name and password that it may hold.
pub fn shown(address: &str) -> String {
    match (Url::parse(address), address.rsplit_once('@')) {
        (_, None) => address.to_owned(),
        (Ok(parsed), _) if has_credentials(&parsed) => bare(&parsed).to_string(),
        (Ok(parsed), _) if parsed.has_host() => address.to_owned(),
        // What is no address may still be meant as one.
        (_, Some((_, rest))) => format!("...@{rest}"),
    }
}

/// Whether an address holds a name or a password.
fn has_credentials(address: &Url) -> bool {
    !address.username().is_empty() || address.password().is_some()
}

/// The content of a response, which a thread of its own reads. Reading it fails after Ctrl-C, with
/// [`Error::Interrupted`] inside.
pub struct Content {
    /// The next blocks; an empty one is the end.
    blocks: Option<Receiver<io::Result<Vec<u8>>>>,
    block: io::Cursor<Vec<u8>>,
}

impl Content {
    /// Starts to read.
    ///
    /// # Errors
    /// No thread.
    pub fn new(response: Response<Body>) -> Result<Self> {
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let (full, blocks) = sync_channel(AHEAD);
        start(move || {
            loop {
                let mut block = vec![0; BLOCK];
                let read = match reader.read(&mut block) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                    Ok(length) => {
                        block.truncate(length);
                        Ok(block)
                    }
                };
                let is_last = read.as_ref().map_or(true, Vec::is_empty);
                if full.send(read).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(Self { blocks: Some(blocks), block: io::Cursor::default() })
    }

    /// The whole content, if it is text of `limit` bytes at most.
    ///
    /// # Errors
    /// Ctrl-C.
    pub fn text(self, limit: u64) -> Result<Answer<String>> {
        let mut text = String::new();
        let read = self.take(limit + 1).read_to_string(&mut text);
        interrupt::check()?;
        Ok(match read {
            Ok(_) if text.len() as u64 > limit => Err(ureq::Error::BodyExceedsLimit(limit)),
            read => read.map(|_| text).map_err(ureq::Error::from),
        })
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.block.position() == self.block.get_ref().len() as u64
            && let Some(blocks) = &self.blocks
        {
            let next = interrupt::receive(blocks).map_err(io::Error::other)?;
            let next = next.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
            if next.is_empty() {
                self.blocks = None;
            }
            self.block = io::Cursor::new(next);
        }
        self.block.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_not_shown() {
        for (address, expected) in [
            ("https://name:secret@example.org/simple/", "https://example.org/simple/"),
            ("https://secret@example.org:8443", "https://example.org:8443/"),
            ("https://example.org", "https://example.org"),
            ("http://example.org/v1/@cf/name", "http://example.org/v1/@cf/name"),
            ("https://name:sec/ret@example.org/x", "...@example.org/x"),
            ("name:secret@example.org", "...@example.org"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn credentials_are_sent_as_they_were_meant() {
        let header = |address| basic(&Url::parse(address).unwrap());
        assert_eq!(header("http://example.org"), None);
        // RFC 7617, section 2.
        assert_eq!(header("http://Aladdin:open%20sesame@x").as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(header("http://token@x"), Some(format!("Basic {}", BASE64_STANDARD.encode("token:"))));
    }
}
