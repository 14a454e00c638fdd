//! What is shown for each kind of error: one script and one snapshot each.

use std::process::Command;

#[test]
fn each_error_is_explained() {
    insta::glob!("errors/*.rhai", |path| {
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
