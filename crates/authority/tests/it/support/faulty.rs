//! A store that fails when it is told to: before a call, after it took effect, with a panic, or by never answering. It can
//! also answer with altered data, as if somebody had changed the data behind the authority's back, and it counts the calls.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use countersign_protocol::change::{Cause, Cursor, Log};
use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;
use countersign_store::{
    After, Caller, Changes, DataKey, InsertMachine, InsertScope, InsertSigningKey, InsertToken,
    Instance, InstanceKeyRow, LastUse, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes,
    Measure, NewChange, NewInstance, NewMachine, NewMachineKey, NewToken, Node, Presented, Result,
    RevokeToken, Room, SealedKey, SigningKeyRow, Store, StoreError, StoredToken, Sweep, TokenQuery,
    TokenUpdate, UpdateSettings, UpdateToken, Verification,
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

/// Changes an answer of the type `T`.
type Alteration<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

#[derive(Default)]
struct Plan {
    /// The call with this number, counted from [`FaultyStore::fail_call`].
    at_call: Option<(u64, Fault)>,
    /// Every call of these operations.
    on: HashMap<&'static str, Fault>,
    /// The [`Alteration`] of the answers of these operations.
    altered: HashMap<&'static str, Box<dyn Any + Send>>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Plan")
            .field("at_call", &self.at_call)
            .field("on", &self.on)
            .field("altered", &self.altered.keys())
            .finish()
    }
}

/// The decorator.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    calls: AtomicU64,
    failed: AtomicU64,
    plan: Mutex<Plan>,
    is_resting: AtomicBool,
    waiting: AtomicU64,
    /// Closed, and replaced by another one, when the store is healed.
    gate: Mutex<Arc<Semaphore>>,
}

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            plan: Mutex::default(),
            is_resting: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            gate: Mutex::new(closed_gate()),
        }
    }

    /// The number of calls so far, those that failed included.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The number of calls that had a [`Fault`] so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// Makes the call with this number fail. The next call is number 1.
    pub(crate) fn fail_call(&self, number: u64, fault: Fault) {
        self.plan.lock().unwrap().at_call = Some((self.calls() + number, fault));
    }

    /// Makes every call of an operation fail until [`FaultyStore::heal`].
    pub(crate) fn fail_all(&self, operation: &'static str, fault: Fault) {
        self.plan.lock().unwrap().on.insert(operation, fault);
    }

    /// Alters what an operation returns until [`FaultyStore::heal`]. `T` is what it returns on success.
    pub(crate) fn alter<T: 'static>(
        &self,
        operation: &'static str,
        alteration: impl Fn(&mut T) + Send + Sync + 'static,
    ) {
        let alteration: Alteration<T> = Arc::new(alteration);
        let altered = &mut self.plan.lock().unwrap().altered;
        altered.insert(operation, Box::new(alteration));
    }

    /// Makes all calls succeed again. Returns whether a planned call never came.
    pub(crate) fn heal(&self) -> bool {
        let plan = std::mem::take(&mut *self.plan.lock().unwrap());
        std::mem::replace(&mut *self.gate.lock().unwrap(), closed_gate()).close();
        plan.at_call
            .is_some_and(|(number, _)| number > self.calls())
    }

    /// Passes calls on without counting them, so that a test can look.
    pub(crate) fn rest(&self, is_resting: bool) {
        self.is_resting.store(is_resting, Ordering::SeqCst);
    }

    /// The number of calls that have come to hang or wait.
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
        let fault = planned
            .map(|(_, fault)| fault)
            .or_else(|| plan.on.get(operation).copied());
        if fault.is_some() {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
        fault
    }

    fn alteration<T: 'static>(&self, operation: &'static str) -> Option<Alteration<T>> {
        let plan = self.plan.lock().unwrap();
        let alteration = plan.altered.get(operation)?;
        let alteration = alteration.downcast_ref::<Alteration<T>>();
        Some(Arc::clone(
            alteration.expect("an alteration takes what the operation returns"),
        ))
    }

    async fn call<T: 'static>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let failed = |how| StoreError::Unavailable(format!("{operation} failed {how}"));
        match self.fault(operation) {
            None => {
                let mut answer = call.await?;
                if let Some(alter) = self.alteration::<T>(operation) {
                    alter(&mut answer);
                }
                Ok(answer)
            }
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
                let gate = Arc::clone(&self.gate.lock().unwrap());
                self.waiting.fetch_add(1, Ordering::SeqCst);
                gate.acquire()
                    .await
                    .expect_err("the gate has no permits and is closed to let the calls pass");
                call.await
            }
        }
    }
}

fn closed_gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// Hands each operation to the store behind, unless the plan says otherwise.
macro_rules! faulty {
    ($($operation:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        #[async_trait]
        impl Store for FaultyStore {
            $(async fn $operation(&self, $($argument: $kind),*) -> Result<$output> {
                self.call(stringify!($operation), self.inner.$operation($($argument),*)).await
            })*

            fn node(&self) -> Node {
                self.inner.node()
            }

            fn measures(&self) -> Vec<Measure> {
                self.inner.measures()
            }
        }
    };
}

faulty! {
    data_keys() -> Vec<DataKey>;
    initialize(keys: Vec<DataKey>, change: NewChange) -> ();
    clock_floor() -> Timestamp;
    record_uses(uses: Vec<LastUse>, clock_floor: Timestamp) -> ();
    insert_instance(instance: NewInstance, key: InstanceKeyRow, signing_key: SigningKeyRow, change: NewChange) -> Arc<Instance>;
    list_instances() -> Vec<Arc<Instance>>;
    instance(id: InstanceId) -> Option<Arc<Instance>>;
    update_instance_settings(id: InstanceId, revision: i64, settings: InstanceSettings, change: NewChange) -> UpdateSettings;
    end_instance_tokens(id: InstanceId, change: NewChange) -> Option<Timestamp>;
    insert_instance_key(key: InstanceKeyRow, max_live: usize, change: NewChange) -> bool;
    list_instance_keys(instance: InstanceId) -> Vec<InstanceKeyRow>;
    revoke_instance_key(instance: InstanceId, id: KeyId, change: NewChange) -> bool;
    list_signing_keys(instance: InstanceId) -> Vec<SigningKeyRow>;
    insert_signing_key(key: SigningKeyRow, max_keys: usize, change: NewChange) -> InsertSigningKey;
    activate_signing_key(instance: InstanceId, id: SigningKeyId, cause: Cause, change: NewChange) -> bool;
    delete_signing_key(instance: InstanceId, id: SigningKeyId, unused_since: Option<Timestamp>, change: NewChange) -> bool;
    insert_machine(machine: NewMachine, change: NewChange) -> InsertMachine;
    machine(instance: InstanceId, id: MachineId) -> Option<Arc<MachineRow>>;
    machine_with_scopes(instance: InstanceId, id: MachineId) -> Option<MachineWithScopes>;
    list_machines(instance: InstanceId, query: MachineQuery) -> (Vec<MachineWithScopes>, u64);
    update_machine(instance: InstanceId, id: MachineId, update: MachineUpdate, change: NewChange) -> Option<MachineWithScopes>;
    delete_machine(instance: InstanceId, id: MachineId, change: NewChange) -> bool;
    end_machine_tokens(instance: InstanceId, id: MachineId, change: NewChange) -> Option<Timestamp>;
    insert_scope(instance: InstanceId, from: MachineId, to: MachineId, max_scopes: usize, change: NewChange) -> InsertScope;
    delete_scope(instance: InstanceId, from: MachineId, to: MachineId, change: NewChange) -> bool;
    rotate_machine_key(instance: InstanceId, machine: MachineId, key: NewMachineKey, older_expire_at: Timestamp, max_live: usize, change: NewChange) -> bool;
    reveal_machine_key(instance: InstanceId, machine: MachineId, change: NewChange) -> Option<Option<SealedKey>>;
    caller(presented: Presented) -> Option<Caller>;
    verification(presented: Presented, locator: Locator) -> Option<Verification>;
    token(instance: InstanceId, locator: Locator) -> Option<StoredToken>;
    find_token(locator: Locator) -> Option<StoredToken>;
    insert_token(token: NewToken) -> InsertToken;
    make_room(instance: InstanceId, machine: MachineId, limit: u64, now: Timestamp) -> Option<Room>;
    list_tokens(instance: InstanceId, query: TokenQuery) -> (Vec<StoredToken>, u64);
    revoke_token(instance: InstanceId, owner: Option<MachineId>, id: TokenId, reason: Option<Arc<str>>, change: NewChange) -> RevokeToken;
    update_token(instance: InstanceId, owner: Option<MachineId>, id: TokenId, update: TokenUpdate, change: NewChange) -> UpdateToken;
    erase_expired_secrets(now: Timestamp) -> u64;
    sweep_tokens(after: Option<Locator>, limit: u32, dead_before: Timestamp, now: Timestamp) -> Sweep;
    list_changes(log: Log, after: After, limit: u32) -> Changes;
    log_head(log: Log) -> Cursor;
    wait_for_changes(seen: u64) -> u64;
    check() -> ();
}
