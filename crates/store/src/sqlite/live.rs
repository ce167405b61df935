//! How many live tokens machines hold, without counting them for each new one.

use std::collections::HashMap;

use countersign_protocol::time::Timestamp;
use rusqlite::{Connection, params};

/// For each machine, a number that its live opaque tokens do not exceed. In the writer's memory only.
///
/// A token counts up when it is inserted and never counts down, so the number may be too large and is never too small: a
/// token that is live was counted when it was inserted, or was there at the last count. Where it says that a machine holds too
/// many, they are counted.
#[derive(Debug, Default)]
pub(super) struct LiveTokens {
    machines: HashMap<i64, Live>,
    /// Grows when something is forgotten: a count that was begun before says nothing then.
    generation: u64,
}

#[derive(Debug)]
struct Live {
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

impl LiveTokens {
    /// For how many machines a number is kept.
    const MACHINES: usize = 100_000;

    fn start(&mut self, machine: i64, bound: u64, limit: u64) {
        if self.machines.len() >= Self::MACHINES {
            self.machines.clear();
            self.generation += 1;
        }
        let live = Live {
            bound,
            inserted: 0,
            limit,
        };
        if self.machines.insert(machine, live).is_some() {
            self.generation += 1;
        }
    }

    /// Counts a token that was inserted.
    pub(super) fn inserted(&mut self, machine: i64) {
        if let Some(live) = self.machines.get_mut(&machine) {
            live.bound += 1;
            live.inserted += 1;
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
            .is_none_or(|live| live.limit != limit)
        {
            // All tokens of the machine, dead ones too: what its index says without a look at the rows.
            let stored = connection
                .prepare_cached(
                    "SELECT count(*) FROM (SELECT 1 FROM tokens WHERE machine = ?1 LIMIT ?2)",
                )?
                .query_row([machine, sql_limit(limit)], |row| row.get::<_, i64>(0))?;
            self.start(machine, stored.cast_unsigned(), limit);
        }
        let live = self
            .machines
            .get(&machine)
            .filter(|live| live.bound >= limit);
        Ok(live.map(|live| CountedUpTo {
            inserted: live.inserted,
            generation: self.generation,
        }))
    }

    /// Takes in a count that was begun after `since`. What was inserted meanwhile may be in it or not, and is added.
    pub(super) fn correct(&mut self, machine: i64, counted: u64, since: CountedUpTo) {
        if self.generation == since.generation
            && let Some(live) = self.machines.get_mut(&machine)
        {
            live.bound = counted + live.inserted.saturating_sub(since.inserted);
        }
    }
}

/// Counts a machine's live opaque tokens, up to `limit`.
pub(super) fn count_live(
    connection: &Connection,
    machine: i64,
    now: Timestamp,
    limit: u64,
) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM tokens WHERE machine = ?1 AND digest IS NOT NULL AND revoked_at IS NULL
                 AND expires_at > ?2 LIMIT ?3)",
        )?
        .query_row(params![machine, now.as_millis(), sql_limit(limit)], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

fn sql_limit(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
