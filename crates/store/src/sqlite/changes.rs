//! The change log in SQLite.

use countersign_protocol::change::{Cursor, Event, Log};
use countersign_protocol::ids::InstanceId;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::jobs::Write;
use super::rows::{self, WriteError};
use crate::StoreError;
use crate::changes::{ActingKey, After, Change, Changes, NewChange};

/// The number of the authority's log. Instances have numbers from 1.
const AUTHORITY: i64 = 0;

impl Write<'_> {
    /// Appends a record to the log of an instance. Fails if the requesting key is no longer live; then the whole
    /// operation is undone.
    pub(super) fn append(
        &mut self,
        instance: InstanceId,
        change: &NewChange,
        event: &Event,
    ) -> Result<(), WriteError> {
        let number = self
            .connection
            .prepare_cached("SELECT number FROM instances WHERE id = ?1")?
            .query_row([instance.as_str()], |row| row.get(0))?;
        self.require_alive(number, change)?;
        self.append_to(number, Log::Instance(instance), change, event)
    }

    /// Appends a record to the log of the authority.
    pub(super) fn append_to_authority(
        &mut self,
        change: &NewChange,
        event: &Event,
    ) -> Result<(), WriteError> {
        self.append_to(AUTHORITY, Log::Authority, change, event)
    }

    fn append_to(
        &mut self,
        number: i64,
        log: Log,
        change: &NewChange,
        event: &Event,
    ) -> Result<(), WriteError> {
        let last = last(self.connection, number)?;
        let record = Change::new(change, log, last, event);
        self.execute(
            "INSERT INTO changes (log, sequence, version, at, actor, kind, subject, detail, chain_version, code)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                number,
                record.sequence.cast_signed(),
                record.version,
                record.at.as_millis(),
                record.actor,
                record.kind.as_str(),
                record.subject,
                record.detail,
                record.chain_version,
                record.code
            ],
        )?;
        self.appended.push((log, record.cursor()));
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
                    params![id.as_str(), instance],
                )?,
                StoreError::InstanceKeyGone,
            ),
            Some(ActingKey::Machine(machine, id)) => (
                is_there(
                    "SELECT 1 FROM machine_keys k JOIN machines m ON m.number = k.machine
                     WHERE k.id = ?1 AND m.id = ?2 AND m.instance = ?3 AND (k.expires_at IS NULL OR k.expires_at > ?4)",
                    params![id.as_str(), machine.as_str(), instance, change.at.as_millis()],
                )?,
                StoreError::MachineKeyGone,
            ),
        };
        if is_alive { Ok(()) } else { Err(gone.into()) }
    }
}

/// Returns the number and the whole chain code of the last record of a log.
fn last(connection: &Connection, log: i64) -> rusqlite::Result<Option<(u64, [u8; 32])>> {
    connection
        .prepare_cached(
            "SELECT sequence, code FROM changes WHERE log = ?1 ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row([log], |row| Ok((sequence(row)?, rows::bytes(row, 1)?)))
        .optional()
}

/// Returns the positions of the last records of all logs, for the index.
pub(super) fn heads(connection: &Connection) -> rusqlite::Result<Vec<(Log, Cursor)>> {
    let mut logs = vec![(AUTHORITY, Log::Authority)];
    let instances = connection
        .prepare("SELECT number, id FROM instances")?
        .query_map([], |row| {
            Ok((row.get(0)?, Log::Instance(rows::id(row, 1)?)))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    logs.extend(instances);
    let mut heads = Vec::new();
    for (number, log) in logs {
        if let Some((sequence, code)) = last(connection, number)? {
            heads.push((log, Cursor::at(sequence, &code)));
        }
    }
    Ok(heads)
}

/// Reads a part of a log.
pub(super) fn list(
    connection: &Connection,
    log: Log,
    after: After,
    limit: u32,
) -> rusqlite::Result<Changes> {
    let number = match log {
        Log::Authority => Some(AUTHORITY),
        Log::Instance(id) => connection
            .prepare_cached("SELECT number FROM instances WHERE id = ?1")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?,
    };
    let after = match after {
        After::Sequence(sequence) => sequence,
        After::Cursor(cursor) => {
            if !contains(connection, number, cursor)? {
                return Ok(Changes::UnknownCursor);
            }
            cursor.sequence
        }
    };
    connection
        .prepare_cached(
            "SELECT sequence, version, at, actor, kind, subject, detail, chain_version, code FROM changes
             WHERE log = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
        )?
        .query_map(
            params![number, i64::try_from(after).unwrap_or(i64::MAX), limit],
            change,
        )?
        .collect::<rusqlite::Result<_>>()
        .map(Changes::Listed)
}

/// Returns whether the log contains the record that the cursor names.
fn contains(connection: &Connection, log: Option<i64>, cursor: Cursor) -> rusqlite::Result<bool> {
    if cursor.sequence == 0 {
        return Ok(cursor == Cursor::START);
    }
    let code = connection
        .prepare_cached("SELECT code FROM changes WHERE log = ?1 AND sequence = ?2")?
        .query_row(
            params![log, i64::try_from(cursor.sequence).unwrap_or(i64::MAX)],
            |row| rows::bytes(row, 0),
        )
        .optional()?;
    Ok(code.is_some_and(|code| Cursor::at(cursor.sequence, &code) == cursor))
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let kind = row.get_ref(4)?.as_str()?.parse();
    Ok(Change {
        sequence: sequence(row)?,
        version: row.get(1)?,
        at: rows::timestamp(row, 2)?,
        actor: row.get(3)?,
        kind: kind.map_err(|_| rows::unreadable(4, Type::Text, "not a kind of change"))?,
        subject: row.get(5)?,
        detail: row.get(6)?,
        chain_version: row.get(7)?,
        code: rows::bytes(row, 8)?,
    })
}

fn sequence(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, i64>(0).map(i64::cast_unsigned)
}
