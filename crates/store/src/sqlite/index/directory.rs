//! Keeps all instances, machines and keys in memory, each in its current state.
//!
//! The directory is complete: an item that it does not contain does not exist, so an unknown key never causes a
//! database read. The writer changes a slot after the commit and before the answer. A reader that follows a link to the
//! slot sees the change at once. A machine with one key takes about a kilobyte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use countersign_protocol::change::{Cursor, Log};
use countersign_protocol::ids::{InstanceId, MachineId, SigningKeyId};
use tokio::sync::watch;

use super::hash::{DigestKey, Sharded};
use crate::callers::{Caller, Presented};
use crate::instances::Instance;
use crate::keys::{Digest, InstanceKeyRow, MachineKeyRow, SigningKeyState};
use crate::machines::{MachineRow, MachineWithScopes};

/// The current state of an instance.
#[derive(Debug)]
pub(in crate::sqlite) struct InstanceState {
    pub(in crate::sqlite) instance: Arc<Instance>,
    pub(in crate::sqlite) signing_keys: Vec<(SigningKeyId, SigningKeyState)>,
}

impl InstanceState {
    /// Returns the state of a signing key; `None` if the key was deleted.
    pub(in crate::sqlite) fn signing_key(&self, kid: &SigningKeyId) -> Option<SigningKeyState> {
        let found = self.signing_keys.iter().find(|(id, _)| id == kid);
        found.map(|(_, state)| *state)
    }
}

/// The slot of an instance. Instances are never deleted.
#[derive(Debug)]
pub(in crate::sqlite) struct InstanceSlot {
    pub(in crate::sqlite) number: i64,
    state: ArcSwap<InstanceState>,
    head: Head,
}

impl InstanceSlot {
    /// Returns the current state.
    pub(in crate::sqlite) fn state(&self) -> arc_swap::Guard<Arc<InstanceState>> {
        self.state.load()
    }

    /// Returns a record number: everything that is read from now on reflects all records up to it.
    fn position(&self) -> u64 {
        self.head.sequence.load(Ordering::Acquire)
    }
}

/// The slot of a machine, to which its tokens and keys are linked.
#[derive(Debug)]
pub(in crate::sqlite) struct MachineSlot {
    pub(in crate::sqlite) id: MachineId,
    pub(in crate::sqlite) instance: Arc<InstanceSlot>,
    row: ArcSwapOption<MachineRow>,
}

impl MachineSlot {
    /// Returns the current row of the machine; `None` if the machine was deleted.
    pub(in crate::sqlite) fn row(&self) -> Option<Arc<MachineRow>> {
        self.row.load_full()
    }
}

#[derive(Debug)]
struct MachineKeyEntry {
    row: Arc<MachineKeyRow>,
    machine: Arc<MachineSlot>,
}

#[derive(Debug)]
struct InstanceKeyEntry {
    row: Arc<InstanceKeyRow>,
    instance: Arc<InstanceSlot>,
}

/// The last record of a log.
#[derive(Debug)]
struct Head {
    sequence: AtomicU64,
    cursor: Mutex<Cursor>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            cursor: Mutex::new(Cursor::START),
        }
    }
}

impl Head {
    fn set(&self, cursor: Cursor) {
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = cursor;
        self.sequence.store(cursor.sequence, Ordering::Release);
    }

    fn get(&self) -> Cursor {
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All instances, machines and keys, and the heads of all logs.
#[derive(Debug)]
pub(in crate::sqlite) struct Directory {
    instances: Sharded<InstanceId, Arc<InstanceSlot>>,
    instances_by_number: Sharded<i64, Arc<InstanceSlot>>,
    machines: Sharded<MachineId, Arc<MachineSlot>>,
    machines_by_number: Sharded<i64, Arc<MachineSlot>>,
    instance_keys: Sharded<DigestKey, Arc<InstanceKeyEntry>>,
    machine_keys: Sharded<DigestKey, Arc<MachineKeyEntry>>,
    authority: Head,
    /// Number of records in all logs together.
    records: watch::Sender<u64>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            instances: Sharded::default(),
            instances_by_number: Sharded::default(),
            machines: Sharded::default(),
            machines_by_number: Sharded::default(),
            instance_keys: Sharded::default(),
            machine_keys: Sharded::default(),
            authority: Head::default(),
            records: watch::Sender::new(0),
        }
    }
}

impl Directory {
    /// Returns an instance.
    pub(in crate::sqlite) fn instance(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        let slot = self.instances.get(id)?;
        Some(Arc::clone(&slot.state().instance))
    }

    /// Returns all instances, oldest first.
    pub(in crate::sqlite) fn instances(&self) -> Vec<Arc<Instance>> {
        let mut slots = self.instances.values();
        slots.sort_unstable_by_key(|slot| slot.number);
        slots
            .iter()
            .map(|slot| Arc::clone(&slot.state().instance))
            .collect()
    }

    /// Returns the number of an instance.
    pub(in crate::sqlite) fn instance_number(&self, id: &InstanceId) -> Option<i64> {
        self.instances.get(id).map(|slot| slot.number)
    }

    /// Returns a machine of an instance.
    pub(in crate::sqlite) fn machine(
        &self,
        instance: &InstanceId,
        id: &MachineId,
    ) -> Option<Arc<MachineRow>> {
        let row = self.machines.get(id)?.row();
        row.filter(|machine| machine.instance == *instance)
    }

    /// Returns a machine of an instance and the machines that it may call, without those deleted just now.
    pub(in crate::sqlite) fn machine_with_scopes(
        &self,
        instance: &InstanceId,
        id: &MachineId,
    ) -> Option<MachineWithScopes> {
        let machine = self.machine(instance, id)?;
        let ids = machine.scopes.iter().filter_map(|id| id.parse().ok());
        let scoped = ids.filter_map(|id| self.machine(instance, &id)).collect();
        Some(MachineWithScopes { machine, scoped })
    }

    /// Returns the slot of the machine with this number.
    pub(in crate::sqlite) fn machine_slot(&self, number: i64) -> Option<Arc<MachineSlot>> {
        self.machines_by_number.get(&number)
    }

    /// Returns the holder of the presented key and a record number. The returned rows, and everything that is read
    /// afterwards, reflect all records up to that number. Only the key itself may have ended in one of these records.
    pub(in crate::sqlite) fn caller(&self, presented: Presented) -> Option<(Caller, u64)> {
        match presented {
            Presented::Machine(digest) => {
                let entry = self.machine_keys.get(&DigestKey(digest))?;
                let slot = &entry.machine;
                let position = slot.instance.position();
                let caller = Caller::Machine {
                    machine: slot.row()?,
                    instance: Arc::clone(&slot.instance.state().instance),
                    key: Arc::clone(&entry.row),
                };
                Some((caller, position))
            }
            Presented::Instance(digest) => {
                let entry = self.instance_keys.get(&DigestKey(digest))?;
                let position = entry.instance.position();
                let caller = Caller::Instance {
                    instance: Arc::clone(&entry.instance.state().instance),
                    key: Arc::clone(&entry.row),
                };
                Some((caller, position))
            }
        }
    }

    /// Returns the head of a log; `None` if the instance does not exist.
    pub(in crate::sqlite) fn head(&self, log: Log) -> Option<Cursor> {
        match log {
            Log::Authority => Some(self.authority.get()),
            Log::Instance(id) => self.instances.get(&id).map(|slot| slot.head.get()),
        }
    }

    /// Returns a receiver that is notified when the number of records grows.
    pub(in crate::sqlite) fn records(&self) -> watch::Receiver<u64> {
        self.records.subscribe()
    }

    pub(in crate::sqlite) fn put_instance(&self, number: i64, instance: Arc<Instance>) {
        match self.instances_by_number.get(&number) {
            Some(slot) => {
                let signing_keys = slot.state().signing_keys.clone();
                slot.state.store(Arc::new(InstanceState {
                    instance,
                    signing_keys,
                }));
            }
            None => {
                let id = instance.id;
                let state = InstanceState {
                    instance,
                    signing_keys: Vec::new(),
                };
                let slot = Arc::new(InstanceSlot {
                    number,
                    state: ArcSwap::from_pointee(state),
                    head: Head::default(),
                });
                self.instances_by_number.put(number, Arc::clone(&slot));
                self.instances.put(id, slot);
            }
        }
    }

    pub(in crate::sqlite) fn put_signing_keys(
        &self,
        number: i64,
        signing_keys: Vec<(SigningKeyId, SigningKeyState)>,
    ) {
        if let Some(slot) = self.instances_by_number.get(&number) {
            let instance = Arc::clone(&slot.state().instance);
            slot.state.store(Arc::new(InstanceState {
                instance,
                signing_keys,
            }));
        }
    }

    pub(in crate::sqlite) fn put_machine(&self, number: i64, row: Arc<MachineRow>) {
        if let Some(slot) = self.machines_by_number.get(&number) {
            slot.row.store(Some(row));
        } else if let Some(instance) = self.instances.get(&row.instance) {
            let slot = Arc::new(MachineSlot {
                id: row.id,
                instance,
                row: ArcSwapOption::new(Some(Arc::clone(&row))),
            });
            self.machines_by_number.put(number, Arc::clone(&slot));
            self.machines.put(row.id, slot);
        }
    }

    pub(in crate::sqlite) fn remove_machine(&self, number: i64) {
        if let Some(slot) = self.machines_by_number.remove(&number) {
            self.machines.remove(&slot.id);
            // Linked tokens see that the machine is deleted.
            slot.row.store(None);
        }
    }

    pub(in crate::sqlite) fn put_machine_key(&self, row: Arc<MachineKeyRow>) {
        let digest = DigestKey(row.digest);
        if let Some(machine) = self.machines.get(&row.machine) {
            let entry = Arc::new(MachineKeyEntry { row, machine });
            self.machine_keys.put(digest, entry);
        }
    }

    pub(in crate::sqlite) fn remove_machine_key(&self, digest: Digest) {
        self.machine_keys.remove(&DigestKey(digest));
    }

    pub(in crate::sqlite) fn put_instance_key(&self, row: Arc<InstanceKeyRow>) {
        let digest = DigestKey(row.digest);
        if let Some(instance) = self.instances.get(&row.instance) {
            let entry = Arc::new(InstanceKeyEntry { row, instance });
            self.instance_keys.put(digest, entry);
        }
    }

    pub(in crate::sqlite) fn remove_instance_key(&self, digest: Digest) {
        self.instance_keys.remove(&DigestKey(digest));
    }

    /// Advances the head of a log. Call it after all other effects of the same commits, because the head says that they
    /// are visible.
    pub(in crate::sqlite) fn put_head(&self, log: Log, cursor: Cursor) {
        match log {
            Log::Authority => self.authority.set(cursor),
            Log::Instance(id) => {
                if let Some(slot) = self.instances.get(&id) {
                    slot.head.set(cursor);
                }
            }
        }
    }

    /// Adds to the number of records and wakes the tasks that wait for records.
    pub(in crate::sqlite) fn count_records(&self, more: u64) {
        self.records.send_modify(|records| *records += more);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64};

    use countersign_protocol::scopes::Scopes;
    use countersign_protocol::settings::InstanceSettings;
    use countersign_protocol::time::Timestamp;

    use super::*;
    use crate::instances::NewInstance;

    const DIGEST: Digest = Digest {
        bytes: [7; 32],
        version: 1,
    };

    fn instance() -> Arc<Instance> {
        let new = NewInstance {
            id: "ins_000000000000000000000000001".parse().unwrap(),
            name: "a".to_owned(),
            is_default: true,
            settings: InstanceSettings::default(),
            created_at: Timestamp::EPOCH,
        };
        Arc::new(Instance::new(new))
    }

    fn machine(revision: i64) -> Arc<MachineRow> {
        Arc::new(MachineRow {
            id: "mch_000000000000000000000000001".parse().unwrap(),
            instance: instance().id,
            name: "a".to_owned(),
            default_token_ttl: 60,
            scopes: Scopes::none(),
            revision,
            issued_before: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        })
    }

    /// A directory with one machine and its key.
    fn directory() -> Directory {
        let directory = Directory::default();
        directory.put_instance(1, instance());
        directory.put_machine(5, machine(1));
        directory.put_machine_key(Arc::new(MachineKeyRow {
            id: "key_000000000001".parse().unwrap(),
            instance: instance().id,
            machine: machine(1).id,
            digest: DIGEST,
            created_at: Timestamp::EPOCH,
            expires_at: None,
        }));
        directory
    }

    fn revision(directory: &Directory) -> Option<i64> {
        match directory.caller(Presented::Machine(DIGEST))?.0 {
            Caller::Machine { machine, .. } => Some(machine.revision),
            Caller::Instance { .. } => None,
        }
    }

    #[test]
    fn who_is_found_by_a_key_is_as_it_is_now() {
        let directory = directory();
        let link = directory.machine_slot(5).unwrap();
        assert_eq!(revision(&directory), Some(1));
        directory.put_machine(5, machine(2));
        assert_eq!(revision(&directory), Some(2));
        assert_eq!(link.row().unwrap().revision, 2);
        directory.remove_machine(5);
        assert_eq!(revision(&directory), None);
        assert!(link.row().is_none(), "tokens that are linked to it see it");
        assert!(directory.machine_slot(5).is_none());
    }

    #[test]
    fn no_read_returns_what_an_acknowledged_write_replaced() {
        let directory = directory();
        let (acknowledged, is_over) = (AtomicI64::new(1), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let least = acknowledged.load(Ordering::SeqCst);
                        assert!(revision(&directory).unwrap() >= least);
                    }
                });
            }
            for next in 2..30_000 {
                directory.put_machine(5, machine(next));
                acknowledged.store(next, Ordering::SeqCst);
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_signing_key_stays_where_the_settings_change() {
        let directory = directory();
        let kid = instance().id.first_signing_key();
        directory.put_signing_keys(1, vec![(kid, SigningKeyState::Active)]);
        directory.put_instance(1, instance());
        let slot = directory.instances.get(&instance().id).unwrap();
        assert_eq!(
            slot.state().signing_key(&kid),
            Some(SigningKeyState::Active)
        );
    }

    #[test]
    fn those_who_wait_are_told_of_records() {
        let directory = directory();
        let mut records = directory.records();
        assert_eq!(*records.borrow_and_update(), 0);
        directory.count_records(2);
        assert!(records.has_changed().unwrap());
        assert_eq!(*records.borrow(), 2);
        let head = Cursor {
            sequence: 2,
            code: [1; 8],
        };
        directory.put_head(Log::Instance(instance().id), head);
        assert_eq!(directory.head(Log::Instance(instance().id)), Some(head));
        assert_eq!(directory.head(Log::Authority), Some(Cursor::START));
    }
}
