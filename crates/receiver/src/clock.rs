//! Time: one seam for tests, and one place that keeps time from running backwards.
//!
//! Caches and waits use the monotonic clock. What decides about expiry is the largest of the wall clock and the monotonic
//! clock counted from the largest wall clock seen, so a clock that is set back revives no token.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use countersign_protocol::time::Timestamp;

/// The two clocks of a machine, in milliseconds.
pub(crate) trait Clock: Send + Sync {
    /// The time of day, which may be set back or forth.
    fn wall(&self) -> Timestamp;

    /// Milliseconds since some start; never decreases and is never set.
    fn monotonic_millis(&self) -> i64;
}

/// The operating system's clocks.
pub(crate) struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    pub(crate) fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    fn wall(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic_millis(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Decides about the life of tokens.
    pub(crate) wall: Timestamp,
    /// Decides about the life of what is remembered, in milliseconds.
    pub(crate) monotonic: i64,
}

/// Tells the time that never runs backwards.
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    /// What to add to the monotonic clock; only grows.
    offset_millis: AtomicI64,
    /// The millisecond of the monotonic clock in which the wall clock was looked at.
    looked_at: AtomicI64,
}

impl Time {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let time = Self {
            clock,
            offset_millis: AtomicI64::new(i64::MIN),
            looked_at: AtomicI64::new(i64::MIN),
        };
        time.now();
        time
    }

    pub(crate) fn now(&self) -> Moment {
        let mut monotonic = self.clock.monotonic_millis();
        // Once in a millisecond, however many ask: reading a clock is a good part of a check.
        if self.looked_at.load(Ordering::Acquire) != monotonic {
            let wall = self.clock.wall().as_millis();
            // Read once more: what passes between the two makes the offset smaller, never larger, and only the largest counts.
            monotonic = self.clock.monotonic_millis();
            self.offset_millis
                .fetch_max(wall.saturating_sub(monotonic), Ordering::Relaxed);
            // Whoever sees that it was looked at sees the offset, too.
            self.looked_at.store(monotonic, Ordering::Release);
        }
        let offset = self.offset_millis.load(Ordering::Relaxed);
        Moment {
            wall: Timestamp::from_millis(monotonic.saturating_add(offset)),
            monotonic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::ManualClock;

    #[test]
    fn a_clock_set_back_goes_on_from_the_largest_time_seen() {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let time = Time::new(Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(time.now().wall.as_millis(), 1_000_000);
        clock.set_wall(5);
        clock.pass_monotonic(250);
        assert_eq!(time.now().wall.as_millis(), 1_000_250);
        clock.set_wall(2_000_000);
        clock.pass_monotonic(1);
        assert_eq!(time.now().wall.as_millis(), 2_000_000);
    }

    /// Whoever reads the monotonic clock after the other one sleeps for a while in between.
    struct Preempted {
        clock: ManualClock,
        sleep_millis: AtomicI64,
    }

    impl Clock for Preempted {
        fn wall(&self) -> Timestamp {
            self.clock.wall()
        }

        fn monotonic_millis(&self) -> i64 {
            self.clock.pass(self.sleep_millis.load(Ordering::SeqCst));
            self.clock.monotonic_millis()
        }
    }

    #[test]
    fn a_thread_that_sleeps_between_two_readings_does_not_advance_the_time() {
        let clock = Arc::new(Preempted {
            clock: ManualClock::at(1_000_000),
            sleep_millis: AtomicI64::new(0),
        });
        let time = Time::new(Arc::clone(&clock) as Arc<dyn Clock>);
        time.now();
        clock.sleep_millis.store(10_000, Ordering::SeqCst);
        time.now();
        clock.sleep_millis.store(0, Ordering::SeqCst);
        assert_eq!(time.now().wall, clock.clock.wall());
    }
}
