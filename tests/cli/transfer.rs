//! Downloads that go wrong: whom the token reaches, what is checked, what is kept, and how a stalled hub ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::fake_hub::{CONFIG, Server, Stated, WEIGHTS, assert_error, hub, repository, snapshot};
use crate::support::CTRL_C;
use lancet::hub::{Hub, Timeouts};

const TOKEN: &str = "hf_secret_of_the_test";

/// A hub that states SHA-256, as the real one does of large files.
fn hashed() -> Server {
    Server::new(&[CONFIG, WEIGHTS]).with(|served| served.stated = Stated::Sha256)
}

fn weights(folder: &Path) -> Option<String> {
    fs::read_to_string(snapshot(folder).join(WEIGHTS.0)).ok()
}

/// The part of the weights that a download would leave.
fn keep(folder: &Path, content: &[u8]) -> std::path::PathBuf {
    let blobs = repository(folder).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.part", Stated::Sha256.etag(WEIGHTS.0, WEIGHTS.1.as_bytes())));
    fs::write(&part, content).unwrap();
    part
}

#[test]
fn the_token_reaches_no_other_server() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let store = hashed();
    let server = hashed().with(|served| served.store = Some(store.address.clone()));
    let hub = Hub { token: Some(TOKEN.into()), ..hub(&server, folder.path()) };
    hub.locate("owner/name", None, true).unwrap();
    assert_eq!(weights(folder.path()).as_deref(), Some(WEIGHTS.1));
    assert!(
        server.heads().len() >= 5 && server.heads().iter().all(|head| head.contains(TOKEN)),
        "{:?}",
        server.heads()
    );
    assert!(store.heads().len() >= 2 && !store.heads().concat().contains(TOKEN), "{:?}", store.heads());
}

#[test]
fn a_server_that_knows_no_head_is_asked_for_the_first_byte() {
    let _guard = CTRL_C.read();
    for store in [None, Some(hashed())] {
        let folder = tempfile::tempdir().unwrap();
        let server = hashed().with(|served| {
            served.no_head = true;
            served.store = store.as_ref().map(|store| store.address.clone());
        });
        hub(&server, folder.path()).locate("owner/name", None, true).unwrap();
        assert_eq!(weights(folder.path()).as_deref(), Some(WEIGHTS.1));
    }
}

#[test]
fn a_name_and_password_in_the_address_reach_the_hub_only() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let store = hashed();
    let server = hashed().with(|served| served.store = Some(store.address.clone()));
    let endpoint = server.address.replace("http://", "http://user:pass%20word@");
    let hub = Hub { endpoint: Some(endpoint), ..hub(&server, folder.path()) };
    hub.locate("owner/name", None, true).unwrap();
    // "user:pass word" in Base64.
    let sent = "Basic dXNlcjpwYXNzIHdvcmQ=";
    assert!(server.heads().iter().all(|head| head.contains(sent)), "{:?}", server.heads());
    assert!(!store.heads().concat().to_lowercase().contains("authorization"), "{:?}", store.heads());
    for endpoint in ["http://user:password@host:port", "ftp://user:password@host"] {
        let error = Hub { endpoint: Some(endpoint.into()), cache: folder.path().join("other"), ..hub.clone() };
        let error = error.locate("owner/name", None, true).unwrap_err();
        assert!(!error.to_string().contains("password"), "{error}");
        assert_error(error, "is not the address of a hub", "HF_ENDPOINT");
    }
}

#[test]
fn links_and_locks_are_those_of_the_python_library() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let nested = ("sub/x.gguf", "nested");
    let server = Server::new(&[CONFIG, WEIGHTS, nested]).with(|served| served.stated = Stated::Git);
    hub(&server, folder.path()).locate("owner/name", None, true).unwrap();
    hub(&server, folder.path()).locate("owner/name/sub/x.gguf", None, true).unwrap();
    for (name, content, up) in [(WEIGHTS.0, WEIGHTS.1, "../../"), (nested.0, nested.1, "../../../")] {
        let etag = Stated::Git.etag(name, content.as_bytes());
        let link = fs::read_link(snapshot(folder.path()).join(name)).unwrap();
        assert_eq!(link, Path::new(&format!("{up}blobs/{etag}")));
        assert_eq!(fs::read_to_string(repository(folder.path()).join("blobs").join(&etag)).unwrap(), content);
        let lock = folder.path().join("hub/.locks/models--owner--name").join(format!("{etag}.lock"));
        assert!(lock.is_file(), "{}", lock.display());
    }
}

#[test]
fn a_wrong_content_is_refused_and_not_kept() {
    let _guard = CTRL_C.read();
    for stated in [Stated::Sha256, Stated::Git] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::new(&[CONFIG, WEIGHTS]).with(|served| {
            served.stated = stated;
            served.flipped = [(WEIGHTS.0, 1)].into();
        });
        let hub = hub(&server, folder.path());
        let error = hub.locate("owner/name", None, true).unwrap_err();
        assert_error(error, "`model.safetensors` of `owner/name` does not have the content", "run it again");
        assert_eq!(weights(folder.path()), None);
        let kept = fs::read_dir(repository(folder.path()).join("blobs")).unwrap();
        assert_eq!(kept.count(), 1, "the configuration");
        hub.locate("owner/name", None, true).unwrap();
        assert_eq!(weights(folder.path()).as_deref(), Some(WEIGHTS.1));
    }
}

#[test]
fn what_an_earlier_attempt_kept_is_used_or_thrown_away() {
    let _guard = CTRL_C.read();
    let whole = WEIGHTS.1.as_bytes();
    let half = &whole[..12];
    let ranged = |head: &String| head.contains("bytes=12-");
    for (kept, resumes, again) in [
        (half, true, false),
        (&[0; 12][..], true, true),
        (&[0; 24], false, true),
        (&[0; 30], false, true),
        (whole, false, false),
        (b"", false, true),
    ] {
        for whole_only in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let server = hashed().with(|served| served.whole_only = whole_only);
            let part = keep(folder.path(), kept);
            hub(&server, folder.path()).locate("owner/name", None, true).unwrap();
            assert_eq!(weights(folder.path()).as_deref(), Some(WEIGHTS.1), "{kept:?}");
            assert!(!part.exists());
            let asked: Vec<String> =
                server.heads().into_iter().filter(|head| head.starts_with("GET") && head.contains(WEIGHTS.0)).collect();
            assert_eq!(asked.iter().any(ranged), resumes, "{kept:?}");
            let restarted = asked.iter().any(|head| !ranged(head));
            assert_eq!(restarted, again || (resumes && whole_only), "{kept:?}");
        }
    }
}

#[test]
fn a_broken_content_of_another_tool_is_fetched_again() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = hashed();
    let blobs = repository(folder.path()).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let blob = blobs.join(Stated::Sha256.etag(WEIGHTS.0, WEIGHTS.1.as_bytes()));
    fs::write(&blob, "the weights of THE model").unwrap();
    let hub = hub(&server, folder.path());
    hub.locate("owner/name", None, true).unwrap();
    assert_eq!(weights(folder.path()).as_deref(), Some(WEIGHTS.1));
    // A link that leads nowhere is no file.
    fs::remove_file(&blob).unwrap();
    hub.locate("owner/name", None, true).unwrap();
    assert_eq!(weights(folder.path()).as_deref(), Some(WEIGHTS.1));
}

#[test]
fn three_at_once_end_with_the_right_file() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = hashed();
    let hub = hub(&server, folder.path());
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..3).map(|_| scope.spawn(|| hub.locate("owner/name", None, true))).collect();
        for fetch in fetches {
            fetch.join().unwrap().unwrap();
        }
    });
    assert_eq!(weights(folder.path()).as_deref(), Some(WEIGHTS.1));
    let asked = server.heads();
    let asked = asked.iter().filter(|head| head.starts_with("GET") && head.contains(WEIGHTS.0));
    assert_eq!(asked.count(), 1, "the others wait and find it");
}

#[test]
fn checksums_that_lead_out_of_the_cache_are_refused() {
    let _guard = CTRL_C.read();
    for etag in ["../../../escaped", "/escaped", "..", ""] {
        let folder = tempfile::tempdir().unwrap();
        let server = hashed().with(|served| served.stated = Stated::Fixed(etag));
        let error = hub(&server, folder.path()).locate("owner/name", None, true).unwrap_err();
        assert_error(error, &format!("`{etag}` as the checksum"), "");
        assert!(!folder.path().join("hub").exists());
    }
}

/// Every request that a download makes.
const REQUESTS: [&str; 3] = ["GET /api/", "HEAD /owner/name", "GET /owner/name"];

#[test]
fn a_silent_hub_is_given_up() {
    let _guard = CTRL_C.read();
    let timeouts = Timeouts { question: Duration::from_secs(1), content: Duration::from_secs(1) };
    for request in REQUESTS {
        let folder = tempfile::tempdir().unwrap();
        let server = hashed().with(|served| served.silent = vec![request]);
        let hub = Hub { timeouts, ..hub(&server, folder.path()) };
        let error = hub.locate("owner/name", None, true).unwrap_err();
        assert_error(error, "sent nothing for too long", "`HF_HUB_DOWNLOAD_TIMEOUT` (1 s)");
    }
    let folder = tempfile::tempdir().unwrap();
    let server = hashed().with(|served| served.stalled = vec![WEIGHTS.0]);
    let hub = Hub { timeouts, ..hub(&server, folder.path()) };
    assert_error(hub.locate("owner/name", None, true).unwrap_err(), "sent nothing for too long", "run it again");
    server.served.lock().unwrap().stalled.clear();
    hub.locate("owner/name", None, true).unwrap();
    assert!(server.heads().iter().any(|head| head.contains("bytes=12-")), "the half that came was kept");
}

/// Starts to load the model in a process of its own.
fn load(server: &Server, folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.args(["-e", "load_model(\"owner/name\")"]).stderr(Stdio::piped());
    command.env_remove("HF_HUB_OFFLINE").env_remove("HF_HUB_CACHE");
    command.env("HF_HOME", folder).env("HF_ENDPOINT", &server.address).env("HF_TOKEN", TOKEN);
    command.spawn().unwrap()
}

#[test]
fn ctrl_c_does_not_wait_for_the_hub() {
    let silent = REQUESTS.map(|request| (request, true));
    for (request, is_silent) in silent.into_iter().chain([("GET /owner/name", false)]) {
        let folder = tempfile::tempdir().unwrap();
        let server = hashed().with(|served| match is_silent {
            true => served.silent = vec![request],
            false => served.dripping = vec![CONFIG.0],
        });
        let mut child = load(&server, folder.path());
        while !server.heads().iter().any(|head| head.starts_with(request)) {
            assert!(child.try_wait().unwrap().is_none(), "it waits for the hub");
            std::thread::sleep(Duration::from_millis(10));
        }
        let interrupted = std::time::Instant::now();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{request}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(interrupted.elapsed() < Duration::from_secs(10), "{request}");
    }
}

#[test]
fn a_token_that_is_sent_back_is_masked() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = hashed().with(|served| served.store = Some(format!("gopher://{TOKEN}")));
    let hub = Hub { token: Some(TOKEN.into()), ..hub(&server, folder.path()) };
    let error = hub.locate("owner/name", None, true).unwrap_err();
    assert_error(error, "gopher://***/store/config.json", "");
}
