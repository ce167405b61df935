//! Implements a back end in memory, for tests only.
//!
//! One lock protects all data. An operation makes all its checks before it writes, so a refused operation changes
//! nothing. Several handles can share the data, as processes share a database server. Each handle in use is a separate
//! node.

mod instances;
mod machines;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use async_trait::async_trait;
use countersign_protocol::change::{Cause, Cursor, Event, Log};
use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;

use self::state::{Shared, State};
use crate::{
    After, Caller, Changes, DataKey, InsertMachine, InsertScope, InsertSigningKey, InsertToken,
    Instance, InstanceKeyRow, LastUse, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes,
    Measure, NewChange, NewInstance, NewMachine, NewMachineKey, NewToken, Node, Presented, Result,
    RevokeToken, Room, SealedKey, SigningKeyRow, Store, StoreError, StoredToken, Sweep, TokenQuery,
    TokenUpdate, UpdateSettings, UpdateToken, Verification,
};

/// A handle on an authority's data in memory.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    node: Node,
}

impl MemoryStore {
    /// Makes an empty store and its first handle.
    #[must_use]
    pub fn new() -> Self {
        Self::holding(State::default())
    }

    /// Copies the data as it is now into a store of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::holding(self.lock().clone())
    }

    /// Makes a further handle on the same data, as another process would open it.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self::on(Arc::clone(&self.shared))
    }

    fn holding(state: State) -> Self {
        Self::on(Arc::new(Shared::new(state)))
    }

    fn on(shared: Arc<Shared>) -> Self {
        let node = shared.take_node();
        Self { shared, node }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> MutexGuard<'_, State> {
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        self.lock()
    }

    /// Runs an operation and wakes those who wait for records, if it wrote one.
    fn write<T>(&self, operation: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.shared.writes.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        let outcome = operation(&mut state);
        let held = state.count_records();
        drop(state);
        self.shared.records.send_if_modified(|known| {
            let has_grown = held > *known;
            *known = held.max(*known);
            has_grown
        });
        outcome
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        let nodes = &self.shared.nodes;
        let mut taken = nodes.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.node.get());
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn data_keys(&self) -> Result<Vec<DataKey>> {
        Ok(self.read().data_keys.clone())
    }

    async fn initialize(&self, mut keys: Vec<DataKey>, change: NewChange) -> Result<()> {
        keys.sort_by_key(|key| (key.version, key.purpose.as_str()));
        self.write(|state| {
            if !state.data_keys.is_empty() {
                return Err(state::conflict("data_keys"));
            }
            state.permit(Log::Authority, &change)?;
            state.data_keys = keys;
            state.record(Log::Authority, &change, &Event::AuthorityInitialized {});
            Ok(())
        })
    }

    async fn clock_floor(&self) -> Result<Timestamp> {
        Ok(self.read().clock_floor.unwrap_or(Timestamp::EPOCH))
    }

    async fn record_uses(&self, uses: Vec<LastUse>, clock_floor: Timestamp) -> Result<()> {
        self.write(|state| {
            state.clock_floor = state.clock_floor.max(Some(clock_floor));
            for LastUse { locator, at } in uses {
                if let Some(token) = state.tokens.get_mut(&locator) {
                    token.row.last_used_at = token.row.last_used_at.max(Some(at));
                }
            }
            Ok(())
        })
    }

    fn node(&self) -> Node {
        self.node
    }

    async fn insert_instance(
        &self,
        instance: NewInstance,
        key: InstanceKeyRow,
        signing_key: SigningKeyRow,
        change: NewChange,
    ) -> Result<Arc<Instance>> {
        self.write(|state| state.insert_instance(instance, key, signing_key, &change))
    }

    async fn list_instances(&self) -> Result<Vec<Arc<Instance>>> {
        Ok(self.read().instances.clone())
    }

    async fn instance(&self, id: InstanceId) -> Result<Option<Arc<Instance>>> {
        Ok(self.read().instance(id).cloned())
    }

    async fn update_instance_settings(
        &self,
        id: InstanceId,
        revision: i64,
        settings: InstanceSettings,
        change: NewChange,
    ) -> Result<UpdateSettings> {
        self.write(|state| state.update_settings(id, revision, settings, &change))
    }

    async fn end_instance_tokens(
        &self,
        id: InstanceId,
        change: NewChange,
    ) -> Result<Option<Timestamp>> {
        self.write(|state| state.end_instance_tokens(id, &change))
    }

    async fn insert_instance_key(
        &self,
        key: InstanceKeyRow,
        max_live: usize,
        change: NewChange,
    ) -> Result<bool> {
        self.write(|state| state.insert_instance_key(key, max_live, &change))
    }

    async fn list_instance_keys(&self, instance: InstanceId) -> Result<Vec<InstanceKeyRow>> {
        let state = self.read();
        let keys = state.instance_keys.iter();
        Ok(keys
            .filter(|key| key.instance == instance)
            .map(|key| InstanceKeyRow::clone(key))
            .collect())
    }

    async fn revoke_instance_key(
        &self,
        instance: InstanceId,
        id: KeyId,
        change: NewChange,
    ) -> Result<bool> {
        self.write(|state| state.revoke_instance_key(instance, id, &change))
    }

    async fn list_signing_keys(&self, instance: InstanceId) -> Result<Vec<SigningKeyRow>> {
        let state = self.read();
        let keys = state.signing_keys.iter();
        Ok(keys
            .filter(|key| key.instance == instance)
            .cloned()
            .collect())
    }

    async fn insert_signing_key(
        &self,
        key: SigningKeyRow,
        max_keys: usize,
        change: NewChange,
    ) -> Result<InsertSigningKey> {
        self.write(|state| state.insert_signing_key(key, max_keys, &change))
    }

    async fn activate_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        cause: Cause,
        change: NewChange,
    ) -> Result<bool> {
        self.write(|state| state.activate_signing_key(instance, id, cause, &change))
    }

    async fn delete_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        unused_since: Option<Timestamp>,
        change: NewChange,
    ) -> Result<bool> {
        self.write(|state| state.delete_signing_key(instance, id, unused_since, &change))
    }

    async fn insert_machine(
        &self,
        machine: NewMachine,
        change: NewChange,
    ) -> Result<InsertMachine> {
        self.write(|state| state.insert_machine(machine, &change))
    }

    async fn machine(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> Result<Option<Arc<MachineRow>>> {
        Ok(self.read().machine(instance, id).cloned())
    }

    async fn machine_with_scopes(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> Result<Option<MachineWithScopes>> {
        let state = self.read();
        Ok(state
            .machine(instance, id)
            .map(|machine| state.with_scopes(machine)))
    }

    async fn list_machines(
        &self,
        instance: InstanceId,
        query: MachineQuery,
    ) -> Result<(Vec<MachineWithScopes>, u64)> {
        Ok(self.read().list_machines(instance, &query))
    }

    async fn update_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        update: MachineUpdate,
        change: NewChange,
    ) -> Result<Option<MachineWithScopes>> {
        self.write(|state| state.update_machine(instance, id, update, &change))
    }

    async fn delete_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> Result<bool> {
        self.write(|state| state.delete_machine(instance, id, &change))
    }

    async fn end_machine_tokens(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> Result<Option<Timestamp>> {
        self.write(|state| state.end_machine_tokens(instance, id, &change))
    }

    async fn insert_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        max_scopes: usize,
        change: NewChange,
    ) -> Result<InsertScope> {
        self.write(|state| state.insert_scope(instance, from, to, max_scopes, &change))
    }

    async fn delete_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        change: NewChange,
    ) -> Result<bool> {
        self.write(|state| state.delete_scope(instance, from, to, &change))
    }

    async fn rotate_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        key: NewMachineKey,
        older_expire_at: Timestamp,
        max_live: usize,
        change: NewChange,
    ) -> Result<bool> {
        self.write(|state| {
            state.rotate_machine_key(instance, machine, key, older_expire_at, max_live, &change)
        })
    }

    async fn reveal_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        change: NewChange,
    ) -> Result<Option<Option<SealedKey>>> {
        self.write(|state| state.reveal_machine_key(instance, machine, &change))
    }

    async fn caller(&self, presented: Presented) -> Result<Option<Caller>> {
        Ok(self.read().caller(presented))
    }

    async fn verification(
        &self,
        presented: Presented,
        locator: Locator,
    ) -> Result<Option<Verification>> {
        let state = self.read();
        Ok(state.caller(presented).map(|caller| Verification {
            token: state.token(locator, Some(caller.instance())),
            position: state.head(Log::Instance(caller.instance())).sequence,
            caller,
        }))
    }

    async fn token(&self, instance: InstanceId, locator: Locator) -> Result<Option<StoredToken>> {
        Ok(self.read().token(locator, Some(instance)))
    }

    async fn find_token(&self, locator: Locator) -> Result<Option<StoredToken>> {
        Ok(self.read().token(locator, None))
    }

    async fn insert_token(&self, token: NewToken) -> Result<InsertToken> {
        self.write(|state| state.insert_token(token))
    }

    async fn make_room(
        &self,
        instance: InstanceId,
        machine: MachineId,
        limit: u64,
        now: Timestamp,
    ) -> Result<Option<Room>> {
        self.write(|state| Ok(state.make_room(instance, machine, limit, now)))
    }

    async fn list_tokens(
        &self,
        instance: InstanceId,
        query: TokenQuery,
    ) -> Result<(Vec<StoredToken>, u64)> {
        Ok(self.read().list_tokens(instance, &query))
    }

    async fn revoke_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        reason: Option<Arc<str>>,
        change: NewChange,
    ) -> Result<RevokeToken> {
        self.write(|state| state.revoke_token(instance, owner, id, reason, &change))
    }

    async fn update_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        update: TokenUpdate,
        change: NewChange,
    ) -> Result<UpdateToken> {
        self.write(|state| state.update_token(instance, owner, id, update, &change))
    }

    async fn erase_expired_secrets(&self, now: Timestamp) -> Result<u64> {
        self.write(|state| Ok(state.erase_expired_secrets(now)))
    }

    async fn sweep_tokens(
        &self,
        after: Option<Locator>,
        limit: u32,
        dead_before: Timestamp,
        now: Timestamp,
    ) -> Result<Sweep> {
        self.write(|state| Ok(state.sweep_tokens(after, limit, dead_before, now)))
    }

    async fn list_changes(&self, log: Log, after: After, limit: u32) -> Result<Changes> {
        Ok(self.read().list_changes(log, after, limit))
    }

    async fn log_head(&self, log: Log) -> Result<Cursor> {
        Ok(self.read().head(log))
    }

    async fn wait_for_changes(&self, seen: u64) -> Result<u64> {
        let mut records = self.shared.records.subscribe();
        let held = records.wait_for(|held| *held > seen).await;
        held.map(|held| *held)
            .map_err(|_| StoreError::Unavailable("the store is closed".to_owned()))
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn measures(&self) -> Vec<Measure> {
        vec![
            Measure {
                name: "reads",
                help: "Number of read operations since the store was made.",
                value: self.shared.reads.load(Ordering::Relaxed),
            },
            Measure {
                name: "writes",
                help: "Number of write operations since the store was made.",
                value: self.shared.writes.load(Ordering::Relaxed),
            },
        ]
    }
}
