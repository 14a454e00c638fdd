//! The report of each kind of error: one script and one snapshot each.

use std::process::Command;

use lancet::session::ScriptError;
use lancet::session::engine::STACK_BYTES;

use crate::support::session;

#[test]
fn each_error_is_explained() {
    insta::glob!("../errors", "*.rhai", |path| {
        let folder = path.parent().expect("folder");
        let name = path.file_name().expect("name");
        let output = Command::new(env!("CARGO_BIN_EXE_lancet"))
            .current_dir(folder)
            .env_remove("LANCET_PATH")
            .arg("run")
            .arg(name)
            .output()
            .expect("lancet runs");
        assert_eq!(output.status.code(), Some(1), "{name:?} must fail");
        insta::assert_snapshot!(String::from_utf8(output.stderr).expect("text"));
    });
}

#[test]
fn no_cut_of_a_script_is_too_much() {
    let work = || {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/errors");
        for file in std::fs::read_dir(folder).expect("folder").map(|file| file.expect("file").path()) {
            if file.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("text");
            let mut session = session();
            for (at, _) in text.char_indices() {
                // Text cut at the end, as during typing, and at the start; line ends of either kind.
                for part in [text[..at].to_owned(), text[at..].to_owned(), text[at..].replace('\n', "\r\n")] {
                    let name = file.display().to_string();
                    if let Err(ScriptError::Failed(diagnostic)) = session.eval(&name, &part) {
                        assert!(!diagnostic.message.contains("an internal error"), "{part}");
                        assert!(session.render(&diagnostic, true).contains(&diagnostic.message), "{part}");
                    }
                }
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("thread");
    assert!(thread.join().is_ok());
}
