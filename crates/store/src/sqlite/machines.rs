//! Machines in SQLite.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_protocol::change::Event;
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::page::SortBy;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::index::Effect;
use super::jobs::Write;
use super::machine_rows::{COLUMNS, FROM, by_id, machine};
use super::rows::{Texts, WriteError};
use super::{instances, machine_keys, machine_rows, pool, scopes};
use crate::StoreError;
use crate::changes::NewChange;
use crate::machines::{
    InsertMachine, MachineQuery, MachineRow, MachineUpdate, MachineWithScopes, NewMachine,
};

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
            } else if let Some((_, found)) = by_id(connection, texts, machine.instance, id)? {
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
            machine(row, 0, texts).map(|(_, machine)| machine)
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
    let was_there = write
        .connection
        .prepare_cached("SELECT 1 FROM deleted_machines WHERE id = ?1")?
        .exists([new.id.as_str()])?;
    if was_there {
        return Err(StoreError::Conflict("machines.id".to_owned()).into());
    }
    let event = new.created_event();
    let text: Scopes = new.scopes.iter().copied().collect();
    let text = write.index.texts.intern(text.as_str()).unwrap_or(text);
    let machine = Arc::new(MachineRow::new(&new, text));
    let number = machine_rows::insert(write, instance, &machine)?;
    for (sequence, (to, _)) in (1..).zip(&scoped) {
        scopes::insert_row(write, number, *to, new.created_at, sequence)?;
    }
    write.effect(Effect::PutMachine(number, Arc::clone(&machine)));
    machine_keys::insert(write, number, &machine, new.key)?;
    write.append(machine.instance, change, &event)?;
    let scoped = scoped.into_iter().map(|(_, machine)| machine).collect();
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
    change: &NewChange,
) -> Result<Option<MachineWithScopes>, WriteError> {
    let found = by_id(write.connection, &write.index.texts, instance, id)?;
    let Some((number, before)) = found else {
        return Ok(None);
    };
    if update.is_empty() {
        return one_with_scopes(write, before).map(Some);
    }
    let after = Arc::new(before.updated(update, change.at));
    machine_rows::update(write, number, &after)?;
    write.append(instance, change, &after.updated_event(&before))?;
    write.effect(Effect::PutMachine(number, Arc::clone(&after)));
    one_with_scopes(write, after).map(Some)
}

pub(super) fn end_tokens(
    write: &mut Write<'_>,
    instance: InstanceId,
    id: MachineId,
    change: &NewChange,
) -> Result<Option<Timestamp>, WriteError> {
    let found = by_id(write.connection, &write.index.texts, instance, id)?;
    let Some((number, before)) = found else {
        return Ok(None);
    };
    let of_instance = instances::by_id(write.connection, instance)?;
    let of_instance = of_instance.and_then(|(_, instance)| instance.issued_before);
    let after = Arc::new(before.with_tokens_ended(change.at, of_instance));
    let Some(issued_before) = after.issued_before else {
        return Ok(None);
    };
    write.execute(
        "UPDATE machines SET issued_before = ?2, revision = ?3 WHERE number = ?1",
        params![number, issued_before.as_millis(), after.revision],
    )?;
    pool::erase_of_machine(write, number)?;
    let event = Event::MachineTokensEnded {
        machine_id: id,
        issued_before,
    };
    write.append(instance, change, &event)?;
    write.effect(Effect::PutMachine(number, after));
    Ok(Some(issued_before))
}

pub(super) fn delete(
    write: &mut Write<'_>,
    instance: InstanceId,
    id: MachineId,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let found = by_id(write.connection, &write.index.texts, instance, id)?;
    let Some((number, machine)) = found else {
        return Ok(false);
    };
    machine_keys::delete_all(write, number)?;
    scopes::delete_all(write, number, change.at)?;
    write.execute(
        "INSERT INTO deleted_machines (id, instance, deleted_at)
         SELECT id, instance, ?2 FROM machines WHERE number = ?1",
        params![number, change.at.as_millis()],
    )?;
    if write.execute("DELETE FROM machines WHERE number = ?1", [number])? != 1 {
        return Err(
            StoreError::Corrupt("a machine that was read cannot be deleted".to_owned()).into(),
        );
    }
    let event = Event::MachineDeleted {
        machine_id: id,
        name: machine.name.clone(),
    };
    write.append(instance, change, &event)?;
    write.effect(Effect::RemoveMachine(number));
    Ok(true)
}
