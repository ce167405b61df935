//! Signing keys in SQLite.

use countersign_protocol::ids::{InstanceId, SigningKeyId};
use countersign_protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::jobs::Write;
use super::rows::{self, WriteError};
use crate::changes::NewChange;
use crate::keys::{InsertSigningKey, SealedBytes, SigningKeyRow, SigningKeyState};

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
    let state = SigningKeyState::from_name(row.get_ref(3)?.as_str()?);
    Ok(SigningKeyRow {
        id: rows::id(row, 0)?,
        instance: rows::id(row, 1)?,
        sealed: SealedBytes(row.get(2)?),
        state: state
            .ok_or_else(|| rows::unreadable(3, Type::Text, "not a state of a signing key"))?,
        published_at: rows::timestamp(row, 4)?,
        active_at: rows::optional_timestamp(row, 5)?,
        retired_at: rows::optional_timestamp(row, 6)?,
        last_expires_at: rows::optional_timestamp(row, 7)?,
    })
}

pub(super) fn insert_row(
    write: &Write<'_>,
    instance: i64,
    key: &SigningKeyRow,
) -> Result<(), WriteError> {
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

pub(super) fn insert(
    write: &Write<'_>,
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
    write.append(instance, change)?;
    Ok(InsertSigningKey::Inserted)
}

pub(super) fn activate(
    write: &Write<'_>,
    instance: i64,
    id: SigningKeyId,
    at: Timestamp,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let is_published = write
        .connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM signing_keys WHERE instance = ?1 AND kid = ?2 AND state = 'published')")?
        .query_row(params![instance, id.as_str()], |row| row.get::<_, bool>(0))?;
    if !is_published {
        return Ok(false);
    }
    write.execute(
        "UPDATE signing_keys SET state = 'verify_only', retired_at = ?2 WHERE instance = ?1 AND state = 'active'",
        params![instance, at.as_millis()],
    )?;
    write.execute(
        "UPDATE signing_keys SET state = 'active', active_at = ?3 WHERE instance = ?1 AND kid = ?2",
        params![instance, id.as_str(), at.as_millis()],
    )?;
    write.append(instance, change)?;
    Ok(true)
}

pub(super) fn delete(
    write: &Write<'_>,
    instance: i64,
    id: SigningKeyId,
    unused_since: Option<Timestamp>,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let deleted = write.execute(
        "DELETE FROM signing_keys WHERE instance = ?1 AND kid = ?2 AND state <> 'active'
             AND (?3 IS NULL OR (state = 'verify_only' AND retired_at < ?3 AND coalesce(last_expires_at < ?3, TRUE)))",
        params![instance, id.as_str(), unused_since.map(Timestamp::as_millis)],
    )?;
    if deleted == 0 {
        return Ok(false);
    }
    write.append(instance, change)?;
    Ok(true)
}
