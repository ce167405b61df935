//! Machine keys in SQLite.

use std::sync::Arc;

use countersign_protocol::change::Event;
use countersign_protocol::ids::{InstanceId, KeyId, MachineId};
use countersign_protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::index::Effect;
use super::instances::is_on;
use super::jobs::Write;
use super::machine_rows;
use super::rows::{self, WriteError};
use crate::changes::NewChange;
use crate::keys::{Digest, MachineKeyRow, NewMachineKey, SealedKey};
use crate::machines::MachineRow;

const COLUMNS: &str = "i.id, m.id, k.digest, k.digest_version, k.created_at, k.expires_at, k.id";

const FROM: &str = "machine_keys k JOIN machines m ON m.number = k.machine JOIN instances i ON i.number = m.instance";

fn key(row: &Row<'_>) -> rusqlite::Result<MachineKeyRow> {
    Ok(MachineKeyRow {
        instance: rows::id(row, 0)?,
        machine: rows::id(row, 1)?,
        digest: rows::digest(row, 2)?,
        created_at: rows::timestamp(row, 4)?,
        expires_at: rows::optional_timestamp(row, 5)?,
        id: rows::key_id(row, 6)?,
    })
}

/// Returns all keys of all machines, for the index.
pub(super) fn all(
    connection: &Connection,
    mut put: impl FnMut(MachineKeyRow),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM {FROM}"))?;
    let keys = statement.query_map([], key)?;
    for row in keys {
        put(row?);
    }
    Ok(())
}

/// Returns whether a machine has this key and the key is not expired at `now`.
pub(super) fn is_alive(
    write: &Write<'_>,
    machine: MachineId,
    id: KeyId,
    now: Timestamp,
) -> Result<bool, WriteError> {
    Ok(write
        .connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM machine_keys k JOIN machines m ON m.number = k.machine
                 WHERE m.id = ?1 AND k.id = ?2 AND (k.expires_at IS NULL OR k.expires_at > ?3))",
        )?
        .query_row(
            params![machine.as_str(), id.as_str(), now.as_millis()],
            |row| row.get(0),
        )?)
}

/// Adds a key. Its sealed copy is left out where the instance does not reveal secrets.
pub(super) fn insert(
    write: &mut Write<'_>,
    number: i64,
    machine: &MachineRow,
    new: NewMachineKey,
) -> Result<(), WriteError> {
    let sealed = match new.sealed {
        Some(sealed) if is_on(write, machine.instance, "$.secret_reveal")? => Some(sealed.0),
        _ => None,
    };
    write.execute(
        "INSERT INTO machine_keys (id, machine, digest, digest_version, sealed, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            new.id.as_str(),
            number,
            new.digest.bytes,
            new.digest.version,
            sealed,
            new.created_at.as_millis()
        ],
    )?;
    write.effect(Effect::PutMachineKey(Arc::new(MachineKeyRow {
        id: new.id,
        instance: machine.instance,
        machine: machine.id,
        digest: new.digest,
        created_at: new.created_at,
        expires_at: None,
    })));
    Ok(())
}

pub(super) fn rotate(
    write: &mut Write<'_>,
    instance: InstanceId,
    machine: MachineId,
    new: NewMachineKey,
    older_expire_at: Timestamp,
    max_live: usize,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let found = machine_rows::by_id(write.connection, &write.index.texts, instance, machine)?;
    let Some((number, machine)) = found else {
        return Ok(false);
    };
    // The newest of the older keys first.
    let older = write
        .connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {FROM} WHERE k.machine = ?1 ORDER BY k.number DESC"
        ))?
        .query_map([number], key)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut live = 1;
    for mut key in older {
        let end = key
            .expires_at
            .map_or(older_expire_at, |end| end.min(older_expire_at));
        if end <= change.at || live >= max_live {
            write.execute(
                "DELETE FROM machine_keys WHERE machine = ?1 AND id = ?2",
                params![number, key.id.as_str()],
            )?;
            write.effect(Effect::RemoveMachineKey(key.digest));
        } else {
            // Only the newest key is ever shown again.
            write.execute(
                "UPDATE machine_keys SET expires_at = ?3, sealed = NULL WHERE machine = ?1 AND id = ?2",
                params![number, key.id.as_str(), end.as_millis()],
            )?;
            key.expires_at = Some(end);
            write.effect(Effect::PutMachineKey(Arc::new(key)));
            live += 1;
        }
    }
    let event = Event::MachineKeyRotated {
        machine_id: machine.id,
        key_id: new.id,
        older_expire_at,
    };
    insert(write, number, &machine, new)?;
    write.append(instance, change, &event)?;
    Ok(true)
}

pub(super) fn reveal(
    write: &mut Write<'_>,
    instance: InstanceId,
    machine: MachineId,
    change: &NewChange,
) -> Result<Option<Option<SealedKey>>, WriteError> {
    let newest = write
        .connection
        .prepare_cached(&format!(
            "SELECT k.id, k.sealed, k.digest, k.digest_version, k.expires_at FROM {FROM}
             WHERE i.id = ?1 AND m.id = ?2 ORDER BY k.number DESC LIMIT 1"
        ))?
        .query_row(params![instance.as_str(), machine.as_str()], |row| {
            let id = rows::key_id(row, 0)?;
            let sealed = rows::optional_sealed(row, 1)?;
            let digest = rows::digest(row, 2)?;
            let expires_at = rows::optional_timestamp(row, 4)?;
            Ok(sealed.map(|sealed| SealedKey {
                id,
                digest,
                sealed,
                expires_at,
            }))
        })
        .optional()?;
    if let Some(Some(key)) = &newest {
        let event = Event::MachineKeyRevealed {
            machine_id: machine,
            key_id: key.id,
        };
        write.append(instance, change, &event)?;
    }
    Ok(newest)
}

/// Deletes all keys of a machine.
pub(super) fn delete_all(write: &mut Write<'_>, machine: i64) -> Result<(), WriteError> {
    let digests = write
        .connection
        .prepare_cached(
            "DELETE FROM machine_keys WHERE machine = ?1 RETURNING digest, digest_version",
        )?
        .query_map([machine], |row| rows::digest(row, 0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    deleted(write, digests);
    Ok(())
}

/// Deletes up to `limit` keys that are expired at `now`, of all machines, and returns their number.
pub(super) fn delete_expired(
    write: &mut Write<'_>,
    now: Timestamp,
    limit: u32,
) -> Result<u64, WriteError> {
    let digests = write
        .connection
        .prepare_cached(
            "DELETE FROM machine_keys
             WHERE number IN (SELECT number FROM machine_keys WHERE expires_at IS NOT NULL AND expires_at <= ?1 LIMIT ?2)
             RETURNING digest, digest_version",
        )?
        .query_map(params![now.as_millis(), limit], |row| rows::digest(row, 0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(deleted(write, digests))
}

fn deleted(write: &mut Write<'_>, digests: Vec<Digest>) -> u64 {
    let number = digests.len() as u64;
    for digest in digests {
        write.effect(Effect::RemoveMachineKey(digest));
    }
    number
}
