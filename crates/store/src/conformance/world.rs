//! The start of each case: a store with an authority, and helpers that create objects in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use countersign_protocol::change::{Event, FORMAT_VERSION, Log};
use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::random::{Random, random_bytes};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;

use super::BackEnd;
use crate::{
    After, Caller, ChainKey, Change, Changes, DataKey, DataKeyPurpose, Digest, InsertMachine,
    InsertToken, Instance, InstanceKeyRow, MachineKeyRow, MachineRow, NewChange, NewInstance,
    NewMachine, NewMachineKey, NewToken, Pool, Presented, Proof, Revocation, RevokeToken,
    SealedBytes, SigningKeyRow, SigningKeyState, Store, StoredToken, UpdateSettings,
};

/// Different bytes each time, the same in each run.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Random for Counter {
    fn fill(&self, buffer: &mut [u8]) {
        for byte in buffer.chunks_mut(8) {
            let number = self
                .0
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let number = (number ^ (number >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            byte.copy_from_slice(&(number ^ (number >> 32)).to_be_bytes()[..byte.len()]);
        }
    }
}

/// A store with data keys, and a source of ids and digests.
pub struct World {
    back_end: Box<dyn BackEnd>,
    /// The store under test.
    pub store: Arc<dyn Store>,
    random: Counter,
    locators: AtomicU64,
    /// The instances as the world last saw them, for the tokens that it makes.
    seen: Mutex<HashMap<InstanceId, Arc<Instance>>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("World").finish_non_exhaustive()
    }
}

impl World {
    /// Prepares the store.
    pub async fn new(back_end: Box<dyn BackEnd>) -> Self {
        let store = back_end.store();
        let world = Self {
            back_end,
            store,
            random: Counter::default(),
            locators: AtomicU64::new(1 << 40),
            seen: Mutex::default(),
        };
        let initialized = world.store.initialize(data_keys(), some_change()).await;
        initialized.unwrap();
        world
    }

    /// Closes the store and opens what it left.
    pub async fn reopen(self) -> Self {
        let Self {
            mut back_end,
            store,
            random,
            locators,
            seen,
        } = self;
        drop(store);
        back_end.reopen().await;
        Self {
            store: back_end.store(),
            back_end,
            random,
            locators,
            seen,
        }
    }

    /// The store as another process opens it; `None` where only one process may.
    pub async fn second_handle(&self) -> Option<Arc<dyn Store>> {
        self.back_end.second_handle().await
    }

    /// 32 bytes that no other call returns.
    pub fn bytes(&self) -> [u8; 32] {
        random_bytes(&self.random)
    }

    /// A digest that no other call returns.
    pub fn digest(&self) -> Digest {
        Digest {
            bytes: self.bytes(),
            version: 1,
        }
    }

    /// Sealed bytes that no other call returns.
    pub fn sealed(&self) -> SealedBytes {
        SealedBytes(self.bytes().to_vec())
    }

    /// A new machine id.
    pub fn machine_id(&self) -> MachineId {
        MachineId::generate(at(0), &self.random)
    }

    /// A new instance id.
    pub fn instance_id(&self) -> InstanceId {
        InstanceId::generate(at(0), &self.random)
    }

    /// A new signing key id.
    pub fn signing_key_id(&self) -> SigningKeyId {
        SigningKeyId::generate(at(0), &self.random)
    }

    /// A new key id.
    pub fn key_id(&self) -> KeyId {
        KeyId::generate(&self.random)
    }

    /// A new token id with the next locator.
    pub fn token_id(&self) -> TokenId {
        let locator = Locator::new(self.locators.fetch_add(1, Ordering::Relaxed)).unwrap();
        TokenId::generate(locator, &self.random)
    }

    /// A further key of an instance.
    pub async fn added_instance_key(&self, instance: InstanceId) -> InstanceKeyRow {
        let key = self.instance_key(instance);
        let added = self
            .store
            .insert_instance_key(key.clone(), 20, some_change())
            .await;
        assert!(added.unwrap());
        key
    }

    /// A key for an instance.
    pub fn instance_key(&self, instance: InstanceId) -> InstanceKeyRow {
        InstanceKeyRow {
            id: self.key_id(),
            instance,
            digest: self.digest(),
            created_at: at(0),
            revoked_at: None,
        }
    }

    /// The first key of an instance.
    pub async fn first_instance_key(&self, instance: InstanceId) -> InstanceKeyRow {
        let keys = self.store.list_instance_keys(instance).await;
        keys.unwrap().remove(0)
    }

    /// The instance key with this digest, as a caller who presents it is found.
    pub async fn instance_key_of(&self, digest: &Digest) -> Option<Arc<InstanceKeyRow>> {
        let caller = self.store.caller(Presented::Instance(*digest)).await;
        caller.unwrap().map(|caller| match caller {
            Caller::Instance { key, .. } => key,
            Caller::Machine { .. } => panic!("{caller:?}"),
        })
    }

    /// The machine key with this digest, as a caller who presents it is found.
    pub async fn machine_key_of(&self, digest: &Digest) -> Option<Arc<MachineKeyRow>> {
        let caller = self.store.caller(Presented::Machine(*digest)).await;
        caller.unwrap().map(|caller| match caller {
            Caller::Machine { key, .. } => key,
            Caller::Instance { .. } => panic!("{caller:?}"),
        })
    }

    /// A published signing key for an instance.
    pub fn signing_key(&self, instance: InstanceId) -> SigningKeyRow {
        SigningKeyRow {
            id: self.signing_key_id(),
            instance,
            sealed: self.sealed(),
            state: SigningKeyState::Published,
            published_at: at(0),
            active_at: None,
            retired_at: None,
            last_expires_at: None,
        }
    }

    /// The first signing key of an instance, active.
    pub fn first_signing_key(&self, instance: InstanceId) -> SigningKeyRow {
        SigningKeyRow {
            id: instance.first_signing_key(),
            state: SigningKeyState::Active,
            active_at: Some(at(0)),
            ..self.signing_key(instance)
        }
    }

    /// An instance to be made.
    pub fn new_instance(&self) -> NewInstance {
        NewInstance {
            id: self.instance_id(),
            name: "production".to_owned(),
            is_default: false,
            settings: InstanceSettings::default(),
            created_at: at(0),
        }
    }

    /// Makes an instance.
    pub async fn instance(&self) -> InstanceId {
        self.insert_instance(self.new_instance()).await.id
    }

    /// Makes this instance.
    pub async fn insert_instance(&self, new: NewInstance) -> Arc<Instance> {
        let (key, signing_key) = (self.instance_key(new.id), self.first_signing_key(new.id));
        let made = self
            .store
            .insert_instance(new, key, signing_key, some_change())
            .await;
        self.see(made.unwrap())
    }

    /// The instance as it is now. Tokens that the world makes from now on know it.
    pub async fn current_instance(&self, id: InstanceId) -> Arc<Instance> {
        self.see(self.store.instance(id).await.unwrap().unwrap())
    }

    fn see(&self, instance: Arc<Instance>) -> Arc<Instance> {
        let mut seen = self.seen.lock().unwrap();
        seen.insert(instance.id, Arc::clone(&instance));
        instance
    }

    /// Replaces an instance's settings.
    pub async fn set(&self, id: InstanceId, settings: InstanceSettings) -> Arc<Instance> {
        self.set_at(id, settings, 0).await
    }

    /// Replaces an instance's settings at this time.
    pub async fn set_at(
        &self,
        id: InstanceId,
        settings: InstanceSettings,
        millis: i64,
    ) -> Arc<Instance> {
        let current = self.store.instance(id).await.unwrap().unwrap();
        let change = change_at(millis);
        match self
            .store
            .update_instance_settings(id, current.revision, settings, change)
            .await
            .unwrap()
        {
            UpdateSettings::Updated(instance) => self.see(instance),
            other => panic!("{other:?}"),
        }
    }

    /// A key for a machine, with a sealed copy.
    pub fn machine_key(&self) -> NewMachineKey {
        NewMachineKey {
            id: self.key_id(),
            digest: self.digest(),
            sealed: Some(self.sealed()),
            created_at: at(0),
        }
    }

    /// A machine to be made.
    pub fn new_machine(&self, instance: InstanceId, name: &str) -> NewMachine {
        NewMachine {
            id: self.machine_id(),
            instance,
            name: name.to_owned(),
            default_token_ttl: 3600,
            scopes: Vec::new(),
            key: self.machine_key(),
            created_at: at(0),
        }
    }

    /// Makes this machine.
    pub async fn insert(&self, new: NewMachine) -> Arc<MachineRow> {
        let outcome = self.store.insert_machine(new, some_change()).await;
        match outcome.unwrap() {
            InsertMachine::Inserted(made) => made.machine,
            InsertMachine::ScopeNotFound(id) => panic!("{id} is missing"),
        }
    }

    /// Makes a machine without scopes.
    pub async fn machine(&self, instance: InstanceId, name: &str) -> Arc<MachineRow> {
        self.insert(self.new_machine(instance, name)).await
    }

    /// Makes a machine that may call `scopes`.
    pub async fn machine_with(
        &self,
        instance: InstanceId,
        name: &str,
        scopes: &[&MachineRow],
    ) -> Arc<MachineRow> {
        let scopes = scopes.iter().map(|machine| machine.id).collect();
        self.insert(NewMachine {
            scopes,
            ..self.new_machine(instance, name)
        })
        .await
    }

    /// The machine as it is now.
    pub async fn current(&self, machine: &MachineRow) -> Arc<MachineRow> {
        self.store
            .machine(machine.instance, machine.id)
            .await
            .unwrap()
            .unwrap()
    }

    /// An opaque token to be made, with an hour to live.
    pub fn new_token(&self, machine: &Arc<MachineRow>) -> NewToken {
        let instance = Arc::clone(&self.seen.lock().unwrap()[&machine.instance]);
        NewToken {
            id: self.token_id(),
            instance,
            machine: Arc::clone(machine),
            key: None,
            proof: Proof::Opaque(self.digest()),
            scopes: machine.scopes.clone(),
            claims: None,
            created_at: at(0),
            expires_at: Some(at(3_600_000)),
            pool: None,
            is_full: false,
            change: None,
        }
    }

    /// A JWT to be made, signed by the first signing key, with an hour to live.
    pub fn new_jwt(&self, machine: &Arc<MachineRow>) -> NewToken {
        NewToken {
            proof: Proof::Jwt(machine.instance.first_signing_key()),
            ..self.new_token(machine)
        }
    }

    /// An opaque token to be made unless one with the same key has enough life left.
    pub fn new_pooled(
        &self,
        machine: &Arc<MachineRow>,
        key: u8,
        min_remaining_millis: i64,
    ) -> NewToken {
        let pool = Pool {
            key: [key; 32],
            min_remaining_millis,
            sealed: self.sealed(),
        };
        NewToken {
            pool: Some(pool),
            ..self.new_token(machine)
        }
    }

    /// Makes this token.
    pub async fn issue(&self, token: NewToken) -> TokenId {
        let id = token.id;
        let outcome = self.store.insert_token(token).await.unwrap();
        assert!(matches!(outcome, InsertToken::Inserted), "{outcome:?}");
        id
    }

    /// Makes an opaque token.
    pub async fn token(&self, machine: &Arc<MachineRow>) -> TokenId {
        self.issue(self.new_token(machine)).await
    }

    /// The token as it is now.
    pub async fn find(&self, instance: InstanceId, id: TokenId) -> Option<StoredToken> {
        self.store.token(instance, id.locator()).await.unwrap()
    }

    /// Revokes a token, as [`revocation`] says.
    pub async fn revoke(&self, instance: InstanceId, id: TokenId) -> RevokeToken {
        let Revocation { reason, .. } = revocation();
        self.store
            .revoke_token(instance, None, id, reason, change_at(1000))
            .await
            .unwrap()
    }

    /// All records of an instance's log.
    pub async fn changes(&self, instance: InstanceId) -> Vec<Change> {
        self.records(Log::Instance(instance)).await
    }

    /// All records of a log.
    pub async fn records(&self, log: Log) -> Vec<Change> {
        let changes = self.store.list_changes(log, After::Sequence(0), 10_000);
        listed(changes.await.unwrap())
    }

    /// What the last record of an instance's log says, with the number of its records.
    pub async fn last_event(&self, instance: InstanceId) -> (usize, Event) {
        let changes = self.changes(instance).await;
        (changes.len(), changes.last().unwrap().event().unwrap())
    }
}

/// The records of a part of a log that the cursor belongs to.
pub(super) fn listed(changes: Changes) -> Vec<Change> {
    match changes {
        Changes::Listed(changes) => changes,
        Changes::UnknownCursor => panic!("the cursor is unknown"),
    }
}

/// The data keys of a new authority.
pub(crate) fn data_keys() -> Vec<DataKey> {
    DataKeyPurpose::ALL
        .into_iter()
        .map(|(purpose, _)| DataKey {
            purpose,
            version: 1,
            wrapped: SealedBytes(vec![7; 60]),
            created_at: at(0),
        })
        .collect()
}

/// A point in time, in milliseconds from the beginning of the story.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + millis)
}

/// The key that chains all records.
pub(super) fn chain() -> ChainKey {
    ChainKey::new(1, &[9; 32])
}

/// A change that the operator asks for at this time.
pub(crate) fn change_at(millis: i64) -> NewChange {
    NewChange {
        at: at(millis),
        actor: "operator".to_owned(),
        key: None,
        chain: chain(),
    }
}

/// A change that the operator asks for at a time that the case does not look at.
pub(crate) fn some_change() -> NewChange {
    change_at(0)
}

/// What [`World::revoke`] leaves in the token.
pub(super) fn revocation() -> Revocation {
    Revocation {
        at: at(1000),
        reason: Some(Arc::from("no more")),
    }
}

/// Checks that the log has no gap, and that each record has the current format and a code that covers the record before.
pub(super) fn assert_chained(log: Log, changes: &[Change]) {
    let mut previous = [0; 32];
    for (sequence, record) in (1..).zip(changes) {
        assert_eq!(
            (record.version, record.sequence),
            (FORMAT_VERSION, sequence)
        );
        assert_eq!(record.chain_version, chain().version());
        let code = chain().link(&previous, log, record);
        assert_eq!(record.code, code, "record {sequence}");
        previous = record.code;
    }
}
