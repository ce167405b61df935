//! Limits the tokens of a machine to about `max_tokens` rows, in any format and state.
//!
//! Issuing a token never counts rows. Each process counts the tokens that it issued to a machine since the store last
//! counted them. Maintenance asks the store to count the tokens of machines that were never counted or may have reached
//! the limit, each at most once a minute. The store then makes room by deleting ended tokens. So a machine is never
//! refused below the limit, and exceeds it by about what it issues in a minute. A machine is full only if no token can
//! be deleted. At most every ten seconds, one request of a full machine checks the store again; its other requests are
//! refused at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_protocol::ids::{InstanceId, MachineId};

use crate::Authority;
use crate::error::{Error, keep_first};
use crate::limits::has_room;

/// Minimum time between two checks of a full machine, in milliseconds.
const LOOK_AGAIN_MILLIS: i64 = 10_000;
/// Minimum time between two counts of a machine by maintenance, in milliseconds.
const COUNT_MILLIS: i64 = 60_000;
/// How long a round of maintenance counts machines, in milliseconds.
const ROUND_MILLIS: i64 = 1000;

/// When a full machine was last checked, on the monotonic clock. Locked during the check.
type LastLook = Arc<tokio::sync::Mutex<i64>>;

/// What this process knows about the machines that it issued tokens to.
pub(crate) struct Room {
    limit: u64,
    machines: Mutex<HashMap<MachineId, Known>>,
}

struct Known {
    instance: InstanceId,
    /// Number of tokens when the store last counted them.
    counted: Option<u64>,
    /// Number of tokens that were issued since then.
    issued: u64,
    /// When maintenance may next count the machine's tokens, on the monotonic clock.
    due_millis: i64,
    /// Set while the machine is full.
    full: Option<LastLook>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The machine no longer exists.
    Gone,
    /// The machine has this many tokens and may have more.
    Held(u64),
    /// The machine had reached the limit, and some ended tokens were deleted. More may remain to be deleted.
    Deleted,
    /// The machine has reached the limit, and no token can be deleted.
    Full,
}

impl Room {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            machines: Mutex::default(),
        }
    }

    /// Counts a token that was issued. When the map is full, it drops machines that have not reached their limit. They
    /// are counted again after they next issue a token.
    pub(crate) fn issued(&self, instance: InstanceId, machine: MachineId) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = machines.get_mut(&machine) {
            known.issued += 1;
        } else if has_room(&mut machines, &machine, |known| known.full.is_none()) {
            let known = Known {
                instance,
                counted: None,
                issued: 1,
                due_millis: i64::MIN,
                full: None,
            };
            machines.insert(machine, known);
        }
    }

    /// Returns the last check of a full machine; `None` if the machine is not known to be full.
    fn last_look(&self, machine: MachineId) -> Option<LastLook> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.get(&machine)?.full.clone()
    }

    /// Returns the machines that were never counted or may have reached the limit, and that are due for a check.
    fn due(&self, now_millis: i64) -> Vec<(InstanceId, MachineId)> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |known: &Known| {
            let may_be_full = known
                .counted
                .is_none_or(|counted| counted.saturating_add(known.issued) >= self.limit);
            may_be_full && now_millis >= known.due_millis
        };
        machines
            .iter()
            .filter(|(_, known)| is_due(known))
            .map(|(machine, known)| (known.instance, *machine))
            .collect()
    }

    /// Returns the number of tokens that were issued since the last count.
    fn issued_since(&self, machine: MachineId) -> u64 {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.get(&machine).map_or(0, |known| known.issued)
    }

    /// Notes the result of a check. `issued` is [`Self::issued_since`] from before the check: the store's count may not
    /// include tokens that were issued during the check.
    fn note(&self, machine: MachineId, issued: u64, found: Found, now_millis: i64) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        if found == Found::Gone {
            machines.remove(&machine);
            return;
        }
        let Some(known) = machines.get_mut(&machine) else {
            return;
        };
        known.issued = known.issued.saturating_sub(issued);
        known.due_millis = now_millis.saturating_add(COUNT_MILLIS);
        match found {
            Found::Held(count) => {
                known.counted = Some(count);
                known.full = None;
            }
            Found::Deleted => {
                known.counted = Some(self.limit);
                known.full = None;
                known.due_millis = now_millis;
            }
            Found::Full | Found::Gone => {
                known.counted = Some(self.limit);
                // A check that is in progress sets its time itself.
                known
                    .full
                    .get_or_insert_with(|| Arc::new(tokio::sync::Mutex::new(now_millis)));
            }
        }
    }
}

impl Authority {
    /// Returns whether a machine may have another token: it is below the limit, or some tokens can be deleted.
    pub(crate) async fn has_room(
        &self,
        instance: InstanceId,
        machine: MachineId,
    ) -> Result<bool, Error> {
        match self.room.last_look(machine) {
            None => Ok(true),
            // Boxed, so that this rare case does not enlarge the future of every issue.
            Some(last_look) => Box::pin(self.look_again(instance, machine, &last_look)).await,
        }
    }

    /// Returns the error for a full machine.
    pub(crate) fn full(&self) -> Error {
        let limit = self.room.limit;
        Error::Conflict(format!(
            "the machine holds {limit} tokens, which is the maximum; revoke opaque tokens, wait until tokens expire, or request shorter lifetimes"
        ))
    }

    /// Counts the tokens of machines that may have reached the limit, for about a second; the next round continues. A
    /// failure does not hold up other machines.
    pub(crate) async fn count_tokens(&self) -> Result<(), Error> {
        let start = self.time.monotonic_millis();
        let mut outcome = Ok(());
        for (instance, machine) in self.room.due(start) {
            let looked = self.look(instance, machine).await;
            keep_first(&mut outcome, looked.map(drop));
            if self.time.monotonic_millis().saturating_sub(start) >= ROUND_MILLIS {
                break;
            }
        }
        outcome
    }

    async fn look_again(
        &self,
        instance: InstanceId,
        machine: MachineId,
        last_look: &LastLook,
    ) -> Result<bool, Error> {
        // One request checks. Others are refused in the meantime, so that a full machine takes no capacity from other
        // machines.
        let Ok(mut last_look) = last_look.try_lock() else {
            return Ok(false);
        };
        let now = self.time.monotonic_millis();
        if now.saturating_sub(*last_look) < LOOK_AGAIN_MILLIS {
            return Ok(false);
        }
        // Set before the check, so that a failed or abandoned check also delays the next one.
        *last_look = now;
        Ok(self.look(instance, machine).await? != Found::Full)
    }

    /// Asks the store to make some room, and notes the result.
    async fn look(&self, instance: InstanceId, machine: MachineId) -> Result<Found, Error> {
        let (limit, now) = (self.room.limit, self.now());
        let issued = self.room.issued_since(machine);
        let room = self.store.make_room(instance, machine, limit, now).await?;
        let found = match room {
            None => Found::Gone,
            Some(room) if room.held < limit => Found::Held(room.held),
            Some(room) if room.deleted == 0 => Found::Full,
            Some(_) => Found::Deleted,
        };
        let now_millis = self.time.monotonic_millis();
        self.room.note(machine, issued, found, now_millis);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_REMEMBERED;

    fn instance() -> InstanceId {
        "ins_000000000000000000000000001".parse().expect("an id")
    }

    fn machine(number: usize) -> MachineId {
        format!("mch_{number:027}").parse().expect("an id")
    }

    fn issue(room: &Room, number: usize, times: u64) {
        for _ in 0..times {
            room.issued(instance(), machine(number));
        }
    }

    fn due(room: &Room) -> Vec<MachineId> {
        let mut due: Vec<_> = room
            .due(i64::MAX)
            .into_iter()
            .map(|(_, machine)| machine)
            .collect();
        due.sort_unstable();
        due
    }

    /// Notes the result of a check during which no token was issued.
    fn note(room: &Room, number: usize, found: Found) {
        let issued = room.issued_since(machine(number));
        room.note(machine(number), issued, found, 0);
    }

    #[test]
    fn a_machine_is_counted_when_it_is_new_and_when_it_may_be_at_the_limit() {
        let room = Room::new(10);
        assert_eq!(due(&room), []);
        issue(&room, 1, 1);
        issue(&room, 2, 1);
        assert_eq!(due(&room), [machine(1), machine(2)]);
        note(&room, 1, Found::Held(7));
        note(&room, 2, Found::Held(8));
        assert_eq!(due(&room), []);
        issue(&room, 1, 2);
        issue(&room, 2, 2);
        assert_eq!(
            due(&room),
            [machine(2)],
            "9 are below the limit, 10 are not"
        );
        note(&room, 2, Found::Gone);
        assert_eq!(due(&room), []);
        assert_eq!(room.issued_since(machine(2)), 0);
    }

    #[test]
    fn what_is_issued_while_the_store_counts_is_counted_with_the_next() {
        let room = Room::new(10);
        issue(&room, 1, 3);
        let issued = room.issued_since(machine(1));
        issue(&room, 1, 2);
        room.note(machine(1), issued, Found::Held(8), 0);
        assert_eq!(room.issued_since(machine(1)), 2);
        assert_eq!(due(&room), [machine(1)]);
    }

    #[test]
    fn a_full_machine_is_full_until_the_store_says_otherwise() {
        let room = Room::new(10);
        issue(&room, 1, 1);
        assert!(room.last_look(machine(1)).is_none());
        note(&room, 1, Found::Full);
        let first = room.last_look(machine(1)).expect("is full");
        note(&room, 1, Found::Full);
        let second = room.last_look(machine(1)).expect("is still full");
        assert!(Arc::ptr_eq(&first, &second), "all wait at the same place");
        assert_eq!(due(&room), [machine(1)], "it is counted each minute");
        note(&room, 1, Found::Held(9));
        assert!(room.last_look(machine(1)).is_none());
        assert_eq!(due(&room), []);
    }

    #[test]
    fn a_machine_whose_ended_tokens_were_deleted_is_not_full_and_is_counted_next() {
        let room = Room::new(10);
        issue(&room, 1, 1);
        note(&room, 1, Found::Full);
        assert_eq!(room.due(0), [], "it was counted just now");
        note(&room, 1, Found::Deleted);
        assert!(room.last_look(machine(1)).is_none());
        assert_eq!(
            room.due(0),
            [(instance(), machine(1))],
            "more may be deleted"
        );
    }

    #[test]
    fn the_map_is_bounded_and_keeps_the_full_machines() {
        let room = Room::new(10);
        issue(&room, 0, 1);
        note(&room, 0, Found::Full);
        for number in 1..=MAX_REMEMBERED {
            issue(&room, number, 1);
        }
        let known = room.machines.lock().expect("not poisoned").len();
        assert_eq!(known, 2);
        assert!(room.last_look(machine(0)).is_some());
        assert_eq!(due(&room), [machine(0), machine(MAX_REMEMBERED)]);
    }
}
