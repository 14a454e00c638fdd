//! Asks the hub which files a repository has and what their checksums are, and explains its refusals.

use std::io::ErrorKind;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::Body;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, RANGE};
use ureq::http::{Method, Response};
use url::Url;

use super::{Hub, Wanted};
use crate::error::{Error, Result};
use crate::file::is_plain;
use crate::http::{Answer, Client, Content, Redirects, shown};
use crate::interrupt;

/// The hub's address where `HF_ENDPOINT` gives no other.
const ENDPOINT: &str = "https://huggingface.co";
/// The characters that an address does not contain as they are: all but letters, digits and `-._~`.
const WORD: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a path.
const PATH: &AsciiSet = &WORD.remove(b'/');
/// The longest list of files that is read, in bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// A repository, as the hub describes it.
pub(super) struct Listing {
    /// The commit.
    pub(super) sha: String,
    /// The names of the files.
    pub(super) files: Vec<String>,
}

/// The same in the hub's words.
#[derive(Deserialize)]
struct Repository {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A file, as the hub describes it.
pub(super) struct Stated {
    address: Url,
    /// The name of its content in the cache: for the hub's own files a checksum.
    pub(super) etag: String,
    /// Its length in bytes, if the hub says it without sending the file.
    pub(super) length: Option<u64>,
}

/// One repository of the hub.
pub(super) struct Remote<'a> {
    wanted: &'a Wanted,
    hub: &'a Hub,
    /// For questions about files.
    questions: Client,
    /// For the files themselves.
    contents: Client,
}

impl<'a> Remote<'a> {
    /// Reads the hub's address; nothing is sent yet.
    ///
    /// # Errors
    /// An invalid address or token.
    pub(super) fn new(hub: &'a Hub, wanted: &'a Wanted) -> Result<Self> {
        let endpoint = hub.endpoint.as_deref().unwrap_or(ENDPOINT);
        let parsed = Url::parse(endpoint).ok().filter(|address| matches!(address.scheme(), "http" | "https"));
        let address = parsed.ok_or_else(|| {
            Error::new(format!("`{}` is not the address of a hub", shown(endpoint)))
                .hint("set `HF_ENDPOINT` to one such as https://example.org, or unset it")
        })?;
        let client = |patience| Client::new(&address, hub.token.as_deref(), patience);
        Ok(Self { wanted, hub, questions: client(hub.timeouts.question)?, contents: client(hub.timeouts.content)? })
    }

    /// The commit of the wanted revision and its files.
    ///
    /// # Errors
    /// A hub that cannot be reached or refuses; Ctrl-C.
    pub(super) fn listing(&self) -> Result<Listing> {
        let Wanted { id, revision, .. } = self.wanted;
        let address = self.address(&format!("api/models/{id}/revision/{}", utf8_percent_encode(revision, WORD)))?;
        let answer = self.questions.ask(&Method::GET, &address, &[], Redirects::All)?;
        let (_, response) = answer.map_err(|error| self.explain(error, None))?;
        let text = Content::new(response)?.text(LONGEST_LIST)?.map_err(|error| self.explain(error, None))?;
        let Repository { sha, siblings } = serde_json::from_str(&text)
            .map_err(|error| Error::new(format!("`{id}`: the hub's answer cannot be read: {error}")))?;
        if !is_plain(&sha) || sha.contains('/') {
            return Err(Error::new(format!("the hub gave `{sha}` as the commit of `{id}`")));
        }
        Ok(Listing { sha, files: siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// What the hub says of a file. Redirects to another server are not followed: the hub itself knows the checksum.
    ///
    /// # Errors
    /// A hub that cannot be reached or refuses; Ctrl-C.
    pub(super) fn stated(&self, file: &str, commit: &str) -> Result<Stated> {
        let id = &self.wanted.id;
        let address = self.address(&format!("{id}/resolve/{commit}/{}", utf8_percent_encode(file, PATH)))?;
        let mut answer = self.questions.ask(&Method::HEAD, &address, &plain(), Redirects::WithinServer)?;
        // A server that knows no HEAD says the same with the first byte.
        if matches!(answer, Err(ureq::Error::StatusCode(405 | 501))) {
            let headers = [plain(), vec![(RANGE, "bytes=0-0".to_owned())]].concat();
            answer = self.questions.ask(&Method::GET, &address, &headers, Redirects::WithinServer)?;
        }
        let (_, response) = answer.map_err(|error| self.explain(error, Some(file)))?;
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let linked = |name| header(HeaderName::from_static(name));
        let etag = linked("x-linked-etag").or_else(|| header(ETAG)).map(|etag| etag.trim_start_matches("W/"));
        let etag = etag.map(|etag| etag.trim_matches('"')).unwrap_or_default();
        if !is_plain(etag) || etag.contains(['/', '\\']) {
            return Err(Error::new(format!("the hub gave `{etag}` as the checksum of {}", self.what(Some(file)))));
        }
        // The length of a redirect is not that of the file.
        let own = || match response.status().as_u16() {
            206 => header(CONTENT_RANGE).and_then(|range| range.rsplit('/').next()),
            200..=299 => header(CONTENT_LENGTH),
            _ => None,
        };
        let length = linked("x-linked-size").or_else(own).and_then(|length| length.parse().ok());
        Ok(Stated { address, etag: etag.to_owned(), length })
    }

    /// The answer to a request for a file, from byte `start` on.
    ///
    /// # Errors
    /// Ctrl-C.
    pub(super) fn open(&self, file: &Stated, start: u64) -> Result<Answer<Response<Body>>> {
        let mut headers = plain();
        if start > 0 {
            headers.push((RANGE, format!("bytes={start}-")));
        }
        let answer = self.contents.ask(&Method::GET, &file.address, &headers, Redirects::All)?;
        Ok(answer.map(|(_, response)| response))
    }

    fn address(&self, path: &str) -> Result<Url> {
        let address = format!("{}/{path}", self.questions.address().as_str().trim_end_matches('/'));
        Url::parse(&address).map_err(|error| Error::new(format!("`{address}` is not an address: {error}")))
    }

    /// The name of a `file` or of the repository itself, for messages.
    pub(super) fn what(&self, file: Option<&str>) -> String {
        let id = &self.wanted.id;
        file.map_or_else(|| format!("`{id}`"), |file| format!("`{file}` of `{id}`"))
    }

    /// Explains an error of the client, for a `file` or for the repository itself.
    pub(super) fn explain(&self, error: ureq::Error, file: Option<&str>) -> Error {
        if interrupt::is_pending() {
            return Error::Interrupted;
        }
        let revision = &self.wanted.revision;
        let what = self.what(file);
        let network = "check the network, and `HF_ENDPOINT` if it is set";
        let again = "run it again: it continues where it stopped";
        match error {
            ureq::Error::StatusCode(401 | 403) if file.is_some() => Error::new(format!("access to {what} is denied"))
                .hint("accept the model's licence on its page, then set `HF_TOKEN` to a token of that account"),
            ureq::Error::StatusCode(401 | 403) => Error::new(format!("there is no model {what}, or it is private"))
                .hint("check the name; for a private model set `HF_TOKEN` to a token that may read it"),
            ureq::Error::StatusCode(404) if revision == "main" => Error::new(format!("the hub has no {what}")),
            ureq::Error::StatusCode(404) => Error::new(format!("the hub has no {what} at revision `{revision}`")),
            ureq::Error::StatusCode(429) => Error::new("the hub refuses more requests for now")
                .hint("wait a few minutes, or set `HF_TOKEN` for a higher limit"),
            ureq::Error::StatusCode(code) => Error::new(format!("{what}: the hub answered with status {code}")),
            ureq::Error::HostNotFound => Error::new(format!("{what}: the hub cannot be found by name")).hint(network),
            ureq::Error::TooManyRedirects => {
                Error::new(format!("{what}: the hub's redirects do not end")).hint(network)
            }
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Error::new(format!("{what}: the connection to the hub was refused")).hint(network)
            }
            ureq::Error::Timeout(_) => {
                let timeouts = &self.hub.timeouts;
                Error::new(format!("the download of {what} broke off: the hub sent nothing for too long")).hint(format!(
                    "{again}; `HF_HUB_ETAG_TIMEOUT` ({} s) and `HF_HUB_DOWNLOAD_TIMEOUT` ({} s) say how long to wait",
                    timeouts.question.as_secs(),
                    timeouts.content.as_secs()
                ))
            }
            error => Error::new(format!("the download of {what} broke off: {error}")).hint(again),
        }
    }
}

/// The header that asks for a file as it is stored.
fn plain() -> Vec<(HeaderName, String)> {
    vec![(ACCEPT_ENCODING, "identity".to_owned())]
}
