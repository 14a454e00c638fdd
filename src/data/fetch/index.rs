//! A Python package index: finds a source archive among a package's files and downloads it.
//! <https://packaging.python.org/en/latest/specifications/simple-repository-api/>

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, ResponseExt};
use url::Url;

use crate::error::{Error, Result};

/// JSON is preferred; many mirrors have HTML only.
const FORMATS: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.1";
/// Largest page read, in bytes.
const LONGEST_PAGE: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A package index by its address.
pub struct Index {
    address: Url,
    agent: Agent,
}

/// A response whose content has not been read yet.
pub struct Download {
    /// Its length in bytes, if the server states it.
    pub length: Option<u64>,
    /// The content.
    pub content: Box<dyn Read>,
}

impl Index {
    /// The index at `address`, as pip takes it.
    ///
    /// # Errors
    /// An invalid address.
    pub fn new(address: &str) -> Result<Self> {
        let parsed = Url::parse(&format!("{}/", address.trim_end_matches('/')))
            .map_err(|error| Error::new(format!("the package index `{address}` is not a valid address: {error}")))
            .map_err(|error| error.hint("set `PIP_INDEX_URL` to one such as https://example.org/simple"))?;
        // The system's certificates: organisations add their own there.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build()
            .into();
        Ok(Self { address: parsed, agent })
    }

    /// The address of an archive among the files of a package.
    ///
    /// # Errors
    /// An index that cannot be reached, or that does not have the archive.
    pub fn find(&self, package: &str, archive: &str) -> Result<Url> {
        let page = self.address.join(&format!("{package}/")).map_err(|error| unreadable(&self.address, &error))?;
        let mut answer = self
            .agent
            .get(page.as_str())
            .header(ACCEPT, FORMATS)
            .call()
            .map_err(|error| explain(&page, &format!("`{package}`"), error))?;
        let base = Url::parse(&answer.get_uri().to_string()).unwrap_or_else(|_| page.clone());
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.contains("json");
        let text = answer
            .body_mut()
            .with_config()
            .limit(LONGEST_PAGE)
            .read_to_string()
            .map_err(|error| explain(&page, &format!("`{package}`"), error))?;
        let found = if is_json {
            in_json(&text, archive).map_err(|error| unreadable(&page, &error))?
        } else {
            in_html(&text, archive)
        };
        let found = found.ok_or_else(|| {
            Error::new(format!("the package index `{}` has no `{archive}`", shown(&self.address)))
                .hint("set `PIP_INDEX_URL` to an index that has it")
        })?;
        base.join(&found).map_err(|error| unreadable(&page, &error))
    }

    /// Starts a download.
    ///
    /// # Errors
    /// A server that cannot be reached or refuses.
    pub fn open(&self, address: &Url) -> Result<Download> {
        let answer = self.agent.get(address.as_str()).call().map_err(|error| {
            explain(
                address,
                &format!("`{}`", address.path_segments().and_then(Iterator::last).unwrap_or_default()),
                error,
            )
        })?;
        let body = answer.into_body();
        Ok(Download {
            length: body.content_length(),
            content: Box::new(body.into_with_config().limit(u64::MAX).reader()),
        })
    }
}

#[derive(Deserialize)]
struct Page {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
}

fn in_json(text: &str, archive: &str) -> serde_json::Result<Option<String>> {
    let page: Page = serde_json::from_str(text)?;
    Ok(page.files.into_iter().find(|file| file.filename == archive).map(|file| file.url))
}

/// The link to an archive in the index's older form, a page of links.
fn in_html(text: &str, archive: &str) -> Option<String> {
    let links = text.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|first| ['"', '\''].contains(first))?;
        rest.get(1..)?.split(quote).next()
    });
    let bare = |link: &str| link.split('#').next().unwrap_or_default().replace("&amp;", "&");
    links.map(bare).find(|link| link.split('?').next().and_then(|path| path.rsplit('/').next()) == Some(archive))
}

/// An address without the password that it may hold.
fn shown(address: &Url) -> String {
    let mut address = address.clone();
    let _ = address.set_password(None);
    let _ = address.set_username("");
    address.to_string()
}

fn unreadable(address: &Url, error: &dyn std::fmt::Display) -> Error {
    Error::new(format!("the answer of the package index `{}` cannot be read: {error}", shown(address)))
}

fn explain(address: &Url, what: &str, error: ureq::Error) -> Error {
    let host = address.host_str().unwrap_or_default();
    match error {
        ureq::Error::StatusCode(404) => Error::new(format!("the package index at {host} has no {what}")),
        ureq::Error::StatusCode(401 | 403) => Error::new(format!("{host} denies access to {what}"))
            .hint("set `PIP_INDEX_URL` with name and password, as for pip"),
        ureq::Error::StatusCode(code) => Error::new(format!("{what}: {host} answered with status {code}")),
        error => Error::new(format!("{what} cannot be fetched from {host}: {error}"))
            .hint("check the network, and `PIP_INDEX_URL` if it is set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_both_forms() {
        let json = r#"{"files": [{"filename": "a-1.tar.gz", "url": "../../x/a-1.tar.gz", "size": 3, "hashes": {}}]}"#;
        assert_eq!(in_json(json, "a-1.tar.gz").unwrap().as_deref(), Some("../../x/a-1.tar.gz"));
        assert_eq!(in_json(json, "a-2.tar.gz").unwrap(), None);
        assert!(in_json("{}", "a-1.tar.gz").is_err());
        let html =
            "<a href=\"/x/ba-1.tar.gz#sha256=0\">ba</a><a data-x href='/x/a-1.tar.gz?k=1&amp;l=2#sha256=0'>a</a>";
        assert_eq!(in_html(html, "a-1.tar.gz").as_deref(), Some("/x/a-1.tar.gz?k=1&l=2"));
        assert_eq!(in_html(html, "a-2.tar.gz"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let index = Index::new("https://name:secret@example.org/simple/").unwrap();
        assert_eq!(shown(&index.address), "https://example.org/simple/");
        assert!(Index::new("somewhere").is_err());
    }
}
