//! What the process refuses to do with its memory and files: no core files, no debugger, nothing that others may read.

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

use crate::environment::is_set;
use crate::stderr;

/// Set by tests and by the demo: this process ends with the one that started it, however that one ends.
const END_WITH_PARENT: &str = "COUNTERSIGN_END_WITH_PARENT";

/// Called first. Secrets will be in memory.
pub(crate) fn harden() {
    if is_set(END_WITH_PARENT) {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    }
    let _ = rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Thousands of connections want descriptors; the soft limit is often 1024.
    let files = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files.maximum,
            maximum: files.maximum,
        },
    );
    // A panic's message could hold a value; its place is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, "a thread panicked");
        } else {
            stderr::line(&format!(
                "error: this is a bug in this program: it panicked at {place}"
            ));
        }
    }));
}

/// Whether the process was started to survive a hangup, for instance by `nohup`. To be asked before the signal is watched.
pub(crate) fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}
