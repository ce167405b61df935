//! What an authority remembers: the [`Store`] trait and its back ends.
//!
//! The trait is made of whole operations: each is atomic, decides what depends on stored state inside its own transaction,
//! and takes the entry for the change log as an argument, so that no change goes unrecorded, nor is made with a key that ended
//! while the request was under way. Not found is `None`.
//! An answer of success means that the change is durable. Every operation names the instance it works for.
//!
//! Rules about who may do what live in `countersign-authority`; nothing here knows of HTTP.

mod changes;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod instances;
mod keys;
mod machines;

pub mod sqlite;
mod tokens;

use async_trait::async_trait;
use countersign_protocol::ids::{InstanceId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::time::Timestamp;
use std::sync::Arc;
use thiserror::Error;

pub use changes::{ActingKey, ChainKey, Change, ChangeKind, NewChange};
pub use instances::{
    Instance, InstanceSettings, NewInstance, NullExpiration, RateLimit, UpdateSettings,
};
pub use keys::{
    DataKey, DataKeyPurpose, Digest, InsertSigningKey, InstanceKeyRow, MachineKeyRow,
    NewMachineKey, SealedBytes, SealedKey, SigningKeyRow, SigningKeyState,
};
pub use machines::{
    InsertMachine, InsertScope, MachineOrder, MachineQuery, MachineRow, MachineUpdate,
    MachineWithScopes, NewMachine, Page, SortBy,
};
pub use tokens::{
    InsertToken, LastUse, NewToken, Pool, Revocation, RevokeToken, StoredToken, Sweep, TokenFormat,
    TokenFormats, TokenQuery, TokenRow, TokenUpdate, UpdateToken,
};

/// Why a store could not do what it was asked. Refusals that follow from stored state are not errors but outcomes.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A row with this key exists already; the text names the constraint.
    #[error("the row exists already ({0})")]
    Conflict(String),
    /// The store cannot answer now, or it is unknown whether a change took effect. Never success.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Too many ask for what takes long. Nothing is wrong with the store, and nothing was changed.
    #[error("the store is busy: {0}")]
    Busy(&'static str),
    /// The instance key that asked for a change is revoked or gone. Nothing changed.
    #[error("the instance key that asked is not valid any more")]
    InstanceKeyGone,
    /// The machine key that asked for a change is over or gone. Nothing changed.
    #[error("the machine key that asked is not valid any more")]
    MachineKeyGone,
    /// What is stored cannot be read.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// What `Store` operations return.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The memory of an authority.
///
/// Point reads (`instance`, `…_by_digest`, `machine`, `token`) are answered at once and never wait for a writer.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    // -- the authority itself --

    /// The wrapped data keys, oldest version first. Empty where the authority was never initialised.
    async fn data_keys(&self) -> Result<Vec<DataKey>>;

    /// Remembers the first data keys. [`StoreError::Conflict`] where there are some.
    async fn initialise(&self, keys: Vec<DataKey>) -> Result<()>;

    /// The largest time that was ever written; the clock never starts before it.
    async fn clock_floor(&self) -> Result<Timestamp>;

    /// Writes when tokens were last used and how far the clock has come. Neither is needed for a decision, so losing the
    /// latest of them in a crash is harmless.
    async fn record_uses(&self, uses: Vec<LastUse>, clock_floor: Timestamp) -> Result<()>;

    // -- instances and their keys --

    /// Makes an instance with its first key and first signing key.
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

    /// Replaces the settings of an instance that is still at `revision`, so that no change is lost that was made meanwhile.
    /// Where secrets may no longer be revealed, every sealed key of the instance is erased in the same transaction; where
    /// tokens are no longer pooled, every sealed token.
    async fn update_instance_settings(
        &self,
        id: InstanceId,
        revision: i64,
        settings: InstanceSettings,
        change: NewChange,
    ) -> Result<UpdateSettings>;

    /// Adds a key. `false` where the instance has `max_live` live keys already.
    async fn insert_instance_key(
        &self,
        key: InstanceKeyRow,
        max_live: usize,
        change: NewChange,
    ) -> Result<bool>;

    /// The keys of an instance, oldest first, revoked ones included.
    async fn list_instance_keys(&self, instance: InstanceId) -> Result<Vec<InstanceKeyRow>>;

    /// Finds a live key of any instance.
    async fn instance_key_by_digest(&self, digest: &Digest) -> Result<Option<Arc<InstanceKeyRow>>>;

    /// Revokes a live key at `at`. `false` where there is none with this id. The last live key cannot be revoked:
    /// [`StoreError::Conflict`].
    async fn revoke_instance_key(
        &self,
        instance: InstanceId,
        key_id: &str,
        at: Timestamp,
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
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool>;

    /// Deletes a key that is not the active one; with `unused_since` only a verify-only one that was replaced, and whose last
    /// JWT was over, before then. `false` where there is none.
    async fn delete_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        unused_since: Option<Timestamp>,
        change: NewChange,
    ) -> Result<bool>;

    // -- machines, their keys and scopes --

    /// Makes a machine with its first key and its scopes, in the order of `scopes`.
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

    /// Changes name or token lifetime. The change is logged, and `updated_at` moves, where something is given.
    async fn update_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        update: MachineUpdate,
        at: Timestamp,
        change: NewChange,
    ) -> Result<Option<MachineWithScopes>>;

    /// Deletes a machine, its keys, and its scopes in both directions. Its tokens are refused from then on, because their
    /// machine is absent; `sweep_tokens` removes them. `false` where there is no such machine.
    async fn delete_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool>;

    /// Lets `from` call `to`. Both machines' existence, the maximum of `max_scopes` and the absence of the scope are checked
    /// in the same transaction.
    async fn insert_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        at: Timestamp,
        max_scopes: usize,
        change: NewChange,
    ) -> Result<InsertScope>;

    /// Takes the scope away. `false` where there is none.
    async fn delete_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool>;

    /// Finds a key of any machine, expired or not, of any instance.
    async fn machine_key_by_digest(&self, digest: &Digest) -> Result<Option<Arc<MachineKeyRow>>>;

    /// Adds a key and limits the life of all older ones to `older_expire_at`, never lengthening one; keys that are over by
    /// `at` are deleted, and so are the oldest beyond `max_live`. `false` where there is no such machine.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a value of its own that the transaction needs"
    )]
    async fn rotate_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        key: NewMachineKey,
        older_expire_at: Timestamp,
        max_live: usize,
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool>;

    /// The sealed copy of a machine's newest key, and in the same transaction the entry that says it was shown.
    /// Outer `None`: no such machine. Inner `None`: the key has no sealed copy; nothing is logged then.
    async fn reveal_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        change: NewChange,
    ) -> Result<Option<Option<SealedKey>>>;

    // -- tokens --

    /// Remembers a new token, or finds one to use again where `token.pool` asks for that. The machine's revision, the presence
    /// of the key that asked and of the signing key, and the number of tokens are checked in the same transaction.
    /// Where the machine holds too many, the oldest ones that are over are deleted first.
    async fn insert_token(&self, token: NewToken) -> Result<InsertToken>;

    /// One token with its machine. `None` where the token, or its machine, does not exist in this instance.
    async fn token(&self, instance: InstanceId, locator: Locator) -> Result<Option<StoredToken>>;

    /// A page of a machine's tokens, newest first, and the number of all that match.
    async fn list_tokens(
        &self,
        instance: InstanceId,
        query: TokenQuery,
    ) -> Result<(Vec<StoredToken>, u64)>;

    /// Revokes a token of `owner`, or of any machine of the instance where `owner` is `None`. The first revocation is kept and
    /// logged; a second one changes nothing. The sealed copy is erased.
    async fn revoke_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        revocation: Revocation,
        change: NewChange,
    ) -> Result<RevokeToken>;

    /// Changes a live opaque token and takes it out of the pool.
    async fn update_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        update: TokenUpdate,
        at: Timestamp,
        change: NewChange,
    ) -> Result<UpdateToken>;

    /// Erases the sealed copies of tokens whose life is over at `now`, and deletes machine keys that are over.
    async fn erase_expired_secrets(&self, now: Timestamp) -> Result<u64>;

    /// Looks at up to `limit` tokens behind `after`, in the order of their locators, and deletes those that were over before
    /// `dead_before` or whose machine is gone.
    async fn sweep_tokens(
        &self,
        after: Option<Locator>,
        limit: u32,
        dead_before: Timestamp,
    ) -> Result<Sweep>;

    // -- the change log --

    /// Up to `limit` changes with a sequence number above `after`, in order.
    async fn list_changes(
        &self,
        instance: InstanceId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Change>>;

    // -- state --

    /// Whether the store can be read and written now; the text says why not.
    async fn check(&self) -> Result<()>;

    /// Numbers for the metrics.
    fn statistics(&self) -> Statistics;
}

/// What a store can say about its work, for the metrics. Counters only grow.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Durable commits.
    pub commits: u64,
    /// Operations in all commits; with `commits` it gives the batch size.
    pub committed_operations: u64,
    /// The time spent in commits, in microseconds.
    pub commit_micros: u64,
    /// Point reads that the index in memory answered.
    pub index_hits: u64,
    /// Point reads that went to the database.
    pub index_misses: u64,
    /// Tokens in the index.
    pub indexed_tokens: u64,
}
