//! Machine keys in SQLite.

use std::sync::Arc;

use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::index::Effect;
use super::instances::is_on;
use super::jobs::Write;
use super::machines;
use super::rows::{self, WriteError};
use crate::changes::NewChange;
use crate::keys::{Digest, MachineKeyRow, NewMachineKey, SealedKey};
use crate::machines::MachineRow;

const COLUMNS: &str =
    "i.id, m.id, k.digest, k.digest_version, k.created_at, k.expires_at, k.number";

fn key(row: &Row<'_>) -> rusqlite::Result<MachineKeyRow> {
    Ok(MachineKeyRow {
        instance: rows::id(row, 0)?,
        machine: rows::id(row, 1)?,
        digest: rows::digest(row, 2)?,
        created_at: rows::timestamp(row, 4)?,
        expires_at: rows::optional_timestamp(row, 5)?,
        number: row.get(6)?,
    })
}

/// Whether a machine has this key and it is not over at `now`.
pub(super) fn is_alive(
    write: &Write<'_>,
    machine: i64,
    number: i64,
    now: Timestamp,
) -> Result<bool, WriteError> {
    Ok(write
        .connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM machine_keys WHERE number = ?1 AND machine = ?2
                 AND (expires_at IS NULL OR expires_at > ?3))",
        )?
        .query_row([number, machine, now.as_millis()], |row| row.get(0))?)
}

pub(super) fn by_digest(
    connection: &Connection,
    digest: &Digest,
) -> rusqlite::Result<Option<Arc<MachineKeyRow>>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM machine_keys k JOIN machines m ON m.number = k.machine
             JOIN instances i ON i.number = m.instance WHERE k.digest = ?1 AND k.digest_version = ?2"
        ))?
        .query_row(params![digest.bytes, digest.version], |row| key(row).map(Arc::new))
        .optional()
}

/// Adds a key. Its sealed copy is left out where the instance does not reveal secrets.
pub(super) fn insert(
    write: &mut Write<'_>,
    machine: &MachineRow,
    new: NewMachineKey,
) -> Result<(), WriteError> {
    let sealed = match new.sealed {
        Some(sealed) if is_on(write, machine.instance, "$.secret_reveal")? => Some(sealed.0),
        _ => None,
    };
    write.execute(
        "INSERT INTO machine_keys (machine, digest, digest_version, sealed, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![machine.number, new.digest.bytes, new.digest.version, sealed, new.created_at.as_millis()],
    )?;
    write.effect(Effect::PutMachineKey(Arc::new(MachineKeyRow {
        number: write.connection.last_insert_rowid(),
        instance: machine.instance,
        machine: machine.id,
        digest: new.digest,
        created_at: new.created_at,
        expires_at: None,
    })));
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the trait's, with the transaction"
)]
pub(super) fn rotate(
    write: &mut Write<'_>,
    instance: InstanceId,
    machine: MachineId,
    new: NewMachineKey,
    older_expire_at: Timestamp,
    max_live: usize,
    at: Timestamp,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let Some(machine) = machines::by_id(write.connection, &write.index.texts, instance, machine)?
    else {
        return Ok(false);
    };
    // The newest of the older keys first.
    let older = write
        .connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM machine_keys k JOIN machines m ON m.number = k.machine
             JOIN instances i ON i.number = m.instance WHERE k.machine = ?1 ORDER BY k.number DESC"
        ))?
        .query_map([machine.number], key)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut live = 1;
    for mut key in older {
        let end = key
            .expires_at
            .map_or(older_expire_at, |end| end.min(older_expire_at));
        if end <= at || live >= max_live {
            write.execute(
                "DELETE FROM machine_keys WHERE machine = ?1 AND number = ?2",
                [machine.number, key.number],
            )?;
            write.effect(Effect::RemoveMachineKey(key.digest));
        } else {
            // Only the newest key is ever shown again.
            write.execute(
                "UPDATE machine_keys SET expires_at = ?3, sealed = NULL WHERE machine = ?1 AND number = ?2",
                [machine.number, key.number, end.as_millis()],
            )?;
            key.expires_at = Some(end);
            write.effect(Effect::PutMachineKey(Arc::new(key)));
            live += 1;
        }
    }
    insert(write, &machine, new)?;
    write.append(machines::instance_number(write, instance)?, change)?;
    Ok(true)
}

pub(super) fn reveal(
    write: &Write<'_>,
    instance: InstanceId,
    machine: MachineId,
    change: &NewChange,
) -> Result<Option<Option<SealedKey>>, WriteError> {
    let newest = write
        .connection
        .prepare_cached(
            "SELECT k.sealed, k.digest, k.digest_version, k.expires_at FROM machine_keys k JOIN machines m ON m.number = k.machine
             JOIN instances i ON i.number = m.instance
             WHERE i.id = ?1 AND m.id = ?2 ORDER BY k.number DESC LIMIT 1",
        )?
        .query_row(params![instance.as_str(), machine.as_str()], |row| {
            let digest = rows::digest(row, 1)?;
            let sealed = rows::optional_sealed(row, 0)?;
            let expires_at = rows::optional_timestamp(row, 3)?;
            Ok(sealed.map(|sealed| SealedKey {
                digest,
                sealed,
                expires_at,
            }))
        })
        .optional()?;
    if matches!(newest, Some(Some(_))) {
        write.append(machines::instance_number(write, instance)?, change)?;
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
    digests
        .into_iter()
        .for_each(|digest| write.effect(Effect::RemoveMachineKey(digest)));
    Ok(())
}

/// Deletes up to `limit` keys that are over at `now`, of all machines, and says how many.
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
    let deleted = digests.len() as u64;
    digests
        .into_iter()
        .for_each(|digest| write.effect(Effect::RemoveMachineKey(digest)));
    Ok(deleted)
}
