//! Holds the data and its logs, and the reads on which decisions depend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_protocol::change::{Cursor, Event, Log};
use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId};
use countersign_protocol::time::Timestamp;
use tokio::sync::watch;

use crate::{
    ActingKey, After, Caller, Change, Changes, DataKey, Instance, InstanceKeyRow, MachineKeyRow,
    MachineRow, NewChange, Node, Presented, Proof, Result, SealedBytes, SigningKeyRow, StoreError,
    StoredToken, TokenRow,
};

/// What all handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The number of records in all logs together, as far as readers know.
    pub(super) records: watch::Sender<u64>,
    /// The numbers of the handles in use.
    pub(super) nodes: Mutex<BTreeSet<u16>>,
    pub(super) writes: AtomicU64,
    pub(super) reads: AtomicU64,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self {
            records: watch::Sender::new(state.count_records()),
            state: Mutex::new(state),
            nodes: Mutex::default(),
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        }
    }

    /// Takes the lowest node number that no other handle uses.
    pub(super) fn take_node(&self) -> Node {
        let mut taken = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = (0..Node::COUNT)
            .find(|number| !taken.contains(number))
            .and_then(Node::new)
            .expect("tests open fewer handles than there are node numbers");
        taken.insert(node.get());
        node
    }
}

/// All data of an authority.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) data_keys: Vec<DataKey>,
    pub(super) clock_floor: Option<Timestamp>,
    /// Oldest first, as all lists here.
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) instance_keys: Vec<Arc<InstanceKeyRow>>,
    pub(super) signing_keys: Vec<SigningKeyRow>,
    pub(super) machines: BTreeMap<MachineId, Arc<MachineRow>>,
    /// The ids of all machines that exist or existed.
    pub(super) used_machine_ids: BTreeSet<MachineId>,
    pub(super) machine_keys: Vec<MachineKey>,
    pub(super) tokens: BTreeMap<Locator, Token>,
    pub(super) logs: BTreeMap<Log, Vec<Change>>,
}

/// A machine key with its sealed copy.
#[derive(Clone, Debug)]
pub(super) struct MachineKey {
    pub(super) row: Arc<MachineKeyRow>,
    pub(super) sealed: Option<SealedBytes>,
}

/// A token with what the pool needs.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) row: TokenRow,
    pub(super) pooled: Option<Pooled>,
}

/// What hands out a token again.
#[derive(Clone, Debug)]
pub(super) struct Pooled {
    pub(super) key: [u8; 32],
    pub(super) sealed: SealedBytes,
}

pub(super) fn conflict(constraint: &str) -> StoreError {
    StoreError::Conflict(constraint.to_owned())
}

impl State {
    pub(super) fn instance(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// Replaces an instance that exists.
    pub(super) fn put_instance(&mut self, instance: &Arc<Instance>) {
        let places = self.instances.iter_mut();
        places
            .filter(|place| place.id == instance.id)
            .for_each(|place| *place = Arc::clone(instance));
    }

    pub(super) fn machine(&self, instance: InstanceId, id: MachineId) -> Option<&Arc<MachineRow>> {
        self.machines
            .get(&id)
            .filter(|machine| machine.instance == instance)
    }

    /// Inserts or replaces a machine.
    pub(super) fn put_machine(&mut self, machine: MachineRow) -> Arc<MachineRow> {
        let machine = Arc::new(machine);
        self.machines.insert(machine.id, Arc::clone(&machine));
        machine
    }

    /// Whether a machine has this key and the key is not expired at `now`.
    pub(super) fn is_key_live(&self, machine: MachineId, id: KeyId, now: Timestamp) -> bool {
        self.machine_keys.iter().any(|key| {
            key.row.machine == machine
                && key.row.id == id
                && key.row.expires_at.is_none_or(|end| end > now)
        })
    }

    /// Refuses a change whose acting key is gone. Called before the first write of an operation.
    pub(super) fn permit(&self, log: Log, change: &NewChange) -> Result<()> {
        let is_of_log = |instance| log == Log::Instance(instance);
        match change.key {
            None => Ok(()),
            Some(ActingKey::Instance(id)) => {
                let mut keys = self.instance_keys.iter();
                keys.any(|key| key.id == id && key.revoked_at.is_none() && is_of_log(key.instance))
                    .then_some(())
                    .ok_or(StoreError::InstanceKeyGone)
            }
            Some(ActingKey::Machine(machine, id)) => {
                let machine = self.machines.get(&machine);
                machine
                    .filter(|machine| is_of_log(machine.instance))
                    .filter(|machine| self.is_key_live(machine.id, id, change.at))
                    .map(|_| ())
                    .ok_or(StoreError::MachineKeyGone)
            }
        }
    }

    /// Writes the record of a change. Called after the last write of an operation, which [`State::permit`] allowed.
    pub(super) fn record(&mut self, log: Log, change: &NewChange, event: &Event) {
        let records = self.logs.entry(log).or_default();
        let last = records.last().map(|last| (last.sequence, last.code));
        records.push(Change::new(change, log, last, event));
    }

    /// The number of records in all logs together.
    pub(super) fn count_records(&self) -> u64 {
        self.logs.values().map(|records| records.len() as u64).sum()
    }

    fn records(&self, log: Log) -> &[Change] {
        self.logs.get(&log).map_or(&[], Vec::as_slice)
    }

    pub(super) fn head(&self, log: Log) -> Cursor {
        self.records(log)
            .last()
            .map_or(Cursor::START, Change::cursor)
    }

    pub(super) fn list_changes(&self, log: Log, after: After, limit: u32) -> Changes {
        let records = self.records(log);
        let sequence = match after {
            After::Sequence(sequence) => sequence,
            After::Cursor(cursor) => {
                let is_known = cursor == Cursor::START
                    || records.iter().any(|record| record.cursor() == cursor);
                if !is_known {
                    return Changes::UnknownCursor;
                }
                cursor.sequence
            }
        };
        let behind = records.iter().filter(|record| record.sequence > sequence);
        Changes::Listed(behind.take(limit as usize).cloned().collect())
    }

    pub(super) fn caller(&self, presented: Presented) -> Option<Caller> {
        match presented {
            Presented::Instance(digest) => {
                let mut keys = self.instance_keys.iter();
                let key = keys.find(|key| key.digest == digest && key.revoked_at.is_none())?;
                Some(Caller::Instance {
                    instance: Arc::clone(self.instance(key.instance)?),
                    key: Arc::clone(key),
                })
            }
            Presented::Machine(digest) => {
                let mut keys = self.machine_keys.iter();
                let key = &keys.find(|key| key.row.digest == digest)?.row;
                Some(Caller::Machine {
                    instance: Arc::clone(self.instance(key.instance)?),
                    machine: Arc::clone(self.machine(key.instance, key.machine)?),
                    key: Arc::clone(key),
                })
            }
        }
    }

    /// One token, of `instance` or of any.
    pub(super) fn token(
        &self,
        locator: Locator,
        instance: Option<InstanceId>,
    ) -> Option<StoredToken> {
        self.stored(&self.tokens.get(&locator)?.row)
            .filter(|token| instance.is_none_or(|instance| token.instance.id == instance))
    }

    /// Adds what decides about a token. `None` where its machine is gone.
    pub(super) fn stored(&self, row: &TokenRow) -> Option<StoredToken> {
        let machine = self.machines.get(&row.machine)?;
        let signing_key = match row.proof {
            Proof::Opaque(_) => None,
            Proof::Jwt(kid) => {
                let mut keys = self.signing_keys.iter();
                keys.find(|key| key.id == kid).map(|key| key.state)
            }
        };
        Some(StoredToken {
            row: row.clone(),
            machine: Arc::clone(machine),
            instance: Arc::clone(self.instance(machine.instance)?),
            signing_key,
        })
    }
}
