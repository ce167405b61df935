//! The product with storage switched off: new tokens are acknowledged and forgotten.
//!
//! What an issue costs here is what it costs apart from making it durable: the same HTTP server, the
//! same rules, the same secrets and hashes, on the same kind of data folder, which holds the machines and
//! their keys. Served like `countersign serve`. It cannot verify what it issued, nor list or revoke it.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use clap::Parser;
use countersign_authority::{FLUSH_INTERVAL, SystemRandom};
use countersign_bench::authority;
use countersign_protocol::change::{Cause, Cursor, Log};
use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;
use countersign_server::{Server, ServerOptions};
use countersign_store::{
    After, Caller, Changes, DataKey, InsertMachine, InsertScope, InsertSigningKey, InsertToken,
    Instance, InstanceKeyRow, LastUse, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes,
    Measure, NewChange, NewInstance, NewMachine, NewMachineKey, NewToken, Node, Presented,
    Result as StoreResult, RevokeToken, Room, SealedKey, SigningKeyRow, Store, StoredToken, Sweep,
    TokenQuery, TokenUpdate, UpdateSettings, UpdateToken, Verification,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Arguments {
    /// Takes what a measurement gives to `countersign serve`.
    Serve {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        port_file: PathBuf,
    },
}

fn main() -> Result<()> {
    // The level that the product has where nothing else is said, so that its log costs the same.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(Arguments::parse()))
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments::Serve {
        data,
        listen,
        port_file,
    } = arguments;
    let store = StorageOff(authority::open_store(&data, None)?);
    let authority = Arc::new(authority::open(&data, Arc::new(store)).await?);
    let options = ServerOptions {
        listen,
        admin_listen: None,
        threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        tls: None,
        trusted_proxies: Vec::new(),
        mounts: Vec::new(),
        is_for_this_machine: false,
        lost_log_lines: std::sync::Arc::default(),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::start(Arc::clone(&authority), Arc::new(SystemRandom), &options)?;
    std::fs::write(&port_file, server.address().port().to_string())
        .context("cannot write the port file")?;

    let follower = tokio::spawn({
        let authority = Arc::clone(&authority);
        async move { authority.follow().await }
    });
    let mut rounds = tokio::time::interval(FLUSH_INTERVAL);
    loop {
        tokio::select! {
            _ = rounds.tick() => authority.maintain().await?,
            _ = terminate.recv() => break,
        }
    }
    server.stop();
    follower.abort();
    Ok(())
}

/// A store that acknowledges new tokens without writing them, and does all else.
#[derive(Debug)]
struct StorageOff(Arc<dyn Store>);

#[async_trait]
impl Store for StorageOff {
    async fn insert_token(&self, _: NewToken) -> StoreResult<InsertToken> {
        Ok(InsertToken::Inserted)
    }

    async fn data_keys(&self) -> StoreResult<Vec<DataKey>> {
        self.0.data_keys().await
    }

    async fn initialize(&self, keys: Vec<DataKey>, change: NewChange) -> StoreResult<()> {
        self.0.initialize(keys, change).await
    }

    async fn clock_floor(&self) -> StoreResult<Timestamp> {
        self.0.clock_floor().await
    }

    async fn record_uses(&self, uses: Vec<LastUse>, clock_floor: Timestamp) -> StoreResult<()> {
        self.0.record_uses(uses, clock_floor).await
    }

    fn node(&self) -> Node {
        self.0.node()
    }

    async fn insert_instance(
        &self,
        instance: NewInstance,
        key: InstanceKeyRow,
        signing_key: SigningKeyRow,
        change: NewChange,
    ) -> StoreResult<Arc<Instance>> {
        self.0
            .insert_instance(instance, key, signing_key, change)
            .await
    }

    async fn list_instances(&self) -> StoreResult<Vec<Arc<Instance>>> {
        self.0.list_instances().await
    }

    async fn instance(&self, id: InstanceId) -> StoreResult<Option<Arc<Instance>>> {
        self.0.instance(id).await
    }

    async fn update_instance_settings(
        &self,
        id: InstanceId,
        revision: i64,
        settings: InstanceSettings,
        change: NewChange,
    ) -> StoreResult<UpdateSettings> {
        self.0
            .update_instance_settings(id, revision, settings, change)
            .await
    }

    async fn end_instance_tokens(
        &self,
        id: InstanceId,
        change: NewChange,
    ) -> StoreResult<Option<Timestamp>> {
        self.0.end_instance_tokens(id, change).await
    }

    async fn insert_instance_key(
        &self,
        key: InstanceKeyRow,
        max_live: usize,
        change: NewChange,
    ) -> StoreResult<bool> {
        self.0.insert_instance_key(key, max_live, change).await
    }

    async fn list_instance_keys(&self, instance: InstanceId) -> StoreResult<Vec<InstanceKeyRow>> {
        self.0.list_instance_keys(instance).await
    }

    async fn revoke_instance_key(
        &self,
        instance: InstanceId,
        id: KeyId,
        change: NewChange,
    ) -> StoreResult<bool> {
        self.0.revoke_instance_key(instance, id, change).await
    }

    async fn list_signing_keys(&self, instance: InstanceId) -> StoreResult<Vec<SigningKeyRow>> {
        self.0.list_signing_keys(instance).await
    }

    async fn insert_signing_key(
        &self,
        key: SigningKeyRow,
        max_keys: usize,
        change: NewChange,
    ) -> StoreResult<InsertSigningKey> {
        self.0.insert_signing_key(key, max_keys, change).await
    }

    async fn activate_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        cause: Cause,
        change: NewChange,
    ) -> StoreResult<bool> {
        self.0
            .activate_signing_key(instance, id, cause, change)
            .await
    }

    async fn delete_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        unused_since: Option<Timestamp>,
        change: NewChange,
    ) -> StoreResult<bool> {
        self.0
            .delete_signing_key(instance, id, unused_since, change)
            .await
    }

    async fn insert_machine(
        &self,
        machine: NewMachine,
        change: NewChange,
    ) -> StoreResult<InsertMachine> {
        self.0.insert_machine(machine, change).await
    }

    async fn machine(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> StoreResult<Option<Arc<MachineRow>>> {
        self.0.machine(instance, id).await
    }

    async fn machine_with_scopes(
        &self,
        instance: InstanceId,
        id: MachineId,
    ) -> StoreResult<Option<MachineWithScopes>> {
        self.0.machine_with_scopes(instance, id).await
    }

    async fn list_machines(
        &self,
        instance: InstanceId,
        query: MachineQuery,
    ) -> StoreResult<(Vec<MachineWithScopes>, u64)> {
        self.0.list_machines(instance, query).await
    }

    async fn update_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        update: MachineUpdate,
        change: NewChange,
    ) -> StoreResult<Option<MachineWithScopes>> {
        self.0.update_machine(instance, id, update, change).await
    }

    async fn delete_machine(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> StoreResult<bool> {
        self.0.delete_machine(instance, id, change).await
    }

    async fn end_machine_tokens(
        &self,
        instance: InstanceId,
        id: MachineId,
        change: NewChange,
    ) -> StoreResult<Option<Timestamp>> {
        self.0.end_machine_tokens(instance, id, change).await
    }

    async fn insert_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        max_scopes: usize,
        change: NewChange,
    ) -> StoreResult<InsertScope> {
        self.0
            .insert_scope(instance, from, to, max_scopes, change)
            .await
    }

    async fn delete_scope(
        &self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        change: NewChange,
    ) -> StoreResult<bool> {
        self.0.delete_scope(instance, from, to, change).await
    }

    async fn rotate_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        key: NewMachineKey,
        older_expire_at: Timestamp,
        max_live: usize,
        change: NewChange,
    ) -> StoreResult<bool> {
        self.0
            .rotate_machine_key(instance, machine, key, older_expire_at, max_live, change)
            .await
    }

    async fn reveal_machine_key(
        &self,
        instance: InstanceId,
        machine: MachineId,
        change: NewChange,
    ) -> StoreResult<Option<Option<SealedKey>>> {
        self.0.reveal_machine_key(instance, machine, change).await
    }

    async fn caller(&self, presented: Presented) -> StoreResult<Option<Caller>> {
        self.0.caller(presented).await
    }

    async fn verification(
        &self,
        presented: Presented,
        locator: Locator,
    ) -> StoreResult<Option<Verification>> {
        self.0.verification(presented, locator).await
    }

    async fn token(
        &self,
        instance: InstanceId,
        locator: Locator,
    ) -> StoreResult<Option<StoredToken>> {
        self.0.token(instance, locator).await
    }

    async fn find_token(&self, locator: Locator) -> StoreResult<Option<StoredToken>> {
        self.0.find_token(locator).await
    }

    async fn make_room(
        &self,
        instance: InstanceId,
        machine: MachineId,
        limit: u64,
        now: Timestamp,
    ) -> StoreResult<Option<Room>> {
        self.0.make_room(instance, machine, limit, now).await
    }

    async fn list_tokens(
        &self,
        instance: InstanceId,
        query: TokenQuery,
    ) -> StoreResult<(Vec<StoredToken>, u64)> {
        self.0.list_tokens(instance, query).await
    }

    async fn revoke_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        reason: Option<Arc<str>>,
        change: NewChange,
    ) -> StoreResult<RevokeToken> {
        self.0
            .revoke_token(instance, owner, id, reason, change)
            .await
    }

    async fn update_token(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        update: TokenUpdate,
        change: NewChange,
    ) -> StoreResult<UpdateToken> {
        self.0
            .update_token(instance, owner, id, update, change)
            .await
    }

    async fn erase_expired_secrets(&self, now: Timestamp) -> StoreResult<u64> {
        self.0.erase_expired_secrets(now).await
    }

    async fn sweep_tokens(
        &self,
        after: Option<Locator>,
        limit: u32,
        dead_before: Timestamp,
        now: Timestamp,
    ) -> StoreResult<Sweep> {
        self.0.sweep_tokens(after, limit, dead_before, now).await
    }

    async fn list_changes(&self, log: Log, after: After, limit: u32) -> StoreResult<Changes> {
        self.0.list_changes(log, after, limit).await
    }

    async fn log_head(&self, log: Log) -> StoreResult<Cursor> {
        self.0.log_head(log).await
    }

    async fn wait_for_changes(&self, seen: u64) -> StoreResult<u64> {
        self.0.wait_for_changes(seen).await
    }

    async fn check(&self) -> StoreResult<()> {
        self.0.check().await
    }

    fn measures(&self) -> Vec<Measure> {
        self.0.measures()
    }
}
