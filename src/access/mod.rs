//! What the running script may touch: files to read and to write, hosts, environment variables.

mod path;
pub mod permission;

use std::path::{Component, Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::error::{Error, Result};
use path::resolve;
use permission::Permission;

/// The variables that a script may read: they say how a job runs, and none holds a secret.
const VARIABLES: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "HF_HUB_OFFLINE",
    "LANG",
    "LC_ALL",
    "NO_COLOR",
    "OMP_NUM_THREADS",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_ARRAY_TASK_MAX",
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "TERM",
    "TZ",
];

/// The variable whose value is sent to judges as their key, and is shown to no script.
const JUDGE_KEY: &str = "LANCET_JUDGE_KEY";

/// The standard streams and the empty file, which belong to whoever started the script.
const STREAMS: [&str; 4] = ["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr"];

/// What may be touched.
#[derive(Debug, Clone, Default)]
pub struct Access {
    read: Grant<PathBuf>,
    /// Folders from which links may lead elsewhere to be read: a cache's models may be on another disk.
    linked: Vec<PathBuf>,
    write: Grant<PathBuf>,
    hosts: Grant<String>,
    variables: Grant<String>,
}

/// All of a kind, or a list.
#[derive(Debug, Clone, Default)]
enum Grant<T> {
    #[default]
    All,
    Only(Vec<T>),
}

impl<T> Grant<T> {
    fn allows(&self, fits: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Only(list) => list.iter().any(fits),
        }
    }

    /// Adds an entry; `None` stands for all.
    fn add(&mut self, entry: Option<T>) {
        match (&mut *self, entry) {
            (Self::All, _) => {}
            (Self::Only(list), Some(entry)) => list.push(entry),
            (Self::Only(_), None) => *self = Self::All,
        }
    }
}

impl Access {
    /// Everything that the user may touch; also what [`Access::default`] gives.
    pub fn all() -> Self {
        Self::default()
    }

    /// What a script may touch. It reads where its arguments point, in its own folder and in the folders of
    /// `LANCET_PATH`; it writes below the working folder, the argument of `--out` and the folders `caches`, and reads
    /// what it may write. `permissions` add to this.
    ///
    /// # Errors
    /// No working folder; a path whose links lead in a circle.
    pub fn of_script(
        script: Option<&Path>,
        arguments: &[String],
        caches: Vec<PathBuf>,
        permissions: &[Permission],
    ) -> Result<Self> {
        let mut access = Self {
            read: Grant::Only(Vec::new()),
            linked: caches.iter().filter_map(|path| std::path::absolute(path).ok()).collect(),
            write: Grant::Only(Vec::new()),
            hosts: Grant::Only(Vec::new()),
            variables: Grant::Only(VARIABLES.iter().map(|name| (*name).to_owned()).collect()),
        };
        let named = arguments.iter().flat_map(|argument| [Some(argument.as_str()), value_of(argument)]).flatten();
        let named = named.map(Path::new).filter(|path| path.exists());
        let folder = script.map(|script| match script.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        });
        for path in named.chain(folder).map(Path::to_path_buf).chain(search_path()) {
            access.add(Permission::Read(Some(path)))?;
        }
        for path in outputs(arguments).map(PathBuf::from).chain([PathBuf::from(".")]).chain(caches) {
            access.add(Permission::Write(Some(path)))?;
        }
        for permission in permissions {
            access.add(permission.clone())?;
        }
        Ok(access)
    }

    fn add(&mut self, permission: Permission) -> Result<()> {
        let place = |path: Option<PathBuf>| {
            path.map(|path| resolve(&path).map_err(|error| Error::io(&path, &error))).transpose()
        };
        match permission {
            Permission::All => *self = Self::all(),
            Permission::Read(path) => self.read.add(place(path)?),
            Permission::Write(path) => {
                let path = place(path)?;
                self.read.add(path.clone());
                self.write.add(path);
            }
            Permission::Connect(host) => self.hosts.add(host),
            Permission::Variable(name) => self.variables.add(name),
        }
        Ok(())
    }

    fn check_read(&self, path: &Path) -> Result<()> {
        let is_plain = !path.components().any(|part| part == Component::ParentDir);
        if is_plain
            && let Ok(absolute) = std::path::absolute(path)
            && self.linked.iter().any(|folder| absolute.starts_with(folder))
        {
            return Ok(());
        }
        self.check_file(&self.read, path, "read")
    }

    fn check_file(&self, grant: &Grant<PathBuf>, path: &Path, verb: &str) -> Result<()> {
        if matches!(grant, Grant::All) || STREAMS.iter().any(|stream| path == Path::new(stream)) {
            return Ok(());
        }
        let target = resolve(path).map_err(|error| Error::io(path, &error))?;
        if grant.allows(|root| target.starts_with(root)) {
            return Ok(());
        }
        let mut message = format!("this script may not {verb} `{}`", path.display());
        if std::path::absolute(path).is_ok_and(|absolute| absolute != target) {
            message.push_str(&format!(", which is `{}`", target.display()));
        }
        Err(refusal(message, &format!("{verb}={}", target.display())))
    }

    fn check_host(&self, host: &str, port: u16) -> Result<()> {
        let fits = |allowed: &String| {
            allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(&format!("{host}:{port}"))
        };
        if self.hosts.allows(fits) {
            return Ok(());
        }
        Err(refusal(format!("this script may not connect to `{host}:{port}`"), &format!("net={host}:{port}")))
    }

    fn check_everything(&self, what: &str) -> Result<()> {
        let Self { read, linked: _, write, hosts, variables } = self;
        let files = matches!((read, write), (Grant::All, Grant::All));
        if files && matches!((hosts, variables), (Grant::All, Grant::All)) {
            return Ok(());
        }
        Err(refusal(format!("this script may not {what}"), "all"))
    }

    fn check_variable(&self, name: &str) -> Result<()> {
        if self.variables.allows(|allowed| allowed == name) {
            return Ok(());
        }
        Err(refusal(format!("this script may not read the environment variable `{name}`"), &format!("env={name}")))
    }
}

fn refusal(message: String, permission: &str) -> Error {
    let plain = permission.chars().all(|letter| letter.is_alphanumeric() || "=/._-:[]".contains(letter));
    let permission = if plain { permission.to_owned() } else { format!("'{}'", permission.replace('\'', r"'\''")) };
    Error::new(message).hint(format!("if you trust it with that, run it with `--allow {permission}`"))
}

/// The value in `--name=value`.
fn value_of(argument: &str) -> Option<&str> {
    argument.starts_with('-').then(|| argument.split_once('=')).flatten().map(|(_, value)| value)
}

/// The values of the option `--out`.
fn outputs(arguments: &[String]) -> impl Iterator<Item = &str> {
    let following = arguments.windows(2).filter(|pair| pair[0] == "--out").map(|pair| pair[1].as_str());
    following.chain(arguments.iter().filter_map(|argument| argument.strip_prefix("--out=")))
}

/// The folders of `LANCET_PATH`, where imports are looked for.
pub fn search_path() -> Vec<PathBuf> {
    let folders = std::env::var_os("LANCET_PATH").map(|value| std::env::split_paths(&value).collect());
    let folders: Vec<PathBuf> = folders.unwrap_or_default();
    folders.into_iter().filter(|folder| *folder != Path::new("")).collect()
}

/// What may be touched now. It belongs to the process, so that no thread escapes it.
static CURRENT: RwLock<Option<Access>> = RwLock::new(None);

/// Replaces what may be touched from now on.
pub fn enter(access: Access) {
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(access);
}

/// Asks what may be touched now: everything, until a session says otherwise.
fn current<T>(ask: impl FnOnce(&Access) -> T) -> Option<T> {
    CURRENT.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(ask)
}

/// Fails if the running script may not read `path`.
///
/// # Errors
/// A path that leads elsewhere than allowed; the hint names the permission.
pub fn check_read(path: &Path) -> Result<()> {
    current(|access| access.check_read(path)).unwrap_or(Ok(()))
}

/// Fails if the running script may not write `path`.
///
/// # Errors
/// A path that leads elsewhere than allowed; the hint names the permission.
pub fn check_write(path: &Path) -> Result<()> {
    current(|access| access.check_file(&access.write, path, "write")).unwrap_or(Ok(()))
}

/// Fails if the running script may not connect to this host.
///
/// # Errors
/// A host or port that is not allowed; the hint names the permission.
pub fn check_host(host: &str, port: u16) -> Result<()> {
    current(|access| access.check_host(host, port)).unwrap_or(Ok(()))
}

/// Fails unless the running script may touch everything, for what starts other programs.
///
/// # Errors
/// A script that may not; `what` says in a verb what it would do, and the hint names the permission.
pub fn check_everything(what: &str) -> Result<()> {
    current(|access| access.check_everything(what)).unwrap_or(Ok(()))
}

/// The value of an environment variable, if it is set.
///
/// # Errors
/// A variable that is set and that the running script may not read; the hint names the permission.
pub fn variable(name: &str) -> Result<Option<String>> {
    match value(name) {
        Some(value) => current(|access| access.check_variable(name)).unwrap_or(Ok(())).map(|()| Some(value)),
        None => Ok(None),
    }
}

/// The key in an environment variable, to be sent to a server and shown to no script, if it is set. That of judges
/// needs no permission.
///
/// # Errors
/// Another variable that the running script may not read.
pub fn key(name: &str) -> Result<Option<String>> {
    let key = if name == JUDGE_KEY { value(name) } else { variable(name)? };
    Ok(key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()))
}

/// Whether an environment variable is set and not blank.
pub fn has_variable(name: &str) -> bool {
    value(name).is_some_and(|value| !value.trim().is_empty())
}

/// A name that no variable can have counts as not set.
fn value(name: &str) -> Option<String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return None;
    }
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(arguments: &[&str], permissions: &str) -> Access {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let permissions = if permissions.is_empty() { Vec::new() } else { permission::parse(permissions).unwrap() };
        Access::of_script(Some(Path::new("/scripts/run.rhai")), &arguments, Vec::new(), &permissions).unwrap()
    }

    fn reads(access: &Access, path: &str) -> bool {
        access.check_read(Path::new(path)).is_ok()
    }

    fn writes(access: &Access, path: &str) -> bool {
        access.check_file(&access.write, Path::new(path), "write").is_ok()
    }

    #[test]
    fn a_script_reads_and_writes_where_it_is_pointed() {
        let access = access(&["/usr/lib", "--data=/usr/include", "--out", "/results", "--out=/more"], "");
        for path in
            ["/scripts/words.txt", "/usr/lib/x", "/usr/include", "/results/a/b", "/more", "new.csv", "/dev/stdin"]
        {
            assert!(reads(&access, path), "{path}");
        }
        for path in ["/etc/passwd", "/scripts/../etc/passwd", "/usr/share", "/resultsx", "/", ".."] {
            assert!(!reads(&access, path), "{path}");
        }
        for path in ["/results/a", "/more/b", "new/x.csv", "/dev/stdout"] {
            assert!(writes(&access, path), "{path}");
        }
        for path in ["/scripts/run.rhai", "/usr/lib/x", "../x", "/dev/sda"] {
            assert!(!writes(&access, path), "{path}");
        }
    }

    #[test]
    fn permissions_open_more() {
        let some = access(&[], "read=/etc,/var,write=/opt,net=example.org,LOCALHOST:80,env=HOME");
        assert!(reads(&some, "/etc/passwd") && reads(&some, "/var/x") && reads(&some, "/opt/x"));
        assert!(writes(&some, "/opt/x") && !writes(&some, "/etc/x"));
        assert!(some.check_host("Example.org", 443).is_ok() && some.check_host("localhost", 80).is_ok());
        assert!(some.check_host("localhost", 81).is_err() && some.check_variable("HOME").is_ok());
        let none = access(&[], "");
        assert!(none.check_host("example.org", 443).is_err() && none.check_variable("HF_TOKEN").is_err());
        assert!(none.check_variable("SLURM_ARRAY_TASK_ID").is_ok());
        let all = access(&[], "all");
        assert!(all.check_everything("submit").is_ok() && some.check_everything("submit").is_err());
        assert!(writes(&all, "/etc/passwd") && all.check_host("a", 1).is_ok() && all.check_variable("X").is_ok());
        assert!(reads(&access(&[], "read"), "/etc/passwd") && !writes(&access(&[], "read"), "/etc/passwd"));
    }

    #[test]
    fn a_refusal_names_the_permission() {
        let access = access(&[], "");
        let error = access.check_read(Path::new("/my data/it's")).unwrap_err();
        assert_eq!(error.to_string(), "this script may not read `/my data/it's`");
        assert!(error.hint_text().unwrap().contains(r"`--allow 'read=/my data/it'\''s'`"));
        let error = access.check_host("::1", 80).unwrap_err();
        assert!(error.hint_text().unwrap().contains("`--allow net=::1:80`"));
    }
}
