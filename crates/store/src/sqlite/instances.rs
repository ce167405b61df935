//! Data keys, instances and instance keys in SQLite.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;
use countersign_protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::index::Effect;
use super::jobs::Write;
use super::rows::{self, WriteError};
use super::signing_keys;
use crate::StoreError;
use crate::changes::NewChange;
use crate::instances::{Instance, InstanceSettings, NewInstance, UpdateSettings};
use crate::keys::{DataKey, DataKeyPurpose, Digest, InstanceKeyRow, SealedBytes, SigningKeyRow};

pub(super) fn data_keys(connection: &Connection) -> rusqlite::Result<Vec<DataKey>> {
    connection
        .prepare_cached(
            "SELECT purpose, version, wrapped, created_at FROM data_keys ORDER BY version, purpose",
        )?
        .query_map([], |row| {
            let purpose = DataKeyPurpose::from_name(row.get_ref(0)?.as_str()?);
            Ok(DataKey {
                purpose: purpose.ok_or_else(|| rows::unreadable(0, Type::Text, "not a purpose"))?,
                version: row.get(1)?,
                wrapped: SealedBytes(row.get(2)?),
                created_at: rows::timestamp(row, 3)?,
            })
        })?
        .collect()
}

pub(super) fn initialise(write: &Write<'_>, keys: &[DataKey]) -> Result<(), WriteError> {
    let is_initialised =
        write
            .connection
            .query_row("SELECT EXISTS (SELECT 1 FROM data_keys)", [], |row| {
                row.get(0)
            })?;
    if is_initialised {
        return Err(StoreError::Conflict("data_keys".to_owned()).into());
    }
    for key in keys {
        write.execute(
            "INSERT INTO data_keys (purpose, version, wrapped, created_at) VALUES (?1, ?2, ?3, ?4)",
            params![
                key.purpose.as_str(),
                key.version,
                key.wrapped.0,
                key.created_at.as_millis()
            ],
        )?;
    }
    Ok(())
}

pub(super) fn clock_floor(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let floor = connection
        .prepare_cached("SELECT value FROM meta WHERE key = 'clock_floor'")?
        .query_row([], |row| rows::timestamp(row, 0))
        .optional()?;
    Ok(floor.unwrap_or(Timestamp::EPOCH))
}

/// All instances, for the index.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Instance>> {
    connection
        .prepare("SELECT number, id, name, settings, revision, created_at FROM instances")?
        .query_map([], instance)?
        .collect()
}

fn instance(row: &Row<'_>) -> rusqlite::Result<Instance> {
    let settings = serde_json::from_str(row.get_ref(3)?.as_str()?);
    Ok(Instance {
        number: row.get(0)?,
        id: rows::id(row, 1)?,
        name: row.get(2)?,
        settings: settings
            .map_err(|_| rows::unreadable(3, Type::Text, "not the settings of an instance"))?,
        revision: row.get(4)?,
        created_at: rows::timestamp(row, 5)?,
    })
}

fn settings_text(settings: &InstanceSettings) -> String {
    serde_json::to_string(settings).expect("settings are texts, numbers and switches")
}

pub(super) fn insert(
    write: &mut Write<'_>,
    new: NewInstance,
    key: InstanceKeyRow,
    signing_key: &SigningKeyRow,
    change: &NewChange,
) -> Result<Arc<Instance>, WriteError> {
    write.execute(
        "INSERT INTO instances (id, name, settings, revision, created_at) VALUES (?1, ?2, ?3, 1, ?4)",
        params![
            new.id.as_str(),
            new.name,
            settings_text(&new.settings),
            new.created_at.as_millis()
        ],
    )?;
    let instance = Arc::new(Instance {
        number: write.connection.last_insert_rowid(),
        id: new.id,
        name: new.name,
        settings: new.settings,
        revision: 1,
        created_at: new.created_at,
    });
    insert_key_row(write, instance.number, &key)?;
    signing_keys::insert_row(write, instance.number, signing_key)?;
    write.append(instance.number, change)?;
    write.effect(Effect::PutInstance(Arc::clone(&instance)));
    if key.revoked_at.is_none() {
        write.effect(Effect::PutInstanceKey(Arc::new(key)));
    }
    Ok(instance)
}

pub(super) fn update_settings(
    write: &mut Write<'_>,
    id: InstanceId,
    revision: i64,
    settings: &InstanceSettings,
    change: &NewChange,
) -> Result<UpdateSettings, WriteError> {
    // What is off already was erased when it was turned off.
    let erases_keys = !settings.secret_reveal && is_on(write, id, "$.secret_reveal")?;
    let erases_tokens = !settings.token_pooling && is_on(write, id, "$.token_pooling")?;
    let changed = write
        .connection
        .prepare_cached(
            "UPDATE instances SET settings = ?3, revision = revision + 1 WHERE id = ?1 AND revision = ?2
             RETURNING number, id, name, settings, revision, created_at",
        )?
        .query_row(params![id.as_str(), revision, settings_text(settings)], instance)
        .optional()?;
    let Some(instance) = changed.map(Arc::new) else {
        let is_there = write
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM instances WHERE id = ?1)")?
            .query_row([id.as_str()], |row| row.get::<_, bool>(0))?;
        return Ok(if is_there {
            UpdateSettings::Changed
        } else {
            UpdateSettings::NotFound
        });
    };
    *write.empties_log |= erases_keys || erases_tokens;
    if erases_keys {
        write.execute(
            "UPDATE machine_keys SET sealed = NULL
             WHERE sealed IS NOT NULL AND machine IN (SELECT number FROM machines WHERE instance = ?1)",
            [instance.number],
        )?;
    }
    if erases_tokens {
        write.execute(
            "UPDATE tokens INDEXED BY tokens_sealed SET sealed = NULL, pool_key = NULL
             WHERE sealed IS NOT NULL AND machine IN (SELECT number FROM machines WHERE instance = ?1)",
            [instance.number],
        )?;
    }
    write.append(instance.number, change)?;
    write.effect(Effect::PutInstance(Arc::clone(&instance)));
    Ok(UpdateSettings::Updated(instance))
}

/// Whether a switch of the instance's settings is on now. Asked in the transaction that would write a sealed copy, because
/// whoever made that copy may have looked at the settings before they changed.
pub(super) fn is_on(
    write: &Write<'_>,
    instance: InstanceId,
    switch: &str,
) -> Result<bool, WriteError> {
    let is_on = write
        .connection
        .prepare_cached("SELECT json_extract(settings, ?2) FROM instances WHERE id = ?1")?
        .query_row(params![instance.as_str(), switch], |row| {
            row.get::<_, Option<bool>>(0)
        })
        .optional()?;
    Ok(is_on.flatten().unwrap_or(true))
}

fn insert_key_row(
    write: &Write<'_>,
    instance: i64,
    key: &InstanceKeyRow,
) -> Result<(), WriteError> {
    write.execute(
        "INSERT INTO instance_keys (id, instance, digest, digest_version, created_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            key.id,
            instance,
            key.digest.bytes,
            key.digest.version,
            key.created_at.as_millis(),
            key.revoked_at.map(Timestamp::as_millis)
        ],
    )?;
    Ok(())
}

fn live_keys(write: &Write<'_>, instance: i64) -> Result<usize, WriteError> {
    Ok(write
        .connection
        .prepare_cached(
            "SELECT count(*) FROM instance_keys WHERE instance = ?1 AND revoked_at IS NULL",
        )?
        .query_row([instance], |row| row.get::<_, u32>(0))? as usize)
}

pub(super) fn insert_key(
    write: &mut Write<'_>,
    instance: i64,
    key: InstanceKeyRow,
    max_live: usize,
    change: &NewChange,
) -> Result<bool, WriteError> {
    if live_keys(write, instance)? >= max_live {
        return Ok(false);
    }
    insert_key_row(write, instance, &key)?;
    write.append(instance, change)?;
    write.effect(Effect::PutInstanceKey(Arc::new(key)));
    Ok(true)
}

const KEY_COLUMNS: &str = "k.id, i.id, k.digest, k.digest_version, k.created_at, k.revoked_at";

fn key_row(row: &Row<'_>) -> rusqlite::Result<InstanceKeyRow> {
    Ok(InstanceKeyRow {
        id: row.get(0)?,
        instance: rows::id(row, 1)?,
        digest: rows::digest(row, 2)?,
        created_at: rows::timestamp(row, 4)?,
        revoked_at: rows::optional_timestamp(row, 5)?,
    })
}

pub(super) fn list_keys(
    connection: &Connection,
    instance: InstanceId,
) -> rusqlite::Result<Vec<InstanceKeyRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {KEY_COLUMNS} FROM instance_keys k JOIN instances i ON i.number = k.instance
             WHERE i.id = ?1 ORDER BY k.number"
        ))?
        .query_map([instance.as_str()], key_row)?
        .collect()
}

/// Finds a key that is not revoked.
pub(super) fn key_by_digest(
    connection: &Connection,
    digest: &Digest,
) -> rusqlite::Result<Option<Arc<InstanceKeyRow>>> {
    connection
        .prepare_cached(&format!(
            "SELECT {KEY_COLUMNS} FROM instance_keys k JOIN instances i ON i.number = k.instance
             WHERE k.digest = ?1 AND k.digest_version = ?2 AND k.revoked_at IS NULL"
        ))?
        .query_row(params![digest.bytes, digest.version], |row| {
            key_row(row).map(Arc::new)
        })
        .optional()
}

pub(super) fn revoke_key(
    write: &mut Write<'_>,
    instance: i64,
    key_id: &str,
    at: Timestamp,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let digest = write
        .connection
        .prepare_cached(
            "SELECT digest, digest_version FROM instance_keys
             WHERE instance = ?1 AND id = ?2 AND revoked_at IS NULL",
        )?
        .query_row(params![instance, key_id], |row| rows::digest(row, 0))
        .optional()?;
    let Some(digest) = digest else {
        return Ok(false);
    };
    // First, because a key may revoke itself.
    write.append(instance, change)?;
    if live_keys(write, instance)? == 1 {
        // The transaction is undone.
        return Err(StoreError::Conflict("the last live key of the instance".to_owned()).into());
    }
    write.execute(
        "UPDATE instance_keys SET revoked_at = ?3 WHERE instance = ?1 AND id = ?2",
        params![instance, key_id, at.as_millis()],
    )?;
    write.effect(Effect::RemoveInstanceKey(digest));
    Ok(true)
}
