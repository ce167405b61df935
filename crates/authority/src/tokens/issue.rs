//! Issuing tokens: opaque ones, JWTs, and live ones again (contract: create a token, reuse).

use std::sync::Arc;

use aws_lc_rs::digest;
use countersign_protocol::body::{ExposedSecret, M2mToken, M2mTokenTag};
use countersign_protocol::bounds::Whole;
use countersign_protocol::change::Log;
use countersign_protocol::claims::{Claims, RESERVED_CLAIMS};
use countersign_protocol::ids::{InstanceId, MachineId, TokenId};
use countersign_protocol::jwt::JwtClaims;
use countersign_protocol::limits::MAX_JWT_BYTES;
use countersign_protocol::random::Drawn;
use countersign_protocol::request::IssueRequest;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::TokenString;
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::TokenFormat;
use countersign_store::{
    InsertToken, Instance, MachineRow, NewToken, Pool, Proof, SealedBytes, StoreError, StoredToken,
};

use super::bodies::token_body;
use super::lifetime::{
    creation, from_seconds, issued_at, later, lifetime_millis, opaque_lifetime_millis,
};
use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Problem, about, invalid};
use crate::vault::SealContext;

/// Maximum number of attempts to issue a token while its machine or instance keeps changing.
const MAX_ATTEMPTS: usize = 8;

/// A token with its string.
#[derive(Debug)]
pub struct IssuedToken {
    /// The answer's body, the string included.
    pub body: M2mToken,
    /// Whether it existed before.
    pub is_reused: bool,
}

/// The instance and the machine as stored, on which a new token is based.
struct Ground {
    instance: Arc<Instance>,
    machine: Arc<MachineRow>,
    /// Whether the machine has reached its limit of tokens.
    is_full: bool,
}

impl Ground {
    /// Returns the cut-off: tokens created before it are refused.
    fn cut_off(&self) -> Option<Timestamp> {
        self.machine.issued_before.max(self.instance.issued_before)
    }
}

impl Authority {
    /// Issues a token to the machine that asks, or hands out a live equal one.
    ///
    /// # Errors
    /// [`Error::MachineKeyInvalid`] for an actor that is not a machine or whose key has ended in the meantime,
    /// [`Error::Invalid`], [`Error::ReservedClaim`], [`Error::Conflict`] if the machine has reached its limit of
    /// tokens, [`Error::Overloaded`], or the store's error.
    pub async fn issue(&self, actor: &Actor, request: &IssueRequest) -> Result<IssuedToken, Error> {
        let issued = self.issue_unnoted(actor, request).await?;
        self.tally.issued(request.format, issued.is_reused);
        tracing::debug!(
            target: "countersign::issue",
            subject = %issued.body.subject, token.id = %issued.body.id, reused = issued.is_reused,
            jwt = request.format == TokenFormat::Jwt,
            "token issued"
        );
        Ok(issued)
    }

    async fn issue_unnoted(
        &self,
        actor: &Actor,
        request: &IssueRequest,
    ) -> Result<IssuedToken, Error> {
        let machine = Arc::clone(actor.machine().ok_or(Error::MachineKeyInvalid)?);
        min_remaining(request)?;
        let (instance_id, machine_id) = (actor.instance_id(), machine.id);
        let mut ground = Ground {
            instance: Arc::clone(actor.instance()),
            machine,
            is_full: !self.has_room(instance_id, machine_id).await?,
        };
        let may_reuse = request.min_remaining_ttl_seconds.is_some();
        if ground.is_full && (request.format == TokenFormat::Jwt || !may_reuse) {
            return Err(self.full());
        }
        for _ in 0..MAX_ATTEMPTS {
            let (new, body) = match request.format {
                TokenFormat::Opaque => self.new_opaque(actor, &ground, request)?,
                TokenFormat::Jwt => self.new_jwt(actor, &ground, request).await?,
            };
            match self.store.insert_token(new).await {
                Ok(InsertToken::Inserted) => {
                    self.room.issued(instance_id, machine_id);
                    return Ok(IssuedToken {
                        body,
                        is_reused: false,
                    });
                }
                Ok(InsertToken::Reused { token, sealed }) => return self.reused(token, &sealed),
                Ok(InsertToken::KeyGone) => return Err(Error::MachineKeyInvalid),
                Ok(InsertToken::Full) => return Err(self.full()),
                // The next attempt sees the change.
                Ok(InsertToken::Changed) | Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            if request.format == TokenFormat::Jwt {
                // Another process may have deleted the signing key. Boxed, because this case is rare.
                Box::pin(self.follower.catch_up(Log::Instance(instance_id))).await?;
            }
            let instance = self.store.instance(instance_id).await?;
            let machine = self.store.machine(instance_id, machine_id).await?;
            ground = Ground {
                instance: instance.ok_or(Error::MachineKeyInvalid)?,
                machine: machine.ok_or(Error::MachineKeyInvalid)?,
                ..ground
            };
        }
        Err(Error::Overloaded)
    }

    fn new_opaque(
        &self,
        actor: &Actor,
        ground: &Ground,
        request: &IssueRequest,
    ) -> Result<(NewToken, M2mToken), Error> {
        let Ground {
            instance, machine, ..
        } = ground;
        let lifetime = opaque_lifetime_millis(instance, machine, request.seconds_until_expiration)?;
        let now = self.now();
        let locator = self.locators.next(now);
        // As much as both mostly need.
        let random = Drawn::<32>::from(&*self.random);
        let id = TokenId::generate(locator, &random);
        let secret = TokenString::generate(locator, &random);
        let pool = match min_remaining(request)? {
            Some(seconds) => {
                let min_remaining_millis = seconds.saturating_mul(1000);
                if lifetime.is_some_and(|lifetime| min_remaining_millis >= lifetime) {
                    let rule = "must be less than the lifetime of the token";
                    return Err(invalid(
                        "min_remaining_ttl_seconds",
                        Problem::NotAllowed(rule.into()),
                    ));
                }
                instance.settings.token_pooling.then(|| {
                    let id = id.to_string();
                    let context = token_context(&instance.id, &machine.id, &id);
                    Pool {
                        key: pool_key(request.claims.as_ref(), &machine.scopes),
                        min_remaining_millis,
                        sealed: self.vault.seal(&context, secret.expose().as_bytes()),
                    }
                })
            }
            None => None,
        };
        let created_at = creation(now, ground.cut_off());
        let new = NewToken {
            id,
            instance: Arc::clone(instance),
            machine: Arc::clone(machine),
            key: actor.machine_key(),
            proof: Proof::Opaque(self.vault.digest(secret.expose())),
            scopes: machine.scopes.clone(),
            claims: request.claims.clone(),
            created_at,
            expires_at: lifetime
                .map(|lifetime| later(created_at, lifetime))
                .transpose()?,
            pool,
            is_full: ground.is_full,
            change: actor.is_operator().then(|| self.change(actor)),
        };
        let body = new_token_body(&new, created_at, secret.expose().to_owned());
        Ok((new, body))
    }

    async fn new_jwt(
        &self,
        actor: &Actor,
        ground: &Ground,
        request: &IssueRequest,
    ) -> Result<(NewToken, M2mToken), Error> {
        let Ground {
            instance, machine, ..
        } = ground;
        let settings = &instance.settings;
        check_jwt_claims(request.claims.as_ref(), settings.jwt_scopes_claim)?;
        let longest = settings.max_jwt_ttl.saturating_mul(1000);
        let lifetime = match request.seconds_until_expiration {
            Some(seconds) => lifetime_millis(seconds, settings.max_jwt_ttl)?,
            None => machine.default_token_ttl.saturating_mul(1000).min(longest),
        };
        let now = self.now();
        let created_at = creation(now, ground.cut_off());
        let issued_at = issued_at(created_at, ground.cut_off());
        let issued = from_seconds(issued_at)?;
        let expires_at = later(issued, lifetime)?.as_seconds_rounded_up();
        let id = TokenId::generate(self.locators.next(now), &*self.random);
        let ring = self.follower.ring_of(instance.id).await?;
        let active = ring
            .active()
            .ok_or(Error::damaged("the signing keys: none is active"))?;
        let key = Arc::clone(&active.signing);
        let issuer = self.issuer(instance);
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
            .map_err(|_| Error::damaged("a signing key"))?;
        if token.len() > MAX_JWT_BYTES {
            let rule = format!(
                "make the JWT longer than {MAX_JWT_BYTES} bytes; use fewer claims or an opaque token"
            );
            return Err(invalid("claims", Problem::NotAllowed(rule.into())));
        }
        let new = NewToken {
            id,
            instance: Arc::clone(instance),
            machine: Arc::clone(machine),
            key: actor.machine_key(),
            proof: Proof::Jwt(active.row.id),
            scopes: machine.scopes.clone(),
            claims: request.claims.clone(),
            created_at,
            expires_at: Some(from_seconds(expires_at)?),
            pool: None,
            is_full: ground.is_full,
            change: actor.is_operator().then(|| self.change(actor)),
        };
        let body = new_token_body(&new, issued, token);
        Ok((new, body))
    }

    fn reused(&self, token: StoredToken, sealed: &SealedBytes) -> Result<IssuedToken, Error> {
        let id = token.row.id.to_string();
        let context = token_context(&token.instance.id, &token.machine.id, &id);
        let opened = self.vault.open_sealed(&context, sealed)?;
        let secret = std::str::from_utf8(&opened).map_err(|_| Error::damaged("a sealed token"))?;
        let used_at = self.uses.pending(token.row.id.locator());
        let mut body = token_body(token, used_at, self.now());
        body.token = Some(ExposedSecret(secret.to_owned()));
        Ok(IssuedToken {
            body,
            is_reused: true,
        })
    }
}

/// Returns how many seconds a token must have left to be handed out again.
fn min_remaining(request: &IssueRequest) -> Result<Option<i64>, Error> {
    let seconds = request.min_remaining_ttl_seconds.map(Whole::checked);
    let seconds = seconds.transpose();
    seconds.map_err(about("min_remaining_ttl_seconds"))
}

/// Returns the body of a token that is about to be inserted, with its string.
fn new_token_body(new: &NewToken, created_at: Timestamp, secret: String) -> M2mToken {
    M2mToken {
        object: M2mTokenTag::Tag,
        id: new.id,
        subject: new.machine.id,
        scopes: new.scopes.clone(),
        claims: new.claims.clone(),
        revoked: false,
        revocation_reason: None,
        expired: false,
        expiration: new.expires_at,
        last_used_at: None,
        created_at,
        updated_at: created_at,
        token: Some(ExposedSecret(secret)),
    }
}

/// What a sealed token is bound to.
fn token_context<'a>(
    instance: &'a InstanceId,
    machine: &'a MachineId,
    id: &'a str,
) -> SealContext<'a> {
    SealContext {
        purpose: "token",
        instance: instance.as_str(),
        owner: machine.as_str(),
        row: id,
    }
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
            Problem::WrongType("an object or null for a JWT".into()),
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
