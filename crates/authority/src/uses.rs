//! When tokens were last used, waiting to be written.
//!
//! A verification notes its time here and goes on. The map is bounded and nothing waits for it: if more tokens are used
//! between two writes than it holds, the times of the rest are not written. It is small, because writing one time costs
//! as much as two verifications and delays other writes. Lists and answers about a token look here, too, so that a use
//! shows at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use countersign_protocol::ids::Locator;
use countersign_protocol::time::Timestamp;
use countersign_store::LastUse;

const SHARDS: usize = 16;
const MAX_PER_SHARD: usize = 64;

pub(crate) struct Uses {
    shards: [Mutex<HashMap<Locator, Timestamp>>; SHARDS],
    /// Uses that were taken and are not written yet, in locator order.
    taken: Mutex<Vec<LastUse>>,
}

impl Default for Uses {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            taken: Mutex::default(),
        }
    }
}

impl Uses {
    pub(crate) fn note(&self, locator: Locator, at: Timestamp) {
        let mut uses = self
            .shard(locator)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = uses.get_mut(&locator) {
            *last = at.max(*last);
        } else if uses.len() < MAX_PER_SHARD {
            uses.insert(locator, at);
        }
    }

    /// Returns the last use of a token, if it is not written yet.
    pub(crate) fn pending(&self, locator: Locator) -> Option<Timestamp> {
        let noted = self
            .shard(locator)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&locator)
            .copied();
        // A noted use is later than a taken use.
        noted.or_else(|| {
            let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let place = taken.binary_search_by_key(&locator, |taken| taken.locator);
            taken.get(place.ok()?).map(|taken| taken.at)
        })
    }

    /// Takes all waiting uses, in locator order, to be written. Call [`Self::written`] or [`Self::put_back`] next.
    pub(crate) fn take(&self) -> Vec<LastUse> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.clear();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            taken.extend(shard.drain().map(|(locator, at)| LastUse { locator, at }));
        }
        taken.sort_unstable_by_key(|taken| taken.locator);
        taken.clone()
    }

    /// Drops the taken uses after they were written.
    pub(crate) fn written(&self) {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Puts the taken uses back after they could not be written.
    pub(crate) fn put_back(&self) {
        let taken = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *taken)
        };
        for LastUse { locator, at } in taken {
            self.note(locator, at);
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the remainder of a division by the number of shards is below that number"
    )]
    fn shard(&self, locator: Locator) -> &Mutex<HashMap<Locator, Timestamp>> {
        // Locators differ in their low bits when they are made within the same millisecond, and in higher ones otherwise.
        let number = locator.get();
        let shard = usize::try_from((number ^ (number >> 22)) % SHARDS as u64).unwrap_or_default();
        &self.shards[shard]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(number: u64) -> Locator {
        Locator::new(number).expect("fits")
    }

    #[test]
    fn the_map_is_bounded_and_keeps_the_latest_use() {
        let uses = Uses::default();
        for number in 0..100_000 {
            uses.note(locator(number), Timestamp::from_millis(1));
        }
        uses.note(locator(0), Timestamp::from_millis(2));
        let taken = uses.take();
        assert_eq!(taken.len(), SHARDS * MAX_PER_SHARD);
        assert_eq!(
            taken[0],
            LastUse {
                locator: locator(0),
                at: Timestamp::from_millis(2)
            }
        );
        assert!(uses.take().is_empty());
    }

    #[test]
    fn a_use_shows_until_it_is_written() {
        let uses = Uses::default();
        let at = Timestamp::from_millis;
        uses.note(locator(5), at(1));
        assert_eq!(uses.pending(locator(5)), Some(at(1)));
        assert_eq!(uses.pending(locator(6)), None);
        uses.take();
        assert_eq!(uses.pending(locator(5)), Some(at(1)), "it is being written");
        uses.note(locator(5), at(2));
        assert_eq!(uses.pending(locator(5)), Some(at(2)));
        uses.written();
        assert_eq!(uses.pending(locator(5)), Some(at(2)));
        uses.take();
        uses.written();
        assert_eq!(uses.pending(locator(5)), None);
    }

    #[test]
    fn a_use_that_could_not_be_written_waits_again_and_hides_no_later_one() {
        let uses = Uses::default();
        let at = Timestamp::from_millis;
        uses.note(locator(5), at(1));
        uses.note(locator(6), at(1));
        uses.take();
        uses.note(locator(6), at(2));
        uses.put_back();
        let taken: Vec<_> = uses.take().iter().map(|taken| taken.at).collect();
        assert_eq!(taken, [at(1), at(2)]);
    }
}
