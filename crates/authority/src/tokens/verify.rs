//! Verifies tokens (contract: verify a token).
//!
//! Verification only reads: one operation of the store returns everything that decides, and no result is cached. In any
//! doubt, the token is refused.

use countersign_protocol::body::M2mToken;
use countersign_protocol::change::Log;
use countersign_protocol::ids::{Locator, MachineId};
use countersign_protocol::jwt::{ReadJwt, UnverifiedJwt, VerifiedJwt, looks_like_jwt};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::TokenString;
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::TokenFormat;
use countersign_store::{Proof, StoredToken, Verification};

use super::bodies::token_body;
use crate::Authority;
use crate::actor::{Accepts, Actor, Credential};
use crate::error::{Error, Refusal};

/// A token string, parsed far enough to look up the token.
enum Shown<'a> {
    Opaque {
        token: &'a str,
        locator: Locator,
    },
    /// Boxed, so that it does not enlarge verifications of opaque tokens.
    Jwt(Box<ReadJwt<'a>>),
}

/// What a store knows of a caller with a good key and of a token, and the time after that was read.
struct Found {
    actor: Actor,
    stored: Option<StoredToken>,
    now: Timestamp,
}

impl<'a> Shown<'a> {
    /// Parses a token string. `None` for junk, which is refused without a look-up.
    fn read(token: &'a str, format: TokenFormat) -> Option<Self> {
        match format {
            TokenFormat::Opaque => {
                TokenString::locate(token).map(|locator| Self::Opaque { token, locator })
            }
            TokenFormat::Jwt => {
                let jwt = UnverifiedJwt::parse(token).ok()?.read().ok()?;
                Some(Self::Jwt(Box::new(jwt)))
            }
        }
    }

    fn locator(&self) -> Locator {
        match self {
            Self::Opaque { locator, .. } => *locator,
            Self::Jwt(jwt) => jwt.claimed_id().locator(),
        }
    }
}

impl Authority {
    /// Verifies that `token` is valid for the actor now.
    ///
    /// # Errors
    /// [`Error::TokenRefused`]; [`Error::InstanceKeyInvalid`] or [`Error::MachineKeyInvalid`] if the actor's key ended
    /// after it was presented; or the store's error if the answer cannot be known.
    pub async fn verify(&self, actor: &Actor, token: &str) -> Result<M2mToken, Error> {
        let format = format_of(token);
        let outcome = match Shown::read(token, format) {
            Some(shown) => self.verify_shown(actor, shown).await,
            None => Err(unknown(actor.machine_id())),
        };
        self.note_verification(actor, format, &outcome);
        outcome
    }

    /// Verifies that `token` is valid for the caller that presents `credential`, in one operation of the store. A
    /// caller with an invalid credential learns nothing about the token.
    ///
    /// # Errors
    /// Those of [`Self::authenticate`] and of [`Self::verify`].
    pub async fn verify_presented(&self, credential: &str, token: &str) -> Result<M2mToken, Error> {
        let credential = Credential::read(credential, Accepts::Any)?;
        let format = format_of(token);
        let Some(shown) = Shown::read(token, format) else {
            let actor = self.find_actor(credential).await?;
            self.limit_actor(&actor)?;
            let outcome = Err(unknown(actor.machine_id()));
            self.note_verification(&actor, format, &outcome);
            return outcome;
        };
        let Found { actor, stored, now } =
            self.find_verification(credential, shown.locator()).await?;
        self.limit_actor(&actor)?;
        let verifier = actor.machine_id();
        let outcome = if self.lacks_key(&shown, stored.as_ref()) {
            Box::pin(self.learn_and_decide(verifier, stored, shown)).await
        } else {
            self.decide(verifier, stored, shown, now)
        };
        self.note_verification(&actor, format, &outcome);
        outcome
    }

    /// Verifies a token that its bearer presents as a credential, and returns its body. The token must be live. Its
    /// receivers do not matter, because the bearer learns only about its own token.
    pub(crate) async fn verify_own(&self, token: &str) -> Result<M2mToken, Error> {
        let shown = Shown::read(token, format_of(token)).ok_or_else(|| unknown(None))?;
        let stored = self.store.find_token(shown.locator()).await?;
        if self.lacks_key(&shown, stored.as_ref()) {
            return Box::pin(self.learn_and_decide(None, stored, shown)).await;
        }
        self.decide(None, stored, shown, self.now())
    }

    async fn verify_shown(&self, actor: &Actor, shown: Shown<'_>) -> Result<M2mToken, Error> {
        let locator = shown.locator();
        let stored = match actor.presented() {
            Some((presented, digest)) => {
                let found = self.store.verification(presented, locator).await?;
                let gone = || actor.key_invalid();
                let Verification { caller, token, .. } = found.ok_or_else(gone)?;
                Actor::from_caller(caller, &digest, self.now()).ok_or_else(gone)?;
                token
            }
            None => self.store.token(actor.instance_id(), locator).await?,
        };
        let verifier = actor.machine_id();
        if self.lacks_key(&shown, stored.as_ref()) {
            return Box::pin(self.learn_and_decide(verifier, stored, shown)).await;
        }
        self.decide(verifier, stored, shown, self.now())
    }

    async fn find_verification(
        &self,
        credential: Credential<'_>,
        locator: Locator,
    ) -> Result<Found, Error> {
        for digest in self.vault.digests(credential.text()) {
            let presented = credential.presented(digest);
            let Some(found) = self.store.verification(presented, locator).await? else {
                continue;
            };
            let now = self.now();
            if let Some(actor) = Actor::from_caller(found.caller, &digest, now) {
                let stored = found.token;
                return Ok(Found { actor, stored, now });
            }
        }
        Err(credential.refused())
    }

    /// Returns whether the store knows the signing key of a JWT but this process does not, because another process
    /// created the key a moment ago. A JWT with an invented key does not count, because no row names that key.
    fn lacks_key(&self, shown: &Shown<'_>, stored: Option<&StoredToken>) -> bool {
        let (Shown::Jwt(jwt), Some(stored)) = (shown, stored) else {
            return false;
        };
        let key = jwt.key_id();
        stored.row.proof == Proof::Jwt(key)
            && stored.signing_key.is_some()
            && self
                .follower
                .ring(stored.instance.id)
                .is_none_or(|ring| ring.by_id(key).is_none())
    }

    /// Catches up with the change log, then decides. Callers box it, so that this rare case does not enlarge the future
    /// of every verification.
    async fn learn_and_decide(
        &self,
        verifier: Option<MachineId>,
        stored: Option<StoredToken>,
        shown: Shown<'_>,
    ) -> Result<M2mToken, Error> {
        if let Some(stored) = &stored {
            let log = Log::Instance(stored.instance.id);
            self.follower.catch_up(log).await?;
        }
        self.decide(verifier, stored, shown, self.now())
    }

    /// Decides from the stored state of the token, for a time after it was read. `verifier` is the machine that asks. `None`
    /// means that the caller may verify every token of the instance.
    fn decide(
        &self,
        verifier: Option<MachineId>,
        stored: Option<StoredToken>,
        shown: Shown<'_>,
        now: Timestamp,
    ) -> Result<M2mToken, Error> {
        let unknown = || unknown(verifier);
        let stored = stored.ok_or_else(unknown)?;
        match shown {
            Shown::Opaque { token, .. } => {
                let is_genuine = match &stored.row.proof {
                    Proof::Opaque(digest) => self.vault.matches(token, digest),
                    Proof::Jwt(_) => false,
                };
                if !is_genuine {
                    return Err(unknown());
                }
                let is_expired = stored.row.is_expired(now);
                check_life(verifier, &stored, &stored.row.scopes, is_expired)?;
                Ok(self.used(stored, now))
            }
            Shown::Jwt(jwt) => {
                let jwt = self.genuine_jwt(*jwt, &stored).ok_or_else(unknown)?;
                let scopes = jwt_scopes(&jwt, &stored);
                let is_expired = jwt.is_expired(now) || jwt.is_from_the_future(now);
                check_life(verifier, &stored, scopes, is_expired)?;
                let scopes = scopes.clone();
                let body = self.used(stored, now);
                // Lists show the last use from the row. This answer shows what the JWT says, as at Clerk.
                Ok(M2mToken {
                    scopes,
                    expired: false,
                    last_used_at: None,
                    created_at: jwt.issued_at,
                    updated_at: jwt.issued_at,
                    ..body
                })
            }
        }
    }

    /// Returns the claims of a JWT that belongs to this row and was signed with a key of the instance. The key belongs
    /// to this instance alone, so the issuer is not compared: it may have changed with the public URL.
    fn genuine_jwt(&self, jwt: ReadJwt<'_>, stored: &StoredToken) -> Option<VerifiedJwt> {
        let key = jwt.key_id();
        if stored.row.proof != Proof::Jwt(key) || stored.signing_key.is_none() {
            return None;
        }
        let ring = self.follower.ring(stored.instance.id)?;
        let jwt = jwt.verify(&ring.by_id(key)?.verifying).ok()?;
        (jwt.id == stored.row.id && jwt.subject == stored.row.machine).then_some(jwt)
    }

    fn used(&self, stored: StoredToken, now: Timestamp) -> M2mToken {
        self.uses.note(stored.row.id.locator(), now);
        token_body(stored, Some(now), now)
    }

    /// Counts and logs a verification. Invalid credentials are not counted here.
    fn note_verification(
        &self,
        actor: &Actor,
        format: TokenFormat,
        outcome: &Result<M2mToken, Error>,
    ) {
        // Asked for only where such events are collected.
        let verifier = || match actor.machine() {
            Some(machine) => machine.id.as_str(),
            None => actor.name(),
        };
        let is_jwt = format == TokenFormat::Jwt;
        match outcome {
            Ok(verified) => {
                self.tally.verified(format, None);
                tracing::debug!(
                    target: "countersign::verification",
                    subject = %verified.subject, token.id = %verified.id, verifier = verifier(), jwt = is_jwt,
                    "token verification succeeded"
                );
            }
            Err(Error::TokenRefused {
                refusal, subject, ..
            }) => {
                self.tally.verified(format, Some(*refusal));
                tracing::info!(
                    target: "countersign::verification",
                    reason = refusal.as_str(), subject = subject.map(tracing::field::display), verifier = verifier(), jwt = is_jwt,
                    "token verification failed"
                );
            }
            Err(_) => {}
        }
    }
}

fn format_of(token: &str) -> TokenFormat {
    if looks_like_jwt(token) {
        TokenFormat::Jwt
    } else {
        TokenFormat::Opaque
    }
}

/// Returns the machines that a JWT is for. If the instance writes no `scopes` claim, the caller may write its own; that
/// one is among the row's claims and is ignored here.
fn jwt_scopes<'a>(jwt: &'a VerifiedJwt, stored: &'a StoredToken) -> &'a Scopes {
    let claims = stored.row.claims.as_ref();
    let is_ours = claims.is_none_or(|claims| !claims.may_have_member("scopes"));
    let scopes = jwt.scopes.as_ref().filter(|_| is_ours);
    scopes.unwrap_or(&stored.machine.scopes)
}

/// Checks the scope first: a verifier that the token is not for learns nothing else about it.
fn check_life(
    verifier: Option<MachineId>,
    stored: &StoredToken,
    scopes: &Scopes,
    is_expired: bool,
) -> Result<(), Error> {
    let subject = Some(stored.row.machine);
    if verifier.is_some_and(|verifier| !scopes.contains(&verifier)) {
        return Err(refused(Refusal::NotInScope, false, subject));
    }
    if stored.row.revoked.is_some() || stored.cut_off_at().is_some() {
        return Err(refused(Refusal::Revoked, true, subject));
    }
    if is_expired {
        return Err(refused(Refusal::Expired, true, subject));
    }
    Ok(())
}

/// Returns the refusal of an unknown token. A machine does not learn whether the token exists for another machine.
fn unknown(verifier: Option<MachineId>) -> Error {
    refused(Refusal::Unknown, verifier.is_none(), None)
}

fn refused(refusal: Refusal, is_disclosed: bool, subject: Option<MachineId>) -> Error {
    Error::TokenRefused {
        refusal,
        is_disclosed,
        subject,
    }
}
