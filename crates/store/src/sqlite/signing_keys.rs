//! Signing keys in SQLite.

use std::collections::HashMap;

use countersign_protocol::change::{Cause, Event};
use countersign_protocol::ids::{InstanceId, SigningKeyId};
use countersign_protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::index::Effect;
use super::jobs::Write;
use super::rows::{self, WriteError};
use crate::changes::NewChange;
use crate::keys::{
    InsertSigningKey, SealedBytes, SigningKeyRow, SigningKeyState, signing_key_deleted,
};

pub(super) fn list(
    connection: &Connection,
    instance: InstanceId,
) -> rusqlite::Result<Vec<SigningKeyRow>> {
    connection
        .prepare_cached(
            "SELECT k.kid, i.id, k.sealed, k.state, k.published_at, k.active_at, k.retired_at, k.last_expires_at
             FROM signing_keys k JOIN instances i ON i.number = k.instance WHERE i.id = ?1 ORDER BY k.number",
        )?
        .query_map([instance.as_str()], signing_key)?
        .collect()
}

fn signing_key(row: &Row<'_>) -> rusqlite::Result<SigningKeyRow> {
    Ok(SigningKeyRow {
        id: rows::id(row, 0)?,
        instance: rows::id(row, 1)?,
        sealed: SealedBytes(row.get(2)?),
        state: state(row, 3)?,
        published_at: rows::timestamp(row, 4)?,
        active_at: rows::optional_timestamp(row, 5)?,
        retired_at: rows::optional_timestamp(row, 6)?,
        last_expires_at: rows::optional_timestamp(row, 7)?,
    })
}

fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<SigningKeyState> {
    SigningKeyState::from_name(row.get_ref(column)?.as_str()?)
        .ok_or_else(|| rows::unreadable(column, Type::Text, "not a state of a signing key"))
}

/// Returns the state of one key of an instance; `None` if it was deleted.
pub(super) fn state_of(
    connection: &Connection,
    instance: InstanceId,
    id: SigningKeyId,
) -> rusqlite::Result<Option<SigningKeyState>> {
    connection
        .prepare_cached(
            "SELECT k.state FROM signing_keys k JOIN instances i ON i.number = k.instance WHERE i.id = ?1 AND k.kid = ?2",
        )?
        .query_row([instance.as_str(), id.as_str()], |row| state(row, 0))
        .optional()
}

/// Returns all signing keys by the numbers of their instances, for the index.
pub(super) fn all(
    connection: &Connection,
) -> rusqlite::Result<HashMap<i64, Vec<(SigningKeyId, SigningKeyState)>>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    let mut statement =
        connection.prepare("SELECT instance, kid, state FROM signing_keys ORDER BY number")?;
    let keys = statement.query_map([], |row| {
        Ok((row.get(0)?, (rows::id(row, 1)?, state(row, 2)?)))
    })?;
    for key in keys {
        let (instance, key) = key?;
        all.entry(instance).or_default().push(key);
    }
    Ok(all)
}

fn insert_row(write: &Write<'_>, instance: i64, key: &SigningKeyRow) -> Result<(), WriteError> {
    write.execute(
        "INSERT INTO signing_keys (kid, instance, sealed, state, published_at, active_at, retired_at, last_expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            key.id.as_str(),
            instance,
            key.sealed.0,
            key.state.as_str(),
            key.published_at.as_millis(),
            key.active_at.map(Timestamp::as_millis),
            key.retired_at.map(Timestamp::as_millis),
            key.last_expires_at.map(Timestamp::as_millis)
        ],
    )?;
    Ok(())
}

/// Adds the effect that gives the index the instance's current signing keys.
fn note(write: &mut Write<'_>, instance: i64) -> Result<(), WriteError> {
    let keys = write
        .connection
        .prepare_cached("SELECT kid, state FROM signing_keys WHERE instance = ?1 ORDER BY number")?
        .query_map([instance], |row| Ok((rows::id(row, 0)?, state(row, 1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    write.effect(Effect::PutSigningKeys(instance, keys));
    Ok(())
}

/// Inserts the first signing key of a new instance.
pub(super) fn insert_first(
    write: &mut Write<'_>,
    instance: i64,
    key: &SigningKeyRow,
) -> Result<(), WriteError> {
    insert_row(write, instance, key)?;
    note(write, instance)
}

pub(super) fn insert(
    write: &mut Write<'_>,
    instance: i64,
    key: &SigningKeyRow,
    max_keys: usize,
    change: &NewChange,
) -> Result<InsertSigningKey, WriteError> {
    let (count, next_waits) = write
        .connection
        .prepare_cached(
            "SELECT count(*), coalesce(max(state = 'published'), FALSE) FROM signing_keys WHERE instance = ?1",
        )?
        .query_row([instance], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, bool>(1)?)))?;
    if next_waits {
        return Ok(InsertSigningKey::NextWaits);
    }
    if count as usize >= max_keys {
        return Ok(InsertSigningKey::TooMany);
    }
    insert_row(write, instance, key)?;
    let event = Event::SigningKeyPublished { kid: key.id };
    write.append(key.instance, change, &event)?;
    note(write, instance)?;
    Ok(InsertSigningKey::Inserted)
}

pub(super) fn activate(
    write: &mut Write<'_>,
    instance: InstanceId,
    number: i64,
    id: SigningKeyId,
    cause: Cause,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let is_published = write
        .connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM signing_keys WHERE instance = ?1 AND kid = ?2 AND state = 'published')")?
        .query_row(params![number, id.as_str()], |row| row.get::<_, bool>(0))?;
    if !is_published {
        return Ok(false);
    }
    let verify_only = write
        .connection
        .prepare_cached(
            "UPDATE signing_keys SET state = 'verify_only', retired_at = ?2 WHERE instance = ?1 AND state = 'active'
             RETURNING kid",
        )?
        .query_row(params![number, change.at.as_millis()], |row| rows::id(row, 0))
        .optional()?;
    write.execute(
        "UPDATE signing_keys SET state = 'active', active_at = ?3 WHERE instance = ?1 AND kid = ?2",
        params![number, id.as_str(), change.at.as_millis()],
    )?;
    let event = Event::SigningKeyActivated {
        kid: id,
        verify_only,
        cause,
    };
    write.append(instance, change, &event)?;
    note(write, number)?;
    Ok(true)
}

pub(super) fn delete(
    write: &mut Write<'_>,
    instance: InstanceId,
    number: i64,
    id: SigningKeyId,
    unused_since: Option<Timestamp>,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let deleted = write.execute(
        "DELETE FROM signing_keys WHERE instance = ?1 AND kid = ?2 AND state <> 'active'
             AND (?3 IS NULL OR (state = 'verify_only' AND retired_at < ?3 AND coalesce(last_expires_at < ?3, TRUE)))",
        params![number, id.as_str(), unused_since.map(Timestamp::as_millis)],
    )?;
    if deleted == 0 {
        return Ok(false);
    }
    write.append(instance, change, &signing_key_deleted(id, unused_since))?;
    note(write, number)?;
    Ok(true)
}
