//! Runs inputs in processes of their own, so that a panic, an abort, a hang or a huge allocation is seen and its input
//! kept. An input depends only on the target, the round and its number.

use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lancet::{interrupt, session};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a process may allocate, in KiB: an absurd size in a file must not get as far as an allocation.
const MEMORY: &str = "4194304";
/// An input that needs more time hangs: that much of the processor's, or that much where the process waits.
const PATIENCE: Duration = Duration::from_secs(10);
const LONG_WAIT: Duration = Duration::from_secs(120);
/// A script is interrupted after that time. Then it has to stop.
const SCRIPT_TIME: Duration = Duration::from_millis(300);
/// A target with more faults is given up.
const MOST_FAULTS: usize = 20;
/// In place of an input's number: none has been run yet.
const NONE: u64 = u64::MAX;

/// A file that Lancet has not seen: its name and its content.
pub struct Input {
    pub file: String,
    pub bytes: Vec<u8>,
}

/// A part of Lancet that reads what it does not know.
pub trait Target {
    /// After how many inputs the target is made anew, if it has a state that grows.
    const LIFE: u64 = u64::MAX;
    /// Whether an input may run for ever, as scripts may, until it is interrupted.
    const INTERRUPTED: bool = false;

    /// The target; the current folder is empty and its own.
    fn new() -> Self;
    /// A random input, the same for the same `random`.
    fn input(&self, random: &mut ChaCha8Rng) -> Input;
    /// Runs it. A fault is a panic, an abort or a hang.
    fn run(&mut self, input: &Input);
}

/// The setting of an environment variable.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Tries `inputs` inputs in the target of the test named `test`, or as the environment says: `FUZZ_INPUTS` inputs from
/// number `FUZZ_FIRST` of round `FUZZ_ROUND` on.
pub fn fuzz<T: Target>(test: &str, inputs: u64) {
    let faults = faults::<T>(test, inputs);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The faults found: each with its input's number first.
fn faults<T: Target>(test: &str, inputs: u64) -> Vec<String> {
    let round = setting("FUZZ_ROUND").unwrap_or(0);
    let first = setting("FUZZ_FIRST").unwrap_or(0);
    let end = first + setting("FUZZ_INPUTS").unwrap_or(inputs);
    if let Some(progress) = std::env::var_os("FUZZ_WORKER") {
        work::<T>(test, round, first..end, Path::new(&progress));
        return Vec::new();
    }
    let start = Instant::now();
    let mut faults = Vec::new();
    let mut next = first;
    while next < end && faults.len() < MOST_FAULTS {
        let Some((number, reason)) = Worker::start(test, next..end, None).wait() else {
            next = end;
            break;
        };
        // The target's state may matter: the inputs since it was made are needed to see the fault again.
        let block = if T::LIFE == u64::MAX { number } else { number - number % T::LIFE };
        let file = save(test, round, number);
        faults.push(format!(
            "{number}: {reason}\nthe input: {}\nagain: FUZZ_ROUND={round} FUZZ_FIRST={block} FUZZ_INPUTS={} cargo test --release \
             --test fuzz {test}\n",
            file.display(),
            number - block + 1
        ));
        next = number + 1;
    }
    println!("{test}: {} inputs, {} faults, {:.1} s", next - first, faults.len(), start.elapsed().as_secs_f64());
    faults
}

/// Writes an input to a file.
fn save(test: &str, round: u64, number: u64) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}-{round}-{number}", test.replace("::", "-")));
    Worker::start(test, number..number + 1, Some(&path)).wait();
    path
}

/// A process that runs inputs one by one.
struct Worker {
    child: Child,
    last: u64,
    folder: tempfile::TempDir,
    errors: thread::JoinHandle<String>,
}

impl Worker {
    /// Starts a process for the inputs with these numbers; with `save` it only writes the first to that file.
    fn start(test: &str, numbers: Range<u64>, save: Option<&Path>) -> Self {
        // In memory, where there is such a folder: most inputs are files.
        let builder = tempfile::Builder::new();
        let folder = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap();
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::write(progress(folder.path()), NONE.to_le_bytes()).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v {MEMORY} && ulimit -c 0 && exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .current_dir(&work)
            .env("FUZZ_WORKER", progress(folder.path()))
            .env("FUZZ_FIRST", numbers.start.to_string())
            .env("FUZZ_INPUTS", (numbers.end - numbers.start).to_string())
            .env("HOME", &work)
            .env("LANCET_CACHE", work.join("cache"))
            .env("HF_HUB_OFFLINE", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(path) = save {
            command.env("FUZZ_SAVE", path);
        }
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let errors = thread::spawn(move || last_words(&mut stderr));
        Self { child, last: numbers.end - 1, folder, errors }
    }

    /// The number of the input that runs.
    fn current(&self) -> u64 {
        let bytes = fs::read(progress(self.folder.path())).unwrap();
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    /// Waits for the end. Returns the input that ended the process before its time, and how.
    fn wait(mut self) -> Option<(u64, String)> {
        let (mut number, mut since, mut used) = (NONE, Instant::now(), Duration::ZERO);
        let ended = loop {
            thread::sleep(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().unwrap() {
                break (!status.success() || self.current() != self.last).then(|| format!("ended with {status}"));
            }
            let current = self.current();
            if number != current {
                (number, since, used) = (current, Instant::now(), processor_time(&self.child));
            } else if since.elapsed() > PATIENCE
                && (processor_time(&self.child).saturating_sub(used) > PATIENCE || since.elapsed() > LONG_WAIT)
            {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                break Some(format!("hangs for more than {} s", PATIENCE.as_secs()));
            }
        };
        let reason = ended?;
        let number = self.current();
        let errors = self.errors.join().unwrap();
        assert!(number != NONE, "no input was run: {reason}\n{errors}");
        Some((number, format!("{reason}\n{}", errors.trim_end())))
    }
}

/// The file in which a process notes the number of the input that it runs.
fn progress(folder: &Path) -> PathBuf {
    folder.join("progress")
}

/// The end of what a process writes to standard error.
fn last_words(stderr: &mut impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(2000));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The processor time that a process has used; none where that cannot be read.
fn processor_time(child: &Child) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // Behind the name in parentheses; hundredths of a second in user and in system mode.
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Runs inputs in this process, on the stack that scripts get.
fn work<T: Target>(test: &str, round: u64, numbers: Range<u64>, progress: &Path) {
    tch::set_num_threads(1);
    let save = std::env::var_os("FUZZ_SAVE");
    let current = AtomicU64::new(NONE);
    let run = || {
        let note = File::options().write(true).open(progress).unwrap();
        let mut target = T::new();
        for number in numbers.clone() {
            if number > numbers.start && number.is_multiple_of(T::LIFE) {
                current.store(NONE, Ordering::Relaxed);
                interrupt::clear();
                target = T::new();
            }
            let input = target.input(&mut generator(test, round, number));
            note.write_all_at(&number.to_le_bytes(), 0).unwrap();
            if let Some(path) = &save {
                fs::write(path, &input.bytes).unwrap();
                break;
            }
            interrupt::clear();
            current.store(number, Ordering::Relaxed);
            target.run(&input);
        }
    };
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(session::engine::STACK_BYTES).spawn_scoped(scope, run).unwrap();
        let (mut seen, mut since) = (NONE, Instant::now());
        while !worker.is_finished() {
            thread::sleep(SCRIPT_TIME / 10);
            let number = current.load(Ordering::Relaxed);
            if number != seen {
                (seen, since) = (number, Instant::now());
            } else if T::INTERRUPTED && number != NONE && since.elapsed() > SCRIPT_TIME {
                interrupt::request();
            }
        }
        if worker.join().is_err() {
            // The panic has been printed.
            std::process::exit(101);
        }
    });
}

/// The source of an input's randomness.
fn generator(test: &str, round: u64, number: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    random.set_stream(test.bytes().fold(round, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)));
    random
}

/// A target with every kind of fault, each at one number.
struct Faulty;

impl Target for Faulty {
    fn new() -> Self {
        Self
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let number = (0..10).find(|number| generator(FAULTY, 0, *number) == *random).unwrap();
        Input { file: String::new(), bytes: vec![number as u8] }
    }

    fn run(&mut self, input: &Input) {
        match input.bytes[0] {
            3 => panic!("a panic"),
            5 => std::process::abort(),
            6 => drop(std::hint::black_box(vec![1_u8; 1 << 40])),
            8 => while std::hint::black_box(true) {},
            _ => {}
        }
    }
}

const FAULTY: &str = "campaign::each_kind_of_fault_is_found";

#[test]
fn each_kind_of_fault_is_found() {
    let faults = faults::<Faulty>(FAULTY, 10);
    if std::env::var_os("FUZZ_WORKER").is_none() {
        let found: Vec<(&str, bool)> = faults
            .iter()
            .zip(["a panic", "signal: 6", "allocation", "hangs"])
            .map(|(fault, kind)| (fault.split(':').next().unwrap(), fault.contains(kind)))
            .collect();
        assert_eq!(found, [("3", true), ("5", true), ("6", true), ("8", true)], "{faults:?}");
    }
}
