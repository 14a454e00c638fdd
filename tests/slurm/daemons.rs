//! A real Slurm of one host: munged, slurmctld and some slurmd, without systemd or root, in a folder of their own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::processes::{self, kill};
use crate::wait::until;

/// How many nodes a cluster has.
pub const NODES: usize = 4;

/// The programs that a cluster needs.
const PROGRAMS: [&str; 8] = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo"];

/// The programs that are not on this machine.
pub fn missing() -> Vec<&'static str> {
    let found = |name: &str| std::env::split_paths(&search_path()).any(|folder| folder.join(name).is_file());
    PROGRAMS.into_iter().filter(|name| !found(name)).collect()
}

/// The search path with the folders of the system's daemons.
pub fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// A cluster that runs.
pub struct Cluster {
    folder: tempfile::TempDir,
    controller: Child,
    nodes: Vec<Child>,
    munge: Child,
}

impl Cluster {
    /// Starts one whose arrays have indexes below `largest_array`.
    pub fn start(largest_array: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("lancet-slurm-").tempdir().unwrap();
        let path = folder.path();
        for name in ["state", "spool", "log", "munge"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        // Munge refuses keys that others may read.
        let key: Vec<u8> = (0..16).flat_map(|_| rand::random::<u64>().to_le_bytes()).collect();
        fs::write(path.join("munge/key"), key).unwrap();
        restrict(&path.join("munge/key"), 0o600);
        restrict(&path.join("munge"), 0o711);
        write_configuration(path, largest_array);
        let munge = munge(path);
        until("munged listens", || path.join("munge/socket").exists());
        let controller = controller(path);
        let nodes = (1..=NODES).map(|number| node(path, number)).collect();
        let cluster = Self { folder, controller, nodes, munge };
        until("all nodes are idle", || cluster.nodes_that("idle") == NODES);
        cluster
    }

    /// The folder of everything that belongs to it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command that finds this cluster.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.path().join("slurm.conf")).env("PATH", search_path()).stdin(Stdio::null());
        command
    }

    /// What one of Slurm's programs says; empty if it fails, as while the controller is away.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        // A client waits long for a controller that is away.
        let output = self.command("timeout").arg("20").arg(program).args(arguments).output().unwrap();
        if !output.status.success() {
            return String::new();
        }
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The state of a node.
    pub fn state(&self, node: &str) -> String {
        self.ask("sinfo", &["--noheader", "--nodes", node, "--format=%T"])
    }

    fn nodes_that(&self, state: &str) -> usize {
        let states = self.ask("sinfo", &["--noheader", "--Node", "--partition=gpu", "--format=%T"]);
        states.lines().filter(|line| *line == state).count()
    }

    /// How many jobs wait or run.
    pub fn is_idle(&self) -> bool {
        let output = self.command("timeout").args(["20", "squeue", "--noheader", "--array"]).output().unwrap();
        output.status.success() && output.stdout.is_empty()
    }

    /// Kills the controller, as a crash does.
    pub fn kill_controller(&mut self) {
        self.controller.kill().unwrap();
        self.controller.wait().unwrap();
    }

    /// Starts the controller again; it reads what it had saved.
    pub fn start_controller(&mut self) {
        self.controller = controller(self.path());
        until("the controller answers", || self.ask("scontrol", &["ping"]).contains("UP"));
    }

    /// The process of a node's daemon.
    pub fn daemon(&self, node: &str) -> u32 {
        let number: usize = node.trim_start_matches('n').parse().unwrap();
        self.nodes[number - 1].id()
    }

    /// Everything of a node dies at once: its daemon, the guards of its jobs and the jobs.
    pub fn cut_power(&mut self, node: &str) {
        let processes = processes::of_cluster(self.path(), Some(node));
        let number: usize = node.trim_start_matches('n').parse().unwrap();
        self.nodes[number - 1].kill().unwrap();
        processes.into_iter().for_each(|process| kill(process, "KILL"));
        self.nodes[number - 1].wait().unwrap();
    }

    /// When the controller last saved what it knows.
    pub fn saved(&self) -> Option<std::time::SystemTime> {
        fs::metadata(self.path().join("state/job_state")).ok()?.modified().ok()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the controller's log ends\n{}", tail(&self.path().join("log/slurmctld.log"), 15));
        }
        // The guards of jobs outlive a daemon: jobs first.
        let user = self.command("id").arg("-un").output().map(|output| output.stdout).unwrap_or_default();
        self.ask("scancel", &[&format!("--user={}", String::from_utf8_lossy(&user).trim())]);
        for child in self.nodes.iter_mut().chain([&mut self.controller, &mut self.munge]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        processes::of_cluster(self.path(), None).into_iter().for_each(|process| kill(process, "KILL"));
    }
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn daemon(path: &Path, program: &str, arguments: &[&str]) -> Child {
    let log = fs::File::options().create(true).append(true).open(path.join("log").join(program)).unwrap();
    let mut command = Command::new(program);
    command.env("PATH", search_path()).env("SLURM_CONF", path.join("slurm.conf")).args(arguments);
    // Jobs inherit the daemons' environment.
    command.env_remove("RUST_TEST_THREADS").stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn munge(path: &Path) -> Child {
    let file = |option: &str, name: &str| format!("--{option}={}", path.join("munge").join(name).display());
    let files = [
        file("key-file", "key"),
        file("socket", "socket"),
        file("pid-file", "pid"),
        file("log-file", "log"),
        file("seed-file", "seed"),
    ];
    let mut arguments = vec!["--foreground", "--force", "--num-threads=2"];
    arguments.extend(files.iter().map(String::as_str));
    daemon(path, "munged", &arguments)
}

fn controller(path: &Path) -> Child {
    daemon(path, "slurmctld", &["-D", "-f", &path.join("slurm.conf").display().to_string()])
}

fn node(path: &Path, number: usize) -> Child {
    let name = format!("n{number}");
    fs::create_dir_all(path.join("spool").join(&name)).unwrap();
    daemon(path, "slurmd", &["-D", "-N", &name, "-f", &path.join("slurm.conf").display().to_string()])
}

/// Ports that nobody listens on, below those that the system gives out by itself.
fn ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 15_000 + (std::process::id() % 60) as u16 * 250;
    let free = std::iter::repeat_with(|| base + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000)
        .filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
    free.take(count).collect()
}

/// The output of a program.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).env("PATH", search_path()).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn write_configuration(path: &Path, largest_array: usize) {
    let host = said("hostname", &["-s"]);
    let ports = ports(NODES + 1);
    // Where the host's name is on the loopback, nobody else can reach the daemons.
    let is_loopback = said("getent", &["hosts", &host]).starts_with("127.");
    let loopback = if is_loopback { "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" } else { "" };
    let version = said("slurmctld", &["-V"]);
    let major: u32 = version.rsplit(' ').next().unwrap().split('.').next().unwrap().parse().unwrap();
    // From 23 on a daemon looks for control groups, unless told.
    let groups = if major >= 23 { "CgroupPlugin=disabled\n" } else { "" };
    fs::write(path.join("cgroup.conf"), groups).unwrap();
    fs::write(path.join("plugstack.conf"), "").unwrap();
    // Slurm wants a device; nobody opens this one.
    fs::write(path.join("gres.conf"), format!("NodeName=n[1-{NODES}] Name=gpu File=/dev/null\n")).unwrap();
    let mut nodes = String::new();
    for (number, port) in (1..=NODES).zip(&ports[1..]) {
        nodes.push_str(&format!(
            "NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4096 Gres=gpu:1\n"
        ));
    }
    let text = include_str!("slurm.conf")
        .replace("{folder}", &path.display().to_string())
        .replace("{host}", &host)
        .replace("{user}", &said("id", &["-un"]))
        .replace("{port}", &ports[0].to_string())
        .replace("{loopback}", loopback)
        .replace("{largest_array}", &largest_array.to_string())
        .replace("{nodes}", &nodes);
    fs::write(path.join("slurm.conf"), text).unwrap();
}

/// A folder on the search path with programs that take the place of others.
pub fn program(folder: &Path, name: &str, text: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    restrict(&path, 0o755);
    path
}
