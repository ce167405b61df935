//! What cases begin with: a store with an authority, and short ways to make things in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::ids::{InstanceId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::random::{Random, random_bytes};
use countersign_protocol::time::Timestamp;

use super::BackEnd;
use crate::{
    ChainKey, Change, ChangeKind, DataKey, DataKeyPurpose, Digest, InsertMachine, InsertToken,
    Instance, InstanceKeyRow, InstanceSettings, MachineRow, NewChange, NewInstance, NewMachine,
    NewMachineKey, NewToken, Pool, Revocation, RevokeToken, SealedBytes, SigningKeyRow,
    SigningKeyState, Store, StoredToken, UpdateSettings,
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
        };
        world.store.initialise(data_keys()).await.unwrap();
        world
    }

    /// Ends the store and opens what it left.
    pub async fn reopen(self) -> Self {
        let Self {
            mut back_end,
            store,
            random,
            locators,
        } = self;
        drop(store);
        back_end.reopen().await;
        Self {
            store: back_end.store(),
            back_end,
            random,
            locators,
        }
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
            .insert_instance_key(key.clone(), 20, some_change(instance))
            .await;
        assert!(added.unwrap());
        key
    }

    /// A key for an instance.
    pub fn instance_key(&self, instance: InstanceId) -> InstanceKeyRow {
        let id = format!("key_{}", &self.machine_id().as_str()[19..]);
        InstanceKeyRow {
            id,
            instance,
            digest: self.digest(),
            created_at: at(0),
            revoked_at: None,
        }
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
            settings: InstanceSettings::default(),
            created_at: at(0),
        }
    }

    /// Makes an instance.
    pub async fn instance(&self) -> InstanceId {
        let new = self.new_instance();
        let (id, key) = (new.id, self.instance_key(new.id));
        let change = change(id, ChangeKind::InstanceCreated, id.as_str());
        self.store
            .insert_instance(new, key, self.first_signing_key(id), change)
            .await
            .unwrap();
        id
    }

    /// Replaces an instance's settings.
    pub async fn set(&self, id: InstanceId, settings: InstanceSettings) -> Arc<Instance> {
        let current = self.store.instance(id).await.unwrap().unwrap();
        let change = some_change(id);
        match self
            .store
            .update_instance_settings(id, current.revision, settings, change)
            .await
            .unwrap()
        {
            UpdateSettings::Updated(instance) => instance,
            other => panic!("{other:?}"),
        }
    }

    /// A key for a machine, with a sealed copy.
    pub fn machine_key(&self) -> NewMachineKey {
        NewMachineKey {
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
        let change = change(new.instance, ChangeKind::MachineCreated, new.id.as_str());
        match self.store.insert_machine(new, change).await.unwrap() {
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
        NewToken {
            id: self.token_id(),
            machine: Arc::clone(machine),
            key: None,
            digest: Some(self.digest()),
            signing_key: None,
            scopes: machine.scopes.clone(),
            claims: None,
            created_at: at(0),
            expires_at: Some(at(3_600_000)),
            pool: None,
            max_tokens: 1_000_000,
        }
    }

    /// A JWT to be made, signed by the first signing key, with an hour to live.
    pub fn new_jwt(&self, machine: &Arc<MachineRow>) -> NewToken {
        NewToken {
            digest: None,
            signing_key: Some(machine.instance.first_signing_key()),
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

    /// Revokes a token.
    pub async fn revoke(&self, instance: InstanceId, id: TokenId) -> RevokeToken {
        let change = change(instance, ChangeKind::TokenRevoked, &id.to_string());
        self.store
            .revoke_token(instance, None, id, revocation("no more"), change)
            .await
            .unwrap()
    }

    /// All entries of an instance's log.
    pub async fn changes(&self, instance: InstanceId) -> Vec<Change> {
        self.store.list_changes(instance, 0, 10_000).await.unwrap()
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

/// The key that chains all entries.
pub(super) fn chain() -> ChainKey {
    ChainKey::new(1, &[9; 32])
}

/// An entry for the log.
pub(super) fn change(instance: InstanceId, kind: ChangeKind, subject: &str) -> NewChange {
    NewChange {
        instance,
        at: at(0),
        actor: "operator".to_owned(),
        key: None,
        kind,
        subject: subject.to_owned(),
        detail: "{}".to_owned(),
        chain: chain(),
    }
}

/// An entry for the log about something that the case does not look at.
pub(crate) fn some_change(instance: InstanceId) -> NewChange {
    change(instance, ChangeKind::MachineUpdated, "subject")
}

/// A revocation with a reason.
pub(super) fn revocation(reason: &str) -> Revocation {
    Revocation {
        at: at(1000),
        reason: Some(Arc::from(reason)),
    }
}

/// Checks that the log has no gap and that each code covers the entry before.
pub(super) fn assert_chained(instance: InstanceId, changes: &[Change]) {
    let mut previous = [0; 32];
    for (sequence, entry) in (1..).zip(changes) {
        assert_eq!(entry.sequence, sequence);
        let new = NewChange {
            instance,
            at: entry.at,
            actor: entry.actor.clone(),
            key: None,
            kind: entry.kind,
            subject: entry.subject.clone(),
            detail: entry.detail.clone(),
            chain: chain(),
        };
        assert_eq!(
            entry.code,
            chain().link(&previous, sequence, &new),
            "entry {sequence}"
        );
        previous = entry.code;
    }
}
