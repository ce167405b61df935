//! How many entries of the change log a machine may cause: the bound on rows per owner for a log that keeps every entry.
//!
//! Each machine begins with an allowance that no honest one uses up, and gets one entry back each second. What instance keys
//! and the operator do is not counted. The map has one number for each machine that acted lately; a machine with its whole
//! allowance needs none. At the bound such numbers are dropped, and where there are none a newcomer is not counted: so many
//! machines are only made by somebody with an instance key, who needs no machine to fill the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use countersign_protocol::ids::MachineId;

use crate::Authority;
use crate::actor::Actor;
use crate::error::Error;
use crate::limits::{has_room, seconds};

/// How long it takes until an entry is allowed again.
const REFILL_MILLIS: i64 = 1000;

/// What each machine has left, written as the time at which it has everything again.
pub(crate) struct Allowances {
    max: u32,
    whole_at_millis: Mutex<HashMap<MachineId, i64>>,
}

impl Allowances {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max,
            whole_at_millis: Mutex::default(),
        }
    }

    /// Takes one, or says in how many seconds there is one again.
    fn take(&self, machine: MachineId, now_millis: i64) -> Result<(), u32> {
        let mut machines = self
            .whole_at_millis
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !has_room(&mut machines, &machine, |whole_at| *whole_at <= now_millis) {
            return Ok(());
        }
        let whole_at = machines.entry(machine).or_insert(now_millis);
        let next = (*whole_at).max(now_millis).saturating_add(REFILL_MILLIS);
        let farthest = now_millis.saturating_add(i64::from(self.max) * REFILL_MILLIS);
        if next > farthest {
            return Err(seconds(next.saturating_sub(farthest)));
        }
        *whole_at = next;
        Ok(())
    }

    /// Gives back what was not used.
    fn give_back(&self, machine: MachineId) {
        let mut machines = self
            .whole_at_millis
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(whole_at) = machines.get_mut(&machine) {
            *whole_at = whole_at.saturating_sub(REFILL_MILLIS);
        }
    }
}

impl Authority {
    /// Takes an entry from the allowance of the machine whose key asks for a change; nothing for anybody else. It is taken
    /// before the store is asked, so that many requests at one time do not go beyond it together.
    pub(crate) fn take_change(&self, actor: &Actor) -> Result<(), Error> {
        let Some(machine) = counted(actor) else {
            return Ok(());
        };
        self.allowances
            .take(machine, self.time.monotonic_millis())
            .map_err(|retry_after_seconds| Error::TooManyChanges {
                max: self.allowances.max,
                retry_after_seconds,
            })
    }

    /// Gives back what [`Self::take_change`] took, where the store has said that nothing was changed, or that it cannot. Whoever
    /// does not wait for the store's answer gets nothing back, for it may have been written.
    pub(crate) fn give_change_back(&self, actor: &Actor) {
        if let Some(machine) = counted(actor) {
            self.allowances.give_back(machine);
        }
    }
}

/// The machine, where it came with its key. The operator in its role has none.
fn counted(actor: &Actor) -> Option<MachineId> {
    actor.machine_key().and(actor.machine_id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_REMEMBERED;

    fn machine(number: usize) -> MachineId {
        format!("mch_{number:027}").parse().expect("an id")
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back_one_a_second() {
        let allowances = Allowances::new(3);
        let take = |now| allowances.take(machine(1), now);
        for _ in 0..3 {
            assert_eq!(take(500), Ok(()));
        }
        assert_eq!(take(500), Err(1));
        assert_eq!(take(1499), Err(1));
        assert_eq!(
            allowances.take(machine(2), 500),
            Ok(()),
            "others have theirs"
        );
        assert_eq!(take(1500), Ok(()));
        assert_eq!(take(1500), Err(1));
        // It fills to what it was and no further.
        for _ in 0..3 {
            assert_eq!(take(1_000_000), Ok(()));
        }
        assert_eq!(take(1_000_000), Err(1));
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let allowances = Allowances::new(1);
        for _ in 0..10 {
            assert_eq!(allowances.take(machine(1), 0), Ok(()));
            allowances.give_back(machine(1));
        }
        assert_eq!(allowances.take(machine(1), 0), Ok(()));
        assert_eq!(allowances.take(machine(1), 0), Err(1));
        // Never more than all.
        for _ in 0..10 {
            allowances.give_back(machine(1));
        }
        assert_eq!(allowances.take(machine(1), 0), Ok(()));
        assert_eq!(allowances.take(machine(1), 0), Err(1));
    }

    #[test]
    fn the_map_is_bounded_and_forgets_who_has_everything_again() {
        let allowances = Allowances::new(2);
        for number in 0..MAX_REMEMBERED {
            assert_eq!(allowances.take(machine(number), 0), Ok(()));
        }
        for _ in 0..10 {
            assert_eq!(allowances.take(machine(MAX_REMEMBERED), 0), Ok(()));
        }
        let remembered = || {
            let machines = allowances.whole_at_millis.lock();
            machines.expect("not poisoned").len()
        };
        assert_eq!(remembered(), MAX_REMEMBERED);
        assert_eq!(allowances.take(machine(0), 999), Ok(()));
        assert_eq!(
            allowances.take(machine(0), 999),
            Err(1),
            "those within are still counted"
        );
        assert_eq!(allowances.take(machine(MAX_REMEMBERED), 1000), Ok(()));
        assert_eq!(remembered(), 2);
    }
}
