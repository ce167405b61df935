//! The one decision: who calls, and may they call this?
//!
//! What was presented decides which check is made, and nothing falls through to another one: a refused token is never tried as
//! another kind, and never by the legacy check. What is remembered of a token is what others said of it; whether that lets it in
//! here and now is decided anew each time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use countersign_protocol::ids::MachineId;
use countersign_protocol::jwt::{M2M_CATEGORY, UnverifiedJwt};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::TokenString;
use http::HeaderMap;

use crate::accept::{Accept, Service};
use crate::authority::{Authority, key_of};
use crate::caller::{Caller, MachineCaller};
use crate::clock::{Moment, Time};
use crate::credential::{Credential, bearer};
use crate::events::{Event, Events};
use crate::jwt::Jwt;
use crate::legacy::Legacy;
use crate::machine_jwt::{MachineJwts, Presented, reason_of};
use crate::refusal::{Reason, Refusal};
use crate::services::machine_id_variable;
use crate::user_jwt::Users;

/// Checks who calls this machine. Cheap to clone; clones share what they remember.
///
/// ```no_run
/// # async fn example(request: http::Request<()>) -> Result<(), Box<dyn std::error::Error>> {
/// use countersign_receiver::{Accept, Receiver, UserIssuer};
///
/// let receiver = Receiver::builder("mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk".parse()?)
///     .authority("https://auth.example.com", "ak_the_key_of_this_machine")
///     .user_issuer(UserIssuer::new("https://login.example.com").audience("api"))
///     .build()?;
/// let caller = receiver
///     .check(request.headers(), &Accept::user().or(Accept::any_machine()))
///     .await?;
/// # let _ = caller;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Receiver(pub(crate) Arc<Inner>);

/// What a receiver is made of.
pub(crate) struct Inner {
    pub(crate) me: MachineId,
    pub(crate) time: Arc<Time>,
    pub(crate) events: Events,
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) machines: Option<MachineJwts>,
    pub(crate) users: Users,
    pub(crate) services: BTreeMap<Box<str>, MachineId>,
    pub(crate) legacy: Option<Legacy>,
}

impl Receiver {
    /// The machine that this receiver is.
    #[must_use]
    pub fn machine_id(&self) -> MachineId {
        self.0.me
    }

    /// Decides about a request by its headers.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn check(&self, headers: &HeaderMap, accept: &Accept) -> Result<Caller, Refusal> {
        let decision = self.decide(headers, accept).await;
        self.report(&decision);
        decision
    }

    /// The same where nobody needs to be asked or waited for: most requests present a token that was just presented.
    pub(crate) fn check_at_once(
        &self,
        headers: &HeaderMap,
        accept: &Accept,
    ) -> Option<Result<Caller, Refusal>> {
        let token = bearer(headers).ok()??;
        let known = if !token.starts_with(TokenString::PREFIX) {
            self.known_jwt(token, accept)?
        } else if accept.accepts_machines() {
            self.recall(token)?.map(Caller::Machine)
        } else {
            return None;
        };
        let decision = known.and_then(|caller| self.admit(&caller, accept).map(|()| caller));
        self.report(&decision);
        Some(decision)
    }

    /// Decides about a machine's token that came by another way than a header. Each machine that may call this one is let in.
    ///
    /// # Errors
    /// Why it is not good.
    pub async fn verify(&self, token: &str) -> Result<MachineCaller, Refusal> {
        let decision = match self.identify(token, &Accept::any_machine()).await {
            Ok(Some(Caller::Machine(machine))) => Ok(machine),
            Ok(Some(_)) => Err(Refusal::new(Reason::MachineRequired)),
            Ok(None) => Err(Refusal::new(Reason::TokenUnrecognized)),
            Err(refusal) => Err(refusal),
        };
        self.report(&decision.clone().map(Caller::Machine));
        decision
    }

    /// How often the legacy check has let in whom, since the start. Where this stays empty, the check can be removed.
    #[must_use]
    pub fn legacy_uses(&self) -> BTreeMap<String, u64> {
        self.0.legacy.as_ref().map(Legacy::uses).unwrap_or_default()
    }

    /// Logs what a route accepts and this receiver is not configured for.
    pub(crate) fn log_gaps(&self, accept: &Accept) {
        for service in accept.services.iter().filter(|it| !self.knows(it)) {
            not_configured(service);
        }
        if accept.legacy && self.0.legacy.is_none() {
            tracing::warn!("a route accepts legacy callers, and no legacy check is configured");
        }
    }

    fn knows(&self, service: &Service) -> bool {
        self.0.services.contains_key(&service.suffix)
    }

    async fn decide(&self, headers: &HeaderMap, accept: &Accept) -> Result<Caller, Refusal> {
        let Some(token) = bearer(headers).map_err(Refusal::new)? else {
            return self.legacy(headers, accept, Reason::TokenMissing);
        };
        let Some(caller) = self.identify(token, accept).await? else {
            return self.legacy(headers, accept, Reason::TokenUnrecognized);
        };
        self.admit(&caller, accept)?;
        Ok(caller)
    }

    /// Tells whose a token is; `None` where it is neither an M2M token nor a JWT.
    async fn identify(&self, token: &str, accept: &Accept) -> Result<Option<Caller>, Refusal> {
        // What was checked here before has the right form.
        if !token.starts_with(TokenString::PREFIX)
            && let Some(known) = self.met(token, accept).await
        {
            return known.map(Some);
        }
        match Credential::of(token).map_err(Refusal::new)? {
            Credential::Other => Ok(None),
            // Nobody is asked about a token that is the wrong one in any case.
            Credential::Opaque(_) if !accept.accepts_machines() => {
                Err(Refusal::new(Reason::UserRequired))
            }
            Credential::Opaque(token) => {
                tracing::debug!("M2M token verification detected");
                self.ask(token).await.map(Caller::Machine).map(Some)
            }
            Credential::Jwt(token) => self.jwt(token, accept).await.map(Some),
        }
    }

    /// Decides about a JWT that was found good here before, where nobody needs to be waited for.
    fn known_jwt(&self, token: &str, accept: &Accept) -> Option<Result<Caller, Refusal>> {
        let now = self.0.time.now();
        if accept.accepts_machines()
            && let Some(machines) = &self.0.machines
            && let Some(decision) = machines.known(&self.presented(token), now)
        {
            return Some(decision.map(Caller::Machine));
        }
        let user = self.0.users.known(token, now)?;
        Some(user.map(Caller::User).map_err(Refusal::new))
    }

    /// Decides about a JWT that was found good here before.
    async fn met(&self, token: &str, accept: &Accept) -> Option<Result<Caller, Refusal>> {
        let now = self.0.time.now();
        // A machine's is looked for only where it could be let in.
        if accept.accepts_machines()
            && let Some(machines) = &self.0.machines
            && let Some(decision) = machines.recall(&self.presented(token), now).await
        {
            return Some(decision.map(Caller::Machine));
        }
        let user = self.0.users.recall(token, now).await?;
        Some(user.map(Caller::User).map_err(Refusal::new))
    }

    fn legacy(
        &self,
        headers: &HeaderMap,
        accept: &Accept,
        otherwise: Reason,
    ) -> Result<Caller, Refusal> {
        let legacy = self.0.legacy.as_ref().filter(|_| accept.legacy);
        let Some(legacy) = legacy else {
            return Err(Refusal::new(otherwise));
        };
        let Some(caller) = legacy.admit(headers) else {
            tracing::info!("the legacy check lets nobody in by this request");
            return Err(Refusal::new(otherwise));
        };
        Ok(Caller::Legacy(caller))
    }

    /// Decides about a machine's token by what the authority says of it, now or a moment ago.
    async fn ask(&self, token: &str) -> Result<MachineCaller, Refusal> {
        if let Some(known) = self.recall(token) {
            return known;
        }
        let Some(authority) = &self.0.authority else {
            tracing::error!(
                "M2M not configured: an M2M token was presented, and no authority is set"
            );
            return Err(Refusal::new(Reason::NotConfigured));
        };
        let caller = authority.check(&key_of(token), token, false).await?;
        self.believe(caller, self.0.time.now())
    }

    /// Decides about a machine's token by what the authority said of it a moment ago.
    fn recall(&self, token: &str) -> Option<Result<MachineCaller, Refusal>> {
        let now = self.0.time.now();
        let authority = self.0.authority.as_ref()?;
        let caller = authority.recall(&key_of(token), now)?;
        Some(self.believe(caller, now))
    }

    async fn jwt(&self, token: &str, accept: &Accept) -> Result<Caller, Refusal> {
        let Inner {
            machines, users, ..
        } = &*self.0;
        if machines.is_none()
            && accept.accepts_machines()
            && let Some(known) = self.recall(token)
        {
            return known.map(Caller::Machine);
        }
        // A machine's?
        let parsed = match machines {
            Some(machines) => machines.parse(token),
            None => UnverifiedJwt::parse(token),
        };
        let error = match parsed {
            Ok(_) if !accept.accepts_machines() => return Err(Refusal::new(Reason::UserRequired)),
            Ok(jwt) => return self.machine_jwt(token, jwt).await.map(Caller::Machine),
            Err(error) => error,
        };
        // What calls itself a machine's and does not read as one is nobody's.
        let jwt = Jwt::read(token).map_err(Refusal::new)?;
        if jwt.category.as_deref() == Some(M2M_CATEGORY) {
            return Err(Refusal::new(reason_of(error)));
        }
        if users.is_empty() {
            if accept.user {
                tracing::error!("a user's JWT was presented, and no issuer of users is configured");
                return Err(Refusal::new(Reason::NotConfigured));
            }
            return Err(Refusal::required(Reason::MachineRequired, accept));
        }
        let user = users.check(token, jwt).await;
        user.map(Caller::User).map_err(Refusal::new)
    }

    async fn machine_jwt(
        &self,
        token: &str,
        jwt: UnverifiedJwt<'_>,
    ) -> Result<MachineCaller, Refusal> {
        tracing::debug!("M2M JWT verification detected");
        match &self.0.machines {
            Some(machines) => machines.check(&self.presented(token), jwt).await,
            None => self.ask(token).await,
        }
    }

    fn presented<'a>(&'a self, token: &'a str) -> Presented<'a> {
        Presented {
            token,
            me: &self.0.me,
            authority: self.0.authority.as_ref(),
        }
    }

    /// Whether what the authority said lets the token in at this machine now.
    fn believe(&self, caller: MachineCaller, now: Moment) -> Result<MachineCaller, Refusal> {
        if caller.0.expires_at.is_some_and(|end| end <= now.wall) {
            return Err(Refusal::new(Reason::TokenExpired));
        }
        let is_meant = |scopes: &Scopes| scopes.contains(&self.0.me);
        if !caller.0.scopes.as_ref().is_some_and(is_meant) {
            tracing::error!(
                me = self.0.me.as_str(),
                "the authority accepts a token for this receiver's key that is not for its machine id: are they of two machines?"
            );
            return Err(Refusal::new(Reason::NotForThisMachine));
        }
        if let Some(authority) = &self.0.authority {
            authority.tell_if_stale(&caller, now.monotonic);
        }
        Ok(caller)
    }

    /// Whether the route accepts the caller.
    fn admit(&self, caller: &Caller, accept: &Accept) -> Result<(), Refusal> {
        let machine = match caller {
            Caller::Machine(machine) => machine.id(),
            Caller::User(_) if accept.user => return Ok(()),
            Caller::User(_) => return Err(Refusal::required(Reason::MachineRequired, accept)),
            Caller::Legacy(_) => return Ok(()),
        };
        if accept.any_machine || accept.machines.contains(&machine) {
            return Ok(());
        }
        let mut is_complete = true;
        for service in &accept.services {
            match self.0.services.get(&service.suffix) {
                Some(id) if *id == machine => return Ok(()),
                Some(_) => {}
                None => {
                    is_complete = false;
                    not_configured(service);
                }
            }
        }
        Err(if !is_complete {
            Refusal::new(Reason::NotConfigured)
        } else if accept.accepts_machines() {
            Refusal::required(Reason::WrongMachine, accept)
        } else {
            Refusal::new(Reason::UserRequired)
        })
    }

    /// Tells the log and the observer. Who presented nothing is no news.
    fn report(&self, decision: &Result<Caller, Refusal>) {
        match decision {
            Ok(caller) => {
                match caller {
                    Caller::Machine(machine) => tracing::debug!(
                        subject = machine.id().as_str(),
                        scopes = machine.0.scopes.as_ref().map(Scopes::as_str),
                        token.id = machine.token_id(),
                        "M2M token verification succeeded"
                    ),
                    Caller::User(user) => tracing::debug!(
                        subject = user.subject(),
                        issuer = user.issuer(),
                        "user JWT verification succeeded"
                    ),
                    Caller::Legacy(_) => {}
                }
                self.0.events.tell(&Event::Accepted { caller });
            }
            Err(refusal) => {
                let reason = refusal.reason();
                if reason == Reason::TokenMissing {
                    tracing::debug!("no token was presented");
                } else {
                    tracing::info!(reason = reason.code(), "{}", refusal.message());
                }
                self.0.events.tell(&Event::Refused { reason });
            }
        }
    }
}

fn not_configured(service: &Service) {
    tracing::error!(
        service = &*service.name,
        "M2M not configured: set {}",
        machine_id_variable(&service.suffix)
    );
}

impl fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Receiver")
            .field("machine_id", &self.0.me)
            .finish_non_exhaustive()
    }
}
