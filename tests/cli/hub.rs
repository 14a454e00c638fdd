//! Finding and downloading models, against a server on this machine that speaks the hub's protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

use crate::fake_hub::{COMMIT, CONFIG, Server, TOKENIZER, WEIGHTS, assert_error, hub, snapshot};
use crate::support::CTRL_C;
use lancet::error::Error;
use lancet::hub::{BUILT_IN, Hub, Located, Timeouts, alias};
use lancet::interrupt;

#[test]
fn a_repository_is_downloaded_once() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, TOKENIZER, WEIGHTS, ("README.md", "not wanted")]);
    let hub = hub(&server, folder.path());
    let expected = Located::Directory(snapshot(folder.path()));
    assert_eq!(hub.locate("owner/name", None, true).unwrap(), expected);
    for (name, content) in [CONFIG, TOKENIZER, WEIGHTS] {
        assert_eq!(std::fs::read_to_string(snapshot(folder.path()).join(name)).unwrap(), content);
    }
    assert!(!snapshot(folder.path()).join("README.md").exists());
    assert!(!server.requests().is_empty());

    // From then on neither the branch nor its commit needs the network.
    for revision in [None, Some("main"), Some(COMMIT)] {
        assert_eq!(hub.locate("owner/name", revision, true).unwrap(), expected);
    }
    for id in ["owner/name@main", &format!("owner/name@{COMMIT}")] {
        assert_eq!(hub.locate(id, None, true).unwrap(), expected, "{id}");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn weights_are_left_out_and_fetched_later() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, TOKENIZER, WEIGHTS]);
    let hub = hub(&server, folder.path());
    hub.locate("owner/name", None, false).unwrap();
    assert!(!snapshot(folder.path()).join("model.safetensors").exists());
    server.requests();
    hub.locate("owner/name", None, true).unwrap();
    let fetched = server.requests();
    assert!(fetched.iter().any(|path| path.ends_with("model.safetensors")), "{fetched:?}");
    assert!(!fetched.iter().any(|path| path.ends_with("config.json")), "{fetched:?}");
}

#[test]
fn a_tokenizer_that_other_tools_left_out_is_fetched() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, WEIGHTS]);
    let hub = hub(&server, folder.path());
    let expected = Located::Directory(snapshot(folder.path()));
    assert_eq!(hub.locate("owner/name", None, true).unwrap(), expected);
    let server = server.with(|served| {
        served.files.insert(TOKENIZER.0, TOKENIZER.1.into());
    });
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = Hub { endpoint: Some(format!("http://{unused}")), ..hub.clone() };
    assert_eq!(nowhere.locate("owner/name", None, true).unwrap(), expected);
    server.requests();
    assert_eq!(hub.locate("owner/name", None, true).unwrap(), expected);
    assert!(snapshot(folder.path()).join("tokenizer.json").exists());
    let fetched = server.requests();
    assert!(!fetched.iter().any(|path| path.ends_with("model.safetensors")), "{fetched:?}");
}

#[test]
fn all_shards_of_an_index_are_fetched() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let index = r#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-1.safetensors"}}"#;
    let shards = [("model-1.safetensors", "one"), ("model-2.safetensors", "two")];
    let files = [CONFIG, ("model.safetensors.index.json", index), shards[0], shards[1]];
    let server = Server::new(&files).with(|served| served.refused = [("model-2.safetensors", 500)].into());
    let hub = hub(&server, folder.path());
    assert_error(hub.locate("owner/name", None, true).unwrap_err(), "status 500", "");

    // A download that broke off does not count as complete, neither by its branch nor by its commit.
    let offline = Hub { offline: true, ..hub.clone() };
    assert_error(offline.locate("owner/name", None, true).unwrap_err(), "not in the cache", "HF_HUB_OFFLINE");
    let error = offline.locate("owner/name", Some(COMMIT), true).unwrap_err();
    assert_error(error, "`model-2.safetensors` of `owner/name`", "HF_HUB_OFFLINE");

    let server = server.with(|served| served.refused.clear());
    server.requests();
    hub.locate("owner/name", None, true).unwrap();
    for (name, content) in shards {
        assert_eq!(std::fs::read_to_string(snapshot(folder.path()).join(name)).unwrap(), content);
    }
    let fetched = server.requests();
    assert!(!fetched.iter().any(|path| path.ends_with("model-1.safetensors")), "{fetched:?}");
}

#[test]
fn an_index_that_leads_out_of_its_folder_is_refused() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let index = ("model.safetensors.index.json", r#"{"weight_map":{"a":"../../../../escaped"}}"#);
    let server = Server::new(&[CONFIG, index]);
    assert_error(hub(&server, folder.path()).locate("owner/name", None, true).unwrap_err(), "leads out", "");
}

#[test]
fn a_truncated_download_is_resumed() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, WEIGHTS]).with(|served| served.truncated = [("model.safetensors", 1)].into());
    let hub = hub(&server, folder.path());
    assert_error(hub.locate("owner/name", None, true).unwrap_err(), "broke off", "run it again");
    assert!(!snapshot(folder.path()).join("model.safetensors").exists());
    hub.locate("owner/name", None, true).unwrap();
    assert_eq!(std::fs::read_to_string(snapshot(folder.path()).join("model.safetensors")).unwrap(), WEIGHTS.1);
}

#[test]
fn a_file_of_the_wrong_length_is_removed() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, WEIGHTS]).with(|served| served.misstated = vec!["model.safetensors"]);
    let error = hub(&server, folder.path()).locate("owner/name", None, true).unwrap_err();
    assert_error(error, "24 bytes instead of 25", "run it again");
    assert!(!snapshot(folder.path()).join("model.safetensors").exists());
}

#[test]
fn offline_never_asks_the_server() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, TOKENIZER, WEIGHTS]);
    let hub = hub(&server, folder.path());
    let offline = Hub { offline: true, ..hub.clone() };
    let error = offline.locate("owner/name", None, true).unwrap_err();
    assert_error(error, "`config.json` of `owner/name` (main)", "HF_HUB_OFFLINE");
    assert_eq!(server.requests(), Vec::<String>::new());

    hub.locate("owner/name", None, false).unwrap();
    server.requests();
    assert_error(offline.locate("owner/name", None, true).unwrap_err(), "`model.safetensors`", "HF_HUB_OFFLINE");
    assert_eq!(offline.locate("owner/name", None, false).unwrap(), Located::Directory(snapshot(folder.path())));
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn one_gguf_file_is_chosen_and_several_are_listed() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[("q4.gguf", "four bits")]);
    let path = Located::Gguf(snapshot(folder.path()).join("q4.gguf"));
    let hub = hub(&server, folder.path());
    assert_eq!(hub.locate("owner/name", None, true).unwrap(), path);
    let offline = Hub { offline: true, ..hub.clone() };
    assert_eq!(offline.locate("owner/name", None, true).unwrap(), path);

    // The cache does not contain the whole repository.
    let server = server.with(|served| {
        served.files.insert("q8.gguf", b"eight bits".to_vec());
    });
    let error = hub.locate("owner/name", None, true).unwrap_err();
    assert_error(error, "several", "owner/name/q");
    assert_eq!(hub.locate("owner/name/q4.gguf", None, true).unwrap(), path);
    let other = Located::Gguf(snapshot(folder.path()).join("q8.gguf"));
    assert_eq!(hub.locate("owner/name/q8.gguf", None, true).unwrap(), other);
    let error = hub.locate("owner/name/q2.gguf", None, true).unwrap_err();
    assert_error(error, "no file `q2.gguf`", "`owner/name/q8.gguf`");
    drop(server);
}

#[test]
fn refusals_are_explained() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let gated = Server::new(&[CONFIG, WEIGHTS]).with(|served| served.refused = [("config.json", 403)].into());
    let hub = hub(&gated, folder.path());
    assert_error(hub.locate("owner/name", None, true).unwrap_err(), "access to `config.json`", "licence");
    assert_error(hub.locate("private/name", None, true).unwrap_err(), "private", "HF_TOKEN");
    assert_error(hub.locate("owner/other", None, true).unwrap_err(), "the hub has no `owner/other`", "");
    assert_error(hub.locate("owner/name", Some("v9"), true).unwrap_err(), "revision `v9`", "");
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = Hub { endpoint: Some(format!("http://{unused}")), ..hub };
    assert_error(nowhere.locate("owner/name", None, true).unwrap_err(), "refused", "HF_ENDPOINT");
}

#[test]
fn a_repository_without_readable_weights_says_so() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, ("model_final.pth", "pickled")]);
    let error = hub(&server, folder.path()).locate("owner/name", None, true).unwrap_err();
    assert_error(error, "no safetensors weights", "torch.load('model_final.pth', weights_only=True)");
    let server = Server::new(&[CONFIG, ("pytorch_model.bin", "pickled")]);
    let hub = hub(&server, folder.path());
    assert_error(hub.locate("owner/name", None, true).unwrap_err(), "no safetensors weights", "convert");
    assert!(hub.locate("owner/name", None, false).is_ok());
    let data = Server::new(&[("README.md", "data")]);
    let hub = Hub { endpoint: Some(data.address.clone()), cache: folder.path().join("other"), ..hub };
    assert_error(hub.locate("owner/name", None, true).unwrap_err(), "not a model", "");
}

#[test]
fn the_token_is_sent_to_the_hub() {
    let _guard = CTRL_C.read();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
        head
    });
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub {
        models: folder.path().into(),
        cache: folder.path().into(),
        endpoint: Some(address),
        token: Some("secret".into()),
        offline: false,
        timeouts: Timeouts::default(),
    };
    let error = hub.locate("owner/name", None, true).unwrap_err();
    assert!(!error.to_string().contains("secret"));
    let head = seen.join().unwrap();
    assert!(head.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer secret")), "{head:?}");
}

#[test]
fn ctrl_c_ends_a_download() {
    let _guard = CTRL_C.write();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, WEIGHTS]).with(|served| served.interrupted = Some("model.safetensors"));
    let hub = hub(&server, folder.path());
    let result = hub.locate("owner/name", None, true);
    interrupt::clear();
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert!(snapshot(folder.path()).join("config.json").exists());
    assert!(!snapshot(folder.path()).join("model.safetensors").exists());
    assert!(hub.locate("owner/name", None, true).is_ok());
}

#[test]
fn local_files_and_folders_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[]);
    let hub = hub(&server, folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("m.gguf"), "").unwrap();
    std::fs::write(path("m.bin"), "").unwrap();
    for name in ["whole", "gguf", "empty"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    std::fs::write(path("whole/config.json"), "{}").unwrap();
    std::fs::write(path("gguf/m.gguf"), "").unwrap();
    assert_eq!(hub.locate(&path("m.gguf"), None, true).unwrap(), Located::Gguf(path("m.gguf").into()));
    assert_eq!(hub.locate(&path("whole"), None, true).unwrap(), Located::Directory(path("whole").into()));
    assert_eq!(hub.locate(&path("gguf"), None, true).unwrap(), Located::Gguf(path("gguf/m.gguf").into()));
    assert_error(hub.locate(&path("empty"), None, true).unwrap_err(), "no `config.json`", "tokenizer.json");
    assert_error(hub.locate(&path("m.bin"), None, true).unwrap_err(), "not a `.gguf` file", "folder");
    assert_error(hub.locate(&path("none"), None, true).unwrap_err(), "there is no file or folder", "");
    assert_error(hub.locate("none.gguf", None, true).unwrap_err(), "there is no file or folder", "");
    assert_error(hub.locate(&path("whole"), Some("v1"), true).unwrap_err(), "no revisions", "hub");
    let revised = hub.locate(&format!("{}@v1", path("whole")), None, true).unwrap_err();
    assert_error(revised, "there is no file or folder", "");
    assert_error(hub.locate("owner/name@v1", Some("v2"), true).unwrap_err(), "so does `v2`", "give it once");
    std::fs::create_dir(path("at@home")).unwrap();
    std::fs::write(path("at@home/config.json"), "{}").unwrap();
    assert_eq!(hub.locate(&path("at@home"), None, true).unwrap(), Located::Directory(path("at@home").into()));
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn the_built_in_checkpoint_must_be_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[]);
    let hub = hub(&server, folder.path());
    let path = hub.models.join("smollm2-135m-instruct.gguf");
    assert_error(hub.locate("smollm2", None, true).unwrap_err(), path.to_str().unwrap(), "lancet data smollm2");
    std::fs::create_dir_all(&hub.models).unwrap();
    std::fs::write(&path, "GGUF").unwrap();
    assert_error(hub.locate("smollm2", None, true).unwrap_err(), "4 bytes instead of 98362432", "lancet data smollm2");
    std::fs::File::create(&path).unwrap().set_len(98_362_432).unwrap();
    assert_eq!(hub.locate("smollm2", None, true).unwrap(), Located::Gguf(path));
}

#[test]
fn short_names_stand_for_repositories() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[]);
    let mut hub = hub(&server, folder.path());
    hub.offline = true;
    for (name, repository) in [
        ("gpt2", "openai-community/gpt2"),
        ("gpt2-small", "openai-community/gpt2"),
        ("pythia-70m", "EleutherAI/pythia-70m"),
        ("tiny-stories-33M", "roneneldan/TinyStories-33M"),
        ("mixtral", "mistralai/Mixtral-8x7B-v0.1"),
    ] {
        let error = hub.locate(name, None, true).unwrap_err();
        assert_error(error, &format!("`config.json` of `{repository}`"), "downloads are off");
    }
    assert_error(hub.locate("pythia-70n", None, true).unwrap_err(), "unknown model `pythia-70n`", "`pythia-70m`");
    let mut names: Vec<&str> = alias::names().chain(BUILT_IN.iter().map(|model| model.name)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name is given twice");
    for name in alias::names() {
        let repository = alias::repository(name).unwrap();
        assert_eq!(repository.split('/').count(), 2, "{name}: {repository}");
    }
}

#[test]
fn unknown_names_are_answered_with_what_exists() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[]);
    let hub = hub(&server, folder.path());
    assert_error(hub.locate("smolm2", None, true).unwrap_err(), "unknown model `smolm2`", "did you mean `smollm2`?");
    assert_error(hub.locate("a-quite-different-name", None, true).unwrap_err(), "unknown model", "`olmo2-1b`");
    for id in ["", "owner/", "/name", "owner/name/", "owner/..", "owner/na me", "a/b/c", "owner/name/../x.gguf"] {
        assert!(hub.locate(id, None, true).is_err(), "{id}");
    }
    for revision in ["", "..", "../../x", "/etc"] {
        assert_error(hub.locate("owner/name", Some(revision), true).unwrap_err(), "cannot be a revision", "branch");
        let id = format!("owner/name@{revision}");
        assert_error(hub.locate(&id, None, true).unwrap_err(), "cannot be a revision", "branch");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn variables_say_where_models_are() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap().to_owned();
    std::fs::write(folder.path().join("token"), "from-file\n").unwrap();
    let read = |variables: &[(&str, &str)]| {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        Hub::from_variables(|name| variables.get(name).map(|value| (*value).to_owned())).unwrap()
    };
    let hub = read(&[("HF_HOME", &home), ("LANCET_CACHE", "/own"), ("HF_ENDPOINT", "http://mirror/")]);
    assert_eq!(hub.cache, folder.path().join("hub"));
    assert_eq!(hub.models, Path::new("/own/models"));
    assert_eq!(hub.endpoint.as_deref(), Some("http://mirror"));
    assert_eq!(hub.token.as_deref(), Some("from-file"));
    let hub = read(&[("HF_HOME", &home), ("HF_TOKEN", "given"), ("HF_HUB_CACHE", "/shared")]);
    assert_eq!(hub.token.as_deref(), Some("given"));
    assert_eq!(hub.cache, Path::new("/shared"));
    let hub = read(&[("XDG_CACHE_HOME", "/caches")]);
    assert_eq!(hub.cache, Path::new("/caches/huggingface/hub"));
    assert_eq!(hub.models, Path::new("/caches/lancet/models"));
    for (value, offline) in [("1", true), ("TRUE", true), ("yes", true), ("0", false), ("", false)] {
        assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
    }
    let timeouts = read(&[("HF_HUB_ETAG_TIMEOUT", "3"), ("HF_HUB_DOWNLOAD_TIMEOUT", "4")]).timeouts;
    assert_eq!((timeouts.question.as_secs(), timeouts.content.as_secs()), (3, 4));
    for wrong in ["0", "-1", "1.5", "soon"] {
        let lookup = |name: &str| (name == "HF_HUB_ETAG_TIMEOUT").then(|| wrong.to_owned());
        assert_error(Hub::from_variables(lookup).unwrap_err(), "`HF_HUB_ETAG_TIMEOUT` is", "seconds");
    }
}

#[test]
fn names_with_any_characters_are_asked_for_and_kept_as_they_are() {
    let _turn = CTRL_C.read().unwrap();
    for (name, address) in [
        ("x y.gguf", "x%20y.gguf"),
        ("sub/a#b?c%20&+.gguf", "sub/a%23b%3Fc%2520%26%2B.gguf"),
        ("größe 日/x~.gguf", "gr%C3%B6%C3%9Fe%20%E6%97%A5/x~.gguf"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::new(&[(name, "bits")]);
        let path = snapshot(folder.path()).join(name);
        let id = format!("owner/name/{name}");
        assert_eq!(hub(&server, folder.path()).locate(&id, None, true).unwrap(), Located::Gguf(path.clone()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "bits");
        let requests = server.requests();
        assert!(
            requests.iter().any(|request| request.ends_with(&format!("/resolve/{COMMIT}/{address}"))),
            "{requests:?}"
        );
        // Found in the cache, also without the hub.
        let offline = Hub { offline: true, ..hub(&server, folder.path()) };
        assert_eq!(offline.locate(&id, Some(COMMIT), true).unwrap(), Located::Gguf(path));
        assert!(server.requests().is_empty());
    }
}
