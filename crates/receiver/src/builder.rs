//! How a receiver is made. Nothing is sent until the first check.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_client::{Client, PublicDocument};
use countersign_protocol::ids::MachineId;
use countersign_protocol::secret::Secret;
use countersign_protocol::variables::suffix_of;

use crate::authority::Authority;
use crate::clock::{Clock, SystemClock, Time};
use crate::error::SetupError;
use crate::events::{Event, Events};
use crate::jwks::MAX_DOCUMENT_BYTES;
use crate::keys::Keys;
use crate::legacy::{Legacy, LegacyCheck};
use crate::machine_jwt::{MachineIssuer, MachineJwts};
use crate::receiver::{Inner, Receiver};
use crate::remote::{Ask, Document};
use crate::services::Services;
use crate::user_jwt::{UserIssuer, Users};

/// How long a connection to the authority may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer of the authority may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer of the authority: a token with all its scopes and claims fits several times.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How old an answer may be that counts while the authority cannot be asked.
const MAX_STALE: Duration = Duration::from_secs(15 * 60);

impl Receiver {
    /// Begins a receiver that is this machine: tokens that are not for it are refused.
    #[must_use]
    pub fn builder(machine_id: MachineId) -> ReceiverBuilder {
        ReceiverBuilder::new(machine_id)
    }

    /// Makes a receiver that is the service `own` of the environment:
    ///
    /// - `CLERK_API_URL` (`https://host`) or `CLERK_API_BASE_URL` (`https://host/v1`): the authority;
    /// - `CLERK_MACHINE_SECRET_KEY_<OWN>` or `CLERK_MACHINE_SECRET_KEY`: this machine's key;
    /// - `CLERK_M2M_MACHINE_ID_<OWN>`: this machine's id;
    /// - `CLERK_M2M_MACHINE_ID_<SERVICE>`: the id of each service that [`Accept::service`](crate::Accept::service) may name.
    ///
    /// # Errors
    /// Names every variable that is missing.
    pub fn from_env(own: &str) -> Result<Self, SetupError> {
        ReceiverBuilder::from_env(own)?.build()
    }
}

/// What a [`Receiver`] is made of.
pub struct ReceiverBuilder {
    me: MachineId,
    authority: Option<(String, Secret)>,
    allows_plain_http: bool,
    stale_if_error: Duration,
    machine_issuer: Option<MachineIssuer>,
    user_issuers: Vec<UserIssuer>,
    services: BTreeMap<Box<str>, MachineId>,
    legacy: Option<LegacyCheck>,
    events: Events,
}

impl ReceiverBuilder {
    pub(crate) fn new(me: MachineId) -> Self {
        Self {
            me,
            authority: None,
            allows_plain_http: false,
            stale_if_error: Duration::ZERO,
            machine_issuer: None,
            user_issuers: Vec::new(),
            services: BTreeMap::new(),
            legacy: None,
            events: Events::default(),
        }
    }

    /// Begins with the settings of the environment, as [`Receiver::from_env`] does, so that more can be added.
    ///
    /// # Errors
    /// Names every variable that is missing.
    pub fn from_env(own: &str) -> Result<Self, SetupError> {
        Self::from_services(&Services::from_env(), own)
    }

    /// Begins with settings that were read from elsewhere.
    ///
    /// # Errors
    /// Names every variable that is missing.
    pub fn from_services(services: &Services, own: &str) -> Result<Self, SetupError> {
        let (address, key, me) = services.own(own)?;
        let mut builder = Self::new(me).authority(address, key);
        builder.services = services.machine_ids()?;
        Ok(builder)
    }

    /// Asks the authority at `address` (`https://host`, with or without `/v1`) about tokens, with this machine's key.
    ///
    /// It is asked about opaque tokens, and about M2M JWTs where no [`machine_issuer`](Self::machine_issuer) is set.
    #[must_use]
    pub fn authority(mut self, address: &str, machine_key: &str) -> Self {
        self.authority = Some((address.to_owned(), Secret::new(machine_key.to_owned())));
        self
    }

    /// Sends key and tokens in plain text to an authority that is not on this machine. For networks that nobody can listen to.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.allows_plain_http = true;
        self
    }

    /// Lets machines in for so long, 15 minutes at most, by what the authority said of their tokens last, while it cannot be asked
    /// (RFC 5861 section 4). **A token that is revoked in that time goes on.** Each use is logged and told to the
    /// [`observer`](Self::observer). Default: not at all, such requests are answered with 503.
    #[must_use]
    pub fn stale_if_error(mut self, longest: Duration) -> Self {
        self.stale_if_error = longest;
        self
    }

    /// Checks M2M JWTs of this issuer in this process. They may then stay good until they expire, even where they were revoked;
    /// without it each is sent to the authority like an opaque token, and a revocation is seen within 5 s.
    ///
    /// Beside it an [`authority`](Self::authority) is needed, which says whether a machine may call this one, unless the issuer's
    /// word on that is [trusted](MachineIssuer::trust_scopes_claim).
    #[must_use]
    pub fn machine_issuer(mut self, issuer: MachineIssuer) -> Self {
        self.machine_issuer = Some(issuer);
        self
    }

    /// Accepts users of this issuer, and of others that are given.
    #[must_use]
    pub fn user_issuer(mut self, issuer: UserIssuer) -> Self {
        self.user_issuers.push(issuer);
        self
    }

    /// Says which machine a service is, for [`Accept::service`](crate::Accept::service).
    #[must_use]
    pub fn service(mut self, name: &str, machine_id: MachineId) -> Self {
        self.services.insert(suffix_of(name).into(), machine_id);
        self
    }

    /// Tries this check where no token was presented and the route accepts [`Accept::legacy`](crate::Accept::legacy). It takes the
    /// place of one that was given before; [`LegacyCheck::or`] tries two.
    #[must_use]
    pub fn legacy(mut self, check: LegacyCheck) -> Self {
        self.legacy = Some(check);
        self
    }

    /// Tells this function what happens, for metrics. It is called on each check and must not block.
    #[must_use]
    pub fn observer(
        mut self,
        observer: impl for<'a> Fn(&Event<'a>) + Send + Sync + 'static,
    ) -> Self {
        self.events = Events::to(observer);
        self
    }

    /// Makes the receiver. Its checks need a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// Where an address, a key or the legacy check cannot be used.
    pub fn build(self) -> Result<Receiver, SetupError> {
        let ask = match &self.authority {
            None => None,
            Some((_, key)) if !key.expose().trim().starts_with("ak_") => {
                return Err(unusable(
                    "the receiver's key is no machine key, which begins with ak_: CLERK_MACHINE_SECRET_KEY, or the same with the name of the service behind it, is to hold the key of this machine",
                ));
            }
            Some((address, key)) => {
                let mut client = Client::builder(address, key.expose())
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(TIMEOUT)
                    .max_answer_bytes(MAX_ANSWER_BYTES);
                if self.allows_plain_http {
                    client = client.allow_plain_http();
                }
                Some(Arc::new(client.build().map_err(unusable)?) as Arc<dyn Ask>)
            }
        };
        self.build_with(Arc::new(SystemClock::start()), ask, |url| {
            let document = PublicDocument::new(url, MAX_DOCUMENT_BYTES);
            let wrong = |error| unusable(format!("the key set of an issuer, {url}: {error}"));
            Ok(Arc::new(document.map_err(wrong)?))
        })
    }

    /// The same with what tests replace.
    pub(crate) fn build_with(
        self,
        clock: Arc<dyn Clock>,
        ask: Option<Arc<dyn Ask>>,
        document: impl Fn(&str) -> Result<Arc<dyn Document>, SetupError>,
    ) -> Result<Receiver, SetupError> {
        if let Some(fault) = self.legacy.as_ref().and_then(|legacy| legacy.fault) {
            return Err(SetupError::Unusable(fault.to_owned()));
        }
        if self.stale_if_error > MAX_STALE {
            return Err(unusable("stale_if_error is longer than 15 minutes"));
        }
        let stale_millis = i64::try_from(self.stale_if_error.as_millis()).unwrap_or(0);
        let (time, events) = (Arc::new(Time::new(clock)), self.events);
        let keys = |url: &str, rsa_only| {
            let document = document(url)?;
            Ok(Keys::new(
                document,
                rsa_only,
                Arc::clone(&time),
                events.clone(),
            ))
        };
        let machines = match &self.machine_issuer {
            None => None,
            Some(issuer) => {
                let keys = keys(&issuer.jwks_url, true)?;
                Some(MachineJwts::new(issuer, keys, Arc::clone(&time)))
            }
        };
        let with_keys = |issuer: UserIssuer| {
            let keys = keys(&issuer.jwks_url, false)?;
            Ok((issuer, keys))
        };
        let users: Result<Vec<_>, _> = self.user_issuers.into_iter().map(with_keys).collect();
        Ok(Receiver(Arc::new(Inner {
            me: self.me,
            authority: ask
                .map(|ask| Authority::new(ask, stale_millis, Arc::clone(&time), events.clone())),
            machines,
            users: Users::new(users?, Arc::clone(&time)),
            services: self.services,
            legacy: self.legacy.map(Legacy::new),
            time,
            events,
        })))
    }
}

fn unusable(error: impl fmt::Display) -> SetupError {
    SetupError::Unusable(error.to_string())
}

impl fmt::Debug for ReceiverBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ReceiverBuilder")
            .field("machine_id", &self.me)
            .finish_non_exhaustive()
    }
}
