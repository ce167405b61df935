//! Issuing tokens: opaque ones, JWTs, and live ones again (contract: create a token, reuse).

use std::sync::Arc;

use aws_lc_rs::digest;
use countersign_protocol::body::{ExposedSecret, M2mToken};
use countersign_protocol::claims::{Claims, RESERVED_CLAIMS};
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::jwt::JwtClaims;
use countersign_protocol::limits::{MAX_JWT_BYTES, MAX_TOKEN_TTL_SECONDS, MAX_TOKENS};
use countersign_protocol::random::Drawn;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::TokenString;
use countersign_protocol::time::Timestamp;
use countersign_store::{
    InsertToken, MachineRow, NewToken, NullExpiration, Pool, SealedBytes, StoreError, StoredToken,
    TokenFormat, TokenRow,
};

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Problem, invalid};
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

impl Authority {
    /// Issues a token to the machine that asks, or hands out a live equal one.
    ///
    /// # Errors
    /// [`Error::MachineKeyInvalid`] for an actor that is no machine or whose key ended meanwhile, [`Error::Invalid`], [`Error::ReservedClaim`],
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
                    let mut body = self.body(&row, machine.id, row.created_at);
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
                        "the machine holds {MAX_TOKENS} live tokens, which is the maximum; let some expire, revoke some, or ask \
                         for shorter ones"
                    )));
                }
                Ok(InsertToken::KeyGone) => return Err(Error::MachineKeyInvalid),
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
        // As much as both mostly need.
        let random = Drawn::<32>::from(&*self.random);
        let id = TokenId::generate(locator, &random);
        let secret = TokenString::generate(locator, &random);
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
            key: actor.machine_key(),
            digest: Some(self.vault.digest(secret.expose())),
            signing_key: None,
            scopes: machine.scopes.clone(),
            claims: request.claims.clone(),
            created_at: now,
            expires_at: lifetime.map(|lifetime| later(now, lifetime)).transpose()?,
            pool,
            max_tokens: MAX_TOKENS,
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
            key: actor.machine_key(),
            digest: None,
            signing_key: Some(active.row.id),
            scopes: machine.scopes.clone(),
            claims: request.claims.clone(),
            created_at: seconds(issued_at)?,
            expires_at: Some(seconds(expires_at)?),
            pool: None,
            max_tokens: MAX_TOKENS,
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

    /// `None` for a token that never expires.
    pub(super) fn opaque_lifetime_millis(
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

fn too_long() -> Error {
    invalid(
        "seconds_until_expiration",
        Problem::TooLarge(MAX_TOKEN_TTL_SECONDS),
    )
}

pub(super) fn later(now: Timestamp, millis: i64) -> Result<Timestamp, Error> {
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
