//! How many threads libtorch computes with, and how those without work wait for it.
//!
//! libgomp, which starts libtorch's threads, lets a thread without work spin for milliseconds before it sleeps. That is
//! right for a program that has the machine to itself. Beside another one, the spinning threads take the cores from those
//! that compute, and both programs become many times slower.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::thread::available_parallelism;

use crate::cache::variable;
use crate::error::{Error, Result};

/// How often a thread looks for work before it sleeps. Fewer looks make a program that is alone slower, by 15% at 1,000:
/// its threads sleep between two operations of a layer. libgomp's own 300,000 last longer than the system lets a thread run.
const SPINS: &CStr = c"GOMP_SPINCOUNT=10000";

/// The user's own words on how threads wait.
const WAITS: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];
/// The user's own words on how many there are.
const COUNTS: [&str; 2] = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"];

/// What the loader calls at the start, with the arguments and the environment.
pub type AtStart = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Starts the program again with a short wait, unless its environment says how threads wait. It is for the array of
/// functions that the loader calls before it starts any library: libgomp reads its settings when it is started, which is
/// long before `main`.
///
/// # Safety
/// `arguments` and `variables` are arrays of C strings that end with a null pointer, as the loader passes them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub unsafe extern "C" fn start_again(_: c_int, arguments: *const *const c_char, variables: *const *const c_char) {
    let mut all = Vec::new();
    // SAFETY: the caller promises the null pointer at the end.
    while let Some(&variable) = unsafe { variables.add(all.len()).as_ref() }.filter(|variable| !variable.is_null()) {
        all.push(variable);
    }
    let is_set = |&variable: &*const c_char| {
        // SAFETY: the caller promises C strings.
        let text = unsafe { CStr::from_ptr(variable) }.to_bytes();
        WAITS.iter().any(|name| text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")))
    };
    // Started by the loader's own command line, the program cannot be named to the system.
    // SAFETY: the call reads what the system has told the process.
    if all.iter().any(is_set) || unsafe { libc::getauxval(libc::AT_BASE) } == 0 {
        return;
    }
    // By its path: by the link /proc/self/exe the process would be listed as `exe`.
    let Ok(program) = std::env::current_exe() else { return };
    let Ok(program) = CString::new(program.into_os_string().into_vec()) else { return };
    all.extend([SPINS.as_ptr(), std::ptr::null()]);
    // SAFETY: all three are C strings or arrays of them that end with a null pointer. If the call fails, the program runs
    // on, with libgomp's own wait.
    unsafe { libc::execve(program.as_ptr(), arguments, all.as_ptr()) };
}

/// Keeps libtorch's threads, and those that read texts, within the cores that the process may use: libtorch itself looks
/// at the process's affinity only, not at the limits of its control group or of its Slurm task.
///
/// # Errors
/// A number of CPUs from Slurm that is none.
pub fn choose() -> Result<()> {
    let limit = limit(|name| std::env::var(name).ok())?;
    if limit.cores < count() {
        tch::set_num_threads(limit.cores as i32);
    }
    let is_fewer = available_parallelism().is_ok_and(|cores| count() < cores.get());
    if is_fewer && std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // Where these threads run already it fails and changes nothing.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(count()).build_global();
    }
    Ok(())
}

/// The number of threads and how they wait, in words, with the reason.
///
/// # Errors
/// As for [`choose`].
pub fn describe() -> Result<String> {
    let lookup = |name: &str| std::env::var(name).ok();
    let limit = limit(lookup)?;
    let reason = match limit.reason {
        Reason::User(name) => format!("by `{name}`"),
        Reason::Slurm => "the CPUs of the Slurm task".to_owned(),
        Reason::Cores if count() < limit.cores => format!("the physical cores of {} CPUs", limit.cores),
        Reason::Cores => "the cores that the process may use".to_owned(),
    };
    let wait = WAITS.iter().find_map(|name| Some((name, variable(&lookup, name)?)));
    let wait = wait.map_or_else(|| "libgomp's own".to_owned(), |(name, value)| format!("`{name}={value}`"));
    Ok(format!("{}, {reason}; wait for work: {wait}", count()))
}

fn count() -> usize {
    usize::try_from(tch::get_num_threads()).map_or(1, |count| count.max(1))
}

/// The most threads that are of use.
#[derive(Debug, PartialEq)]
struct Limit {
    cores: usize,
    reason: Reason,
}

#[derive(Debug, PartialEq)]
enum Reason {
    /// The variable that says it.
    User(&'static str),
    Slurm,
    Cores,
}

fn limit(lookup: impl Fn(&str) -> Option<String>) -> Result<Limit> {
    if let Some(name) = COUNTS.into_iter().find(|name| variable(&lookup, name).is_some()) {
        return Ok(Limit { cores: usize::MAX, reason: Reason::User(name) });
    }
    // By the affinity and the control group's quota; where the system tells neither, libtorch's own number is kept.
    let cores = available_parallelism().map_or(usize::MAX, usize::from);
    let Some(granted) = variable(&lookup, "SLURM_CPUS_PER_TASK") else {
        return Ok(Limit { cores, reason: Reason::Cores });
    };
    match granted.trim().parse() {
        Ok(granted) if (1..=cores).contains(&granted) => Ok(Limit { cores: granted, reason: Reason::Slurm }),
        Ok(granted) if granted > 0 => Ok(Limit { cores, reason: Reason::Cores }),
        _ => Err(Error::new(format!("`SLURM_CPUS_PER_TASK` is `{granted}`, which is no number of CPUs"))
            .hint("unset it, or set `OMP_NUM_THREADS` to the number of threads")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(variables: &[(&str, &str)]) -> Result<Limit> {
        limit(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_user_comes_before_slurm_and_slurm_before_the_machine() {
        let slurm = ("SLURM_CPUS_PER_TASK", "1");
        assert_eq!(limited(&[slurm]).unwrap(), Limit { cores: 1, reason: Reason::Slurm });
        assert_eq!(limited(&[slurm, ("OMP_NUM_THREADS", "3")]).unwrap().reason, Reason::User("OMP_NUM_THREADS"));
        assert_eq!(limited(&[slurm, ("MKL_NUM_THREADS", "3")]).unwrap().reason, Reason::User("MKL_NUM_THREADS"));
        assert_eq!(limited(&[slurm, ("OMP_NUM_THREADS", " ")]).unwrap().reason, Reason::Slurm);
        let cores = available_parallelism().unwrap().get();
        for larger in [&[][..], &[("SLURM_CPUS_PER_TASK", "100000")]] {
            assert_eq!(limited(larger).unwrap(), Limit { cores, reason: Reason::Cores });
        }
        for wrong in ["0", "-1", "many", "2(x2)"] {
            let error = limited(&[("SLURM_CPUS_PER_TASK", wrong)]).unwrap_err();
            assert!(error.to_string().contains(&format!("is `{wrong}`")), "{error}");
        }
    }
}
