//! Reads and writes the rows of machines in SQLite.

use std::sync::Arc;

use countersign_protocol::ids::{InstanceId, MachineId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::jobs::Write;
use super::rows::{self, Texts, WriteError};
use crate::machines::MachineRow;

/// The columns that [`machine`] reads, from the tables named `m` and `i`.
pub(super) const COLUMNS: &str = "m.number, m.id, i.id, m.name, m.default_token_ttl, m.scopes, m.revision, m.issued_before, \
     m.created_at, m.updated_at";

pub(super) const FROM: &str = "machines m JOIN instances i ON i.number = m.instance";

/// A machine and its number.
pub(super) type Numbered = (i64, Arc<MachineRow>);

/// Reads a machine from [`COLUMNS`], the first of them at `first`.
pub(super) fn machine(row: &Row<'_>, first: usize, texts: &Texts) -> rusqlite::Result<Numbered> {
    let machine = MachineRow {
        id: rows::id(row, first + 1)?,
        instance: rows::id(row, first + 2)?,
        name: row.get(first + 3)?,
        default_token_ttl: row.get(first + 4)?,
        scopes: texts.scopes(row, first + 5)?,
        revision: row.get(first + 6)?,
        issued_before: rows::optional_timestamp(row, first + 7)?,
        created_at: rows::timestamp(row, first + 8)?,
        updated_at: rows::timestamp(row, first + 9)?,
    };
    Ok((row.get(first)?, Arc::new(machine)))
}

/// Returns all machines, for the index.
pub(super) fn all(
    connection: &Connection,
    texts: &Texts,
    mut put: impl FnMut(i64, Arc<MachineRow>),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM {FROM}"))?;
    let machines = statement.query_map([], |row| machine(row, 0, texts))?;
    for found in machines {
        let (number, row) = found?;
        put(number, row);
    }
    Ok(())
}

pub(super) fn by_number(
    connection: &Connection,
    texts: &Texts,
    number: i64,
) -> rusqlite::Result<Option<Arc<MachineRow>>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE m.number = ?1"))?
        .query_row([number], |row| machine(row, 0, texts))
        .optional()
        .map(|found| found.map(|(_, machine)| machine))
}

pub(super) fn by_id(
    connection: &Connection,
    texts: &Texts,
    instance: InstanceId,
    id: MachineId,
) -> rusqlite::Result<Option<Numbered>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {FROM} WHERE i.id = ?1 AND m.id = ?2"
        ))?
        .query_row([instance.as_str(), id.as_str()], |row| {
            machine(row, 0, texts)
        })
        .optional()
}

/// Inserts the row of a new machine and returns its number.
pub(super) fn insert(
    write: &mut Write<'_>,
    instance: i64,
    machine: &MachineRow,
) -> Result<i64, WriteError> {
    write.execute(
        "INSERT INTO machines
             (instance, id, name, name_folded, default_token_ttl, scopes, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            instance,
            machine.id.as_str(),
            machine.name,
            machine.name.to_lowercase(),
            machine.default_token_ttl,
            machine.scopes.as_str(),
            machine.revision,
            machine.created_at.as_millis(),
            machine.updated_at.as_millis()
        ],
    )?;
    Ok(write.connection.last_insert_rowid())
}

/// Writes what an update may change.
pub(super) fn update(
    write: &mut Write<'_>,
    number: i64,
    machine: &MachineRow,
) -> Result<(), WriteError> {
    write.execute(
        "UPDATE machines SET name = ?2, name_folded = ?3, default_token_ttl = ?4, revision = ?5, updated_at = ?6
         WHERE number = ?1",
        params![
            number,
            machine.name,
            machine.name.to_lowercase(),
            machine.default_token_ttl,
            machine.revision,
            machine.updated_at.as_millis()
        ],
    )?;
    Ok(())
}
