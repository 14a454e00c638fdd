//! Queries to a model behind a URL, against a local server with scripted answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{assert_contains, failure};
use assert_cmd::Command;
use lancet::chat_client::Request;
use serde_json::{Value, json};

/// The server's reaction to one request.
#[derive(Clone)]
enum Answer {
    /// Status, headers and body
    Say(u16, &'static str, String),
    /// Closes the connection
    HangUp,
    /// Does not answer
    Wait,
}

/// The path, the head and the body of a request.
#[derive(Clone)]
struct Asked {
    path: String,
    head: String,
    body: Value,
}

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Gives the answers in turn, then repeats the last one.
    fn new(answers: Vec<Answer>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            // Unanswered connections stay open.
            let mut waiting = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let request = read(&stream);
                let turn = {
                    let mut log = log.lock().unwrap();
                    log.push(request);
                    log.len() - 1
                };
                match answers.get(turn).or(answers.last()).cloned().unwrap() {
                    Answer::Say(status, headers, body) => say(stream, status, headers, &body),
                    Answer::HangUp => drop(stream),
                    Answer::Wait => waiting.push(stream),
                }
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().and_then(|length| length.parse().ok()).unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Asked {
        path: head.split(' ').nth(1).unwrap().to_owned(),
        head,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

fn say(mut stream: TcpStream, status: u16, headers: &str, body: &str) {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} Said\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .ok();
}

/// A chat completion in the servers' format.
fn completion(text: &str) -> Answer {
    let body = json!({ "id": "1", "choices": [{ "index": 0, "message": { "role": "assistant", "content": text } }] });
    Answer::Say(200, "Content-Type: application/json\r\n", body.to_string())
}

fn request(url: &str) -> Request {
    Request {
        url: url.to_owned(),
        body: json!({ "model": "judge", "messages": [{ "role": "user", "content": "yes or no?" }] }),
        key: None,
        timeout: Duration::from_secs(20),
        attempts: 3,
        offline: true,
        store: None,
    }
}

#[test]
fn an_answer_is_its_text() {
    let server = Server::new(vec![completion("Yes: \"ü\"\n")]);
    let asked = Request { key: Some("secret".into()), ..request(&server.url) };
    assert_eq!(asked.send().unwrap(), "Yes: \"ü\"\n");
    let seen = server.asked();
    assert_eq!(seen[0].path, "/v1/chat/completions");
    assert_eq!(seen[0].body, asked.body);
    assert!(seen[0].head.to_lowercase().contains("authorization: bearer secret\r\n"), "{}", seen[0].head);
    // The address may be complete, with or without a final slash.
    for url in [format!("{}/", server.url), format!("{}/chat/completions", server.url)] {
        assert!(request(&url).send().is_ok());
    }
    let seen = server.asked();
    assert!(seen.iter().all(|asked| asked.path == "/v1/chat/completions"));
    assert!(!seen[1].head.to_lowercase().contains("authorization"), "no key, no header");
}

#[test]
fn passing_failures_are_tried_again() {
    let soon = "Retry-After: 0\r\n";
    let busy = |status| Answer::Say(status, soon, r#"{"error":{"message":"too busy"}}"#.into());
    let server = Server::new(vec![busy(429), busy(503), completion("no")]);
    assert_eq!(request(&server.url).send().unwrap(), "no");
    assert_eq!(server.asked().len(), 3);

    let server = Server::new(vec![Answer::HangUp, completion("no")]);
    assert_eq!(request(&server.url).send().unwrap(), "no");

    let server = Server::new(vec![busy(500)]);
    assert_contains(&failure(request(&server.url).send()), &["after 3 attempts", "status 500: too busy"]);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn lasting_failures_say_what_is_wrong() {
    let cases = [
        (
            Answer::Say(401, "", r#"{"error":{"message":"Incorrect API key"}}"#.into()),
            ["status 401: Incorrect API key", "api_key_env"],
        ),
        (Answer::Say(404, "", r#"{"detail":"Not Found"}"#.into()), ["status 404: Not Found", "such as /v1"]),
        (Answer::Say(400, "", r#"{"error":"no such model"}"#.into()), ["status 400: no such model", ""]),
        (Answer::Say(200, "", "<html>\n hello".into()), ["not JSON: <html> hello", "OpenAI-compatible"]),
        (Answer::Say(200, "", r#"{"choices":[]}"#.into()), ["not a chat completion", "OpenAI-compatible"]),
        (Answer::Say(200, "", r#"{"choices":[{"message":{"content":null}}]}"#.into()), ["no text", "max_tokens"]),
    ];
    for (answer, parts) in cases {
        let server = Server::new(vec![answer]);
        assert_contains(&failure(request(&server.url).send()), &parts);
        assert_eq!(server.asked().len(), 1, "{parts:?} is not asked again");
    }
}

#[test]
fn a_key_reaches_no_other_server() {
    let other = Server::new(vec![completion("yes")]);
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/chat/completions\r\n", other.url).leak();
        let server = Server::new(vec![Answer::Say(status, location, String::new())]);
        let asked = Request { key: Some("key-of-the-test".into()), ..request(&server.url) };
        assert_contains(&failure(asked.send()), &[&format!("status {status}"), &other.url]);
    }
    assert!(other.asked().is_empty());
}

#[test]
fn a_key_that_is_sent_back_is_masked() {
    let folder = tempfile::tempdir().unwrap();
    let key = "key of the test";
    let echo = || format!("{} {key}", "x".repeat(190));
    for answer in [
        Answer::Say(401, "", json!({ "error": { "message": echo() } }).to_string()),
        Answer::Say(401, "", echo()),
        Answer::Say(200, "", echo()),
        Answer::Say(200, "", json!({ "error": echo() }).to_string()),
        Answer::Say(307, "Location: http://key of the test/\r\n", String::new()),
        completion(&echo()),
    ] {
        let server = Server::new(vec![answer]);
        let store = Some(folder.path().to_owned());
        let error = failure(Request { key: Some(key.into()), store, ..request(&server.url) }.send());
        assert!(!error.contains("key of"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no answer is kept");
    // A word for servers that need no key is no secret.
    let server = Server::new(vec![completion("EMPTY")]);
    assert_eq!(Request { key: Some("EMPTY".into()), ..request(&server.url) }.send().unwrap(), "EMPTY");
}

#[test]
fn a_password_in_the_address_is_refused_and_not_shown() {
    for url in ["http://user:password@127.0.0.1:1/v1", "http://user:password@127.0.0.1:port/v1"] {
        let error = failure(request(url).send());
        assert!(!error.contains("password@"), "{error}");
        assert_contains(&error, &["127.0.0.1"]);
    }
}

#[test]
fn servers_that_do_not_answer_are_given_up() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = failure(request(&format!("http://{nobody}/v1")).send());
    assert_contains(&refused, &["the connection was refused", "that the server is running"]);
    let silent = Server::new(vec![Answer::Wait]);
    let asked = Request { timeout: Duration::from_millis(300), ..request(&silent.url) };
    assert_contains(&failure(asked.send()), &["no answer within 0.3 seconds", "`timeout`"]);
}

#[test]
fn addresses_are_checked_before_anything_is_sent() {
    for url in ["", "127.0.0.1:8000/v1", "ftp://127.0.0.1/v1", "http://", "http://a b/v1"] {
        assert_contains(&failure(request(url).send()), &["is not the address of a server", "http://127.0.0.1:8000/v1"]);
    }
    assert_contains(&failure(request("http://192.0.2.1/v1").send()), &["not on this machine", "`--offline`"]);
}

#[test]
fn kept_answers_are_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![completion("first"), completion("second"), completion("third")]);
    let asked = Request { store: Some(folder.path().to_owned()), ..request(&server.url) };
    assert_eq!(asked.send().unwrap(), "first");
    assert_eq!(asked.send().unwrap(), "first");
    let mut other = asked.clone();
    other.body["temperature"] = json!(1.0);
    assert_eq!(other.send().unwrap(), "second", "another question");
    assert_eq!(Request { store: None, ..asked }.send().unwrap(), "third", "without a store");
    assert_eq!(server.asked().len(), 3);
}

/// Runs the binary on code, with the server's address in `URL`.
fn eval(code: &str, url: &str, cache: &Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.env("LANCET_CACHE", cache).env("URL", url).env("JUDGE_KEY", "from the environment");
    command.args(["-e", code]).output().unwrap()
}

#[test]
fn scripts_ask_with_options() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![completion("yes")]);
    let code = r#"
        let messages = [#{ role: "user", content: "2 < 3?" }];
        let options = #{ model: "m", messages: messages, api_key_env: "JUDGE_KEY", store: true,
            extra: #{ max_tokens: (), max_completion_tokens: 9 } };
        assert_eq(chat_completion(env("URL"), options), "yes");
        assert_eq(chat_completion(env("URL"), options), "yes");"#;
    let output = eval(code, &server.url, folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = server.asked();
    assert_eq!(seen.len(), 1, "the second answer is the kept one");
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "2 < 3?" }], "temperature": 0.0,
        "max_completion_tokens": 9 });
    assert_eq!(seen[0].body, body);
    assert!(seen[0].head.contains("Bearer from the environment"));
    for (code, parts) in [
        (r#"chat_completion("http://127.0.0.1:1", #{ model: "m" })"#, ["needs `messages`", "role"]),
        (r#"chat_completion("http://127.0.0.1:1", #{ modle: "m" })"#, ["no option `modle`", "`model`"]),
        (
            r#"chat_completion("http://127.0.0.1:1", #{ model: "m", messages: [], api_key_env: "NOT_SET_HERE" })"#,
            ["`NOT_SET_HERE` is not set", "api_key_env"],
        ),
        (r#"chat_completion("http://127.0.0.1:1", #{ model: "m", messages: [], attempts: 0 })"#, ["`attempts`", "1"]),
        (r#"chat_completion("http://127.0.0.1:1", #{ model: "m", messages: [], timeout: -1 })"#, ["`timeout`", "0"]),
    ] {
        let output = eval(code, &server.url, folder.path());
        assert_contains(&String::from_utf8_lossy(&output.stderr), &parts);
        assert!(!output.status.success());
    }
}

/// Ctrl-C is pressed while the server thinks.
#[test]
#[cfg(unix)]
fn ctrl_c_does_not_wait_for_the_server() {
    let server = Server::new(vec![Answer::Wait]);
    let code = r#"chat_completion(env("URL"), #{ model: "m", messages: [], timeout: 600 })"#;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lancet"));
    let mut child = command.env("URL", &server.url).args(["-e", code]).spawn().unwrap();
    while server.asked().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it waits for the server");
        std::thread::sleep(Duration::from_millis(10));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
