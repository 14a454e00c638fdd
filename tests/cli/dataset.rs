//! Fetching data sets, against a package index on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::CTRL_C;
use flate2::Compression;
use flate2::write::GzEncoder;
use lancet::data::fetch::dataset::{DATASETS, DataFile, Dataset, Datasets};
use lancet::error::Error;
use lancet::interrupt;
use sha2::{Digest, Sha256};

static PRESS: AtomicBool = AtomicBool::new(false);

const JSON: &str = r#"{"files": [{"filename": "tiny-2.tar.gz", "url": "x"},
    {"filename": "tiny-1.tar.gz", "url": "../../files/tiny-1.tar.gz"}]}"#;
const HTML: &str = r#"<a href="/files/tiny-1.tar.gz#sha256=00">tiny-1.tar.gz</a>"#;

/// A source archive with these files below its one folder.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("tiny-1/{name}"), text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// Serves an index with `page` about the package and one archive; returns its address.
fn serve(page: &'static str, archive: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/simple", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let kind = if page.starts_with('{') { "application/vnd.pypi.simple.v1+json" } else { "text/html" };
            let (status, body) = match head.first().and_then(|line| line.split(' ').nth(1)) {
                Some("/simple/tiny/") => (200, page.as_bytes()),
                Some("/files/tiny-1.tar.gz") => (200, archive.as_slice()),
                _ => (404, &[][..]),
            };
            if body == archive && PRESS.load(Ordering::Relaxed) {
                interrupt::request();
            }
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} So\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )
            .ok();
            stream.write_all(body).ok();
        }
    });
    address
}

fn datasets(folder: &Path, index: &str) -> Datasets {
    let lookup = |name: &str| match name {
        "LANCET_CACHE" | "HF_HOME" => Some(folder.display().to_string()),
        "PIP_INDEX_URL" => Some(index.to_owned()),
        _ => None,
    };
    Datasets::from_variables(lookup).unwrap()
}

/// Two files of the package `tiny`, which hold `a` and `b`.
fn tiny() -> Dataset {
    let file = |name: &'static str, member, text: &str| DataFile {
        name,
        member,
        sha256: format!("{:x}", Sha256::digest(text)).leak(),
    };
    let files = vec![file("a.json", "tasks/a/task.json", "a"), file("b.json", "tasks/b/task.json", "b")].leak();
    Dataset { name: "tiny", summary: "", package: "tiny", archive: "tiny-1.tar.gz", bytes: 100, files }
}

fn whole() -> Vec<u8> {
    archive(&[
        ("README", "x"),
        ("tasks/b/task.json", "b"),
        ("other/tasks/a/task.json", "no"),
        ("tasks/a/task.json", "a"),
    ])
}

fn nothing_was_kept(folder: &Path) -> bool {
    !folder.join("data/tiny").exists()
}

#[test]
fn files_are_fetched_once() {
    let _alone = CTRL_C.read().unwrap();
    for page in [JSON, HTML] {
        let folder = tempfile::tempdir().unwrap();
        let data = datasets(folder.path(), &serve(page, whole())).fetch(&tiny()).unwrap();
        assert_eq!(data, folder.path().join("data/tiny"));
        assert_eq!(fs::read_to_string(data.join("a.json")).unwrap(), "a");
        assert_eq!(fs::read_to_string(data.join("b.json")).unwrap(), "b");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 2);
        let mut nowhere = datasets(folder.path(), "http://127.0.0.1:9/");
        nowhere.offline = true;
        nowhere.fetch(&tiny()).unwrap();
        fs::write(data.join("b.json"), "broken").unwrap();
        assert!(nowhere.fetch(&tiny()).unwrap_err().hint_text().unwrap().contains("--offline"));
        datasets(folder.path(), &serve(page, whole())).fetch(&tiny()).unwrap();
        assert_eq!(fs::read_to_string(data.join("b.json")).unwrap(), "b");
    }
}

#[test]
fn what_is_not_right_is_not_kept() {
    let _alone = CTRL_C.read().unwrap();
    let other = archive(&[("tasks/a/task.json", "a"), ("tasks/b/task.json", "B")]);
    let lacking = archive(&[("tasks/a/task.json", "a")]);
    let cut = whole()[..60].to_vec();
    for (page, archive, message) in [
        (JSON, other, "`tasks/b/task.json` of `tiny-1.tar.gz` does not have the expected content"),
        (JSON, lacking, "`tiny-1.tar.gz` has no `tasks/b/task.json`"),
        (JSON, cut, "the download of `tiny-1.tar.gz` broke off"),
        (JSON, b"no archive".to_vec(), "the download of `tiny-1.tar.gz` broke off"),
        ("{}", whole(), "cannot be read"),
        ("{\"files\": []}", whole(), "has no `tiny-1.tar.gz`"),
        ("<p>", whole(), "has no `tiny-1.tar.gz`"),
        (r#"<a href="/gone/tiny-1.tar.gz">"#, whole(), "has no `tiny-1.tar.gz`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = datasets(folder.path(), &serve(page, archive)).fetch(&tiny()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(nothing_was_kept(folder.path()), "{message}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = datasets(folder.path(), "http://127.0.0.1:9/simple").fetch(&tiny()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("PIP_INDEX_URL"), "{error}");
}

#[test]
fn ctrl_c_leaves_nothing() {
    let _alone = CTRL_C.write().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let datasets = datasets(folder.path(), &serve(JSON, whole()));
    PRESS.store(true, Ordering::Relaxed);
    let outcome = datasets.fetch(&tiny());
    PRESS.store(false, Ordering::Relaxed);
    interrupt::clear();
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    assert!(nothing_was_kept(folder.path()));
    datasets.fetch(&tiny()).unwrap();
}

/// Ctrl-C is pressed while the index is silent.
#[test]
fn ctrl_c_does_not_wait_for_the_index() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    let index = format!("http://{}/simple", listener.local_addr().unwrap());
    command.args(["data", "bigbench"]).env("PIP_INDEX_URL", index).env("LANCET_CACHE", folder.path());
    let child = command.env_remove("HF_HUB_OFFLINE").stderr(Stdio::piped()).spawn().unwrap();
    let _open = listener.accept().unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_list_says_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let datasets = datasets(folder.path(), "");
    let list = || {
        let mut out = Vec::new();
        datasets.list(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(list().matches("not fetched").count(), 4);
    assert!(list().contains("`lancet data bigbench` fetches it (358 MB to download)"), "{}", list());
    let data = folder.path().join("data/bigbench");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("snarks.json"), "{}").unwrap();
    assert!(list().contains("broken"), "{}", list());
    for dataset in DATASETS {
        assert!(dataset.files.iter().all(|file| file.sha256.len() == 64), "{}", dataset.name);
    }
}
