//! Tokens: one row for each that was issued, opaque or JWT; never the string itself.

use std::sync::Arc;

use countersign_protocol::change::{Event, TokenFacts};
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{KeyId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::page::Page;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::{TokenFormat, TokenFormats};

use crate::changes::NewChange;
use crate::instances::Instance;
use crate::keys::{Digest, SealedBytes, SigningKeyState};
use crate::machines::MachineRow;

/// A revocation of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When the token was revoked.
    pub at: Timestamp,
    /// The reason that was given.
    pub reason: Option<Arc<str>>,
}

/// The proof that a token is genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The digest of an opaque token's string.
    Opaque(Digest),
    /// The key that signed a JWT.
    Jwt(SigningKeyId),
}

impl Proof {
    /// Returns the format of the token that this proves.
    #[must_use]
    pub fn format(&self) -> TokenFormat {
        match self {
            Self::Opaque(_) => TokenFormat::Opaque,
            Self::Jwt(_) => TokenFormat::Jwt,
        }
    }
}

/// A request for an equal live token instead of a new one.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Equal for tokens with equal claims and an equal set of scopes.
    pub key: [u8; 32],
    /// Minimum remaining lifetime of the token, in milliseconds.
    pub min_remaining_millis: i64,
    /// The string of the new token, sealed, for the next request.
    pub sealed: SealedBytes,
}

/// A token to be inserted.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// The instance as the authority read it. If its revision has changed, the token is not inserted.
    pub instance: Arc<Instance>,
    /// The machine that the token identifies, as the authority read it. If its revision has changed, the token is not
    /// inserted.
    pub machine: Arc<MachineRow>,
    /// The machine key that requested the token. If it is deleted or expired at `created_at`, the token is not
    /// inserted. `None` if the operator requested the token.
    pub key: Option<KeyId>,
    /// What shows that the token is genuine.
    pub proof: Proof,
    /// The machines it is for.
    pub scopes: Scopes,
    /// The machine's own claims.
    pub claims: Option<Claims>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Whether an equal token may be used instead.
    pub pool: Option<Pool>,
    /// Whether the machine has reached its limit. If so, nothing is inserted, but an equal token may still be reused.
    pub is_full: bool,
    /// The record to write if the operator requested the token, whether the token is new or reused.
    pub change: Option<NewChange>,
}

/// The outcome of [`crate::Store::insert_token`].
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "each is taken apart as soon as it is there"
)]
pub enum InsertToken {
    /// The token was inserted.
    Inserted,
    /// An equal token is reused: the one that expires last.
    Reused {
        /// The older token.
        token: StoredToken,
        /// Its string, sealed.
        sealed: SealedBytes,
    },
    /// The machine, the instance or the signing key changed since the authority read them. Nothing was inserted.
    Changed,
    /// The requesting key is deleted or expired. No token was inserted or reused.
    KeyGone,
    /// The machine has reached its limit, and no equal token can be reused.
    Full,
}

/// A token.
#[derive(Clone, Debug)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// The machine that it identifies.
    pub machine: MachineId,
    /// What shows that the token is genuine.
    pub proof: Proof,
    /// The machines it is for.
    pub scopes: Scopes,
    /// The machine's own claims.
    pub claims: Option<Claims>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Its revocation, if it was revoked.
    pub revoked: Option<Revocation>,
    /// When it was last used, as far as recorded. Verifications do not load this value.
    pub last_used_at: Option<Timestamp>,
}

impl TokenRow {
    /// Returns whether the token is opaque or a JWT.
    #[must_use]
    pub fn format(&self) -> TokenFormat {
        self.proof.format()
    }

    /// Returns whether the token is expired at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// Describes the token for a record of the change log. `instance` is the token's instance.
    #[must_use]
    pub fn facts(&self, instance: &Instance) -> TokenFacts {
        let names_receivers = match self.proof {
            Proof::Opaque(_) => true,
            // From then on, the authority writes the claim into every JWT.
            Proof::Jwt(_) => instance
                .local_since
                .is_some_and(|since| self.created_at >= since),
        };
        TokenFacts {
            token_id: self.id,
            subject: self.machine,
            receivers: self.scopes.clone(),
            names_receivers,
            format: self.format(),
            expires_at: self.expires_at,
        }
    }

    /// Returns the token with these new values.
    #[must_use]
    pub fn updated(&self, update: TokenUpdate) -> Self {
        Self {
            claims: update.claims.unwrap_or_else(|| self.claims.clone()),
            expires_at: update.expires_at.unwrap_or(self.expires_at),
            revoked: update.revoked.or_else(|| self.revoked.clone()),
            ..self.clone()
        }
    }

    /// Returns whether the row of a revoked token must stay. Receivers that check JWTs locally must be able to learn of
    /// a revocation until ten minutes after the JWT's expiry.
    #[must_use]
    pub fn is_kept_for_receivers(&self, now: Timestamp) -> bool {
        self.format() == TokenFormat::Jwt
            && self.revoked.is_some()
            && self.expires_at.is_none_or(|end| now < kept_until(end))
    }
}

/// How long the row of a revoked JWT is kept after the JWT's expiry, in milliseconds.
pub const KEPT_MILLIS: i64 = 600_000;

/// Maximum number of tokens that one call of [`crate::Store::make_room`] deletes.
pub(crate) const ROOM_AT_ONCE: usize = 10_000;

/// The outcome of [`crate::Store::make_room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Number of tokens that the machine now holds, counted up to the limit.
    pub held: u64,
    /// The number of tokens that were deleted.
    pub deleted: u64,
}

/// Returns how long the row of a revoked JWT with this expiry is kept.
fn kept_until(expires_at: Timestamp) -> Timestamp {
    expires_at.plus_millis(KEPT_MILLIS).unwrap_or(expires_at)
}

/// A token with everything that decides whether it is valid.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// The token.
    pub row: TokenRow,
    /// The machine that it identifies.
    pub machine: Arc<MachineRow>,
    /// The instance of that machine.
    pub instance: Arc<Instance>,
    /// State of the key that signed it; `None` for an opaque token and for a JWT whose key was deleted.
    pub signing_key: Option<SigningKeyState>,
}

impl StoredToken {
    /// Returns the event for the revoked token.
    pub(crate) fn revoked_event(&self, reason: Option<Arc<str>>) -> Event {
        Event::TokenRevoked {
            token: self.row.facts(&self.instance),
            reason,
        }
    }

    /// Returns the event for the changed token, with its new values. A change that also revokes the token is recorded as a
    /// revocation, because receivers must learn of the revocation.
    pub(crate) fn updated_event(&self, claims_replaced: bool) -> Event {
        match &self.row.revoked {
            Some(revoked) => self.revoked_event(revoked.reason.clone()),
            None => Event::TokenUpdated {
                token: self.row.facts(&self.instance),
                claims_replaced,
            },
        }
    }

    /// Returns the cut-off of the machine or instance that ended the token, if any.
    #[must_use]
    pub fn cut_off_at(&self) -> Option<Timestamp> {
        let cut_off = self.machine.issued_before.max(self.instance.issued_before);
        cut_off.filter(|cut_off| self.row.created_at < *cut_off)
    }

    /// Returns whether the token is revoked, expired at `now`, or ended by a cut-off. Ignores the state of its signing
    /// key.
    #[must_use]
    pub fn is_ended(&self, now: Timestamp) -> bool {
        self.row.revoked.is_some() || self.row.is_expired(now) || self.cut_off_at().is_some()
    }
}

/// The tokens to list.
#[derive(Clone, Debug)]
pub struct TokenQuery {
    /// The machine whose tokens are listed.
    pub machine: MachineId,
    /// Whether to include revoked tokens and tokens ended by a cut-off.
    pub include_revoked: bool,
    /// Whether to include expired tokens.
    pub include_expired: bool,
    /// The formats to list.
    pub formats: TokenFormats,
    /// The time that decides about expiry.
    pub now: Timestamp,
    /// The requested part of the list.
    pub page: Page,
}

/// The outcome of [`crate::Store::revoke_token`].
#[derive(Debug)]
pub enum RevokeToken {
    /// The token is revoked now and was not before.
    Revoked(StoredToken),
    /// It was revoked before; nothing changed.
    AlreadyRevoked(StoredToken),
    /// There is no such token.
    NotFound,
}

/// New values of a token; `None` leaves the old one.
#[derive(Clone, Debug, Default)]
pub struct TokenUpdate {
    /// The claims; `Some(None)` for none.
    pub claims: Option<Option<Claims>>,
    /// When it expires; `Some(None)` for never.
    pub expires_at: Option<Option<Timestamp>>,
    /// Revokes it as well.
    pub revoked: Option<Revocation>,
}

/// The outcome of [`crate::Store::update_token`].
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "each is taken apart as soon as it is there"
)]
pub enum UpdateToken {
    /// The token changed.
    Updated(StoredToken),
    /// There is no such token.
    NotFound,
    /// It is a JWT, whose content is signed.
    IsJwt,
    /// It is revoked or expired.
    NotLive,
}

/// A use of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// The token.
    pub locator: Locator,
    /// When it was used.
    pub at: Timestamp,
}

/// The outcome of a part of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Where the next sweep goes on; `None` at the end.
    pub next: Option<Locator>,
    /// The number of tokens that were deleted.
    pub deleted: u64,
}
