//! What an authority remembers: the [`Store`] trait and its back ends.
//!
//! Each operation of the trait is atomic. One transaction checks the stored state, makes the change and writes its
//! record. So no change goes unrecorded, and no change is made with a key that has ended. A missing row is `None`.
//! Success means that the change is durable. An operation names the instance that it works on, unless it finds the
//! instance by a key or a token.
//!
//! The executable opens a back end through [`StoreChoice`] and calls no operation of it. A back end does not expose its
//! internal ids, so a new back end is a new module here and changes nothing else. Rules about who may do what are in
//! `countersign-authority`. This crate knows nothing about HTTP.

mod callers;
mod changes;
mod choice;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod instances;
mod keys;
mod machines;
#[cfg(any(test, feature = "conformance"))]
pub mod memory;
mod opening;
mod sqlite;
mod tokens;

use async_trait::async_trait;
use countersign_protocol::change::{Cause, Cursor, Log};
use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;
use std::sync::Arc;
use thiserror::Error;

pub use callers::{Caller, Presented, Verification};
pub use changes::{ActingKey, After, ChainKey, Change, Changes, NewChange};
pub use choice::{OpenStore, StoreChoice};
pub use instances::{Instance, NewInstance, UpdateSettings};
pub use keys::{
    DataKey, DataKeyPurpose, Digest, InsertSigningKey, InstanceKeyRow, MachineKeyRow,
    NewMachineKey, SealedBytes, SealedKey, SigningKeyRow, SigningKeyState,
};
pub use machines::{
    InsertMachine, InsertScope, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes,
    NewMachine,
};
pub use opening::{OpenError, Presence, StoreOptions};
pub use tokens::{
    InsertToken, KEPT_MILLIS, LastUse, NewToken, Pool, Proof, Revocation, RevokeToken, Room,
    StoredToken, Sweep, TokenQuery, TokenRow, TokenUpdate, UpdateToken,
};

/// Why a store could not do what it was asked. Refusals that follow from stored state are not errors but outcomes.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A row with this key exists or once existed; the text names the constraint.
    #[error("the row exists already ({0})")]
    Conflict(String),
    /// The store cannot answer now, or it is unknown whether a change took effect. Never success.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Too many ask for what takes long. Nothing is wrong with the store, and nothing was changed.
    #[error("the store is busy: {0}")]
    Busy(&'static str),
    /// The instance key that requested a change is revoked or deleted. Nothing changed.
    #[error("the instance key that asked is no longer valid")]
    InstanceKeyGone,
    /// The machine key that requested a change is expired or deleted. Nothing changed.
    #[error("the machine key that asked is no longer valid")]
    MachineKeyGone,
    /// What is stored cannot be read.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// What `Store` operations return.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The number of a node of an authority. It fills 10 bits of each locator that the node creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node(u16);

impl Node {
    /// The node number for a store that only one process can use at a time.
    pub const ONLY: Self = Self(0);
    /// Maximum number of nodes at the same time.
    pub const COUNT: u16 = 1 << 10;

    /// Creates a node number; `None` if it does not fit into 10 bits.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// The memory of an authority.
///
/// Point reads (`instance`, `caller`, `verification`, `machine`, `token`, `find_token`) never wait for a writer. An
/// operation that takes a [`NewChange`] writes one record if it changes something.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    // -- the authority itself --

    /// Returns the wrapped data keys, oldest version first. The list is empty before initialization.
    async fn data_keys(&self) -> Result<Vec<DataKey>>;

    /// Inserts the first data keys. [`StoreError::Conflict`] if data keys exist.
    async fn initialize(&self, keys: Vec<DataKey>, change: NewChange) -> Result<()>;

    /// The largest time that was ever written; the clock never starts before it.
    async fn clock_floor(&self) -> Result<Timestamp>;

    /// Writes when tokens were last used and how far the clock has come. Neither is needed for a decision, so losing the
    /// latest of them in a crash is harmless.
    async fn record_uses(&self, uses: Vec<LastUse>, clock_floor: Timestamp) -> Result<()>;

    /// Returns the node number of this store. No other process that has the same data open has the same number.
    fn node(&self) -> Node;

    // -- instances and their keys --

    /// Inserts an instance with its first key and first signing key. [`StoreError::Conflict`] if its id exists, or if
    /// it is to be the default instance and a default instance exists.
    async fn insert_instance(
        &self,
        instance: NewInstance,
        key: InstanceKeyRow,
        signing_key: SigningKeyRow,
        change: NewChange,
    ) -> Result<Arc<Instance>>;

    /// All instances, oldest first.
    async fn list_instances(&self) -> Result<Vec<Arc<Instance>>>;

    /// One instance.
    async fn instance(&self, id: InstanceId) -> Result<Option<Arc<Instance>>>;

    /// Replaces the settings of an instance that is still at `revision`, so that no concurrent change is lost. If the
    /// new settings turn off `secret_reveal`, the same transaction erases all sealed keys of the instance. If they turn
    /// off `token_pooling`, it erases all sealed tokens.
    async fn update_instance_settings(
        &self,
        id: InstanceId,
        revision: i64,
        settings: InstanceSettings,
        change: NewChange,
    ) -> Result<UpdateSettings>;

    /// Ends all existing tokens of an instance and returns the cut-off: tokens created before it are refused. `None` if
    /// the instance does not exist.
    async fn end_instance_tokens(
        &self,
        id: InstanceId,
        change: NewChange,
    ) -> Result<Option<Timestamp>>;

    /// Adds a key. `false` where the instance has `max_live` live keys already.
    async fn insert_instance_key(
        &self,
        key: InstanceKeyRow,
        max_live: usize,
        change: NewChange,
    ) -> Result<bool>;

    /// The keys of an instance, oldest first, revoked ones included.
    async fn list_instance_keys(&self, instance: InstanceId) -> Result<Vec<InstanceKeyRow>>;

    /// Revokes a live key. `false` if no live key has this id. [`StoreError::Conflict`] for the last live key, which
    /// cannot be revoked.
    async fn revoke_instance_key(
        &self,
        instance: InstanceId,
        id: KeyId,
        change: NewChange,
    ) -> Result<bool>;

    // -- signing keys --

    /// The signing keys of an instance, oldest first.
    async fn list_signing_keys(&self, instance: InstanceId) -> Result<Vec<SigningKeyRow>>;

    /// Publishes a further signing key. At most one is published at a time, and at most `max_keys` are kept.
    async fn insert_signing_key(
        &self,
        key: SigningKeyRow,
        max_keys: usize,
        change: NewChange,
    ) -> Result<InsertSigningKey>;

    /// Makes a published key the active one and the active one verify-only. `false` where `id` is not a published key.
    async fn activate_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        cause: Cause,
        change: NewChange,
    ) -> Result<bool>;

    /// Deletes a key that is not active. With `unused_since`, deletes only a verify-only key that was replaced before
    /// that time and whose last JWT expired before that time. `false` if no such key exists.
    async fn delete_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        unused_since: Option<Timestamp>,
        change: NewChange,
    ) -> Result<bool>;

    // -- machines, their keys and scopes --

    /// Inserts a machine with its first key and its scopes, in the order of `scopes`. [`StoreError::Conflict`] if a
    /// machine has or ever had its id.
    async fn insert_machine(&self, machine: NewMachine, change: NewChange)
    -> Result<InsertMachine>;

    /// One machine.
    async fn machine(&self, instance: InstanceId, id: MachineId)
    -> Result<Option<Arc<MachineRow>>>;

    /// One machine and the machines it may call.
    async fn machine_with_scopes(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> Result<Option<MachineWithScopes>>;

    /// A page of machines and the number of all that match.
    async fn list_machines(
        &self,
        instance: InstanceId,
        query: MachineQuery,
    ) -> Result<(Vec<MachineWithScopes>, u64)>;

    /// Changes a machine's name or token lifetime. If the update names a value, `updated_at` changes and a record is
    /// written.
    async fn update_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        update: MachineUpdate,
        change: NewChange,
    ) -> Result<Option<MachineWithScopes>>;

    /// Deletes a machine, its keys, and its scopes in both directions. Its tokens are refused from then on, because their
    /// machine is absent; `sweep_tokens` removes them. `false` where there is no such machine.
    async fn delete_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> Result<bool>;

    /// Ends all existing tokens of a machine and returns the cut-off: tokens created before it are refused. `None` if
    /// the machine does not exist.
    async fn end_machine_tokens(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> Result<Option<Timestamp>>;

    /// Lets `from` call `to`. Both machines' existence, the maximum of `max_scopes` and the absence of the scope are checked
    /// in the same transaction.
    async fn insert_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        max_scopes: usize,
        change: NewChange,
    ) -> Result<InsertScope>;

    /// Takes the scope away. `false` where there is none.
    async fn delete_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        change: NewChange,
    ) -> Result<bool>;

    /// Adds a key. All older keys expire at `older_expire_at`, unless they expire earlier. Deletes expired keys and the
    /// oldest keys beyond `max_live`. `false` if the machine does not exist.
    async fn rotate_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        key: NewMachineKey,
        older_expire_at: Timestamp,
        max_live: usize,
        change: NewChange,
    ) -> Result<bool>;

    /// Returns the sealed copy of a machine's newest key, and records in the same transaction that the key was shown.
    /// Outer `None`: the machine does not exist. Inner `None`: the key has no sealed copy, and nothing is recorded.
    async fn reveal_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        change: NewChange,
    ) -> Result<Option<Option<SealedKey>>>;

    // -- callers and verification --

    /// Finds the holder of a key, in any instance. An expired machine key is found; a revoked instance key is not.
    async fn caller(&self, presented: Presented) -> Result<Option<Caller>>;

    /// Returns everything that decides a verification: the caller and the token. `None` if [`Store::caller`] would not
    /// find the key. The token is looked up in the caller's instance only.
    async fn verification(
        &self,
        presented: Presented,
        locator: Locator,
    ) -> Result<Option<Verification>>;

    /// Returns a token of an instance. `None` if the token or its machine does not exist in this instance.
    async fn token(&self, instance: InstanceId, locator: Locator) -> Result<Option<StoredToken>>;

    /// Returns a token of any instance, for a caller that presents the token itself.
    async fn find_token(&self, locator: Locator) -> Result<Option<StoredToken>>;

    // -- tokens --

    /// Inserts a token, or finds an equal one to reuse if `token.pool` is set. The same transaction checks the
    /// revisions of instance and machine, the requesting key and the signing key.
    async fn insert_token(&self, token: NewToken) -> Result<InsertToken>;

    /// Deletes ended tokens of a machine that holds at least `limit` tokens: the oldest first, and a bounded number in
    /// each call. Skips tokens for which [`TokenRow::is_kept_for_receivers`] is true. `None` if the machine does not
    /// exist.
    async fn make_room(
        &self,
        instance: InstanceId,
        machine: MachineId,
        limit: u64,
        now: Timestamp,
    ) -> Result<Option<Room>>;

    /// A page of a machine's tokens, newest first, and the number of all that match.
    async fn list_tokens(
        &self,
        instance: InstanceId,
        query: TokenQuery,
    ) -> Result<(Vec<StoredToken>, u64)>;

    /// Revokes a token of `owner`, or of any machine of the instance where `owner` is `None`. The first revocation is kept and
    /// recorded; a second one changes nothing. The sealed copy is erased.
    async fn revoke_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        reason: Option<Arc<str>>,
        change: NewChange,
    ) -> Result<RevokeToken>;

    /// Changes a live opaque token and takes it out of the pool.
    async fn update_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        update: TokenUpdate,
        change: NewChange,
    ) -> Result<UpdateToken>;

    /// Erases the sealed copies of tokens that are expired at `now`, and deletes machine keys that are expired at
    /// `now`.
    async fn erase_expired_secrets(&self, now: Timestamp) -> Result<u64>;

    /// Checks up to `limit` tokens after the locator `after`, in locator order. Deletes tokens that expired or were
    /// revoked before `dead_before`, and tokens whose machine is deleted. Skips tokens for which
    /// [`TokenRow::is_kept_for_receivers`] is true.
    async fn sweep_tokens(
        &self,
        after: Option<Locator>,
        limit: u32,
        dead_before: Timestamp,
        now: Timestamp,
    ) -> Result<Sweep>;

    // -- the change log --

    /// Returns up to `limit` records of a log after the position `after`, in order.
    async fn list_changes(&self, log: Log, after: After, limit: u32) -> Result<Changes>;

    /// Returns the position of the last record of a log; [`Cursor::START`] if the log is empty.
    async fn log_head(&self, log: Log) -> Result<Cursor>;

    /// Waits until all logs together hold more than `seen` records, and returns their number. All records of
    /// acknowledged changes are counted and can be listed.
    async fn wait_for_changes(&self, seen: u64) -> Result<u64>;

    // -- state --

    /// Whether the store can be read and written now; the text says why not.
    async fn check(&self) -> Result<()>;

    /// Returns the store's measurements of its work, for the metrics.
    fn measures(&self) -> Vec<Measure>;
}

/// A number that a back end measures about its work. Each back end chooses what it measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its name, in lower case with underscores.
    pub name: &'static str,
    /// Description for people.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}
