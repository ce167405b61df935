//! The rules of an authority: who may issue, verify, revoke and rotate; signing keys; limits; the change log.
//!
//! This crate contains no HTTP and no SQL. A method takes an [`Actor`] or the [`Operator`]'s capability first, decides,
//! and calls the store once. Requests and answers are typed. Their meaning, defaults, limits, log events and counters
//! belong here, so the API, the dashboard and the local commands behave the same. Verification results are not cached:
//! the store answers in microseconds, and revocation needs no invalidation.
//!
//! The modules add methods to [`Authority`], and this file declares [`Authority`] from parts that the modules define.
//! This is the only circular import between the modules.

mod actor;
mod allowance;
mod audit;
mod clock;
mod counters;
mod error;
mod follower;
mod instances;
mod keys;
mod limits;
mod machines;
mod maintenance;
mod random;
mod readiness;
mod rings;
mod room;
mod rules;
mod signer;
mod tokens;
mod turns;
mod uses;
mod vault;
mod whoami;

use std::sync::Arc;

use countersign_protocol::limits::MAX_TOKENS;
use countersign_protocol::random::Random;
use countersign_protocol::time::Timestamp;
use countersign_store::{DataKey, NewChange, OpenStore, Store, StoreError};

// What callers ask for is what stands in their requests.
pub use countersign_protocol::instance::{InstanceKeyInfo, SigningKeyInfo};
pub use countersign_protocol::request::{
    IssueRequest, ListMachines, ListTokens, MachineRequest, MachineUpdate, UpdateRequest,
};

pub use actor::{Accepts, Actor, Operator};
pub use audit::AuditReport;
pub use clock::{Clock, SystemClock};
pub use counters::Counters;
pub use error::{Error, Invalid, Place, Problem, Refusal};
pub use instances::{CreatedInstance, CreatedInstanceKey, InstanceInfo};
pub use keys::Discovery;
pub use machines::MachinePage;
pub use maintenance::FLUSH_INTERVAL;
pub use random::SystemRandom;
pub use tokens::IssuedToken;
pub use vault::{MasterKey, MasterKeyError};
pub use whoami::WhoAmI;

use allowance::Allowances;
use clock::TimeKeeper;
use counters::Tally;
use follower::Follower;
use limits::Limits;
use room::Room;
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
    /// Number of change-log records that a machine may cause at once; one more is allowed each second.
    pub max_changes: u32,
    /// Approximate maximum number of tokens of a machine, in any format and state.
    pub max_tokens: u64,
}

impl Default for AuthorityOptions {
    fn default() -> Self {
        Self {
            public_url: "http://127.0.0.1:4840".to_owned(),
            signers: 1,
            max_failures: 20,
            max_reveals: 10,
            max_changes: 100_000,
            max_tokens: MAX_TOKENS,
        }
    }
}

/// How far the initialization of an authority has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The store is empty.
    Empty,
    /// The store holds data keys but no instance, because `init` was interrupted.
    Begun,
    /// The authority has an instance.
    Ready,
}

/// A number that the store measures about its work, for the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its name, in lower case with underscores.
    pub name: &'static str,
    /// Description for people.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

/// An authority with its keys in hand.
pub struct Authority {
    store: Arc<dyn Store>,
    random: Arc<dyn Random>,
    time: TimeKeeper,
    vault: Arc<Vault>,
    follower: Arc<Follower>,
    signer: Signer,
    key_maker: Signer,
    rotations: Turns,
    locators: Locators,
    uses: Uses,
    limits: Limits,
    allowances: Allowances,
    room: Room,
    tally: Tally,
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
    /// [`Error::Conflict`] if data keys exist, or the store's error.
    pub async fn initialize(
        store: &OpenStore,
        master: &MasterKey,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<(), Error> {
        let at = clock.wall();
        let keys = vault::new_data_keys(master, at, random);
        // Used only to chain the first record of the authority's log, which needs no random bytes.
        let vault = Vault::open(master, &keys, Arc::new(SystemRandom))?;
        let change = NewChange {
            at,
            actor: actor::OPERATOR.to_owned(),
            key: None,
            chain: vault.chain(),
        };
        let store = store.clone().into_store();
        store
            .initialize(keys, change)
            .await
            .map_err(|error| match error {
                StoreError::Conflict(_) => {
                    Error::Conflict("the authority is already initialized".to_owned())
                }
                error => error.into(),
            })
    }

    /// Returns how far the initialization of the authority in this store has come.
    ///
    /// # Errors
    /// The store's error.
    pub async fn stage(store: &OpenStore) -> Result<Stage, Error> {
        let store = store.clone().into_store();
        if store.data_keys().await?.is_empty() {
            return Ok(Stage::Empty);
        }
        let has_instance = !store.list_instances().await?.is_empty();
        Ok(if has_instance {
            Stage::Ready
        } else {
            Stage::Begun
        })
    }

    /// Says whether `master` opens these data keys.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`], or [`Error::NotInitialized`] if there are no data keys.
    pub fn try_master_key(master: &MasterKey, keys: &[DataKey]) -> Result<(), Error> {
        Vault::open(master, keys, Arc::new(SystemRandom)).map(drop)
    }

    /// Opens the authority in `store`. Also returns the operator's capability.
    ///
    /// # Errors
    /// [`Error::NotInitialized`], [`Error::WrongMasterKey`], or the store's error.
    pub async fn open(
        store: OpenStore,
        master: &MasterKey,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        options: AuthorityOptions,
    ) -> Result<(Self, Operator), Error> {
        let store = store.into_store();
        let vault = Vault::open(master, &store.data_keys().await?, Arc::clone(&random))?;
        let vault = Arc::new(vault);
        let follower = Follower::new(Arc::clone(&store), Arc::clone(&vault));
        follower.catch_up_all().await?;
        let authority = Self {
            time: TimeKeeper::new(clock, store.clock_floor().await?),
            locators: Locators::new(store.node()),
            store,
            random,
            vault,
            follower: Arc::new(follower),
            signer: Signer::start("signer", options.signers, signer::QUEUE),
            key_maker: Signer::start("key-maker", 1, 1),
            rotations: Turns::default(),
            uses: Uses::default(),
            limits: Limits::new(options.max_failures, options.max_reveals),
            allowances: Allowances::new(options.max_changes),
            room: Room::new(options.max_tokens),
            tally: Tally::default(),
            maintenance: maintenance::Progress::default(),
            readiness: readiness::Readiness::default(),
            options,
        };
        Ok((authority, Operator::new()))
    }

    /// Returns the store's measurements of its work.
    #[must_use]
    pub fn measures(&self) -> Vec<Measure> {
        let measures = self.store.measures().into_iter();
        measures
            .map(|measure| Measure {
                name: measure.name,
                help: measure.help,
                value: measure.value,
            })
            .collect()
    }

    /// Returns the counts since the authority was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.snapshot()
    }

    /// The time that decides: it never runs backwards.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// What the operator decided.
    #[must_use]
    pub fn options(&self) -> &AuthorityOptions {
        &self.options
    }
}
