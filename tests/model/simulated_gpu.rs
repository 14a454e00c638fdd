//! The tests of models on simulated GPUs, which are as strict about devices as real ones and can run out of memory.

use std::process::Command;

use crate::support::simulated_gpu::with_simulated_gpus;

/// Runs tests of this file's program again, on a simulated GPU.
fn passes(device: &str, arguments: &[&str]) {
    if std::env::var_os("LANCET_TEST_DEVICE").is_some() {
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    with_simulated_gpus(&mut command, 8 << 30);
    let output = command.env("LANCET_TEST_DEVICE", device).args(arguments).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!text(&output.stdout).contains("running 0 tests"), "{arguments:?} name no test");
}

#[test]
fn every_test_of_models_passes() {
    passes("cuda:0", &["--skip", "simulated_gpu"]);
}

#[test]
fn patching_passes_on_the_second_of_two() {
    passes("cuda:1", &["patching::"]);
}
