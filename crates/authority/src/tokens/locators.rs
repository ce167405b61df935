//! The places of new tokens in the store.

use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::ids::Locator;
use countersign_protocol::time::Timestamp;
use countersign_store::Node;

/// The epoch of locators, 2024-01-01T00:00:00Z.
const LOCATOR_EPOCH_MILLIS: i64 = 1_704_067_200_000;
/// Number of bits of the count within a millisecond.
const COUNT_BITS: u32 = 12;
/// Number of bits of the node and the count together.
const MILLI_SHIFT: u32 = 22;
/// Mask of the milliseconds.
const MILLI_MASK: u64 = (1 << 41) - 1;

/// Hands out the places of new tokens: 41 bits of milliseconds, 10 of the node, 12 of a count. A busy millisecond borrows
/// from the next.
pub(crate) struct Locators {
    node: u64,
    /// The last locator without its node bits: milliseconds and count side by side, so that a full count carries into
    /// the milliseconds.
    last: AtomicU64,
}

impl Locators {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node: u64::from(node.get()) << COUNT_BITS,
            last: AtomicU64::default(),
        }
    }

    pub(super) fn next(&self, now: Timestamp) -> Locator {
        let millis = now
            .as_millis()
            .saturating_sub(LOCATOR_EPOCH_MILLIS)
            .max(0)
            .unsigned_abs();
        let earliest = (millis & MILLI_MASK) << COUNT_BITS;
        let step = |last: u64| (last + 1).max(earliest);
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(step(last))
            });
        let place = step(previous.unwrap_or_else(|last| last));
        let millis = (place >> COUNT_BITS) & MILLI_MASK;
        let count = place & ((1 << COUNT_BITS) - 1);
        Locator::new((millis << MILLI_SHIFT) | self.node | count).expect("41 + 22 bits are 63")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LOCATORS_PER_MILLI: u64 = 1 << COUNT_BITS;

    fn node_of(locator: Locator) -> u64 {
        (locator.get() >> 12) & 0x3ff
    }

    #[test]
    fn locators_grow_even_where_the_clock_stands_still() {
        let locators = Locators::new(Node::ONLY);
        let now = Timestamp::from_millis(LOCATOR_EPOCH_MILLIS + 5);
        let mut last = locators.next(now);
        for _ in 0..3 * LOCATORS_PER_MILLI {
            let next = locators.next(now);
            assert!(next > last);
            assert_eq!(node_of(next), 0, "the node's bits stay");
            last = next;
        }
        assert_eq!(
            locators
                .next(Timestamp::from_millis(LOCATOR_EPOCH_MILLIS + 1000))
                .get(),
            1000 << MILLI_SHIFT
        );
    }

    #[test]
    fn two_nodes_never_hand_out_the_same_locator() {
        let now = Timestamp::from_millis(LOCATOR_EPOCH_MILLIS + 5);
        let mut seen = BTreeSet::new();
        for number in [1, 1023] {
            let locators = Locators::new(Node::new(number).expect("fits"));
            let mut last = None;
            for _ in 0..2 * LOCATORS_PER_MILLI {
                let next = locators.next(now);
                assert_eq!(node_of(next), u64::from(number));
                assert!(Some(next) > last);
                last = Some(next);
                assert!(seen.insert(next));
            }
        }
    }
}
