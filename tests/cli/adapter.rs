//! Finding and downloading adapters, against a server on this machine that speaks the hub's protocol.

use crate::fake_hub::{CONFIG, Server, WEIGHTS, assert_error, hub, snapshot};
use crate::support::CTRL_C;
use lancet::hub::Hub;

const SETTINGS: (&str, &str) = ("adapter_config.json", "{}");
const CHANGES: (&str, &str) = ("adapter_model.safetensors", "the changes");

#[test]
fn an_adapter_is_downloaded_once_without_a_model() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&[CONFIG, WEIGHTS, SETTINGS, CHANGES]);
    let hub = hub(&server, folder.path());
    let offline = Hub { offline: true, ..hub.clone() };
    assert_error(offline.adapter("owner/name").unwrap_err(), "`adapter_config.json` of `owner/name`", "HF_HUB_OFFLINE");
    assert_eq!(server.requests(), Vec::<String>::new());
    for _ in 0..2 {
        assert_eq!(hub.adapter("owner/name").unwrap(), snapshot(folder.path()));
    }
    for (name, content) in [SETTINGS, CHANGES] {
        assert_eq!(std::fs::read_to_string(snapshot(folder.path()).join(name)).unwrap(), content);
    }
    let asked = server.requests();
    let has_asked = |name: &str| asked.iter().any(|path| path.ends_with(&format!("/{name}")));
    assert!(has_asked(CHANGES.0) && !has_asked(WEIGHTS.0) && !has_asked(CONFIG.0), "{asked:?}");
    assert_eq!(offline.adapter("owner/name").unwrap(), snapshot(folder.path()));
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn what_is_no_adapter_is_named() {
    let _guard = CTRL_C.read();
    let folder = tempfile::tempdir().unwrap();
    for (files, message, hint) in [
        (vec![CONFIG, WEIGHTS], "no `adapter_config.json`", ""),
        (vec![SETTINGS, ("adapter_model.bin", "a pickle")], "adapter_model.bin", "save_pretrained"),
    ] {
        let server = Server::new(&files);
        assert_error(hub(&server, folder.path()).adapter("owner/name").unwrap_err(), message, hint);
    }
    let server = Server::new(&[]);
    let hub = hub(&server, folder.path());
    let place = folder.path().display().to_string();
    assert_error(hub.adapter(&place).unwrap_err(), "has no adapter_config.json", "save_pretrained");
    for missing in ["./none", "/none", "none"] {
        assert_error(hub.adapter(missing).unwrap_err(), "there is no folder", "owner/name");
    }
}
