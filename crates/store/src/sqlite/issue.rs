//! Inserting tokens into SQLite.

use countersign_protocol::change::Event;
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{KeyId, SigningKeyId};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::index::Effect;
use super::instances::is_on;
use super::jobs::Write;
use super::rows::{self, NEVER, RawToken, TOKEN_COLUMNS, TOKEN_WIDTH, Texts, WriteError, end};
use super::{machine_keys, tokens};
use crate::changes::NewChange;
use crate::instances::Instance;
use crate::keys::SealedBytes;
use crate::machines::MachineRow;
use crate::tokens::{InsertToken, NewToken, Proof, TokenRow};

/// Inserts a token, or finds an equal one if the request allows reuse.
pub(super) fn insert(write: &mut Write<'_>, new: NewToken) -> Result<InsertToken, WriteError> {
    match new.proof {
        Proof::Jwt(kid) => insert_jwt(write, kid, new),
        Proof::Opaque(_) if new.pool.is_some() => insert_pooled(write, new),
        Proof::Opaque(_) => insert_plain(write, new),
    }
}

fn insert_plain(write: &mut Write<'_>, new: NewToken) -> Result<InsertToken, WriteError> {
    match asker(write, &new)? {
        Ok(machine) => insert_row(write, machine, new),
        Err(refusal) => Ok(refusal),
    }
}

fn insert_jwt(
    write: &mut Write<'_>,
    key: SigningKeyId,
    new: NewToken,
) -> Result<InsertToken, WriteError> {
    let machine = match asker(write, &new)? {
        Ok(machine) => machine,
        Err(refusal) => return Ok(refusal),
    };
    let end = end(new.expires_at);
    let last = write
        .connection
        .prepare_cached(
            "SELECT k.last_expires_at FROM signing_keys k JOIN instances i ON i.number = k.instance
             WHERE k.kid = ?1 AND i.id = ?2",
        )?
        .query_row(params![key.as_str(), new.instance.id.as_str()], |row| {
            row.get::<_, Option<i64>>(0)
        })
        .optional()?;
    let Some(last) = last else {
        return Ok(InsertToken::Changed);
    };
    // JWTs of the same second often expire together, so most need no update. If the insertion fails, the value remains
    // an upper bound.
    if last.is_none_or(|last| last < end) {
        write.execute(
            "UPDATE signing_keys SET last_expires_at = ?2 WHERE kid = ?1",
            params![key.as_str(), end],
        )?;
    }
    insert_row(write, machine, new)
}

/// Finds an equal live token, or inserts this one for later requests to find.
fn insert_pooled(write: &mut Write<'_>, mut new: NewToken) -> Result<InsertToken, WriteError> {
    let number = match asker(write, &new)? {
        Ok(number) => number,
        Err(refusal) => return Ok(refusal),
    };
    let Some(pool) = new.pool.take() else {
        return insert_row(write, number, new);
    };
    if !is_on(write, new.instance.id, "$.token_pooling")? {
        return insert_row(write, number, new);
    }
    let least = new
        .created_at
        .plus_millis(pool.min_remaining_millis)
        .map_or(NEVER, Timestamp::as_millis);
    let cut_off = new.machine.issued_before.max(new.instance.issued_before);
    let found = write
        .connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS}, t.sealed FROM tokens t INDEXED BY tokens_pooled
             WHERE t.machine = ?1 AND t.pool_key = ?2 AND t.expires_at >= ?3 AND t.expires_at > ?4
                 AND t.digest IS NOT NULL AND t.revoked_at IS NULL AND t.sealed IS NOT NULL
                 AND (?5 IS NULL OR t.created_at >= ?5)
             ORDER BY t.expires_at DESC, t.locator DESC LIMIT 1"
        ))?
        .query_row(
            params![
                number,
                pool.key,
                least,
                new.created_at.as_millis(),
                cut_off.map(Timestamp::as_millis)
            ],
            |row| {
                Ok((
                    rows::token(row, &write.index.texts)?,
                    SealedBytes(row.get(TOKEN_WIDTH)?),
                ))
            },
        )
        .optional()?;
    if let Some((raw, sealed)) = found {
        let token = tokens::stored(write, raw, &new.machine)?;
        record(write, &new.instance, new.change.as_ref(), &token.row)?;
        return Ok(InsertToken::Reused { token, sealed });
    }
    new.pool = Some(pool);
    insert_row(write, number, new)
}

/// Returns the machine's number, if instance and machine are unchanged since the authority read them and the requesting
/// key is still live. Otherwise returns the refusal. So after a rotation without overlap is acknowledged, the old key
/// issues nothing, even for requests that began earlier.
fn asker(write: &mut Write<'_>, new: &NewToken) -> Result<Result<i64, InsertToken>, WriteError> {
    let asker = (
        new.machine.id,
        new.machine.revision,
        new.instance.id,
        new.instance.revision,
        new.key,
    );
    let (number, key_end) = match write.askers.get(&asker) {
        Some(known) => *known,
        None => {
            let found = write
                .connection
                .prepare_cached(
                    "SELECT m.number, k.expires_at FROM machines m JOIN instances i ON i.number = m.instance
                     LEFT JOIN machine_keys k ON k.machine = m.number AND k.id = ?5
                     WHERE m.id = ?1 AND m.revision = ?2 AND i.id = ?3 AND i.revision = ?4
                         AND (?5 IS NULL OR k.number IS NOT NULL)",
                )?
                .query_row(
                    params![
                        new.machine.id.as_str(),
                        new.machine.revision,
                        new.instance.id.as_str(),
                        new.instance.revision,
                        new.key.as_ref().map(KeyId::as_str)
                    ],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let Some(found) = found else {
                return refusal(write, new).map(Err);
            };
            write.askers.insert(asker, found);
            found
        }
    };
    if key_end.is_none_or(|key_end| key_end > new.created_at.as_millis()) {
        Ok(Ok(number))
    } else {
        Ok(Err(InsertToken::KeyGone))
    }
}

/// Returns why a row was not inserted: the requesting key is gone, or else the machine or the instance changed.
fn refusal(write: &Write<'_>, new: &NewToken) -> Result<InsertToken, WriteError> {
    let is_asked_for = match new.key {
        None => true,
        Some(key) => machine_keys::is_alive(write, new.machine.id, key, new.created_at)?,
    };
    Ok(if is_asked_for {
        InsertToken::Changed
    } else {
        InsertToken::KeyGone
    })
}

fn insert_row(
    write: &mut Write<'_>,
    machine: i64,
    mut new: NewToken,
) -> Result<InsertToken, WriteError> {
    if new.is_full {
        return Ok(InsertToken::Full);
    }
    let pool = new.pool.take();
    let (digest, signing_key) = match &new.proof {
        Proof::Opaque(digest) => (Some(digest), None),
        Proof::Jwt(kid) => (None, Some(kid.as_str())),
    };
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
        machine,
        digest.map(|digest| digest.bytes),
        digest.map(|digest| digest.version),
        signing_key,
        new.scopes.as_str(),
        new.claims.as_ref().map(Claims::as_str),
        new.created_at.as_millis(),
        end(new.expires_at),
        pool.as_ref().map(|pool| pool.key),
        pool.as_ref().map(|pool| pool.sealed.0.as_slice()),
    ])?;
    let raw = RawToken {
        id: new.id,
        machine,
        proof: new.proof,
        scopes: shared(new.scopes, &new.machine, &write.index.texts),
        claims: new.claims,
        created_at: new.created_at,
        end: end(new.expires_at),
        revoked: None,
        last_used_at: None,
    };
    if new.change.is_some() {
        let row = raw.clone().of(new.machine.id);
        record(write, &new.instance, new.change.as_ref(), &row)?;
    }
    write.effect(Effect::AddToken(raw));
    Ok(InsertToken::Inserted)
}

/// Records that the operator got a token in the role of its machine.
fn record(
    write: &mut Write<'_>,
    instance: &Instance,
    change: Option<&NewChange>,
    row: &TokenRow,
) -> Result<(), WriteError> {
    if let Some(change) = change {
        let token = row.facts(instance);
        write.append(instance.id, change, &Event::TokenIssued { token })?;
    }
    Ok(())
}

/// The same scopes in a text that other rows have too: most tokens are for all machines that theirs may call.
fn shared(scopes: Scopes, machine: &MachineRow, texts: &Texts) -> Scopes {
    if scopes == machine.scopes {
        machine.scopes.clone()
    } else {
        texts.intern(scopes.as_str()).unwrap_or(scopes)
    }
}
