//! The operations of the trait, each handed to the file of its noun.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_protocol::change::{Cause, Cursor, Log};
use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;

use super::{
    SqliteStore, changes, instances, machine_keys, machines, pool, scopes, signing_keys, tokens,
};
use crate::callers::{Caller, Presented, Verification};
use crate::changes::{After, Changes, NewChange};
use crate::instances::{Instance, NewInstance, UpdateSettings};
use crate::keys::{
    DataKey, InsertSigningKey, InstanceKeyRow, NewMachineKey, SealedKey, SigningKeyRow,
};
use crate::machines::{
    InsertMachine, InsertScope, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes,
    NewMachine,
};
use crate::tokens::{
    InsertToken, LastUse, NewToken, RevokeToken, Room, StoredToken, Sweep, TokenQuery, TokenUpdate,
    UpdateToken,
};
use crate::{Measure, Node, Result, Store, StoreError};

/// How many rows one operation of the housekeeping changes, so that others get in between.
const PORTION: u32 = 500;

/// Maximum number of log records that are read on the calling thread. That takes less time than a list waits for its
/// turn.
const FEW: u32 = 100;

fn no_instance() -> StoreError {
    StoreError::Conflict("the instance does not exist".to_owned())
}

#[async_trait]
impl Store for SqliteStore {
    async fn data_keys(&self) -> Result<Vec<DataKey>> {
        self.shared.readers.read(instances::data_keys)
    }

    async fn initialize(&self, keys: Vec<DataKey>, change: NewChange) -> Result<()> {
        self.writer
            .write(move |write| instances::initialize(write, &keys, &change))
            .await
    }

    async fn clock_floor(&self) -> Result<Timestamp> {
        self.shared.readers.read(instances::clock_floor)
    }

    async fn record_uses(&self, mut uses: Vec<LastUse>, clock_floor: Timestamp) -> Result<()> {
        uses.sort_unstable_by_key(|last_use| last_use.locator);
        loop {
            let rest = uses.split_off(uses.len().min(PORTION as usize));
            self.writer
                .write(move |write| tokens::record_uses(write, &uses, clock_floor))
                .await?;
            if rest.is_empty() {
                return Ok(());
            }
            uses = rest;
        }
    }

    fn node(&self) -> Node {
        // The folder's lock keeps every other process out.
        Node::ONLY
    }

    async fn insert_instance(
        &self,
        instance: NewInstance,
        key: InstanceKeyRow,
        signing_key: SigningKeyRow,
        change: NewChange,
    ) -> Result<Arc<Instance>> {
        self.writer
            .write(move |write| instances::insert(write, instance, key, &signing_key, &change))
            .await
    }

    async fn list_instances(&self) -> Result<Vec<Arc<Instance>>> {
        Ok(self.shared.index.directory.instances())
    }

    async fn instance(&self, id: InstanceId) -> Result<Option<Arc<Instance>>> {
        Ok(self.shared.index.directory.instance(&id))
    }

    async fn update_instance_settings(
        &self,
        id: InstanceId,
        revision: i64,
        settings: InstanceSettings,
        change: NewChange,
    ) -> Result<UpdateSettings> {
        self.writer
            .write(move |write| instances::update_settings(write, id, revision, settings, &change))
            .await
    }

    async fn end_instance_tokens(
        &self,
        id: InstanceId,
        change: NewChange,
    ) -> Result<Option<Timestamp>> {
        self.writer
            .write(move |write| instances::end_tokens(write, id, &change))
            .await
    }

    async fn insert_instance_key(
        &self,
        key: InstanceKeyRow,
        max_live: usize,
        change: NewChange,
    ) -> Result<bool> {
        let number = self
            .instance_number(&key.instance)
            .ok_or_else(no_instance)?;
        self.writer
            .write(move |write| instances::insert_key(write, number, key, max_live, &change))
            .await
    }

    async fn list_instance_keys(&self, instance: InstanceId) -> Result<Vec<InstanceKeyRow>> {
        self.shared
            .readers
            .read(|connection| instances::list_keys(connection, instance))
    }

    async fn revoke_instance_key(
        &self,
        instance: InstanceId,
        id: KeyId,
        change: NewChange,
    ) -> Result<bool> {
        let Some(number) = self.instance_number(&instance) else {
            return Ok(false);
        };
        self.writer
            .write(move |write| instances::revoke_key(write, instance, number, id, &change))
            .await
    }

    async fn list_signing_keys(&self, instance: InstanceId) -> Result<Vec<SigningKeyRow>> {
        self.shared
            .readers
            .read(|connection| signing_keys::list(connection, instance))
    }

    async fn insert_signing_key(
        &self,
        key: SigningKeyRow,
        max_keys: usize,
        change: NewChange,
    ) -> Result<InsertSigningKey> {
        let number = self
            .instance_number(&key.instance)
            .ok_or_else(no_instance)?;
        self.writer
            .write(move |write| signing_keys::insert(write, number, &key, max_keys, &change))
            .await
    }

    async fn activate_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        cause: Cause,
        change: NewChange,
    ) -> Result<bool> {
        let Some(number) = self.instance_number(&instance) else {
            return Ok(false);
        };
        self.writer
            .write(move |write| signing_keys::activate(write, instance, number, id, cause, &change))
            .await
    }

    async fn delete_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        unused_since: Option<Timestamp>,
        change: NewChange,
    ) -> Result<bool> {
        let Some(number) = self.instance_number(&instance) else {
            return Ok(false);
        };
        self.writer
            .write(move |write| {
                signing_keys::delete(write, instance, number, id, unused_since, &change)
            })
            .await
    }

    async fn insert_machine(
        &self,
        machine: NewMachine,
        change: NewChange,
    ) -> Result<InsertMachine> {
        let number = self
            .instance_number(&machine.instance)
            .ok_or_else(no_instance)?;
        self.writer
            .write(move |write| machines::insert(write, number, machine, &change))
            .await
    }

    async fn machine(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> Result<Option<Arc<MachineRow>>> {
        Ok(self.shared.index.directory.machine(&instance, &id))
    }

    async fn machine_with_scopes(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> Result<Option<MachineWithScopes>> {
        Ok(self
            .shared
            .index
            .directory
            .machine_with_scopes(&instance, &id))
    }

    async fn list_machines(
        &self,
        instance: InstanceId,
        query: MachineQuery,
    ) -> Result<(Vec<MachineWithScopes>, u64)> {
        let Some(number) = self.instance_number(&instance) else {
            return Ok((Vec::new(), 0));
        };
        self.list(move |connection, index| machines::list(connection, &index.texts, number, &query))
            .await
    }

    async fn update_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        update: MachineUpdate,
        change: NewChange,
    ) -> Result<Option<MachineWithScopes>> {
        self.writer
            .write(move |write| machines::update(write, instance, id, update, &change))
            .await
    }

    async fn delete_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> Result<bool> {
        self.writer
            .write(move |write| machines::delete(write, instance, id, &change))
            .await
    }

    async fn end_machine_tokens(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> Result<Option<Timestamp>> {
        self.writer
            .write(move |write| machines::end_tokens(write, instance, id, &change))
            .await
    }

    async fn insert_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        max_scopes: usize,
        change: NewChange,
    ) -> Result<InsertScope> {
        self.writer
            .write(move |write| scopes::insert(write, instance, from, to, max_scopes, &change))
            .await
    }

    async fn delete_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        change: NewChange,
    ) -> Result<bool> {
        self.writer
            .write(move |write| scopes::delete(write, instance, from, to, &change))
            .await
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
        self.writer
            .write(move |write| {
                machine_keys::rotate(
                    write,
                    instance,
                    machine,
                    key,
                    older_expire_at,
                    max_live,
                    &change,
                )
            })
            .await
    }

    async fn reveal_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        change: NewChange,
    ) -> Result<Option<Option<SealedKey>>> {
        self.writer
            .write(move |write| machine_keys::reveal(write, instance, machine, &change))
            .await
    }

    async fn caller(&self, presented: Presented) -> Result<Option<Caller>> {
        let found = self.shared.index.directory.caller(presented);
        Ok(found.map(|(caller, _)| caller))
    }

    async fn verification(
        &self,
        presented: Presented,
        locator: Locator,
    ) -> Result<Option<Verification>> {
        let Some((caller, position)) = self.shared.index.directory.caller(presented) else {
            return Ok(None);
        };
        let entry = self.token_entry(locator)?;
        let token = entry
            .and_then(|entry| entry.stored(locator))
            .filter(|token| token.instance.id == caller.instance());
        Ok(Some(Verification {
            caller,
            token,
            position,
        }))
    }

    async fn token(&self, instance: InstanceId, locator: Locator) -> Result<Option<StoredToken>> {
        let entry = self.token_entry(locator)?;
        let found = entry.and_then(|entry| entry.stored(locator));
        Ok(found.filter(|token| token.instance.id == instance))
    }

    async fn find_token(&self, locator: Locator) -> Result<Option<StoredToken>> {
        let entry = self.token_entry(locator)?;
        Ok(entry.and_then(|entry| entry.stored(locator)))
    }

    async fn insert_token(&self, token: NewToken) -> Result<InsertToken> {
        self.insert(token).await
    }

    async fn make_room(
        &self,
        instance: InstanceId,
        machine: MachineId,
        limit: u64,
        now: Timestamp,
    ) -> Result<Option<Room>> {
        self.delete_ended(instance, machine, limit, now).await
    }

    async fn list_tokens(
        &self,
        instance: InstanceId,
        query: TokenQuery,
    ) -> Result<(Vec<StoredToken>, u64)> {
        self.list(move |connection, index| tokens::list(connection, &index.texts, instance, &query))
            .await
    }

    async fn revoke_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        reason: Option<Arc<str>>,
        change: NewChange,
    ) -> Result<RevokeToken> {
        self.writer
            .write(move |write| tokens::revoke(write, instance, owner, id, reason, &change))
            .await
    }

    async fn update_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        update: TokenUpdate,
        change: NewChange,
    ) -> Result<UpdateToken> {
        self.writer
            .write(move |write| tokens::update(write, instance, owner, id, update, &change))
            .await
    }

    async fn erase_expired_secrets(&self, now: Timestamp) -> Result<u64> {
        let mut erased = 0;
        loop {
            let portion = self
                .writer
                .write(move |write| {
                    let tokens = pool::erase_expired(write, now, PORTION)?;
                    Ok(tokens + machine_keys::delete_expired(write, now, PORTION)?)
                })
                .await?;
            if portion == 0 {
                return Ok(erased);
            }
            erased += portion;
        }
    }

    async fn sweep_tokens(
        &self,
        after: Option<Locator>,
        limit: u32,
        dead_before: Timestamp,
        now: Timestamp,
    ) -> Result<Sweep> {
        self.writer
            .write(move |write| tokens::sweep(write, after, limit, dead_before, now))
            .await
    }

    async fn list_changes(&self, log: Log, after: After, limit: u32) -> Result<Changes> {
        if limit <= FEW {
            // Followers of the log do not wait for lists.
            let read = |connection: &_| changes::list(connection, log, after, limit);
            return self.shared.readers.read(read);
        }
        self.list(move |connection, _| changes::list(connection, log, after, limit))
            .await
    }

    async fn log_head(&self, log: Log) -> Result<Cursor> {
        let head = self.shared.index.directory.head(log);
        Ok(head.unwrap_or(Cursor::START))
    }

    async fn wait_for_changes(&self, seen: u64) -> Result<u64> {
        let mut records = self.shared.index.directory.records();
        match records.wait_for(|records| *records > seen).await {
            Ok(records) => Ok(*records),
            Err(_) => Err(StoreError::Unavailable("the store is closed".to_owned())),
        }
    }

    async fn check(&self) -> Result<()> {
        self.shared
            .readers
            .read(|connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)))?;
        // An empty transaction shows that the writer works. After it found no room, only a real one shows that there is some.
        let must_write = self.writer.is_full();
        self.writer
            .write_single(move |write| {
                if must_write {
                    write.execute("INSERT INTO meta (key, value) VALUES ('checks', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1", [])?;
                }
                Ok(())
            })
            .await
    }

    fn measures(&self) -> Vec<Measure> {
        self.own_measures()
    }
}
