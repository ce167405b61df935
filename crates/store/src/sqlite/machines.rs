//! Machines in SQLite.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::index::Effect;
use super::jobs::Write;
use super::rows::{self, Texts, WriteError};
use super::{machine_keys, scopes};
use crate::StoreError;
use crate::changes::NewChange;
use crate::machines::{
    InsertMachine, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes, NewMachine, SortBy,
};

/// The columns of [`machine`], of the tables by the names `m` and `i`.
pub(super) const COLUMNS: &str = "m.number, m.id, i.id, m.name, m.default_token_ttl, m.scopes, m.revision, m.created_at, m.updated_at";

const FROM: &str = "machines m JOIN instances i ON i.number = m.instance";

/// Reads a machine from [`COLUMNS`], the first of them at `first`.
pub(super) fn machine(row: &Row<'_>, first: usize, texts: &Texts) -> rusqlite::Result<MachineRow> {
    Ok(MachineRow {
        number: row.get(first)?,
        id: rows::id(row, first + 1)?,
        instance: rows::id(row, first + 2)?,
        name: row.get(first + 3)?,
        default_token_ttl: row.get(first + 4)?,
        scopes: texts.scopes(row, first + 5)?,
        revision: row.get(first + 6)?,
        created_at: rows::timestamp(row, first + 7)?,
        updated_at: rows::timestamp(row, first + 8)?,
    })
}

pub(super) fn by_number(
    connection: &Connection,
    texts: &Texts,
    number: i64,
) -> rusqlite::Result<Option<Arc<MachineRow>>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE m.number = ?1"))?
        .query_row([number], |row| machine(row, 0, texts).map(Arc::new))
        .optional()
}

pub(super) fn by_id(
    connection: &Connection,
    texts: &Texts,
    instance: InstanceId,
    id: MachineId,
) -> rusqlite::Result<Option<Arc<MachineRow>>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {FROM} WHERE i.id = ?1 AND m.id = ?2"
        ))?
        .query_row([instance.as_str(), id.as_str()], |row| {
            machine(row, 0, texts).map(Arc::new)
        })
        .optional()
}

/// Adds the machines that each one may call, from the same snapshot.
pub(super) fn with_scopes(
    connection: &Connection,
    texts: &Texts,
    machines: Vec<Arc<MachineRow>>,
) -> rusqlite::Result<Vec<MachineWithScopes>> {
    let mut known: HashMap<MachineId, Arc<MachineRow>> = HashMap::new();
    let mut all = Vec::with_capacity(machines.len());
    for machine in machines {
        let mut scoped = Vec::with_capacity(machine.scopes.len());
        for id in machine.scopes.iter().filter_map(|id| id.parse().ok()) {
            if let Some(found) = known.get(&id) {
                scoped.push(Arc::clone(found));
            } else if let Some(found) = by_id(connection, texts, machine.instance, id)? {
                known.insert(id, Arc::clone(&found));
                scoped.push(found);
            }
        }
        all.push(MachineWithScopes { machine, scoped });
    }
    Ok(all)
}

fn one_with_scopes(
    write: &Write<'_>,
    machine: Arc<MachineRow>,
) -> Result<MachineWithScopes, WriteError> {
    let mut all = with_scopes(write.connection, &write.index.texts, vec![machine])?;
    Ok(all.pop().expect("one machine was given"))
}

/// The number of an instance that exists.
pub(super) fn instance_number(write: &Write<'_>, instance: InstanceId) -> Result<i64, WriteError> {
    Ok(write
        .connection
        .prepare_cached("SELECT number FROM instances WHERE id = ?1")?
        .query_row([instance.as_str()], |row| row.get(0))?)
}

pub(super) fn list(
    connection: &Connection,
    texts: &Texts,
    instance: i64,
    query: &MachineQuery,
) -> rusqlite::Result<(Vec<MachineWithScopes>, u64)> {
    let mut condition = "m.instance = ?1".to_owned();
    let mut parameters = vec![Value::Integer(instance)];
    if let Some(text) = &query.text {
        condition.push_str(" AND (m.id = ?2 OR instr(m.name_folded, ?3) > 0)");
        parameters.extend([Value::Text(text.clone()), Value::Text(text.to_lowercase())]);
    }
    let total = connection
        .prepare_cached(&format!(
            "SELECT count(*) FROM machines m WHERE {condition}"
        ))?
        .query_row(params_from_iter(&parameters), |row| row.get::<_, i64>(0))?;
    let column = match query.order.by {
        SortBy::CreatedAt => "created_at",
        SortBy::Name => "name",
    };
    let direction = if query.order.is_descending {
        "DESC"
    } else {
        "ASC"
    };
    let limit = parameters.len() + 1;
    parameters.push(Value::Integer(query.page.limit.into()));
    parameters.push(Value::Integer(
        i64::try_from(query.page.offset).unwrap_or(i64::MAX),
    ));
    let machines = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {FROM} WHERE {condition}
             ORDER BY m.{column} {direction}, m.id {direction} LIMIT ?{limit} OFFSET ?{}",
            limit + 1
        ))?
        .query_map(params_from_iter(&parameters), |row| {
            machine(row, 0, texts).map(Arc::new)
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((
        with_scopes(connection, texts, machines)?,
        total.cast_unsigned(),
    ))
}

pub(super) fn insert(
    write: &mut Write<'_>,
    instance: i64,
    new: NewMachine,
    change: &NewChange,
) -> Result<InsertMachine, WriteError> {
    let mut scoped = Vec::with_capacity(new.scopes.len());
    for id in &new.scopes {
        match by_id(write.connection, &write.index.texts, new.instance, *id)? {
            Some(found) => scoped.push(found),
            None => return Ok(InsertMachine::ScopeNotFound(*id)),
        }
    }
    let text: Scopes = new.scopes.iter().copied().collect();
    let text = write.index.texts.intern(text.as_str()).unwrap_or(text);
    write.execute(
        "INSERT INTO machines
             (instance, id, name, name_folded, default_token_ttl, scopes, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7)",
        params![
            instance,
            new.id.as_str(),
            new.name,
            new.name.to_lowercase(),
            new.default_token_ttl,
            text.as_str(),
            new.created_at.as_millis()
        ],
    )?;
    let machine = Arc::new(MachineRow {
        number: write.connection.last_insert_rowid(),
        id: new.id,
        instance: new.instance,
        name: new.name,
        default_token_ttl: new.default_token_ttl,
        scopes: text,
        revision: 1,
        created_at: new.created_at,
        updated_at: new.created_at,
    });
    for (sequence, to) in (1..).zip(&scoped) {
        scopes::insert_row(write, machine.number, to.number, new.created_at, sequence)?;
    }
    machine_keys::insert(write, &machine, new.key)?;
    write.append(instance, change)?;
    write.effect(Effect::PutMachine(Arc::clone(&machine)));
    Ok(InsertMachine::Inserted(MachineWithScopes {
        machine,
        scoped,
    }))
}

pub(super) fn update(
    write: &mut Write<'_>,
    instance: InstanceId,
    id: MachineId,
    update: MachineUpdate,
    at: Timestamp,
    change: &NewChange,
) -> Result<Option<MachineWithScopes>, WriteError> {
    let Some(mut row) = by_id(write.connection, &write.index.texts, instance, id)? else {
        return Ok(None);
    };
    if update.is_empty() {
        return one_with_scopes(write, row).map(Some);
    }
    let changed = Arc::make_mut(&mut row);
    changed.name = update.name.unwrap_or_else(|| changed.name.clone());
    changed.default_token_ttl = update
        .default_token_ttl
        .unwrap_or(changed.default_token_ttl);
    changed.revision += 1;
    changed.updated_at = at;
    write.execute(
        "UPDATE machines SET name = ?2, name_folded = ?3, default_token_ttl = ?4, revision = ?5, updated_at = ?6
         WHERE number = ?1",
        params![
            changed.number,
            changed.name,
            changed.name.to_lowercase(),
            changed.default_token_ttl,
            changed.revision,
            changed.updated_at.as_millis()
        ],
    )?;
    write.append(instance_number(write, instance)?, change)?;
    write.effect(Effect::PutMachine(Arc::clone(&row)));
    one_with_scopes(write, row).map(Some)
}

pub(super) fn delete(
    write: &mut Write<'_>,
    instance: InstanceId,
    id: MachineId,
    at: Timestamp,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let Some(machine) = by_id(write.connection, &write.index.texts, instance, id)? else {
        return Ok(false);
    };
    machine_keys::delete_all(write, machine.number)?;
    scopes::delete_all(write, machine.number, at)?;
    if write.execute("DELETE FROM machines WHERE number = ?1", [machine.number])? != 1 {
        return Err(
            StoreError::Corrupt("a machine that was read cannot be deleted".to_owned()).into(),
        );
    }
    write.append(instance_number(write, instance)?, change)?;
    write.effect(Effect::RemoveMachine(machine.number, machine.id));
    Ok(true)
}
