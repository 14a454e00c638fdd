//! A Python package index: finds a source archive among a package's files and downloads it.
//! <https://packaging.python.org/en/latest/specifications/simple-repository-api/>

use std::time::Duration;

use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};
use url::Url;

use crate::error::{Error, Result};
use crate::http::{Client, Content, Redirects, shown};
use crate::interrupt;

/// JSON is preferred; many mirrors have HTML only.
const FORMATS: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.1";
/// Largest page read, in bytes.
const LONGEST_PAGE: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A package index by its address.
pub struct Index {
    client: Client,
}

/// A response whose content has not been read yet.
pub struct Download {
    /// Its length in bytes, if the server states it.
    pub length: Option<u64>,
    /// The content.
    pub content: Content,
}

impl Index {
    /// The index at `address`, as pip takes it: a name and password in it are sent to this server only.
    ///
    /// # Errors
    /// An invalid address.
    pub fn new(address: &str) -> Result<Self> {
        let parsed = Url::parse(&format!("{}/", address.trim_end_matches('/')));
        let parsed = parsed.map_err(|error| {
            Error::new(format!("the package index `{}` is not a valid address: {error}", shown(address)))
                .hint("set `PIP_INDEX_URL` to one such as https://example.org/simple")
        })?;
        Ok(Self { client: Client::new(&parsed, None, PATIENCE)? })
    }

    /// The address of an archive among the files of a package.
    ///
    /// # Errors
    /// An index that cannot be reached, or that does not have the archive; Ctrl-C.
    pub fn find(&self, package: &str, archive: &str) -> Result<Url> {
        let index = self.client.address();
        let page = index.join(&format!("{package}/")).map_err(|error| unreadable(index, &error))?;
        let broken = |error| explain(&page, &format!("`{package}`"), error);
        let accept = [(ACCEPT, FORMATS.to_owned())];
        let (base, answer) = self.client.ask(&Method::GET, &page, &accept, Redirects::All)?.map_err(broken)?;
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.contains("json");
        let text = Content::new(answer)?.text(LONGEST_PAGE)?.map_err(broken)?;
        let found = if is_json {
            in_json(&text, archive).map_err(|error| unreadable(&page, &error))?
        } else {
            in_html(&text, archive)
        };
        let found = found.ok_or_else(|| {
            Error::new(format!("the package index `{index}` has no `{archive}`"))
                .hint("set `PIP_INDEX_URL` to an index that has it")
        })?;
        base.join(&found).map_err(|error| unreadable(&page, &error))
    }

    /// Starts a download.
    ///
    /// # Errors
    /// A server that cannot be reached or refuses; Ctrl-C.
    pub fn open(&self, address: &Url) -> Result<Download> {
        let name = address.path_segments().and_then(Iterator::last).unwrap_or_default();
        let answer = self.client.ask(&Method::GET, address, &[], Redirects::All)?;
        let (_, answer) = answer.map_err(|error| explain(address, &format!("`{name}`"), error))?;
        Ok(Download { length: answer.body().content_length(), content: Content::new(answer)? })
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

fn unreadable(address: &Url, error: &dyn std::fmt::Display) -> Error {
    Error::new(format!("the answer of the package index `{}` cannot be read: {error}", shown(address.as_str())))
}

fn explain(address: &Url, what: &str, error: ureq::Error) -> Error {
    if interrupt::is_pending() {
        return Error::Interrupted;
    }
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
    fn a_wrong_address_is_refused_without_its_password() {
        assert!(Index::new("somewhere").is_err());
        let error = Index::new("https://name:secret@example.org:port/simple").err().unwrap().to_string();
        assert!(error.contains("example.org:port") && !error.contains("secret"), "{error}");
    }
}
