//! A server on this machine that speaks the hub's protocol, with faults on request.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lancet::error::Error;
use lancet::hub::{Hub, Timeouts};
use lancet::interrupt;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub const CONFIG: (&str, &str) = ("config.json", r#"{"model_type":"olmo2"}"#);
pub const TOKENIZER: (&str, &str) = ("tokenizer.json", "{}");
pub const WEIGHTS: (&str, &str) = ("model.safetensors", "the weights of the model");

/// What the hub states of a file's content.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum Stated {
    /// A name that is no checksum.
    #[default]
    Name,
    /// The SHA-256.
    Sha256,
    /// The SHA-1 of git.
    Git,
    /// This.
    Fixed(&'static str),
}

impl Stated {
    pub fn etag(self, name: &str, content: &[u8]) -> String {
        match self {
            Self::Name => format!("{}-etag", name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")),
            Self::Sha256 => format!("{:x}", Sha256::digest(content)),
            Self::Git => {
                let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
                format!("{:x}", Sha1::digest(blob))
            }
            Self::Fixed(etag) => etag.to_owned(),
        }
    }
}

/// A hub with one repository, `owner/name`.
#[derive(Default)]
pub struct Served {
    pub files: HashMap<&'static str, Vec<u8>>,
    pub stated: Stated,
    /// The server that has the contents; the hub itself only states their checksums.
    pub store: Option<String>,
    /// The status instead of a file's content.
    pub refused: HashMap<&'static str, u16>,
    /// The number of answers that still break off inside a file's content.
    pub truncated: HashMap<&'static str, usize>,
    /// The number of answers whose last byte is still wrong.
    pub flipped: HashMap<&'static str, usize>,
    /// Files longer than their stated length.
    pub misstated: Vec<&'static str>,
    /// Files of which the first half arrives, and then nothing.
    pub stalled: Vec<&'static str>,
    /// Files of which a byte a second arrives.
    pub dripping: Vec<&'static str>,
    /// The beginnings of requests that are not answered.
    pub silent: Vec<&'static str>,
    /// Whether ranges are not understood.
    pub whole_only: bool,
    /// Whether requests for headers alone are not understood.
    pub no_head: bool,
    /// The file whose download Ctrl-C interrupts.
    pub interrupted: Option<&'static str>,
    pub requests: Vec<String>,
    /// The requests with all their headers.
    pub heads: Vec<String>,
    /// The connections that wait for an answer.
    waiting: Vec<TcpStream>,
}

pub struct Server {
    pub served: Arc<Mutex<Served>>,
    pub address: String,
}

impl Server {
    pub fn new(files: &[(&'static str, &str)]) -> Self {
        let files = files.iter().map(|(name, content)| (*name, content.as_bytes().to_vec())).collect();
        let served = Arc::new(Mutex::new(Served { files, ..Served::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &mut shared.lock().unwrap());
            }
        });
        Self { served, address }
    }

    pub fn with(self, change: impl FnOnce(&mut Served)) -> Self {
        change(&mut self.served.lock().unwrap());
        self
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.served.lock().unwrap().requests)
    }

    /// All requests with their headers.
    pub fn heads(&self) -> Vec<String> {
        self.served.lock().unwrap().heads.clone()
    }
}

/// Answers one request as the hub does.
fn answer(mut stream: TcpStream, served: &mut Served) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)).map(str::to_owned) else { return };
    let is_head = head[0].starts_with("HEAD ");
    let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    served.requests.push(path.clone());
    served.heads.push(head.join("\n"));
    if served.silent.iter().any(|request| head[0].starts_with(request)) {
        return served.waiting.push(stream);
    }
    let refuse = |mut stream: TcpStream, status: u16| {
        write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
    };
    if let Some(revision) = path.strip_prefix("/api/models/owner/name/revision/") {
        if revision != "main" && revision != COMMIT {
            return refuse(stream, 404);
        }
        let siblings: Vec<String> = served.files.keys().map(|name| format!(r#"{{"rfilename":"{name}"}}"#)).collect();
        let body = format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, siblings.join(","));
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").ok();
        return;
    }
    let prefix = format!("/owner/name/resolve/{COMMIT}/");
    let asked = path.strip_prefix(&prefix).or(path.strip_prefix("/store/"));
    let plain = asked.map(|name| percent_encoding::percent_decode_str(name).decode_utf8().unwrap());
    let Some((name, content)) = plain.and_then(|name| served.files.get_key_value(&*name)) else {
        return refuse(stream, if path.starts_with("/api/models/private/") { 401 } else { 404 });
    };
    if let Some(status) = served.refused.get(name) {
        return refuse(stream, *status);
    }
    if is_head && served.no_head {
        return refuse(stream, 501);
    }
    let etag = served.stated.etag(name, content);
    if let Some(store) = &served.store {
        let length = content.len();
        write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {store}/store/{name}\r\nX-Linked-Etag: \"{etag}\"\r\n\
             X-Linked-Size: {length}\r\nETag: \"of-the-redirect\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .ok();
        return;
    }
    let range = range.filter(|_| !served.whole_only);
    let start = range.as_deref().map_or(0, |range| range.split('-').next().unwrap().parse().unwrap());
    let stated = content.len() + usize::from(is_head && served.misstated.contains(name));
    let status = match range {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{stated}", content.len() - 1),
        None => "200 OK".to_owned(),
    };
    let length = stated - start;
    write!(stream, "HTTP/1.1 {status}\r\nETag: \"{etag}\"\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
        .ok();
    if is_head {
        return;
    }
    let mut body = content[start..].to_vec();
    if let Some(left) = served.flipped.get_mut(name).filter(|left| **left > 0) {
        *left -= 1;
        *body.last_mut().unwrap() ^= 1;
    }
    if let Some(left) = served.truncated.get_mut(name).filter(|left| **left > 0) {
        *left -= 1;
        body.truncate(body.len() / 2);
    }
    if served.interrupted.take_if(|file| file == name).is_some() {
        interrupt::request();
    }
    if served.dripping.contains(name) {
        std::thread::spawn(move || {
            for byte in body {
                std::thread::sleep(Duration::from_secs(1));
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
            }
        });
        return;
    }
    if served.stalled.contains(name) {
        stream.write_all(&body[..content.len() / 2]).ok();
        return served.waiting.push(stream);
    }
    stream.write_all(&body).ok();
}

pub fn hub(server: &Server, folder: &Path) -> Hub {
    Hub {
        models: folder.join("models"),
        cache: folder.join("hub"),
        endpoint: Some(server.address.clone()),
        token: None,
        offline: false,
        timeouts: Timeouts::default(),
    }
}

pub fn repository(folder: &Path) -> PathBuf {
    folder.join("hub/models--owner--name")
}

pub fn snapshot(folder: &Path) -> PathBuf {
    repository(folder).join("snapshots").join(COMMIT)
}

#[track_caller]
pub fn assert_error(error: Error, message: &str, hint: &str) {
    assert!(error.to_string().contains(message), "`{message}` is not in: {error}");
    assert!(error.hint_text().unwrap_or_default().contains(hint), "`{hint}` is not in: {:?}", error.hint_text());
}
