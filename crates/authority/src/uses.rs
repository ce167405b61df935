//! When tokens were last used, waiting to be written.
//!
//! A verification notes its time here and goes on. The map is bounded and nothing waits for it: where more tokens are used
//! between two writes than it holds, the times of the rest are not written this time. It is small, because to write one costs
//! as much as two verifications, and others' writes wait meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use countersign_protocol::ids::Locator;
use countersign_protocol::time::Timestamp;
use countersign_store::LastUse;

const SHARDS: usize = 16;
const MAX_PER_SHARD: usize = 64;

pub(crate) struct Uses([Mutex<HashMap<Locator, Timestamp>>; SHARDS]);

impl Default for Uses {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Uses {
    pub(crate) fn note(&self, locator: Locator, at: Timestamp) {
        // Locators differ in their low bits when they are made within the same millisecond, and in higher ones otherwise.
        let number = locator.get();
        let shard = usize::try_from((number ^ (number >> 22)) % SHARDS as u64).unwrap_or_default();
        let Some(shard) = self.0.get(shard) else {
            return;
        };
        let mut uses = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < MAX_PER_SHARD || uses.contains_key(&locator) {
            uses.insert(locator, at);
        }
    }

    /// Takes all that wait, in the order of their locators.
    pub(crate) fn take(&self) -> Vec<LastUse> {
        let mut taken: Vec<_> = self
            .0
            .iter()
            .flat_map(|shard| {
                std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner))
            })
            .map(|(locator, at)| LastUse { locator, at })
            .collect();
        taken.sort_unstable_by_key(|use_| use_.locator);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_bounded_and_keeps_the_latest_use() {
        let uses = Uses::default();
        let locator = |number| Locator::new(number).expect("fits");
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
}
