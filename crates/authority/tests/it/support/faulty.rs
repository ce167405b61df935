//! A store that fails when it is told to: before a call, after it took effect, with a panic, or by never answering.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use countersign_protocol::ids::{InstanceId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::time::Timestamp;
use countersign_store::{
    Change, DataKey, Digest, InsertMachine, InsertScope, InsertSigningKey, InsertToken, Instance,
    InstanceKeyRow, InstanceSettings, LastUse, MachineKeyRow, MachineQuery, MachineRow,
    MachineUpdate, MachineWithScopes, NewChange, NewInstance, NewMachine, NewMachineKey, NewToken,
    Result, Revocation, RevokeToken, SealedKey, SigningKeyRow, Statistics, Store, StoreError,
    StoredToken, Sweep, TokenQuery, TokenUpdate, UpdateSettings, UpdateToken,
};
use tokio::sync::Semaphore;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has no effect and fails.
    Before,
    /// It takes effect, and nobody learns of it.
    After,
    /// What is stored cannot be read.
    Corrupt,
    /// The code that was called panics.
    Panic,
    /// No answer ever comes.
    Hang,
    /// It goes on when the store is healed.
    Wait,
}

#[derive(Debug, Default)]
struct Plan {
    /// The call with this number, counted from [`FaultyStore::fail_call`].
    at_call: Option<(u64, Fault)>,
    /// Every call of these operations.
    on: HashMap<&'static str, Fault>,
}

/// The decorator.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    calls: AtomicU64,
    plan: Mutex<Plan>,
    is_resting: AtomicBool,
    waiting: AtomicU64,
    gate: Semaphore,
}

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            calls: AtomicU64::new(0),
            plan: Mutex::default(),
            is_resting: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            gate: Semaphore::new(0),
        }
    }

    /// Lets the call with this number fail, the next one being number 1.
    pub(crate) fn fail_call(&self, number: u64, fault: Fault) {
        self.plan.lock().unwrap().at_call =
            Some((self.calls.load(Ordering::SeqCst) + number, fault));
    }

    /// Lets every call of an operation fail until [`FaultyStore::heal`].
    pub(crate) fn fail_all(&self, operation: &'static str, fault: Fault) {
        self.plan.lock().unwrap().on.insert(operation, fault);
    }

    /// Lets nothing fail any more. Says whether a planned call never came.
    pub(crate) fn heal(&self) -> bool {
        let plan = std::mem::take(&mut *self.plan.lock().unwrap());
        self.gate.add_permits(1);
        plan.at_call
            .is_some_and(|(number, _)| number > self.calls.load(Ordering::SeqCst))
    }

    /// Lets calls pass uncounted for a while, so that somebody can look.
    pub(crate) fn rest(&self, is_resting: bool) {
        self.is_resting.store(is_resting, Ordering::SeqCst);
    }

    /// How many calls have come to hang or wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    fn fault(&self, operation: &'static str) -> Option<Fault> {
        if self.is_resting.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let plan = self.plan.lock().unwrap();
        let planned = plan.at_call.filter(|(wanted, _)| *wanted == number);
        planned
            .map(|(_, fault)| fault)
            .or_else(|| plan.on.get(operation).copied())
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let failed = |how| StoreError::Unavailable(format!("{operation} failed {how}"));
        match self.fault(operation) {
            None => call.await,
            Some(Fault::Before) => Err(failed("before it took effect")),
            Some(Fault::After) => match call.await {
                Ok(_) => Err(failed("after it took effect")),
                Err(error) => Err(error),
            },
            Some(Fault::Corrupt) => Err(StoreError::Corrupt(format!("{operation} read nonsense"))),
            Some(Fault::Panic) => panic!("{operation} panicked, as the test wants"),
            Some(Fault::Hang) => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
            Some(Fault::Wait) => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _open = self.gate.acquire().await;
                call.await
            }
        }
    }
}

/// Hands each operation to the store behind, unless the plan says otherwise.
macro_rules! faulty {
    ($($operation:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        #[async_trait]
        impl Store for FaultyStore {
            $(async fn $operation(&self, $($argument: $kind),*) -> Result<$output> {
                self.call(stringify!($operation), self.inner.$operation($($argument),*)).await
            })*

            fn statistics(&self) -> Statistics {
                self.inner.statistics()
            }
        }
    };
}

faulty! {
    data_keys() -> Vec<DataKey>;
    initialise(keys: Vec<DataKey>) -> ();
    clock_floor() -> Timestamp;
    record_uses(uses: Vec<LastUse>, clock_floor: Timestamp) -> ();
    insert_instance(instance: NewInstance, key: InstanceKeyRow, signing_key: SigningKeyRow, change: NewChange) -> Arc<Instance>;
    list_instances() -> Vec<Arc<Instance>>;
    instance(id: InstanceId) -> Option<Arc<Instance>>;
    update_instance_settings(id: InstanceId, revision: i64, settings: InstanceSettings, change: NewChange) -> UpdateSettings;
    insert_instance_key(key: InstanceKeyRow, max_live: usize, change: NewChange) -> bool;
    list_instance_keys(instance: InstanceId) -> Vec<InstanceKeyRow>;
    instance_key_by_digest(digest: &Digest) -> Option<Arc<InstanceKeyRow>>;
    revoke_instance_key(instance: InstanceId, key_id: &str, at: Timestamp, change: NewChange) -> bool;
    list_signing_keys(instance: InstanceId) -> Vec<SigningKeyRow>;
    insert_signing_key(key: SigningKeyRow, max_keys: usize, change: NewChange) -> InsertSigningKey;
    activate_signing_key(instance: InstanceId, id: SigningKeyId, at: Timestamp, change: NewChange) -> bool;
    delete_signing_key(instance: InstanceId, id: SigningKeyId, unused_since: Option<Timestamp>, change: NewChange) -> bool;
    insert_machine(machine: NewMachine, change: NewChange) -> InsertMachine;
    machine(instance: InstanceId, id: MachineId) -> Option<Arc<MachineRow>>;
    machine_with_scopes(instance: InstanceId, id: MachineId) -> Option<MachineWithScopes>;
    list_machines(instance: InstanceId, query: MachineQuery) -> (Vec<MachineWithScopes>, u64);
    update_machine(instance: InstanceId, id: MachineId, update: MachineUpdate, at: Timestamp, change: NewChange) -> Option<MachineWithScopes>;
    delete_machine(instance: InstanceId, id: MachineId, at: Timestamp, change: NewChange) -> bool;
    insert_scope(instance: InstanceId, from: MachineId, to: MachineId, at: Timestamp, max_scopes: usize, change: NewChange) -> InsertScope;
    delete_scope(instance: InstanceId, from: MachineId, to: MachineId, at: Timestamp, change: NewChange) -> bool;
    machine_key_by_digest(digest: &Digest) -> Option<Arc<MachineKeyRow>>;
    rotate_machine_key(instance: InstanceId, machine: MachineId, key: NewMachineKey, older_expire_at: Timestamp, max_live: usize, at: Timestamp, change: NewChange) -> bool;
    reveal_machine_key(instance: InstanceId, machine: MachineId, change: NewChange) -> Option<Option<SealedKey>>;
    insert_token(token: NewToken) -> InsertToken;
    token(instance: InstanceId, locator: Locator) -> Option<StoredToken>;
    list_tokens(instance: InstanceId, query: TokenQuery) -> (Vec<StoredToken>, u64);
    revoke_token(instance: InstanceId, owner: Option<MachineId>, id: TokenId, revocation: Revocation, change: NewChange) -> RevokeToken;
    update_token(instance: InstanceId, owner: Option<MachineId>, id: TokenId, update: TokenUpdate, at: Timestamp, change: NewChange) -> UpdateToken;
    erase_expired_secrets(now: Timestamp) -> u64;
    sweep_tokens(after: Option<Locator>, limit: u32, dead_before: Timestamp) -> Sweep;
    list_changes(instance: InstanceId, after: u64, limit: u32) -> Vec<Change>;
    check() -> ();
}
