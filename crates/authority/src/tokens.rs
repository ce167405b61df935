//! Tokens: issue, verify, revoke, list, update (contract: M2M tokens, JWT M2M tokens).
//!
//! To verify is to read: the row and the machine decide, nothing is remembered in between. A JWT has a row like an opaque
//! token, so it can be revoked, listed and refused like one.

mod issue;
mod locators;

use std::sync::Arc;

use countersign_protocol::body::{M2mToken, M2mTokenTag};
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::jwt::{UnverifiedJwt, VerifiedJwt, looks_like_jwt};
use countersign_protocol::limits::MAX_REASON_LENGTH;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::TokenString;
use countersign_protocol::time::Timestamp;
use countersign_store::{
    ChangeKind, Page, Revocation, RevokeToken, StoredToken, TokenFormat, TokenFormats, TokenQuery,
    TokenRow, TokenUpdate, UpdateToken,
};
use serde_json::json;

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Problem, Refusal, invalid};
use crate::machines::machine_not_found;

pub use issue::{IssueRequest, IssuedToken};
pub(crate) use locators::Locators;

use issue::later;

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

impl Authority {
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
    /// [`Error::NotFound`] for an unknown id, or one of another machine where the actor is a machine; [`Error::TooManyChanges`].
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
        self.take_change(actor)?;
        let outcome = self
            .store
            .revoke_token(actor.instance_id(), actor.owner(), id, revocation, change)
            .await;
        if !matches!(outcome, Ok(RevokeToken::Revoked(_))) {
            self.give_change_back(actor);
        }
        match outcome? {
            RevokeToken::Revoked(token) | RevokeToken::AlreadyRevoked(token) => {
                Ok(self.body(&token.row, token.machine.id, self.now()))
            }
            RevokeToken::NotFound => Err(token_not_found(id)),
        }
    }

    /// Changes a live opaque token (an extension of the contract).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], [`Error::NotChangeable`] for a JWT or a token that is over,
    /// [`Error::TooManyChanges`].
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
        self.take_change(actor)?;
        let outcome = self
            .store
            .update_token(actor.instance_id(), actor.owner(), id, update, now, change)
            .await;
        if !matches!(outcome, Ok(UpdateToken::Updated(_))) {
            self.give_change_back(actor);
        }
        match outcome? {
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
