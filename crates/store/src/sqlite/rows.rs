//! Reading columns, and what SQLite's errors mean.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{Id, KeyId, Kind, Locator, MachineId, TokenId};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{ErrorCode, Row};

use crate::StoreError;
use crate::keys::{Digest, SealedBytes};
use crate::tokens::{Proof, Revocation, TokenRow};

/// The stored end of a life that has none.
pub(super) const NEVER: i64 = i64::MAX;

/// The end of a life as it is stored.
pub(super) fn end(expires_at: Option<Timestamp>) -> i64 {
    expires_at.map_or(NEVER, Timestamp::as_millis)
}

/// What a failed statement means for the operation, and for those that share its transaction.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Only this operation fails.
    Refused(StoreError),
    /// There is no room. The whole batch is rolled back; the store goes on.
    Full,
    /// The disk or the file is not to be trusted. The store writes no more.
    Fatal(String),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory) => Self::Full,
            Some(
                ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase,
            ) => Self::Fatal(error.to_string()),
            _ => Self::Refused(store_error(&error)),
        }
    }
}

/// Turns an error of a read, or of a write that failed alone, into the trait's.
pub(super) fn store_error(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => {
            StoreError::Conflict(constraint(&error.to_string()))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt(error.to_string())
        }
        Some(_) => StoreError::Unavailable(error.to_string()),
        // A row that cannot be understood: rusqlite names the column and its type, never the value.
        None => StoreError::Corrupt(error.to_string()),
    }
}

/// The constraint that SQLite's message names, such as `machines.id`.
fn constraint(message: &str) -> String {
    message
        .rsplit_once("failed: ")
        .map_or(message, |(_, name)| name)
        .to_owned()
}

/// An error that says which column cannot be understood, and nothing of what is in it.
pub(super) fn unreadable(column: usize, kind: Type, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, what.into())
}

/// Reads an id.
pub(super) fn id<K: Kind>(row: &Row<'_>, column: usize) -> rusqlite::Result<Id<K>> {
    row.get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|_| unreadable(column, Type::Text, K::NOUN))
}

/// Reads the id of a key.
pub(super) fn key_id(row: &Row<'_>, column: usize) -> rusqlite::Result<KeyId> {
    row.get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|_| unreadable(column, Type::Text, "not a key id"))
}

/// Reads a point in time.
pub(super) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// Reads a point in time that may be absent.
pub(super) fn optional_timestamp(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row
        .get::<_, Option<i64>>(column)?
        .map(Timestamp::from_millis))
}

/// Reads 32 bytes.
pub(super) fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 32]> {
    row.get_ref(column)?
        .as_blob()?
        .try_into()
        .map_err(|_| unreadable(column, Type::Blob, "not 32 bytes"))
}

/// Reads a digest from its column and the one of its version behind it.
pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    Ok(Digest {
        bytes: bytes(row, column)?,
        version: row.get(column + 1)?,
    })
}

/// Reads sealed bytes that may be absent.
pub(super) fn optional_sealed(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<SealedBytes>> {
    Ok(row.get::<_, Option<Vec<u8>>>(column)?.map(SealedBytes))
}

/// The columns of [`token`], of the table by the name `t`.
pub(super) const TOKEN_COLUMNS: &str = "t.locator, t.rest, t.machine, t.digest, t.digest_version, t.signing_key, t.scopes, \
     t.claims, t.created_at, t.expires_at, t.revoked_at, t.revocation_reason, t.last_used_at";
/// The number of these columns.
pub(super) const TOKEN_WIDTH: usize = 13;

/// A token as stored, with its machine's number instead of the machine's id.
#[derive(Clone, Debug)]
pub(super) struct RawToken {
    pub(super) id: TokenId,
    pub(super) machine: i64,
    pub(super) proof: Proof,
    pub(super) scopes: Scopes,
    pub(super) claims: Option<Claims>,
    pub(super) created_at: Timestamp,
    pub(super) end: i64,
    pub(super) revoked: Option<Revocation>,
    pub(super) last_used_at: Option<Timestamp>,
}

impl RawToken {
    /// Converts the row of a token whose machine has this number.
    pub(super) fn from_row(row: TokenRow, machine: i64) -> Self {
        Self {
            id: row.id,
            machine,
            proof: row.proof,
            scopes: row.scopes,
            claims: row.claims,
            created_at: row.created_at,
            end: end(row.expires_at),
            revoked: row.revoked,
            last_used_at: row.last_used_at,
        }
    }

    /// Converts to a row with the id of its machine.
    pub(super) fn of(self, machine: MachineId) -> TokenRow {
        TokenRow {
            id: self.id,
            machine,
            proof: self.proof,
            scopes: self.scopes,
            claims: self.claims,
            created_at: self.created_at,
            expires_at: expiry(self.end),
            revoked: self.revoked,
            last_used_at: self.last_used_at,
        }
    }
}

/// Reads a token from [`TOKEN_COLUMNS`].
pub(super) fn token(row: &Row<'_>, texts: &Texts) -> rusqlite::Result<RawToken> {
    let locator =
        locator(row.get(0)?).ok_or_else(|| unreadable(0, Type::Integer, "not a locator"))?;
    let rest = row.get::<_, i64>(1)?.cast_unsigned();
    let proof = match row.get_ref(3)? {
        rusqlite::types::ValueRef::Null => Proof::Jwt(id(row, 5)?),
        _ => Proof::Opaque(digest(row, 3)?),
    };
    let claims = match row.get::<_, Option<String>>(7)? {
        None => None,
        Some(text) => {
            Claims::from_stored(text).map_err(|_| unreadable(7, Type::Text, "not JSON"))?
        }
    };
    let revoked = match optional_timestamp(row, 10)? {
        None => None,
        Some(at) => Some(Revocation {
            at,
            reason: row.get::<_, Option<String>>(11)?.map(Arc::from),
        }),
    };
    Ok(RawToken {
        id: TokenId::from_parts(locator, rest),
        machine: row.get(2)?,
        proof,
        scopes: texts.scopes(row, 6)?,
        claims,
        created_at: timestamp(row, 8)?,
        end: row.get(9)?,
        revoked,
        last_used_at: optional_timestamp(row, 12)?,
    })
}

/// Returns the expiry that is stored as `end`.
pub(super) fn expiry(end: i64) -> Option<Timestamp> {
    (end != NEVER).then(|| Timestamp::from_millis(end))
}

/// The locator that SQL has as this number.
pub(super) fn locator(number: i64) -> Option<Locator> {
    u64::try_from(number).ok().and_then(Locator::new)
}

/// The locator as SQL has it.
pub(super) fn sql_locator(locator: Locator) -> i64 {
    locator.get().cast_signed()
}

/// Lets rows with equal scopes share one text.
///
/// Bounded: when full it forgets everything. Rows keep their texts, and later ones share new ones.
#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<Shared>);

#[derive(Debug, Default)]
struct Shared {
    texts: HashMap<Box<str>, Scopes>,
    bytes: usize,
}

impl Texts {
    /// How many bytes of text are remembered.
    const MAX_BYTES: usize = 8 << 20;

    /// Reads scopes.
    pub(super) fn scopes(&self, row: &Row<'_>, column: usize) -> rusqlite::Result<Scopes> {
        self.intern(row.get_ref(column)?.as_str()?)
            .ok_or_else(|| unreadable(column, Type::Text, "not machine ids"))
    }

    /// The scopes with this text; `None` where it is none.
    pub(super) fn intern(&self, text: &str) -> Option<Scopes> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scopes) = shared.texts.get(text) {
            return Some(scopes.clone());
        }
        let scopes = Scopes::parse(text).ok()?;
        if shared.bytes > Self::MAX_BYTES {
            *shared = Shared::default();
        }
        // The text twice, the pointers and the slot.
        shared.bytes += 2 * text.len() + 64;
        shared.texts.insert(text.into(), scopes.clone());
        Some(scopes)
    }
}
