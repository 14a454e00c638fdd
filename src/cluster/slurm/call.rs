//! Calls Slurm's programs, each with a time limit: a controller that hangs must not hang us.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::interrupt::{self, GLANCE};

/// For a question.
pub const QUESTION: Duration = Duration::from_secs(30);

/// For a request, which Slurm's programs repeat while the controller is busy.
pub const REQUEST: Duration = Duration::from_secs(120);

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended with success
    pub success: bool,
    /// Its standard output
    pub output: String,
    /// Its standard error, without the program's name in front
    pub error: String,
}

/// Whether there is Slurm on this machine: its `sbatch` is on the search path.
pub fn is_here() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("sbatch").is_file())
}

/// Calls a program; its failure is part of the answer.
///
/// # Errors
/// A program that is not there or gives no answer in time; Ctrl-C.
pub fn call(program: &str, arguments: &[&str], limit: Duration) -> Result<Said> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command, program, limit)
}

/// Runs a command that errors call `program` to its end.
///
/// # Errors
/// As for [`call`].
pub fn finish(mut command: Command, program: &str, limit: Duration) -> Result<Said> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(format!("there is no `{program}` here"))
            .hint("go to a machine that submits to Slurm, or choose `--engine local`"),
        _ => Error::io(Path::new(program), &error),
    })?;
    let output = collect(child.stdout.take());
    let error = collect(child.stderr.take());
    let status = wait(&mut child, program, limit);
    if status.is_err() {
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
    }
    let success = status?;
    let error = error.join().unwrap_or_default();
    let said = error.lines().map(|line| line.strip_prefix(&format!("{program}: ")).unwrap_or(line));
    let said = said.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
    Ok(Said { success, output: output.join().unwrap_or_default(), error: said })
}

/// The output of a program that must succeed.
///
/// # Errors
/// As for [`call`]; a failure, in the program's words.
pub fn ask(program: &str, arguments: &[&str], limit: Duration) -> Result<String> {
    let said = call(program, arguments, limit)?;
    if said.success {
        return Ok(said.output);
    }
    Err(Error::new(format!("{program}: {}", said.error)))
}

fn wait(child: &mut Child, program: &str, limit: Duration) -> Result<bool> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| Error::io(Path::new(program), &error))? {
            return Ok(status.success());
        }
        if start.elapsed() > limit {
            return Err(Error::new(format!("`{program}` gives no answer within {} s", limit.as_secs()))
                .hint("Slurm's controller may be down or busy; try again later"));
        }
        interrupt::check()?;
        std::thread::sleep(GLANCE.min(limit));
    }
}

/// Reads a stream to its end beside the program, which would wait if nobody read.
fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before a failure is what the program said.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_left() {
        let error = call("sleep", &["600"], Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("gives no answer"), "{error}");
    }

    #[test]
    fn what_a_program_says_is_heard() {
        let said = call("sh", &["-c", "echo one; echo 'sh: error: two' >&2; exit 3"], QUESTION).unwrap();
        assert_eq!((said.success, said.output.as_str(), said.error.as_str()), (false, "one", "two"));
        let error = ask("sh", &["-c", "echo no >&2; exit 1"], QUESTION).unwrap_err();
        assert_eq!(error.to_string(), "sh: no");
        let error = ask("no-such-program", &[], QUESTION).unwrap_err();
        assert!(error.hint_text().unwrap().contains("--engine local"));
    }
}
