//! Data keys, instances and instance keys in SQLite.

use std::sync::Arc;

use countersign_protocol::change::Event;
use countersign_protocol::ids::{InstanceId, KeyId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::index::Effect;
use super::jobs::Write;
use super::rows::{self, WriteError};
use super::{pool, signing_keys};
use crate::StoreError;
use crate::changes::NewChange;
use crate::instances::{Instance, NewInstance, UpdateSettings};
use crate::keys::{DataKey, DataKeyPurpose, InstanceKeyRow, SealedBytes, SigningKeyRow};

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

pub(super) fn initialize(
    write: &mut Write<'_>,
    keys: &[DataKey],
    change: &NewChange,
) -> Result<(), WriteError> {
    let is_initialized =
        write
            .connection
            .query_row("SELECT EXISTS (SELECT 1 FROM data_keys)", [], |row| {
                row.get(0)
            })?;
    if is_initialized {
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
    write.append_to_authority(change, &Event::AuthorityInitialized {})
}

pub(super) fn clock_floor(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let floor = connection
        .prepare_cached("SELECT value FROM meta WHERE key = 'clock_floor'")?
        .query_row([], |row| rows::timestamp(row, 0))
        .optional()?;
    Ok(floor.unwrap_or(Timestamp::EPOCH))
}

const COLUMNS: &str =
    "number, id, name, is_default, settings, revision, issued_before, local_since, created_at";

/// An instance and its number.
pub(super) type Numbered = (i64, Arc<Instance>);

/// All instances, for the index.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Numbered>> {
    connection
        .prepare(&format!("SELECT {COLUMNS} FROM instances"))?
        .query_map([], instance)?
        .collect()
}

/// Returns an instance.
pub(super) fn by_id(connection: &Connection, id: InstanceId) -> rusqlite::Result<Option<Numbered>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM instances WHERE id = ?1"))?
        .query_row([id.as_str()], instance)
        .optional()
}

fn instance(row: &Row<'_>) -> rusqlite::Result<Numbered> {
    let settings = serde_json::from_str(row.get_ref(4)?.as_str()?);
    let instance = Instance {
        id: rows::id(row, 1)?,
        name: row.get(2)?,
        is_default: row.get(3)?,
        settings: settings
            .map_err(|_| rows::unreadable(4, Type::Text, "not the settings of an instance"))?,
        revision: row.get(5)?,
        issued_before: rows::optional_timestamp(row, 6)?,
        local_since: rows::optional_timestamp(row, 7)?,
        created_at: rows::timestamp(row, 8)?,
    };
    Ok((row.get(0)?, Arc::new(instance)))
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
    let instance = Arc::new(Instance::new(new));
    write.execute(
        "INSERT INTO instances (id, name, is_default, settings, revision, local_since, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            instance.id.as_str(),
            instance.name,
            instance.is_default,
            settings_text(&instance.settings),
            instance.revision,
            instance.local_since.map(Timestamp::as_millis),
            instance.created_at.as_millis()
        ],
    )?;
    let number = write.connection.last_insert_rowid();
    write.effect(Effect::PutInstance(number, Arc::clone(&instance)));
    insert_key_row(write, number, &key)?;
    signing_keys::insert_first(write, number, signing_key)?;
    let event = Event::InstanceCreated {
        instance_id: instance.id,
        name: instance.name.clone(),
        key_id: key.id,
        kid: signing_key.id,
    };
    write.append(instance.id, change, &event)?;
    if key.revoked_at.is_none() {
        write.effect(Effect::PutInstanceKey(Arc::new(key)));
    }
    Ok(instance)
}

pub(super) fn update_settings(
    write: &mut Write<'_>,
    id: InstanceId,
    revision: i64,
    settings: InstanceSettings,
    change: &NewChange,
) -> Result<UpdateSettings, WriteError> {
    let Some((number, before)) = by_id(write.connection, id)? else {
        return Ok(UpdateSettings::NotFound);
    };
    if before.revision != revision {
        return Ok(UpdateSettings::Changed);
    }
    let after = Arc::new(before.with_settings(settings, change.at));
    write.execute(
        "UPDATE instances SET settings = ?2, revision = ?3, local_since = ?4 WHERE number = ?1",
        params![
            number,
            settings_text(&after.settings),
            after.revision,
            after.local_since.map(Timestamp::as_millis)
        ],
    )?;
    // What is off already was erased when it was turned off.
    let is_turned_off = |switch: fn(&InstanceSettings) -> bool| {
        switch(&before.settings) && !switch(&after.settings)
    };
    if is_turned_off(|settings| settings.secret_reveal) {
        *write.empties_log = true;
        write.execute(
            "UPDATE machine_keys SET sealed = NULL
             WHERE sealed IS NOT NULL AND machine IN (SELECT number FROM machines WHERE instance = ?1)",
            [number],
        )?;
    }
    if is_turned_off(|settings| settings.token_pooling) {
        *write.empties_log = true;
        pool::erase_of_instance(write, number)?;
    }
    write.append(id, change, &after.updated_event(&before))?;
    write.effect(Effect::PutInstance(number, Arc::clone(&after)));
    Ok(UpdateSettings::Updated(after))
}

pub(super) fn end_tokens(
    write: &mut Write<'_>,
    id: InstanceId,
    change: &NewChange,
) -> Result<Option<Timestamp>, WriteError> {
    let Some((number, before)) = by_id(write.connection, id)? else {
        return Ok(None);
    };
    let of_machines = write
        .connection
        .prepare_cached("SELECT max(issued_before) FROM machines WHERE instance = ?1")?
        .query_row([number], |row| rows::optional_timestamp(row, 0))?;
    let after = Arc::new(before.with_tokens_ended(change.at, of_machines));
    let Some(issued_before) = after.issued_before else {
        return Ok(None);
    };
    write.execute(
        "UPDATE instances SET issued_before = ?2, revision = ?3 WHERE number = ?1",
        params![number, issued_before.as_millis(), after.revision],
    )?;
    pool::erase_of_instance(write, number)?;
    let event = Event::InstanceTokensEnded {
        instance_id: id,
        issued_before,
    };
    write.append(id, change, &event)?;
    write.effect(Effect::PutInstance(number, after));
    Ok(Some(issued_before))
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
            key.id.as_str(),
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
    let event = Event::InstanceKeyCreated { key_id: key.id };
    write.append(key.instance, change, &event)?;
    write.effect(Effect::PutInstanceKey(Arc::new(key)));
    Ok(true)
}

const KEY_COLUMNS: &str = "k.id, i.id, k.digest, k.digest_version, k.created_at, k.revoked_at";

fn key_row(row: &Row<'_>) -> rusqlite::Result<InstanceKeyRow> {
    Ok(InstanceKeyRow {
        id: rows::key_id(row, 0)?,
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

/// Returns all keys that are not revoked, for the index.
pub(super) fn all_live_keys(connection: &Connection) -> rusqlite::Result<Vec<InstanceKeyRow>> {
    connection
        .prepare(&format!(
            "SELECT {KEY_COLUMNS} FROM instance_keys k JOIN instances i ON i.number = k.instance WHERE k.revoked_at IS NULL"
        ))?
        .query_map([], key_row)?
        .collect()
}

pub(super) fn revoke_key(
    write: &mut Write<'_>,
    instance: InstanceId,
    number: i64,
    id: KeyId,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let digest = write
        .connection
        .prepare_cached(
            "SELECT digest, digest_version FROM instance_keys
             WHERE instance = ?1 AND id = ?2 AND revoked_at IS NULL",
        )?
        .query_row(params![number, id.as_str()], |row| rows::digest(row, 0))
        .optional()?;
    let Some(digest) = digest else {
        return Ok(false);
    };
    // First, because a key may revoke itself.
    write.append(instance, change, &Event::InstanceKeyRevoked { key_id: id })?;
    if live_keys(write, number)? == 1 {
        // The transaction is undone.
        return Err(StoreError::Conflict("the last live key of the instance".to_owned()).into());
    }
    write.execute(
        "UPDATE instance_keys SET revoked_at = ?3 WHERE instance = ?1 AND id = ?2",
        params![number, id.as_str(), change.at.as_millis()],
    )?;
    write.effect(Effect::RemoveInstanceKey(digest));
    Ok(true)
}
