//! The change log in SQLite.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::jobs::Write;
use super::rows::{self, WriteError};
use crate::StoreError;
use crate::changes::{ActingKey, Change, ChangeKind, NewChange};

impl Write<'_> {
    /// Appends an entry to the log of the instance with this number, or refuses where the key that asked is not alive any more;
    /// then all that the operation did before is undone.
    pub(super) fn append(&self, instance: i64, change: &NewChange) -> Result<(), WriteError> {
        self.require_alive(instance, change)?;
        let last = self
            .connection
            .prepare_cached("SELECT sequence, code FROM changes WHERE instance = ?1 ORDER BY sequence DESC LIMIT 1")?
            .query_row([instance], |row| Ok((sequence(row)?, rows::bytes(row, 1)?)))
            .optional()?;
        let (sequence, previous) = last.map_or((1, [0; 32]), |(last, code)| (last + 1, code));
        let code = change.chain.link(&previous, sequence, change);
        self.execute(
            "INSERT INTO changes (instance, sequence, at, actor, kind, subject, detail, chain_version, code)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                instance,
                sequence.cast_signed(),
                change.at.as_millis(),
                change.actor,
                change.kind.as_str(),
                change.subject,
                change.detail,
                change.chain.version(),
                code
            ],
        )?;
        Ok(())
    }

    fn require_alive(&self, instance: i64, change: &NewChange) -> Result<(), WriteError> {
        let is_there = |sql, parameters: &[&dyn ToSql]| {
            self.connection.prepare_cached(sql)?.exists(parameters)
        };
        let (is_alive, gone) = match &change.key {
            None => return Ok(()),
            Some(ActingKey::Instance(id)) => (
                is_there(
                    "SELECT 1 FROM instance_keys WHERE id = ?1 AND instance = ?2 AND revoked_at IS NULL",
                    params![id, instance],
                )?,
                StoreError::InstanceKeyGone,
            ),
            Some(ActingKey::Machine(number)) => (
                is_there(
                    "SELECT 1 FROM machine_keys k JOIN machines m ON m.number = k.machine
                     WHERE k.number = ?1 AND m.instance = ?2 AND (k.expires_at IS NULL OR k.expires_at > ?3)",
                    params![number, instance, change.at.as_millis()],
                )?,
                StoreError::MachineKeyGone,
            ),
        };
        if is_alive { Ok(()) } else { Err(gone.into()) }
    }
}

/// Reads a part of an instance's log.
pub(super) fn list(
    connection: &Connection,
    instance: i64,
    after: u64,
    limit: u32,
) -> rusqlite::Result<Vec<Change>> {
    connection
        .prepare_cached(
            "SELECT sequence, at, actor, kind, subject, detail, chain_version, code FROM changes
             WHERE instance = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
        )?
        .query_map(
            params![instance, i64::try_from(after).unwrap_or(i64::MAX), limit],
            change,
        )?
        .collect()
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let kind = ChangeKind::from_name(row.get_ref(3)?.as_str()?);
    Ok(Change {
        sequence: sequence(row)?,
        at: rows::timestamp(row, 1)?,
        actor: row.get(2)?,
        kind: kind.ok_or_else(|| rows::unreadable(3, Type::Text, "not a kind of change"))?,
        subject: row.get(4)?,
        detail: row.get(5)?,
        chain_version: row.get(6)?,
        code: rows::bytes(row, 7)?,
    })
}

fn sequence(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, i64>(0).map(i64::cast_unsigned)
}
