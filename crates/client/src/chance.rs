//! Chance and the time of day, taken from the operating system here and nowhere else.

use std::time::SystemTime;

/// A number from 0 to 1, for times that should not be the same in many processes.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the source that others are given"
)]
pub(crate) fn uniform() -> f64 {
    let mut bytes = [0; 4];
    // Without chance all processes wait the same time, which does little harm.
    let number = getrandom::fill(&mut bytes).map_or(u32::MAX / 2, |()| u32::from_be_bytes(bytes));
    f64::from(number) / f64::from(u32::MAX)
}

/// The time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "it decides about a line in the log and nothing else"
)]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
