//! Tokens: issue, verify, revoke, list, update (contract: M2M tokens, JWT M2M tokens).
//!
//! A JWT has a row like an opaque token, so it can be revoked, listed and refused like one.

mod bodies;
mod issue;
mod lifetime;
mod locators;
mod verify;

use std::sync::Arc;

use countersign_protocol::body::{M2mToken, M2mTokenList};
use countersign_protocol::bounds::{Reason, Text};
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::request::{ListTokens, UpdateRequest};
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::TokenFormats;
use countersign_store::{
    Revocation, RevokeToken, StoredToken, TokenQuery, TokenUpdate, UpdateToken,
};

use crate::Authority;
use crate::actor::Actor;
use crate::error::{
    Error, Problem, about, instance_not_found, invalid, invalid_query, machine_not_found,
};
use crate::rules::{page, total};

pub use issue::IssuedToken;
pub(crate) use locators::Locators;

use bodies::token_body;
use lifetime::{later, opaque_lifetime_millis};

impl Authority {
    /// Returns a page of a machine's tokens, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Forbidden`] if a machine asks for another machine's tokens, [`Error::NotFound`] for
    /// an unknown machine.
    pub async fn list_tokens(
        &self,
        actor: &Actor,
        list: ListTokens,
    ) -> Result<M2mTokenList, Error> {
        let subject = list
            .subject
            .ok_or_else(|| invalid_query("subject", Problem::Missing))?;
        let machine: MachineId = subject.parse().map_err(|_| {
            let rule = r"must match the pattern ^mch_\w{27}$";
            invalid_query("subject", Problem::WrongFormat(rule.into()))
        })?;
        let formats = match list.format {
            None => TokenFormats::default(),
            Some(text) => text.parse().map_err(|error| {
                let rule = format!("{error}");
                invalid_query("format", Problem::NotAllowed(rule.into()))
            })?,
        };
        let page = page(list.limit, list.offset)?;
        if actor.machine_id().is_some_and(|own| own != machine) {
            return Err(Error::Forbidden("a machine can list its own tokens only"));
        }
        let found = self.store.machine(actor.instance_id(), machine).await?;
        found.ok_or_else(|| machine_not_found(machine))?;
        let now = self.now();
        let query = TokenQuery {
            machine,
            include_revoked: list.revoked,
            include_expired: list.expired,
            formats,
            now,
            page,
        };
        let (tokens, count) = self.store.list_tokens(actor.instance_id(), query).await?;
        let bodies = tokens.into_iter().map(|token| self.body(token, now));
        Ok(M2mTokenList {
            m2m_tokens: bodies.collect(),
            total_count: total(count),
        })
    }

    /// Revokes a token for good. A second revocation changes nothing and succeeds.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown id, or one of another machine where the actor is a machine; [`Error::TooManyChanges`].
    pub async fn revoke(
        &self,
        actor: &Actor,
        id: TokenId,
        reason: Option<Reason>,
    ) -> Result<M2mToken, Error> {
        let reason = checked_reason(reason)?;
        let change = self.change(actor);
        self.take_change(actor)?;
        let outcome = self
            .store
            .revoke_token(actor.instance_id(), actor.machine_id(), id, reason, change)
            .await;
        if !matches!(outcome, Ok(RevokeToken::Revoked(_))) {
            self.give_change_back(actor);
        }
        let token = match outcome? {
            RevokeToken::Revoked(token) | RevokeToken::AlreadyRevoked(token) => token,
            RevokeToken::NotFound => return Err(token_not_found(id)),
        };
        let body = self.body(token, self.now());
        tracing::info!(token.id = %body.id, subject = %body.subject, actor = actor.name(), "token revoked");
        Ok(body)
    }

    /// Ends all existing tokens of a machine, or of the actor's whole instance. Returns the cut-off: tokens created
    /// before it are refused.
    ///
    /// # Errors
    /// [`Error::NotFound`], a refusal if the actor is a machine, or the store's error.
    pub async fn end_tokens(
        &self,
        actor: &Actor,
        machine: Option<MachineId>,
    ) -> Result<Timestamp, Error> {
        actor.require_instance()?;
        let instance = actor.instance_id();
        let change = self.change(actor);
        let cut_off = match machine {
            Some(machine) => {
                let ended = self.store.end_machine_tokens(instance, machine, change);
                ended.await?.ok_or_else(|| machine_not_found(machine))?
            }
            None => {
                let ended = self.store.end_instance_tokens(instance, change);
                ended.await?.ok_or_else(|| instance_not_found(instance))?
            }
        };
        tracing::info!(
            instance.id = %instance,
            machine.id = machine.map(tracing::field::display),
            issued_before = %cut_off,
            actor = actor.name(),
            "all tokens ended"
        );
        Ok(cut_off)
    }

    /// Changes a live opaque token (an extension of the contract).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], [`Error::NotChangeable`] for a JWT or a token that is revoked or expired,
    /// [`Error::TooManyChanges`].
    pub async fn update_token(
        &self,
        actor: &Actor,
        id: TokenId,
        request: UpdateRequest,
    ) -> Result<M2mToken, Error> {
        let body = self.update_unnoted(actor, id, request).await?;
        tracing::info!(token.id = %body.id, subject = %body.subject, actor = actor.name(), "token updated");
        Ok(body)
    }

    async fn update_unnoted(
        &self,
        actor: &Actor,
        id: TokenId,
        request: UpdateRequest,
    ) -> Result<M2mToken, Error> {
        if request.revoked == Some(false) {
            let rule = "must be true: a revoked token stays revoked";
            return Err(invalid("revoked", Problem::NotAllowed(rule.into())));
        }
        let change = self.change(actor);
        let now = change.at;
        let stored = self
            .store
            .token(actor.instance_id(), id.locator())
            .await?
            .filter(|stored| {
                let owner = actor.machine_id();
                stored.row.id == id && owner.is_none_or(|owner| owner == stored.machine.id)
            });
        let stored = stored.ok_or_else(|| token_not_found(id))?;
        let expires_at = match request.seconds_until_expiration {
            Some(seconds) => {
                let lifetime = opaque_lifetime_millis(&stored.instance, &stored.machine, seconds)?;
                Some(lifetime.map(|lifetime| later(now, lifetime)).transpose()?)
            }
            None => None,
        };
        if request.is_empty() {
            return Ok(self.body(stored, now));
        }
        let revoked = match (request.revoked, request.revocation_reason) {
            (Some(_), reason) => Some(Revocation {
                at: now,
                reason: checked_reason(reason)?,
            }),
            (None, Some(_)) => {
                let rule = "goes with revoked: true only";
                return Err(invalid(
                    "revocation_reason",
                    Problem::NotAllowed(rule.into()),
                ));
            }
            (None, None) => None,
        };
        let update = TokenUpdate {
            claims: request.claims,
            expires_at,
            revoked,
        };
        self.take_change(actor)?;
        let outcome = self
            .store
            .update_token(actor.instance_id(), actor.machine_id(), id, update, change)
            .await;
        if !matches!(outcome, Ok(UpdateToken::Updated(_))) {
            self.give_change_back(actor);
        }
        match outcome? {
            UpdateToken::Updated(token) => Ok(self.body(token, now)),
            UpdateToken::NotFound => Err(token_not_found(id)),
            UpdateToken::IsJwt => Err(Error::NotChangeable(
                "a JWT cannot be changed, because its content is signed",
            )),
            UpdateToken::NotLive => Err(Error::NotChangeable(
                "a token that is revoked or expired cannot be changed",
            )),
        }
    }

    /// Returns the current body of a token, including uses that are not written yet.
    fn body(&self, stored: StoredToken, now: Timestamp) -> M2mToken {
        let used_at = self.uses.pending(stored.row.id.locator());
        token_body(stored, used_at, now)
    }
}

fn checked_reason(reason: Option<Reason>) -> Result<Option<Arc<str>>, Error> {
    let reason = reason.map(Text::checked).transpose();
    Ok(reason.map_err(about("revocation_reason"))?.map(Arc::from))
}

fn token_not_found(id: TokenId) -> Error {
    Error::NotFound {
        noun: "token",
        id: id.to_string(),
    }
}
