//! How much memory this process may use.

use std::fs;

/// The machine's memory in bytes, or less where a control group says so; `None` where neither can be read.
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    [
        machine.as_deref().and_then(of_machine),
        group.as_deref().and_then(of_group),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// The line `MemTotal:       24576000 kB`.
fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A number of bytes, or `max` for no limit.
fn of_group(limit: &str) -> Option<u64> {
    limit.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let meminfo = "MemTotal:        2048000 kB\nMemFree:  100 kB\n";
        assert_eq!(of_machine(meminfo), Some(2_048_000 * 1024));
        assert_eq!(of_machine("MemFree: 100 kB\n"), None);
        assert_eq!(of_group("536870912\n"), Some(512 << 20));
        assert_eq!(of_group("max\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 64 << 20));
    }
}
