//! How many tokens machines hold, without counting them for each new one, and room for more where it is too many.

use std::collections::HashMap;

use countersign_protocol::time::Timestamp;
use rusqlite::{Connection, params};

use super::index::{Effect, NumberHash};
use super::jobs::Write;
use super::rows::{self, WriteError};

/// For each machine, a number that its tokens do not exceed, whatever their format and state. In the writer's memory only.
///
/// A token counts up when it is inserted and does not count down when it is deleted, so the number may be too large and is
/// never too small. Where it says that a machine holds too many, tokens that are over make room, and the rest are counted.
#[derive(Debug, Default)]
pub(super) struct HeldTokens {
    machines: HashMap<i64, Held, NumberHash>,
    /// Grows when something is forgotten: a count that was begun before says nothing then.
    generation: u64,
}

#[derive(Debug)]
struct Held {
    bound: u64,
    /// How many were inserted since this is known.
    inserted: u64,
    /// The limit up to which was counted; there may be more.
    limit: u64,
}

/// How far the writer had come when it found a machine at its limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountedUpTo {
    inserted: u64,
    generation: u64,
}

impl HeldTokens {
    /// For how many machines a number is kept.
    const MACHINES: usize = 100_000;

    fn start(&mut self, machine: i64, bound: u64, limit: u64) {
        if self.machines.len() >= Self::MACHINES {
            self.machines.clear();
            self.generation += 1;
        }
        let held = Held {
            bound,
            inserted: 0,
            limit,
        };
        if self.machines.insert(machine, held).is_some() {
            self.generation += 1;
        }
    }

    /// Counts a token that was inserted.
    pub(super) fn inserted(&mut self, machine: i64) {
        if let Some(held) = self.machines.get_mut(&machine) {
            held.bound += 1;
            held.inserted += 1;
        }
    }

    /// Whether the machine seems to hold `limit` tokens, and if so what a count needs to know.
    pub(super) fn limit_reached(
        &mut self,
        connection: &Connection,
        machine: i64,
        limit: u64,
    ) -> rusqlite::Result<Option<CountedUpTo>> {
        // What was counted up to one limit says nothing about another.
        if self
            .machines
            .get(&machine)
            .is_none_or(|held| held.limit != limit)
        {
            self.start(machine, count(connection, machine, limit)?, limit);
        }
        let held = self
            .machines
            .get(&machine)
            .filter(|held| held.bound >= limit);
        Ok(held.map(|held| CountedUpTo {
            inserted: held.inserted,
            generation: self.generation,
        }))
    }

    /// Takes in a count that was begun after `since`. What was inserted meanwhile may be in it or not, and is added.
    pub(super) fn correct(&mut self, machine: i64, counted: u64, since: CountedUpTo) {
        if self.generation == since.generation
            && let Some(held) = self.machines.get_mut(&machine)
        {
            held.bound = counted + held.inserted.saturating_sub(since.inserted);
        }
    }
}

/// Counts a machine's tokens, up to `limit`: what its index says without a look at the rows.
pub(super) fn count(connection: &Connection, machine: i64, limit: u64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM tokens WHERE machine = ?1 LIMIT ?2)")?
        .query_row([machine, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            row.get::<_, i64>(0)
        })
        .map(i64::cast_unsigned)
}

/// The places of a machine's tokens that are over at `now`, the oldest `most` of them.
pub(super) fn over(
    connection: &Connection,
    machine: i64,
    now: Timestamp,
    most: usize,
) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT locator FROM tokens WHERE machine = ?1 AND (revoked_at IS NOT NULL OR expires_at <= ?2)
             ORDER BY locator LIMIT ?3",
        )?
        .query_map(
            params![machine, now.as_millis(), i64::try_from(most).unwrap_or(i64::MAX)],
            |row| row.get(0),
        )?
        .collect()
}

/// Deletes those of a machine's tokens that are over. What is over stays over, but nothing here relies on it.
pub(super) fn delete_over(
    write: &mut Write<'_>,
    machine: i64,
    now: Timestamp,
    locators: &[i64],
) -> Result<(), WriteError> {
    for locator in locators {
        let deleted = write.execute(
            "DELETE FROM tokens WHERE locator = ?1 AND machine = ?2 AND (revoked_at IS NOT NULL OR expires_at <= ?3)",
            [*locator, machine, now.as_millis()],
        )?;
        if deleted > 0
            && let Some(locator) = rows::locator(*locator)
        {
            write.effect(Effect::RemoveToken(locator));
        }
    }
    Ok(())
}
