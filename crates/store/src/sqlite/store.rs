//! The operations of the trait, each handed to the file of its noun.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_protocol::ids::{InstanceId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::time::Timestamp;

use super::index::DigestKey;
use super::{
    Shared, SqliteStore, changes, instances, machine_keys, machines, scopes, signing_keys, tokens,
};
use crate::changes::{Change, NewChange};
use crate::instances::{Instance, InstanceSettings, NewInstance, UpdateSettings};
use crate::keys::{
    DataKey, Digest, InsertSigningKey, InstanceKeyRow, MachineKeyRow, NewMachineKey, SealedKey,
    SigningKeyRow,
};
use crate::machines::{
    InsertMachine, InsertScope, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes,
    NewMachine,
};
use crate::tokens::{
    InsertToken, LastUse, NewToken, Revocation, RevokeToken, StoredToken, Sweep, TokenQuery,
    TokenUpdate, UpdateToken,
};
use crate::{Result, Statistics, Store, StoreError};

/// How many rows one operation of the housekeeping changes, so that others get in between.
const PORTION: u32 = 500;

fn no_instance() -> StoreError {
    StoreError::Conflict("the instance does not exist".to_owned())
}

#[async_trait]
impl Store for SqliteStore {
    async fn data_keys(&self) -> Result<Vec<DataKey>> {
        self.shared.readers.read(instances::data_keys)
    }

    async fn initialise(&self, keys: Vec<DataKey>) -> Result<()> {
        self.writer
            .write(move |write| instances::initialise(write, &keys))
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
        Ok(self.shared.index.instances())
    }

    async fn instance(&self, id: InstanceId) -> Result<Option<Arc<Instance>>> {
        Ok(self.shared.index.instance(&id))
    }

    async fn update_instance_settings(
        &self,
        id: InstanceId,
        revision: i64,
        settings: InstanceSettings,
        change: NewChange,
    ) -> Result<UpdateSettings> {
        self.writer
            .write(move |write| instances::update_settings(write, id, revision, &settings, &change))
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

    async fn instance_key_by_digest(&self, digest: &Digest) -> Result<Option<Arc<InstanceKeyRow>>> {
        let Shared { readers, index, .. } = &*self.shared;
        index.read_through(&index.instance_keys, &DigestKey(*digest), || {
            readers.read(|connection| instances::key_by_digest(connection, digest))
        })
    }

    async fn revoke_instance_key(
        &self,
        instance: InstanceId,
        key_id: &str,
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool> {
        let Some(number) = self.instance_number(&instance) else {
            return Ok(false);
        };
        let key_id = key_id.to_owned();
        self.writer
            .write(move |write| instances::revoke_key(write, number, &key_id, at, &change))
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
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool> {
        let Some(number) = self.instance_number(&instance) else {
            return Ok(false);
        };
        self.writer
            .write(move |write| signing_keys::activate(write, number, id, at, &change))
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
            .write(move |write| signing_keys::delete(write, number, id, unused_since, &change))
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
        let Shared { readers, index, .. } = &*self.shared;
        let found = index.read_through(&index.machines_by_id, &id, || {
            readers.read(|connection| machines::by_id(connection, &index.texts, instance, id))
        })?;
        Ok(found.filter(|machine| machine.instance == instance))
    }

    async fn machine_with_scopes(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> Result<Option<MachineWithScopes>> {
        let Some(machine) = self.machine(instance, id).await? else {
            return Ok(None);
        };
        let mut scoped = Vec::with_capacity(machine.scopes.len());
        for id in machine.scopes.iter().filter_map(|id| id.parse().ok()) {
            // One that was deleted just now is left out.
            scoped.extend(self.machine(instance, id).await?);
        }
        Ok(Some(MachineWithScopes { machine, scoped }))
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
        at: Timestamp,
        change: NewChange,
    ) -> Result<Option<MachineWithScopes>> {
        self.writer
            .write(move |write| machines::update(write, instance, id, update, at, &change))
            .await
    }

    async fn delete_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool> {
        self.writer
            .write(move |write| machines::delete(write, instance, id, at, &change))
            .await
    }

    async fn insert_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        at: Timestamp,
        max_scopes: usize,
        change: NewChange,
    ) -> Result<InsertScope> {
        self.writer
            .write(move |write| scopes::insert(write, instance, from, to, at, max_scopes, &change))
            .await
    }

    async fn delete_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        at: Timestamp,
        change: NewChange,
    ) -> Result<bool> {
        self.writer
            .write(move |write| scopes::delete(write, instance, from, to, at, &change))
            .await
    }

    async fn machine_key_by_digest(&self, digest: &Digest) -> Result<Option<Arc<MachineKeyRow>>> {
        let Shared { readers, index, .. } = &*self.shared;
        index.read_through(&index.machine_keys, &DigestKey(*digest), || {
            readers.read(|connection| machine_keys::by_digest(connection, digest))
        })
    }

    async fn rotate_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        key: NewMachineKey,
        older_expire_at: Timestamp,
        max_live: usize,
        at: Timestamp,
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
                    at,
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

    async fn insert_token(&self, token: NewToken) -> Result<InsertToken> {
        self.insert_within_limit(token).await
    }

    async fn token(&self, instance: InstanceId, locator: Locator) -> Result<Option<StoredToken>> {
        let Shared { readers, index, .. } = &*self.shared;
        let found = index.read_through(&index.tokens, &locator, || {
            readers.read(|connection| tokens::by_locator(connection, &index.texts, locator))
        })?;
        let Some(row) = found else { return Ok(None) };
        let machine = self
            .machine_by_number(row.machine)?
            .filter(|machine| machine.instance == instance);
        Ok(machine.map(|machine| StoredToken { row, machine }))
    }

    async fn list_tokens(
        &self,
        instance: InstanceId,
        query: TokenQuery,
    ) -> Result<(Vec<StoredToken>, u64)> {
        let listed = self
            .list(move |connection, index| tokens::list(connection, &index.texts, instance, &query))
            .await?;
        for token in &listed.0 {
            self.shared.index.copy_last_use(&token.row);
        }
        Ok(listed)
    }

    async fn revoke_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        revocation: Revocation,
        change: NewChange,
    ) -> Result<RevokeToken> {
        self.writer
            .write(move |write| tokens::revoke(write, instance, owner, id, revocation, &change))
            .await
    }

    async fn update_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        update: TokenUpdate,
        at: Timestamp,
        change: NewChange,
    ) -> Result<UpdateToken> {
        self.writer
            .write(move |write| tokens::update(write, instance, owner, id, update, at, &change))
            .await
    }

    async fn erase_expired_secrets(&self, now: Timestamp) -> Result<u64> {
        let mut erased = 0;
        loop {
            let portion = self
                .writer
                .write(move |write| {
                    let tokens = tokens::erase_expired(write, now, PORTION)?;
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
    ) -> Result<Sweep> {
        self.writer
            .write(move |write| tokens::sweep(write, after, limit, dead_before))
            .await
    }

    async fn list_changes(
        &self,
        instance: InstanceId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Change>> {
        let Some(number) = self.instance_number(&instance) else {
            return Ok(Vec::new());
        };
        self.list(move |connection, _| changes::list(connection, number, after, limit))
            .await
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

    fn statistics(&self) -> Statistics {
        self.count_statistics()
    }
}
