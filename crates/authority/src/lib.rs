//! The rules of an authority: who may issue, verify, revoke and rotate; signing keys; limits; the change log.
//!
//! No HTTP and no SQL. Every method takes the [`Actor`] first, decides, makes the record with its entry for the change log,
//! and calls the store once. The API, the dashboard and the local commands call the same methods. No result of a
//! verification is cached: the store answers in microseconds, and revocation needs no invalidation.

mod actor;
mod allowance;
mod audit;
mod clock;
mod error;
mod instances;
mod keys;
mod limits;
mod machines;
mod maintenance;
mod random;
mod readiness;
mod signer;
mod tokens;
mod turns;
mod uses;
mod vault;

use std::sync::Arc;

use countersign_protocol::random::Random;
use countersign_store::{DataKey, Store};

pub use actor::{Accepts, Actor};
pub use audit::AuditReport;
pub use clock::{Clock, SystemClock};
pub use error::{Error, Invalid, Problem, Refusal};
pub use instances::{CreatedInstance, CreatedInstanceKey, InstanceKeyInfo};
pub use keys::SigningKeyInfo;
pub use machines::{CreatedMachine, MachineRequest, machine_body};
pub use maintenance::FLUSH_INTERVAL;
pub use random::SystemRandom;
pub use tokens::{IssueRequest, IssuedToken, UpdateRequest};
pub use vault::{MasterKey, MasterKeyError};

// What the callers of the authority meet of the store.
pub use countersign_store::{
    Change, ChangeKind, Instance, InstanceSettings, MachineOrder, MachineQuery, MachineRow,
    MachineUpdate, MachineWithScopes, Page, SortBy, Statistics, StoreError, TokenFormat,
    TokenFormats,
};

use allowance::Allowances;
use clock::TimeKeeper;
use keys::Rings;
use limits::Limits;
use signer::Signer;
use tokens::Locators;
use turns::Turns;
use uses::Uses;
use vault::Vault;

/// What an operator decides for the whole authority.
#[derive(Clone, Debug)]
pub struct AuthorityOptions {
    /// Where senders and receivers reach the authority; the issuer of JWTs is made from it. No slash at the end.
    pub public_url: String,
    /// How many threads sign JWTs.
    pub signers: usize,
    /// How many failed authentications of one address are answered in ten seconds before the rest get 429.
    pub max_failures: u32,
    /// How many secrets an instance may show in a minute.
    pub max_reveals: u32,
    /// How many entries of the change log a machine may cause at once; one comes back each second.
    pub max_changes: u32,
}

impl Default for AuthorityOptions {
    fn default() -> Self {
        Self {
            public_url: "http://127.0.0.1:4840".to_owned(),
            signers: 1,
            max_failures: 20,
            max_reveals: 10,
            max_changes: 100_000,
        }
    }
}

/// An authority with its keys in hand.
pub struct Authority {
    store: Arc<dyn Store>,
    random: Arc<dyn Random>,
    time: TimeKeeper,
    vault: Arc<Vault>,
    rings: Arc<Rings>,
    signer: Signer,
    key_maker: Signer,
    rotations: Turns,
    locators: Locators,
    uses: Uses,
    limits: Limits,
    allowances: Allowances,
    maintenance: maintenance::Progress,
    readiness: readiness::Readiness,
    options: AuthorityOptions,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("store", &self.store)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the data keys of a new authority, wrapped by `master`.
    ///
    /// # Errors
    /// Where the store was initialised before, or cannot be written.
    pub async fn initialise(
        store: &dyn Store,
        master: &MasterKey,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<(), Error> {
        Ok(store
            .initialise(vault::new_data_keys(master, clock.wall(), random))
            .await?)
    }

    /// Says whether `master` opens these data keys.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`], [`Error::NotInitialised`] where there are none.
    pub fn try_master_key(master: &MasterKey, keys: &[DataKey]) -> Result<(), Error> {
        Vault::open(master, keys, Arc::new(SystemRandom)).map(drop)
    }

    /// Opens the authority that is remembered by `store`.
    ///
    /// # Errors
    /// [`Error::NotInitialised`], [`Error::WrongMasterKey`], or the store's error.
    pub async fn open(
        store: Arc<dyn Store>,
        master: &MasterKey,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        options: AuthorityOptions,
    ) -> Result<Self, Error> {
        let vault = Vault::open(master, &store.data_keys().await?, Arc::clone(&random))?;
        let time = TimeKeeper::new(clock, store.clock_floor().await?);
        let signer = Signer::start("signer", options.signers, signer::QUEUE);
        let key_maker = Signer::start("key-maker", 1, 1);
        let limits = Limits::new(options.max_failures, options.max_reveals);
        let authority = Self {
            store,
            random,
            time,
            vault: Arc::new(vault),
            rings: Arc::default(),
            signer,
            key_maker,
            rotations: Turns::default(),
            locators: Locators::default(),
            uses: Uses::default(),
            limits,
            allowances: Allowances::new(options.max_changes),
            maintenance: maintenance::Progress::default(),
            readiness: readiness::Readiness::default(),
            options,
        };
        for instance in authority.store.list_instances().await? {
            authority.reload_ring(instance.id).await?;
        }
        Ok(authority)
    }

    /// The store, for what needs no rule: its state and its numbers.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The time that decides: it never runs backwards.
    #[must_use]
    pub fn now(&self) -> countersign_protocol::time::Timestamp {
        self.time.now()
    }

    /// What the operator decided.
    #[must_use]
    pub fn options(&self) -> &AuthorityOptions {
        &self.options
    }
}
