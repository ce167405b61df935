//! Scopes in SQLite. Each change is made twice, in the table and in the caller's row, within one transaction.

use countersign_protocol::change::Event;
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::time::Timestamp;
use rusqlite::params;

use super::index::Effect;
use super::jobs::Write;
use super::machine_rows::{by_id, by_number};
use super::rows::WriteError;
use crate::StoreError;
use crate::changes::NewChange;
use crate::machines::InsertScope;

pub(super) fn insert_row(
    write: &Write<'_>,
    from: i64,
    to: i64,
    at: Timestamp,
    sequence: i64,
) -> Result<(), WriteError> {
    write.execute(
        "INSERT INTO scopes (from_machine, to_machine, created_at, sequence) VALUES (?1, ?2, ?3, ?4)",
        [from, to, at.as_millis(), sequence],
    )?;
    Ok(())
}

/// Writes the scopes of a machine into its row.
fn copy_to_row(write: &mut Write<'_>, from: i64, at: Timestamp) -> Result<(), WriteError> {
    write.execute(
        "UPDATE machines SET revision = revision + 1, updated_at = ?2, scopes = coalesce(
             (SELECT group_concat(t.id, ' ' ORDER BY s.sequence)
              FROM scopes s JOIN machines t ON t.number = s.to_machine WHERE s.from_machine = ?1), '')
         WHERE number = ?1",
        [from, at.as_millis()],
    )?;
    let row = by_number(write.connection, &write.index.texts, from)?
        .ok_or_else(|| StoreError::Corrupt("a scope belongs to no machine".to_owned()))?;
    write.effect(Effect::PutMachine(from, row));
    Ok(())
}

pub(super) fn insert(
    write: &mut Write<'_>,
    instance: InstanceId,
    from: MachineId,
    to: MachineId,
    max_scopes: usize,
    change: &NewChange,
) -> Result<InsertScope, WriteError> {
    let texts = &write.index.texts;
    let Some((number, row)) = by_id(write.connection, texts, instance, from)? else {
        return Ok(InsertScope::FromNotFound);
    };
    let Some((to_number, _)) = by_id(write.connection, texts, instance, to)? else {
        return Ok(InsertScope::ToNotFound);
    };
    if row.scopes.contains(&to) {
        return Ok(InsertScope::Exists);
    }
    if row.scopes.len() >= max_scopes {
        return Ok(InsertScope::TooMany);
    }
    let sequence = write
        .connection
        .prepare_cached(
            "SELECT coalesce(max(sequence), 0) + 1 FROM scopes WHERE from_machine = ?1",
        )?
        .query_row([number], |row| row.get(0))?;
    insert_row(write, number, to_number, change.at, sequence)?;
    copy_to_row(write, number, change.at)?;
    let event = Event::ScopeCreated {
        from_machine_id: from,
        to_machine_id: to,
    };
    write.append(instance, change, &event)?;
    Ok(InsertScope::Inserted)
}

pub(super) fn delete(
    write: &mut Write<'_>,
    instance: InstanceId,
    from: MachineId,
    to: MachineId,
    change: &NewChange,
) -> Result<bool, WriteError> {
    let texts = &write.index.texts;
    let Some((number, _)) = by_id(write.connection, texts, instance, from)? else {
        return Ok(false);
    };
    let Some((to_number, _)) = by_id(write.connection, texts, instance, to)? else {
        return Ok(false);
    };
    let deleted = write.execute(
        "DELETE FROM scopes WHERE from_machine = ?1 AND to_machine = ?2",
        params![number, to_number],
    )?;
    if deleted == 0 {
        return Ok(false);
    }
    copy_to_row(write, number, change.at)?;
    let event = Event::ScopeDeleted {
        from_machine_id: from,
        to_machine_id: to,
    };
    write.append(instance, change, &event)?;
    Ok(true)
}

/// Deletes the scopes of a machine in both directions.
pub(super) fn delete_all(
    write: &mut Write<'_>,
    machine: i64,
    at: Timestamp,
) -> Result<(), WriteError> {
    write.execute("DELETE FROM scopes WHERE from_machine = ?1", [machine])?;
    let callers = write
        .connection
        .prepare_cached("DELETE FROM scopes WHERE to_machine = ?1 RETURNING from_machine")?
        .query_map([machine], |row| row.get::<_, i64>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    callers
        .into_iter()
        .try_for_each(|caller| copy_to_row(write, caller, at))
}
