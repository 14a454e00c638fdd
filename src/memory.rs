//! The machine's memory, as far as this process may take it.

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

/// What the process may always take: a small request of ours that fails would end it.
const FLOOR: u64 = 1 << 30;

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the machine has, or the container or batch job that this process runs in.
    pub total: u64,
    /// What can still be taken; files kept in memory give way.
    pub free: u64,
}

/// The memory of this process's machine or container; `None` if the system does not report it.
pub fn memory() -> Option<Memory> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = Memory { total: system.total_memory(), free: system.available_memory() };
    let process = sysinfo::get_current_pid().ok()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[process]), false, ProcessRefreshKind::nothing());
    Some(match system.process(process).and_then(sysinfo::Process::cgroup_limits) {
        Some(group) => Memory {
            total: machine.total.min(group.total_memory),
            free: machine.free.min(group.total_memory.saturating_sub(group.rss)),
        },
        None => machine,
    })
}

/// Lets this process take at most the memory that is free now. libtorch then reports a request for more as an error,
/// where the system would end the process once the memory is used.
#[cfg(target_os = "linux")]
pub fn bound() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (Some(taken), Some(memory)) = (taken(), memory()) else { return };
    let maximum = getrlimit(Resource::Data).maximum;
    let current = taken.saturating_add(memory.free.max(FLOOR));
    let current = maximum.map_or(current, |maximum| current.min(maximum));
    // A system that refuses stays as it is.
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(current), maximum });
}

/// Other systems have no such limit.
#[cfg(not(target_os = "linux"))]
pub fn bound() {}

/// The bytes of this process that the limit counts: its data and its stacks.
#[cfg(target_os = "linux")]
fn taken() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(5)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_that_of_the_machine_or_less() {
        let table = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total: u64 = table.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        let memory = memory().unwrap();
        assert!(memory.total <= total * 1024 && 0 < memory.free && memory.free <= memory.total, "{memory:?}");
    }
}
