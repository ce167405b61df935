//! M2M JWTs, checked here by the keys of one issuer (contract: JWT M2M tokens; RFC 8725).
//!
//! The order is fixed: size, three segments, strict base64url, header with `alg` RS256 and the M2M category, key by `kid`,
//! signature, `iss`, `exp` and the other times, `jti`, `sub`, own id in `scopes`. At some issuers senders write `scopes` themselves, so
//! it counts only where that is configured; else the authority says which machines may call this one. What was found good, and for
//! this machine, is remembered as long as the issuer's keys stay the same; times and scopes are
//! looked at again each time.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::json::Object;
use countersign_protocol::jwt::{JwtError, KnownHeader, UnverifiedJwt};
use countersign_protocol::scopes::Scopes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::authority::{Authority, BELIEVE_MILLIS, CAPACITY, PATIENCE, key_of};
use crate::cache::{Cache, Key};
use crate::caller::{ClaimsText, MachineCaller, MachineToken};
use crate::clock::{Moment, Time};
use crate::flight::{Boarding, Flights};
use crate::jwks::PublicKey;
use crate::jwt::{Times, take_text};
use crate::keys::Keys;
use crate::met::Met;
use crate::refusal::{Reason, Refusal};
use crate::user_jwt::well_known;

/// The issuer whose M2M JWTs are checked in this process, by its keys, instead of by a question to the authority.
///
/// What is saved in questions is paid in time: a JWT that is checked here may stay good until it expires, even where it was revoked.
///
/// Whether a machine may call this one, the authority is asked once in a few seconds for each machine, so the receiver needs an
/// [`authority`](crate::ReceiverBuilder::authority) beside the issuer. Where the issuer writes the claim `scopes` itself and lets no
/// sender write it, [`trust_scopes_claim`](Self::trust_scopes_claim) saves that question too:
///
/// ```
/// use countersign_receiver::MachineIssuer;
///
/// let issuer = MachineIssuer::new("https://auth.example.com").trust_scopes_claim();
/// # let _ = issuer;
/// ```
#[derive(Clone, Debug)]
pub struct MachineIssuer {
    pub(crate) issuer: String,
    pub(crate) jwks_url: String,
    pub(crate) trusts_scopes: bool,
}

impl MachineIssuer {
    /// M2M JWTs with exactly this `iss`. The keys are at `{issuer}/.well-known/jwks.json`.
    #[must_use]
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            jwks_url: well_known(issuer),
            trusts_scopes: false,
        }
    }

    /// Where the keys are: an `https` address, or one on this machine.
    #[must_use]
    pub fn jwks_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.jwks_url);
        self
    }

    /// Believes the claim `scopes`, which says which machines a JWT is for. Only for an issuer that writes it into each JWT and
    /// refuses a sender's own: Countersign, while its setting `jwt_scopes_claim` is on, as it is by default.
    ///
    /// Never for Clerk, nor where that setting is off or was while JWTs that live were made: there senders write the claim
    /// themselves, and each could let itself in anywhere.
    #[must_use]
    pub fn trust_scopes_claim(mut self) -> Self {
        self.trusts_scopes = true;
        self
    }
}

/// A JWT that is presented, and to whom.
pub(crate) struct Presented<'a> {
    pub(crate) token: &'a str,
    pub(crate) me: &'a MachineId,
    pub(crate) authority: Option<&'a Arc<Authority>>,
}

/// The M2M JWTs of an issuer.
pub(crate) struct MachineJwts {
    issuer: Box<str>,
    keys: Arc<Keys>,
    trusts_scopes: bool,
    time: Arc<Time>,
    met: Met<Checked>,
    /// The header of the last JWT with a good signature.
    header: RwLock<Option<KnownHeader>>,
    /// The machines of which the authority said a moment ago that they may call this one.
    vouched: Cache<()>,
    /// The machines that the authority is being asked about, and who waits for that.
    vouching: Arc<Flights<Key, oneshot::Sender<()>>>,
}

/// A JWT with a good signature.
#[derive(Clone)]
pub(crate) struct Checked {
    caller: MachineCaller,
    times: Times,
    /// The number of the key set that it was checked with.
    set: u64,
}

impl MachineJwts {
    pub(crate) fn new(issuer: &MachineIssuer, keys: Arc<Keys>, time: Arc<Time>) -> Self {
        Self {
            issuer: issuer.issuer.as_str().into(),
            keys,
            trusts_scopes: issuer.trusts_scopes,
            time,
            met: Met::new(),
            header: RwLock::new(None),
            vouched: Cache::new(CAPACITY),
            vouching: Arc::new(Flights::new()),
        }
    }

    /// Reads a JWT's form.
    pub(crate) fn parse<'a>(&self, token: &'a str) -> Result<UnverifiedJwt<'a>, JwtError> {
        UnverifiedJwt::parse_knowing(self.header().as_ref(), token)
    }

    fn header(&self) -> RwLockReadGuard<'_, Option<KnownHeader>> {
        self.header.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as [`recall`](Self::recall) where nobody needs to be asked or waited for.
    pub(crate) fn known(
        &self,
        presented: &Presented<'_>,
        now: Moment,
    ) -> Option<Result<MachineCaller, Refusal>> {
        let checked = self.met.get(presented.token, now.monotonic)?;
        let scopes = checked.caller.0.scopes.as_ref()?;
        if self.keys.fresh(now)? != checked.set || !scopes.contains(presented.me) {
            return None;
        }
        let is_alive = checked.times.check(now.wall).map_err(Refusal::new);
        Some(is_alive.map(|()| checked.caller))
    }

    /// Decides about a JWT that was met before, and whose issuer has the same keys still.
    pub(crate) async fn recall(
        &self,
        presented: &Presented<'_>,
        now: Moment,
    ) -> Option<Result<MachineCaller, Refusal>> {
        let checked = self.met.get(presented.token, now.monotonic)?;
        match self.keys.number(now).await {
            Ok(number) if number != checked.set => None,
            Ok(_) => Some(self.admit(presented, checked, now).await),
            Err(reason) => Some(Err(Refusal::new(reason))),
        }
    }

    /// Decides about a JWT.
    pub(crate) async fn check(
        &self,
        presented: &Presented<'_>,
        jwt: UnverifiedJwt<'_>,
    ) -> Result<MachineCaller, Refusal> {
        let checked = self.verify(jwt).await.map_err(Refusal::new)?;
        let now = self.time.now();
        let caller = self.admit(presented, checked.clone(), now).await?;
        // Only what is for this machine has a place, so that others' tokens displace none.
        self.met.put(presented.token, checked, now.monotonic);
        Ok(caller)
    }

    /// What is asked each time.
    async fn admit(
        &self,
        presented: &Presented<'_>,
        checked: Checked,
        now: Moment,
    ) -> Result<MachineCaller, Refusal> {
        checked.times.check(now.wall).map_err(Refusal::new)?;
        match &checked.caller.0.scopes {
            Some(scopes) if scopes.contains(presented.me) => {}
            Some(_) => return Err(Refusal::new(Reason::NotForThisMachine)),
            None => self.vouch(presented, &checked.caller).await?,
        }
        Ok(checked.caller)
    }

    async fn verify(&self, jwt: UnverifiedJwt<'_>) -> Result<Checked, Reason> {
        let kid = jwt.key_id();
        let found = self.keys.set(Some(kid.as_str()), self.time.now()).await?;
        let Some(PublicKey::Rsa(public)) = found.set.key(kid.as_str()) else {
            return Err(Reason::KeyUnknown);
        };
        let header = jwt.header_unless(self.header().as_ref());
        let payload = jwt.verify_payload(public).map_err(reason_of)?;
        if header.is_some() {
            *self.header.write().unwrap_or_else(PoisonError::into_inner) = header;
        }
        let (caller, times) = self.read(payload)?;
        Ok(Checked {
            caller,
            times,
            set: found.number,
        })
    }

    pub(crate) fn read(&self, payload: Vec<u8>) -> Result<(MachineCaller, Times), Reason> {
        let payload = String::from_utf8(payload).map_err(|_| Reason::ClaimsMalformed)?;
        let mut claims = Object::parse(payload.as_bytes()).map_err(|_| Reason::ClaimsMalformed)?;
        let mut text = |name: &str| take_text(&mut claims, name);
        let (issuer, subject, id) = (text("iss")?, text("sub")?, text("jti")?);
        if issuer.as_deref() != Some(&*self.issuer) {
            return Err(Reason::IssuerUnknown);
        }
        let subject: MachineId = subject
            .and_then(|subject| subject.parse().ok())
            .ok_or(Reason::ClaimsMalformed)?;
        let id = id
            .filter(|id| TokenId::is_well_formed(id))
            .ok_or(Reason::ClaimsMalformed)?;
        let scopes = if self.trusts_scopes {
            text("scopes")?
                .map(|scopes| Scopes::parse(&scopes).map_err(|_| Reason::ClaimsMalformed))
                .transpose()?
        } else {
            None
        };
        let times = Times::take(&mut claims)?;
        if !times.has_issued_at() {
            return Err(Reason::ClaimsMalformed);
        }
        let token = MachineToken {
            id: id.into(),
            subject,
            scopes,
            expires_at: Some(times.expires_at),
            claims: ClaimsText::Payload(payload),
            asked_at: 0,
        };
        Ok((MachineCaller(Arc::new(token)), times))
    }

    /// Finds out whether the machine may call this one: the authority is asked once in a few seconds for each machine, by one of
    /// its tokens at a time, so that a machine with many tokens shuts out no other.
    async fn vouch(
        &self,
        presented: &Presented<'_>,
        caller: &MachineCaller,
    ) -> Result<(), Refusal> {
        let subject = key_of(caller.id().as_str());
        let look = || self.vouched.get(&subject, self.time.now().monotonic);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if look().is_some() {
                return Ok(());
            }
            let (sender, landed) = oneshot::channel();
            match self.vouching.board(&subject, sender, CAPACITY, look) {
                Boarding::Known(()) => return Ok(()),
                Boarding::Leads(_lead) => {
                    return self.ask_about(subject, presented, caller).await;
                }
                Boarding::Full => return Err(Refusal::new(Reason::TooManyChecks)),
                Boarding::Follows => {
                    // However it ended: what was said of another token of the machine need not hold for this one.
                    if timeout_at(deadline, landed).await.is_err() {
                        return Err(Refusal::new(Reason::TooManyChecks));
                    }
                }
            }
        }
    }

    async fn ask_about(
        &self,
        subject: Key,
        presented: &Presented<'_>,
        caller: &MachineCaller,
    ) -> Result<(), Refusal> {
        let Some(authority) = presented.authority else {
            tracing::error!(
                "M2M not configured: whether this JWT's machine may call this one must be asked, and no authority is set: set ReceiverBuilder::authority, or, where the issuer writes the scopes claim itself and refuses a sender's own, MachineIssuer::trust_scopes_claim"
            );
            return Err(Refusal::new(Reason::NotConfigured));
        };
        // A new token of a machine that was vouched for before is no stranger's.
        let is_known = self.vouched.knew(&subject);
        let answer = authority
            .check(&key_of(presented.token), presented.token, is_known)
            .await?;
        if answer.id() != caller.id() {
            return Err(Refusal::new(Reason::TokenRefused));
        }
        if !answer
            .0
            .scopes
            .as_ref()
            .is_some_and(|it| it.contains(presented.me))
        {
            return Err(Refusal::new(Reason::NotForThisMachine));
        }
        authority.tell_if_stale(&answer, self.time.now().monotonic);
        // The answer may be one that was remembered: it counts from when it was given.
        self.vouched
            .put(subject, (), answer.0.asked_at, BELIEVE_MILLIS);
        Ok(())
    }
}

pub(crate) fn reason_of(error: JwtError) -> Reason {
    match error {
        JwtError::BadSignature => Reason::SignatureInvalid,
        JwtError::BadClaims => Reason::ClaimsMalformed,
        JwtError::WrongKind => Reason::KindNotAllowed,
        _ => Reason::TokenMalformed,
    }
}
