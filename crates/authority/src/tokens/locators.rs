//! The places of new tokens in the store.

use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::ids::Locator;
use countersign_protocol::time::Timestamp;

/// Hands out the places of new tokens: 41 bits of milliseconds, 10 of the node, 12 of a count. A busy millisecond borrows
/// from the next.
#[derive(Default)]
pub(crate) struct Locators {
    last: AtomicU64,
}

/// The start of locators' time, 2024-01-01T00:00:00Z.
const LOCATOR_EPOCH_MILLIS: i64 = 1_704_067_200_000;
/// How many locators a node has in a millisecond.
const LOCATORS_PER_MILLI: u64 = 1 << 12;
/// The bits of the node and the count.
const MILLI_SHIFT: u32 = 22;

impl Locators {
    pub(super) fn next(&self, now: Timestamp) -> Locator {
        let millis = now
            .as_millis()
            .saturating_sub(LOCATOR_EPOCH_MILLIS)
            .max(0)
            .unsigned_abs();
        let earliest = (millis & ((1 << 41) - 1)) << MILLI_SHIFT;
        let step = |last: u64| {
            let following = if (last + 1).is_multiple_of(LOCATORS_PER_MILLI) {
                ((last >> MILLI_SHIFT) + 1) << MILLI_SHIFT
            } else {
                last + 1
            };
            following.max(earliest)
        };
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(step(last))
            });
        let number = step(previous.unwrap_or_else(|last| last));
        Locator::new(number).expect("41 + 22 bits are 63")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locators_grow_even_where_the_clock_stands_still() {
        let locators = Locators::default();
        let now = Timestamp::from_millis(LOCATOR_EPOCH_MILLIS + 5);
        let mut last = locators.next(now);
        for _ in 0..3 * LOCATORS_PER_MILLI {
            let next = locators.next(now);
            assert!(next > last);
            assert_eq!((next.get() >> 12) & 0x3ff, 0, "the node's bits stay");
            last = next;
        }
        assert_eq!(
            locators
                .next(Timestamp::from_millis(LOCATOR_EPOCH_MILLIS + 1000))
                .get(),
            1000 << MILLI_SHIFT
        );
    }
}
