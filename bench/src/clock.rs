//! The clocks that a measurement needs: elapsed time, processor time of this thread, and the date.
//!
//! The rest of the repository takes its time from a `Clock` that is passed in. A benchmark measures
//! the world itself, so it reads the clocks directly, here and nowhere else.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures elapsed time"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the processor time, user and system, that the calling thread has used so far.
pub fn thread_processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("processor time is never negative"),
        u32::try_from(time.tv_nsec).expect("nanoseconds stay below a second"),
    )
}

/// Returns the day in UTC as `2026-01-31`.
pub fn today() -> Result<String> {
    let output = Command::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .output()
        .context("cannot run date")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
