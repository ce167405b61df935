//! Tokens: one row for each that was issued, opaque or JWT; never the string itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{InstanceId, Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;

use crate::keys::{Digest, SealedBytes};
use crate::machines::{MachineRow, Page};

/// What a token's string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFormat {
    /// A random string.
    Opaque,
    /// A signed JWT.
    Jwt,
}

/// Which formats to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenFormats {
    /// Opaque tokens only, as Clerk lists them.
    #[default]
    Opaque,
    /// JWTs only.
    Jwt,
    /// Both.
    All,
}

/// That a token was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Why, in the words of whoever revoked it.
    pub reason: Option<Arc<str>>,
}

/// A request for an equal live token instead of a new one.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Equal for tokens with equal claims and an equal set of scopes.
    pub key: [u8; 32],
    /// How long the token must still live, in milliseconds.
    pub min_remaining_millis: i64,
    /// The string of the new token, sealed, for the next request.
    pub sealed: SealedBytes,
}

/// A token to be remembered.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// The machine that it proves, as the authority saw it: a changed revision refuses the token.
    pub machine: Arc<MachineRow>,
    /// The number of the machine's key that asked for it: a key that is gone or over by `created_at` refuses the token. `None`
    /// where no key did.
    pub key: Option<i64>,
    /// The digest of its string; `None` for a JWT.
    pub digest: Option<Digest>,
    /// The key that signed it; `None` for an opaque token.
    pub signing_key: Option<SigningKeyId>,
    /// The machines it is for.
    pub scopes: Scopes,
    /// The machine's own claims.
    pub claims: Option<Claims>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its life is over; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Whether an equal token may be used instead.
    pub pool: Option<Pool>,
    /// How many tokens the machine may hold, opaque ones and JWTs, this one included. Those that are over make room.
    pub max_tokens: u64,
}

/// What came of remembering a token.
#[derive(Debug)]
pub enum InsertToken {
    /// It was remembered.
    Inserted,
    /// An equal one, with most life left, is used again.
    Reused {
        /// The older token.
        token: StoredToken,
        /// Its string, sealed.
        sealed: SealedBytes,
    },
    /// The machine, its scopes or the signing key changed since the authority looked. Nothing was remembered.
    Changed,
    /// The key that asked for it is gone or over. Nothing was remembered, and nothing is used again.
    KeyGone,
    /// The machine holds as many live tokens as it may, as far as was looked in the last seconds.
    TooMany,
}

/// A token.
#[derive(Debug)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// The number of the machine that it proves.
    pub machine: i64,
    /// The digest of its string; `None` for a JWT.
    pub digest: Option<Digest>,
    /// The machines it is for.
    pub scopes: Scopes,
    /// The machine's own claims.
    pub claims: Option<Claims>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its life is over; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Whether it was revoked.
    pub revoked: Option<Box<Revocation>>,
    /// When it last verified, see [`TokenRow::last_used_at`].
    last_used_millis: AtomicI64,
}

impl TokenRow {
    /// The value of "never used" among milliseconds.
    const NEVER: i64 = i64::MIN;

    /// Puts a row together.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    pub fn new(
        id: TokenId,
        machine: i64,
        digest: Option<Digest>,
        scopes: Scopes,
        claims: Option<Claims>,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
        revoked: Option<Box<Revocation>>,
        last_used_at: Option<Timestamp>,
    ) -> Self {
        let last_used_millis =
            AtomicI64::new(last_used_at.map_or(Self::NEVER, Timestamp::as_millis));
        Self {
            id,
            machine,
            digest,
            scopes,
            claims,
            created_at,
            expires_at,
            revoked,
            last_used_millis,
        }
    }

    /// What its string is.
    #[must_use]
    pub fn format(&self) -> TokenFormat {
        if self.digest.is_some() {
            TokenFormat::Opaque
        } else {
            TokenFormat::Jwt
        }
    }

    /// Whether its life is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// When it last verified, as far as was written or seen in memory.
    #[must_use]
    pub fn last_used_at(&self) -> Option<Timestamp> {
        Some(self.last_used_millis.load(Ordering::Relaxed))
            .filter(|millis| *millis != Self::NEVER)
            .map(Timestamp::from_millis)
    }

    /// Notes in memory that it verified at `at`; [`crate::Store::record_uses`] writes it.
    pub fn touch(&self, at: Timestamp) {
        self.last_used_millis
            .fetch_max(at.as_millis(), Ordering::Relaxed);
    }
}

/// A token and its machine.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// The token.
    pub row: Arc<TokenRow>,
    /// The machine that it proves.
    pub machine: Arc<MachineRow>,
}

/// Which tokens to list.
#[derive(Clone, Debug)]
pub struct TokenQuery {
    /// Whose.
    pub machine: MachineId,
    /// Revoked ones too.
    pub include_revoked: bool,
    /// Expired ones too.
    pub include_expired: bool,
    /// Of which formats.
    pub formats: TokenFormats,
    /// The time that decides about expiry.
    pub now: Timestamp,
    /// Which part.
    pub page: Page,
}

/// What came of revoking a token.
#[derive(Debug)]
pub enum RevokeToken {
    /// It is revoked now and was not before.
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
    /// When its life is over; `Some(None)` for never.
    pub expires_at: Option<Option<Timestamp>>,
    /// Revokes it as well.
    pub revoked: Option<Revocation>,
}

/// What came of changing a token.
#[derive(Debug)]
pub enum UpdateToken {
    /// It changed.
    Updated(StoredToken),
    /// There is no such token.
    NotFound,
    /// It is a JWT, whose content is signed.
    IsJwt,
    /// It is revoked or expired.
    NotLive,
}

/// That a token was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// Which.
    pub locator: Locator,
    /// When.
    pub at: Timestamp,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Where the next sweep goes on; `None` at the end.
    pub next: Option<Locator>,
    /// How many tokens were deleted.
    pub deleted: u64,
}

/// Names the instance of a token.
impl StoredToken {
    /// The instance that it belongs to.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.machine.instance
    }
}
