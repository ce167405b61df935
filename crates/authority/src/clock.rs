//! Time: one seam for tests, and one place that keeps time from running backwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use countersign_protocol::time::Timestamp;

/// The two clocks of a machine.
pub trait Clock: Send + Sync {
    /// The time of day, which may be set back or forth.
    fn wall(&self) -> Timestamp;

    /// Milliseconds since some start; never decreases and is never set.
    fn monotonic_millis(&self) -> i64;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    fn default() -> Self {
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

/// The time that decides about expiry: the largest of the wall clock, the monotonic clock counted from the largest time seen
/// so far, and the largest time that was persisted. A clock that is set back revives nothing.
pub(crate) struct TimeKeeper {
    clock: Arc<dyn Clock>,
    /// What to add to the monotonic clock; only grows.
    offset_millis: AtomicI64,
}

impl TimeKeeper {
    pub(crate) fn new(clock: Arc<dyn Clock>, floor: Timestamp) -> Self {
        let offset = floor.as_millis().saturating_sub(clock.monotonic_millis());
        Self {
            clock,
            offset_millis: AtomicI64::new(offset),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let monotonic = self.clock.monotonic_millis();
        let offset = self.clock.wall().as_millis().saturating_sub(monotonic);
        // A write for each question would make the cores share a cache line; the offset rarely grows.
        let largest = if offset > self.offset_millis.load(Ordering::Relaxed) {
            self.offset_millis
                .fetch_max(offset, Ordering::Relaxed)
                .max(offset)
        } else {
            self.offset_millis.load(Ordering::Relaxed)
        };
        Timestamp::from_millis(monotonic.saturating_add(largest))
    }

    pub(crate) fn monotonic_millis(&self) -> i64 {
        self.clock.monotonic_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct SetClock {
        wall: AtomicI64,
        monotonic: AtomicI64,
    }

    impl Clock for SetClock {
        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(self.wall.load(Ordering::Relaxed))
        }

        fn monotonic_millis(&self) -> i64 {
            self.monotonic.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_clock_set_back_goes_on_from_the_largest_time_seen() {
        let clock = Arc::new(SetClock::default());
        clock.wall.store(1_000_000, Ordering::Relaxed);
        let time = TimeKeeper::new(Arc::clone(&clock) as Arc<dyn Clock>, Timestamp::EPOCH);
        assert_eq!(time.now().as_millis(), 1_000_000);
        clock.wall.store(5, Ordering::Relaxed);
        clock.monotonic.store(250, Ordering::Relaxed);
        assert_eq!(time.now().as_millis(), 1_000_250);
        clock.wall.store(2_000_000, Ordering::Relaxed);
        assert_eq!(time.now().as_millis(), 2_000_000);
    }

    #[test]
    fn a_start_goes_on_from_the_largest_time_persisted() {
        let clock = Arc::new(SetClock::default());
        clock.wall.store(5, Ordering::Relaxed);
        let time = TimeKeeper::new(
            Arc::clone(&clock) as Arc<dyn Clock>,
            Timestamp::from_millis(700),
        );
        assert_eq!(time.now().as_millis(), 700);
        clock.monotonic.store(1, Ordering::Relaxed);
        assert_eq!(time.now().as_millis(), 701);
    }
}
