//! Tokens: issue, verify, revoke, list, update (contract: M2M tokens, JWT M2M tokens).
//!
//! To verify is to read: the row and the machine decide, nothing is remembered in between. A JWT has a row like an opaque
//! token, so it can be revoked, listed and refused like one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use countersign_protocol::body::{ExposedSecret, M2mToken, M2mTokenTag};
use countersign_protocol::claims::{Claims, RESERVED_CLAIMS};
use countersign_protocol::ids::{Locator, MachineId, TokenId};
use countersign_protocol::jwt::{JwtClaims, UnverifiedJwt, VerifiedJwt, looks_like_jwt};
use countersign_protocol::limits::{
    MAX_JWT_BYTES, MAX_LIVE_TOKENS, MAX_REASON_LENGTH, MAX_TOKEN_TTL_SECONDS,
};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::TokenString;
use countersign_protocol::time::Timestamp;
use countersign_store::{
    ChangeKind, InsertToken, MachineRow, NewToken, NullExpiration, Page, Pool, Revocation,
    RevokeToken, SealedBytes, StoreError, StoredToken, TokenFormat, TokenFormats, TokenQuery,
    TokenRow, TokenUpdate, UpdateToken,
};
use serde_json::json;

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Problem, Refusal, invalid};
use crate::machines::machine_not_found;
use crate::vault::SealContext;

/// How often an issue starts again because the machine changed under it.
const MAX_ATTEMPTS: usize = 8;

/// What a new token is like.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// Opaque or JWT.
    pub format: TokenFormat,
    /// Its life in seconds, fractions allowed; `None` for what the instance and the machine say.
    pub seconds_until_expiration: Option<f64>,
    /// The machine's own claims.
    pub claims: Option<Claims>,
    /// Asks for a live equal token that still has so many seconds, instead of a new one. Ignored for JWTs.
    pub min_remaining_ttl_seconds: Option<i64>,
}

/// A token with its string.
#[derive(Debug)]
pub struct IssuedToken {
    /// The answer's body, the string included.
    pub body: M2mToken,
    /// Whether it existed before.
    pub is_reused: bool,
}

/// New values of a token; `None` leaves the old one.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    /// The claims; `Some(None)` for none.
    pub claims: Option<Option<Claims>>,
    /// Its life in seconds from now; `Some(None)` for what an absent expiration means.
    pub seconds_until_expiration: Option<Option<f64>>,
    /// Whether to revoke it as well.
    pub revoke: bool,
    /// Why it is revoked.
    pub revocation_reason: Option<String>,
}

impl UpdateRequest {
    /// Whether nothing is to change.
    fn is_empty(&self) -> bool {
        self.claims.is_none()
            && self.seconds_until_expiration.is_none()
            && !self.revoke
            && self.revocation_reason.is_none()
    }
}

/// Hands out the places of new tokens: 41 bits of milliseconds, 10 of the node, 12 of a count. A busy millisecond borrows
/// from the next.
#[derive(Default)]
pub(crate) struct Locators {
    last: AtomicU64,
}

/// The start of locators' time, 2024-01-01T00:00:00Z.
const LOCATOR_EPOCH_MILLIS: i64 = 1_704_067_200_000;
/// How many locators a node has in a millisecond.
const LOCATORS_PER_MILLI: u64 = 1 << 12;
/// The bits of the node and the count.
const MILLI_SHIFT: u32 = 22;

impl Locators {
    fn next(&self, now: Timestamp) -> Locator {
        let millis = now
            .as_millis()
            .saturating_sub(LOCATOR_EPOCH_MILLIS)
            .max(0)
            .unsigned_abs();
        let earliest = (millis & ((1 << 41) - 1)) << MILLI_SHIFT;
        let step = |last: u64| {
            let following = if (last + 1) % LOCATORS_PER_MILLI == 0 {
                ((last >> MILLI_SHIFT) + 1) << MILLI_SHIFT
            } else {
                last + 1
            };
            following.max(earliest)
        };
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(step(last))
            });
        let number = step(previous.unwrap_or_else(|last| last));
        Locator::new(number).expect("41 + 22 bits are 63")
    }
}

impl Authority {
    /// Issues a token to the machine that asks, or hands out a live equal one.
    ///
    /// # Errors
    /// [`Error::MachineKeyInvalid`] for an actor that is no machine, [`Error::Invalid`], [`Error::ReservedClaim`],
    /// [`Error::Conflict`] where the machine holds too many live tokens, [`Error::Overloaded`], the store's error.
    pub async fn issue(&self, actor: &Actor, request: &IssueRequest) -> Result<IssuedToken, Error> {
        let mut machine = Arc::clone(actor.machine().ok_or(Error::MachineKeyInvalid)?);
        for _ in 0..MAX_ATTEMPTS {
            let (new, secret) = match request.format {
                TokenFormat::Opaque => self.new_opaque(actor, &machine, request)?,
                TokenFormat::Jwt => self.new_jwt(actor, &machine, request).await?,
            };
            let row = TokenRow::new(
                new.id,
                machine.number,
                new.digest,
                new.scopes.clone(),
                new.claims.clone(),
                new.created_at,
                new.expires_at,
                None,
                None,
            );
            match self.store.insert_token(new).await {
                Ok(InsertToken::Inserted) => {
                    let mut body = self.body(&row, machine.id, self.now());
                    body.token = Some(secret);
                    return Ok(IssuedToken {
                        body,
                        is_reused: false,
                    });
                }
                Ok(InsertToken::Reused { token, sealed }) => {
                    return self.reused(actor, &token, &sealed);
                }
                Ok(InsertToken::TooMany) => {
                    return Err(Error::Conflict(format!(
                        "the machine holds {MAX_LIVE_TOKENS} live tokens, which is the maximum; let some expire, revoke some, or ask \
                         for shorter ones"
                    )));
                }
                // The next attempt sees the change.
                Ok(InsertToken::Changed) | Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let current = self.store.machine(actor.instance_id(), machine.id).await?;
            machine = current.ok_or(Error::MachineKeyInvalid)?;
        }
        Err(Error::Overloaded)
    }

    fn new_opaque(
        &self,
        actor: &Actor,
        machine: &Arc<MachineRow>,
        request: &IssueRequest,
    ) -> Result<(NewToken, ExposedSecret), Error> {
        let now = self.now();
        let lifetime =
            self.opaque_lifetime_millis(actor, machine, request.seconds_until_expiration)?;
        let locator = self.locators.next(now);
        let id = TokenId::generate(locator, &*self.random);
        let secret = TokenString::generate(locator, &*self.random);
        let pool = match request.min_remaining_ttl_seconds {
            Some(seconds) => {
                let min_remaining_millis = seconds.saturating_mul(1000);
                if lifetime.is_some_and(|lifetime| min_remaining_millis >= lifetime) {
                    let rule = "must be less than the lifetime of the token";
                    return Err(invalid(
                        "min_remaining_ttl_seconds",
                        Problem::NotAllowed(rule.into()),
                    ));
                }
                let id = id.to_string();
                let sealed = self.vault.seal(
                    &token_context(actor, &machine.id, &id),
                    secret.expose().as_bytes(),
                );
                let key = pool_key(request.claims.as_ref(), &machine.scopes);
                actor.instance().settings.token_pooling.then_some(Pool {
                    key,
                    min_remaining_millis,
                    sealed,
                })
            }
            None => None,
        };
        let new = NewToken {
            id,
            machine: Arc::clone(machine),
            digest: Some(self.vault.digest(secret.expose())),
            signing_key: None,
            scopes: machine.scopes.clone(),
            claims: request.claims.clone(),
            created_at: now,
            expires_at: lifetime.map(|lifetime| later(now, lifetime)).transpose()?,
            pool,
            max_live: MAX_LIVE_TOKENS,
        };
        Ok((new, ExposedSecret(secret.expose().to_owned())))
    }

    async fn new_jwt(
        &self,
        actor: &Actor,
        machine: &Arc<MachineRow>,
        request: &IssueRequest,
    ) -> Result<(NewToken, ExposedSecret), Error> {
        let settings = &actor.instance().settings;
        check_jwt_claims(request.claims.as_ref(), settings.jwt_scopes_claim)?;
        let now = self.now();
        let longest = settings.max_jwt_ttl.saturating_mul(1000);
        let lifetime = match request.seconds_until_expiration {
            Some(seconds) => lifetime_millis(seconds, settings.max_jwt_ttl)?,
            None => machine.default_token_ttl.saturating_mul(1000).min(longest),
        };
        let issued_at = now.as_seconds();
        let issued = Timestamp::from_seconds(issued_at).ok_or_else(too_long)?;
        let expires_at = later(issued, lifetime)?.as_seconds_rounded_up();
        let id = TokenId::generate(self.locators.next(now), &*self.random);
        let ring = self
            .rings
            .of(actor.instance_id())
            .ok_or(Error::NotInitialised)?;
        let active = ring
            .active()
            .ok_or(Error::Damaged("the signing keys: none is active"))?;
        let key = Arc::clone(&active.signing);
        let issuer = self.issuer(actor.instance());
        let subject = machine.id;
        let scopes = settings.jwt_scopes_claim.then(|| machine.scopes.clone());
        let custom = request.claims.clone();
        let sign = move || {
            let (scopes, custom) = (scopes.as_ref(), custom.as_ref());
            key.sign(&JwtClaims {
                issuer: &issuer,
                subject,
                issued_at,
                expires_at,
                id,
                scopes,
                custom,
            })
        };
        let token = self
            .signer
            .run(sign)
            .await?
            .map_err(|_| Error::Damaged("a signing key"))?;
        if token.len() > MAX_JWT_BYTES {
            let rule = format!(
                "make the JWT longer than {MAX_JWT_BYTES} bytes; use fewer claims or an opaque token"
            );
            return Err(invalid("claims", Problem::NotAllowed(rule.into())));
        }
        let seconds = |seconds| Timestamp::from_seconds(seconds).ok_or_else(too_long);
        let new = NewToken {
            id,
            machine: Arc::clone(machine),
            digest: None,
            signing_key: Some(active.row.id),
            scopes: machine.scopes.clone(),
            claims: request.claims.clone(),
            created_at: seconds(issued_at)?,
            expires_at: Some(seconds(expires_at)?),
            pool: None,
            max_live: MAX_LIVE_TOKENS,
        };
        Ok((new, ExposedSecret(token)))
    }

    fn reused(
        &self,
        actor: &Actor,
        token: &StoredToken,
        sealed: &SealedBytes,
    ) -> Result<IssuedToken, Error> {
        let id = token.row.id.to_string();
        let opened = self
            .vault
            .open_sealed(&token_context(actor, &token.machine.id, &id), sealed)?;
        let secret = std::str::from_utf8(&opened).map_err(|_| Error::Damaged("a sealed token"))?;
        let mut body = self.body(&token.row, token.machine.id, self.now());
        body.token = Some(ExposedSecret(secret.to_owned()));
        Ok(IssuedToken {
            body,
            is_reused: true,
        })
    }

    /// Says whether `token` is valid for the actor, now. Any doubt is a refusal.
    ///
    /// # Errors
    /// [`Error::TokenRefused`], or the store's error where that cannot be known.
    pub async fn verify(&self, actor: &Actor, token: &str) -> Result<M2mToken, Error> {
        if looks_like_jwt(token) {
            self.verify_jwt(actor, token).await
        } else {
            self.verify_opaque(actor, token).await
        }
    }

    /// What the bearer of `token` holds, for a bearer that presents it as its own credential. The token must be live; whom it
    /// is for does not matter, because nothing but the token itself is told.
    ///
    /// # Errors
    /// [`Error::TokenRefused`], or the store's error.
    pub async fn introspect_own(&self, token: &str) -> Result<M2mToken, Error> {
        for instance in self.store.list_instances().await? {
            let actor = Self::operator(instance);
            match self.verify(&actor, token).await {
                Err(Error::TokenRefused {
                    refusal: Refusal::Unknown,
                    ..
                }) => {}
                outcome => return outcome,
            }
        }
        Err(refused(Refusal::Unknown, true, None))
    }

    async fn verify_opaque(&self, actor: &Actor, token: &str) -> Result<M2mToken, Error> {
        let is_instance = actor.machine().is_none();
        let unknown = || refused(Refusal::Unknown, is_instance, None);
        let locator = TokenString::locate(token).ok_or_else(unknown)?;
        let stored = self
            .store
            .token(actor.instance_id(), locator)
            .await?
            .ok_or_else(unknown)?;
        let is_genuine = stored
            .row
            .digest
            .is_some_and(|digest| self.vault.matches(token, &digest));
        if !is_genuine {
            return Err(unknown());
        }
        let scopes = &stored.row.scopes;
        let now = self.now();
        self.decide(actor, &stored, scopes, stored.row.is_expired(now))?;
        Ok(self.used(&stored.row, stored.machine.id, now))
    }

    async fn verify_jwt(&self, actor: &Actor, token: &str) -> Result<M2mToken, Error> {
        let is_instance = actor.machine().is_none();
        let unknown = || refused(Refusal::Unknown, is_instance, None);
        let jwt = self.read_jwt(actor, token).ok_or_else(unknown)?;
        let stored = self
            .store
            .token(actor.instance_id(), jwt.id.locator())
            .await?
            .ok_or_else(unknown)?;
        let is_genuine = stored.row.id == jwt.id
            && stored.row.format() == TokenFormat::Jwt
            && stored.machine.id == jwt.subject;
        if !is_genuine {
            return Err(unknown());
        }
        let now = self.now();
        // A `scopes` that the caller wrote itself, which it may where the instance writes none, says nothing about whom the
        // token is for. It is among the row's claims then.
        let is_ours = stored
            .row
            .claims
            .as_ref()
            .is_none_or(|claims| !claims.may_have_member("scopes"));
        let scopes = jwt
            .scopes
            .as_ref()
            .filter(|_| is_ours)
            .unwrap_or(&stored.machine.scopes);
        self.decide(
            actor,
            &stored,
            scopes,
            jwt.is_expired(now) || jwt.is_from_the_future(now),
        )?;
        let body = self.used(&stored.row, stored.machine.id, now);
        // The row keeps when it was last used for the lists; the answer has what the JWT says, as at Clerk.
        Ok(M2mToken {
            scopes: scopes.clone(),
            expired: false,
            last_used_at: None,
            updated_at: jwt.issued_at,
            ..body
        })
    }

    /// A JWT that one of the instance's own keys signed. The key belongs to this instance alone, so the issuer need not be
    /// compared: it may have changed with the public URL since.
    fn read_jwt(&self, actor: &Actor, token: &str) -> Option<VerifiedJwt> {
        let jwt = UnverifiedJwt::parse(token).ok()?;
        let ring = self.rings.of(actor.instance_id())?;
        let key = ring.by_id(jwt.key_id())?;
        jwt.verify(&key.verifying).ok()
    }

    /// Scope first: a verifier that the token is not for learns nothing else about it.
    fn decide(
        &self,
        actor: &Actor,
        stored: &StoredToken,
        scopes: &Scopes,
        is_expired: bool,
    ) -> Result<(), Error> {
        let subject = Some(stored.machine.id);
        if actor
            .machine()
            .is_some_and(|verifier| !scopes.contains(&verifier.id))
        {
            return Err(refused(Refusal::NotInScope, false, subject));
        }
        if stored.row.revoked.is_some() {
            return Err(refused(Refusal::Revoked, true, subject));
        }
        if is_expired {
            return Err(refused(Refusal::Expired, true, subject));
        }
        Ok(())
    }

    fn used(&self, row: &TokenRow, subject: MachineId, now: Timestamp) -> M2mToken {
        row.touch(now);
        self.uses.note(row.id.locator(), now);
        self.body(row, subject, now)
    }

    /// A page of a machine's tokens, newest first, and the number of all that match.
    ///
    /// # Errors
    /// [`Error::Forbidden`] where a machine asks for another one's, [`Error::NotFound`] for an unknown machine.
    pub async fn list_tokens(
        &self,
        actor: &Actor,
        subject: MachineId,
        is_with: (bool, bool),
        formats: TokenFormats,
        page: Page,
    ) -> Result<(Vec<M2mToken>, u64), Error> {
        if actor.owner().is_some_and(|own| own != subject) {
            return Err(Error::Forbidden("a machine can list its own tokens only"));
        }
        if self
            .store
            .machine(actor.instance_id(), subject)
            .await?
            .is_none()
        {
            return Err(machine_not_found(subject));
        }
        let now = self.now();
        let (include_revoked, include_expired) = is_with;
        let query = TokenQuery {
            machine: subject,
            include_revoked,
            include_expired,
            formats,
            now,
            page,
        };
        let (tokens, total) = self.store.list_tokens(actor.instance_id(), query).await?;
        Ok((
            tokens
                .iter()
                .map(|token| self.body(&token.row, token.machine.id, now))
                .collect(),
            total,
        ))
    }

    /// Revokes a token for good. A second revocation changes nothing and succeeds.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown id, or one of another machine where the actor is a machine.
    pub async fn revoke(
        &self,
        actor: &Actor,
        id: TokenId,
        reason: Option<String>,
    ) -> Result<M2mToken, Error> {
        let revocation = self.revocation(reason)?;
        let change = self.change(
            actor,
            ChangeKind::TokenRevoked,
            id,
            &json!({"reason": revocation.reason}),
        );
        match self
            .store
            .revoke_token(actor.instance_id(), actor.owner(), id, revocation, change)
            .await?
        {
            RevokeToken::Revoked(token) | RevokeToken::AlreadyRevoked(token) => {
                Ok(self.body(&token.row, token.machine.id, self.now()))
            }
            RevokeToken::NotFound => Err(token_not_found(id)),
        }
    }

    /// Changes a live opaque token (an extension of the contract).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], [`Error::NotChangeable`] for a JWT or a token that is over.
    pub async fn update_token(
        &self,
        actor: &Actor,
        id: TokenId,
        request: UpdateRequest,
    ) -> Result<M2mToken, Error> {
        let now = self.now();
        let stored = self
            .store
            .token(actor.instance_id(), id.locator())
            .await?
            .filter(|stored| {
                stored.row.id == id && actor.owner().is_none_or(|owner| owner == stored.machine.id)
            });
        let stored = stored.ok_or_else(|| token_not_found(id))?;
        let expires_at = match request.seconds_until_expiration {
            Some(seconds) => {
                let lifetime = self.opaque_lifetime_millis(actor, &stored.machine, seconds)?;
                Some(lifetime.map(|lifetime| later(now, lifetime)).transpose()?)
            }
            None => None,
        };
        if request.is_empty() {
            return Ok(self.body(&stored.row, stored.machine.id, now));
        }
        if request.revocation_reason.is_some() && !request.revoke {
            let rule = "goes with revoked: true only";
            return Err(invalid(
                "revocation_reason",
                Problem::NotAllowed(rule.into()),
            ));
        }
        let revoked = request
            .revoke
            .then(|| self.revocation(request.revocation_reason))
            .transpose()?;
        let detail = json!({
            "claims": request.claims.is_some(),
            "expires_at": expires_at.flatten(),
            "revoked": revoked.is_some(),
            "reason": revoked.as_ref().and_then(|revocation| revocation.reason.clone()),
        });
        let kind = if revoked.is_some() {
            ChangeKind::TokenRevoked
        } else {
            ChangeKind::TokenUpdated
        };
        let change = self.change(actor, kind, id, &detail);
        let update = TokenUpdate {
            claims: request.claims,
            expires_at,
            revoked,
        };
        match self
            .store
            .update_token(actor.instance_id(), actor.owner(), id, update, now, change)
            .await?
        {
            UpdateToken::Updated(token) => Ok(self.body(&token.row, token.machine.id, now)),
            UpdateToken::NotFound => Err(token_not_found(id)),
            UpdateToken::IsJwt => Err(Error::NotChangeable(
                "a JWT cannot be changed, because its content is signed",
            )),
            UpdateToken::NotLive => Err(Error::NotChangeable(
                "a token that is revoked or expired cannot be changed",
            )),
        }
    }

    fn revocation(&self, reason: Option<String>) -> Result<Revocation, Error> {
        if let Some(reason) = &reason {
            if reason.chars().count() > MAX_REASON_LENGTH {
                return Err(invalid(
                    "revocation_reason",
                    Problem::TooLong(MAX_REASON_LENGTH),
                ));
            }
            if reason.contains('\0') {
                let rule = "must not contain the character U+0000";
                return Err(invalid(
                    "revocation_reason",
                    Problem::WrongFormat(rule.into()),
                ));
            }
        }
        Ok(Revocation {
            at: self.now(),
            reason: reason.map(Arc::from),
        })
    }

    /// `None` for a token that never expires.
    fn opaque_lifetime_millis(
        &self,
        actor: &Actor,
        machine: &MachineRow,
        seconds: Option<f64>,
    ) -> Result<Option<i64>, Error> {
        match (seconds, actor.instance().settings.null_expiration) {
            (Some(seconds), _) => lifetime_millis(seconds, MAX_TOKEN_TTL_SECONDS).map(Some),
            (None, NullExpiration::Default) => {
                Ok(Some(machine.default_token_ttl.saturating_mul(1000)))
            }
            (None, NullExpiration::Never) => Ok(None),
        }
    }

    fn body(&self, row: &TokenRow, subject: MachineId, now: Timestamp) -> M2mToken {
        let last_used_at = row.last_used_at();
        let revoked_at = row.revoked.as_ref().map(|revocation| revocation.at);
        M2mToken {
            object: M2mTokenTag::Tag,
            id: row.id,
            subject,
            scopes: row.scopes.clone(),
            claims: row.claims.clone(),
            revoked: row.revoked.is_some(),
            revocation_reason: row
                .revoked
                .as_ref()
                .and_then(|revocation| revocation.reason.clone()),
            expired: row.is_expired(now),
            expiration: row.expires_at,
            last_used_at,
            created_at: row.created_at,
            updated_at: Some(row.created_at)
                .max(last_used_at)
                .max(revoked_at)
                .unwrap_or(row.created_at),
            token: None,
        }
    }
}

/// What a sealed token is bound to.
fn token_context<'a>(actor: &'a Actor, machine: &'a MachineId, id: &'a str) -> SealContext<'a> {
    SealContext {
        purpose: "token",
        instance: actor.instance().id.as_str(),
        owner: machine.as_str(),
        row: id,
    }
}

fn refused(refusal: Refusal, is_disclosed: bool, subject: Option<MachineId>) -> Error {
    Error::TokenRefused {
        refusal,
        is_disclosed,
        subject,
    }
}

fn token_not_found(id: TokenId) -> Error {
    Error::NotFound {
        noun: "token",
        id: id.to_string(),
    }
}

fn too_long() -> Error {
    invalid(
        "seconds_until_expiration",
        Problem::TooLarge(MAX_TOKEN_TTL_SECONDS),
    )
}

fn later(now: Timestamp, millis: i64) -> Result<Timestamp, Error> {
    now.plus_millis(millis).ok_or_else(too_long)
}

/// A lifetime in whole milliseconds, at least one.
fn lifetime_millis(seconds: f64, max_seconds: i64) -> Result<i64, Error> {
    let name = "seconds_until_expiration";
    if seconds.is_nan() || seconds <= 0.0 {
        return Err(invalid(
            name,
            Problem::NotAllowed("must be greater than 0".into()),
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "the bound is far below 53 bits")]
    if seconds > max_seconds as f64 {
        return Err(invalid(name, Problem::TooLarge(max_seconds)));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lines before bound the number"
    )]
    let millis = (seconds * 1000.0).round() as i64;
    Ok(millis.max(1))
}

/// Equal for equal claims, as JSON, and an equal set of scopes.
fn pool_key(claims: Option<&Claims>, scopes: &Scopes) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(scopes.sorted().as_bytes());
    context.update(b"\n");
    context.update(claims.map(Claims::canonical).unwrap_or_default().as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

fn check_jwt_claims(claims: Option<&Claims>, has_scopes_claim: bool) -> Result<(), Error> {
    let Some(claims) = claims else { return Ok(()) };
    if !claims.is_object() {
        return Err(invalid(
            "claims",
            Problem::WrongType("an object or null for a JWT"),
        ));
    }
    let names = claims
        .names()
        .map_err(|error| invalid("claims", Problem::NotAllowed(error.to_string().into())))?;
    for name in names {
        if RESERVED_CLAIMS.contains(&name.as_str()) || (has_scopes_claim && name == "scopes") {
            return Err(Error::ReservedClaim(name));
        }
        if name == "scopes" && claims.text_member("scopes").is_none() {
            let rule = "must have a string as 'scopes', because SDKs split it at spaces";
            return Err(invalid("claims", Problem::NotAllowed(rule.into())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locators_grow_even_where_the_clock_stands_still() {
        let locators = Locators::default();
        let now = Timestamp::from_millis(LOCATOR_EPOCH_MILLIS + 5);
        let mut last = locators.next(now);
        for _ in 0..3 * LOCATORS_PER_MILLI {
            let next = locators.next(now);
            assert!(next > last);
            assert_eq!((next.get() >> 12) & 0x3ff, 0, "the node's bits stay");
            last = next;
        }
        assert_eq!(
            locators
                .next(Timestamp::from_millis(LOCATOR_EPOCH_MILLIS + 1000))
                .get(),
            1000 << MILLI_SHIFT
        );
    }

    #[test]
    fn lifetimes_are_bounded_and_keep_their_fractions() {
        assert_eq!(lifetime_millis(0.5, 10).expect("good"), 500);
        assert_eq!(lifetime_millis(1e-9, 10).expect("good"), 1);
        assert_eq!(lifetime_millis(10.0, 10).expect("good"), 10_000);
        for seconds in [
            0.0,
            -1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            10.001,
            1e300,
        ] {
            assert!(lifetime_millis(seconds, 10).is_err(), "{seconds}");
        }
    }
}
