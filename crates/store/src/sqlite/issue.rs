//! Inserting tokens into SQLite.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_protocol::claims::Claims;
use countersign_protocol::ids::Id;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::held::CountedUpTo;
use super::index::{Effect, NumberHash};
use super::instances::is_on;
use super::jobs::Write;
use super::machine_keys;
use super::rows::{self, NEVER, TOKEN_COLUMNS, Texts, WriteError, end};
use crate::StoreError;
use crate::keys::SealedBytes;
use crate::machines::MachineRow;
use crate::tokens::{InsertToken, NewToken, StoredToken, TokenRow};

/// What came of an attempt to insert.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is decided.
    Decided(InsertToken),
    /// The machine seems to hold too many tokens. The token comes back, and what a count needs to know.
    AtLimit(Box<NewToken>, CountedUpTo),
}

/// Which machines, at which revision, asked by which key, a transaction has found in the database, and when the key ends.
///
/// A batch has many tokens of few machines, and to look for each is a quarter of what its insertion costs. What was found is
/// true until one of the transaction's operations changes a machine or a key, and each that does notes an effect.
#[derive(Debug, Default)]
pub(super) struct Askers(HashMap<(i64, i64, Option<i64>), Option<i64>, NumberHash>);

impl Askers {
    /// Forgets all: a transaction begins, or changed something.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Inserts an opaque token that asks for no other in its place.
pub(super) fn insert_plain(write: &mut Write<'_>, new: NewToken) -> Result<Attempt, WriteError> {
    if let Some(since) = limit_reached(write, &new)? {
        return Ok(Attempt::AtLimit(Box::new(new), since));
    }
    insert_row(write, new).map(Attempt::Decided)
}

fn limit_reached(write: &mut Write<'_>, new: &NewToken) -> Result<Option<CountedUpTo>, WriteError> {
    let (machine, limit) = (new.machine.number, new.max_tokens);
    Ok(write.held.limit_reached(write.connection, machine, limit)?)
}

/// Inserts a JWT.
pub(super) fn insert_jwt(write: &mut Write<'_>, new: NewToken) -> Result<Attempt, WriteError> {
    if let Some(since) = limit_reached(write, &new)? {
        return Ok(Attempt::AtLimit(Box::new(new), since));
    }
    let key = new
        .signing_key
        .ok_or_else(|| StoreError::Corrupt("a JWT without a signing key".to_owned()))?;
    let (instance, end) = (new.machine.instance, end(new.expires_at));
    let last = write
        .connection
        .prepare_cached(
            "SELECT k.last_expires_at FROM signing_keys k JOIN instances i ON i.number = k.instance
             WHERE k.kid = ?1 AND i.id = ?2",
        )?
        .query_row(params![key.as_str(), instance.as_str()], |row| {
            row.get::<_, Option<i64>>(0)
        })
        .optional()?;
    let Some(last) = last else {
        return Ok(Attempt::Decided(InsertToken::Changed));
    };
    // JWTs of the same second share their end, so most find it there. It stays an upper bound where the insertion is refused.
    if last.is_none_or(|last| last < end) {
        write.execute(
            "UPDATE signing_keys SET last_expires_at = ?2 WHERE kid = ?1",
            params![key.as_str(), end],
        )?;
    }
    insert_row(write, new).map(Attempt::Decided)
}

/// Finds an equal live token, or inserts this one for later requests to find.
pub(super) fn insert_pooled(
    write: &mut Write<'_>,
    mut new: NewToken,
) -> Result<Attempt, WriteError> {
    let machine = Arc::clone(&new.machine);
    if !is_current(write, &new)? {
        return Ok(Attempt::Decided(refusal(write, &new)?));
    }
    let Some(pool) = new.pool.take() else {
        return insert_plain(write, new);
    };
    if !is_on(write, machine.instance, "$.token_pooling")? {
        return insert_plain(write, new);
    }
    let least = new
        .created_at
        .plus_millis(pool.min_remaining_millis)
        .map_or(NEVER, Timestamp::as_millis);
    let found = write
        .connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS}, t.sealed FROM tokens t INDEXED BY tokens_pooled
             WHERE t.machine = ?1 AND t.pool_key = ?2 AND t.expires_at >= ?3 AND t.expires_at > ?4
                 AND t.digest IS NOT NULL AND t.revoked_at IS NULL AND t.sealed IS NOT NULL
             ORDER BY t.expires_at DESC, t.locator DESC LIMIT 1"
        ))?
        .query_row(
            params![machine.number, pool.key, least, new.created_at.as_millis()],
            |row| {
                Ok((
                    Arc::new(rows::token(row, &write.index.texts)?),
                    SealedBytes(row.get(12)?),
                ))
            },
        )
        .optional()?;
    if let Some((row, sealed)) = found {
        write.index.copy_last_use(&row);
        return Ok(Attempt::Decided(InsertToken::Reused {
            token: StoredToken { row, machine },
            sealed,
        }));
    }
    new.pool = Some(pool);
    insert_plain(write, new)
}

/// Whether the machine is still what the authority saw, and the key that asked is still alive.
fn is_current(write: &mut Write<'_>, new: &NewToken) -> Result<bool, WriteError> {
    let (machine, revision) = (new.machine.number, new.machine.revision);
    let asker = (machine, revision, new.key);
    let key_end = match write.askers.0.get(&asker) {
        Some(key_end) => *key_end,
        None => {
            let found = write
                .connection
                .prepare_cached(
                    "SELECT k.expires_at FROM machines m LEFT JOIN machine_keys k ON k.number = ?3 AND k.machine = m.number
                     WHERE m.number = ?1 AND m.revision = ?2 AND (?3 IS NULL OR k.number IS NOT NULL)",
                )?
                .query_row(params![machine, revision, new.key], |row| row.get(0))
                .optional()?;
            let Some(key_end) = found else {
                return Ok(false);
            };
            write.askers.0.insert(asker, key_end);
            key_end
        }
    };
    Ok(key_end.is_none_or(|key_end| key_end > new.created_at.as_millis()))
}

/// Whether the key that asked for the token may still do so.
fn is_asked_for(write: &Write<'_>, new: &NewToken) -> Result<bool, WriteError> {
    new.key.map_or(Ok(true), |key| {
        machine_keys::is_alive(write, new.machine.number, key, new.created_at)
    })
}

/// Why a row was not inserted: the key that asked is gone, or else the machine changed.
fn refusal(write: &Write<'_>, new: &NewToken) -> Result<InsertToken, WriteError> {
    Ok(if is_asked_for(write, new)? {
        InsertToken::Changed
    } else {
        InsertToken::KeyGone
    })
}

/// Inserts the row if the machine is still what the authority saw, and the key that asked is still alive: a rotation without
/// overlap that was acknowledged lets nothing through that began before it.
fn insert_row(write: &mut Write<'_>, mut new: NewToken) -> Result<InsertToken, WriteError> {
    if !is_current(write, &new)? {
        return refusal(write, &new);
    }
    let pool = new.pool.take();
    // Of values and not of a selection, of which SQLite does not know that it has one row: before each change it would copy
    // the page, to undo the rows before one that fails.
    let inserting = match &mut write.inserting {
        Some(statement) => statement,
        none => none.insert(write.connection.prepare_cached(
            "INSERT INTO tokens (locator, rest, machine, digest, digest_version, signing_key, scopes, claims, created_at,
                 expires_at, pool_key, sealed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?),
    };
    inserting.execute(params![
        rows::sql_locator(new.id.locator()),
        new.id.rest().cast_signed(),
        new.machine.number,
        new.digest.map(|digest| digest.bytes),
        new.digest.map(|digest| digest.version),
        new.signing_key.as_ref().map(Id::as_str),
        new.scopes.as_str(),
        new.claims.as_ref().map(Claims::as_str),
        new.created_at.as_millis(),
        end(new.expires_at),
        pool.as_ref().map(|pool| pool.key),
        pool.as_ref().map(|pool| pool.sealed.0.as_slice()),
    ])?;
    write.held.inserted(new.machine.number);
    write.effect(Effect::AddToken(Arc::new(TokenRow::new(
        new.id,
        new.machine.number,
        new.digest,
        shared(new.scopes, &new.machine, &write.index.texts),
        new.claims,
        new.created_at,
        new.expires_at,
        None,
        None,
    ))));
    Ok(InsertToken::Inserted)
}

/// The same scopes in a text that other rows have too: most tokens are for all machines that theirs may call.
fn shared(scopes: Scopes, machine: &MachineRow, texts: &Texts) -> Scopes {
    if scopes == machine.scopes {
        machine.scopes.clone()
    } else {
        texts.intern(scopes.as_str()).unwrap_or(scopes)
    }
}
