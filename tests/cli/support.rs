//! Shared by the tests of the program.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::RwLock;

/// The Ctrl-C flag belongs to the whole process: a test that sets it runs while no other test fetches.
pub static CTRL_C: RwLock<()> = RwLock::new(());

/// Runs a command with this standard input.
pub fn with_input(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lancet starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("input");
    child.wait_with_output().expect("output")
}
