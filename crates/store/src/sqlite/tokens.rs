//! Tokens in SQLite.

use std::sync::Arc;

use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{Id, InstanceId, Locator, MachineId, TokenId};
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::{TokenFormat, TokenFormats};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::index::Effect;
use super::jobs::Write;
use super::rows::{self, RawToken, TOKEN_COLUMNS, TOKEN_WIDTH, Texts, WriteError};
use super::{instances, machine_rows, signing_keys};
use crate::StoreError;
use crate::changes::NewChange;
use crate::instances::Instance;
use crate::machines::MachineRow;
use crate::tokens::{
    KEPT_MILLIS, LastUse, Proof, Revocation, RevokeToken, StoredToken, Sweep, TokenQuery,
    TokenUpdate, UpdateToken,
};

/// One token, of any instance.
pub(super) fn by_locator(
    connection: &Connection,
    texts: &Texts,
    locator: Locator,
) -> rusqlite::Result<Option<RawToken>> {
    connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS} FROM tokens t WHERE t.locator = ?1"
        ))?
        .query_row([rows::sql_locator(locator)], |row| rows::token(row, texts))
        .optional()
}

/// Up to `limit` tokens that are not revoked, newest first, below `before`.
pub(super) fn newest(
    connection: &Connection,
    texts: &Texts,
    before: i64,
    limit: u32,
) -> rusqlite::Result<Vec<RawToken>> {
    connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS} FROM tokens t WHERE t.locator < ?1 AND t.revoked_at IS NULL
             ORDER BY t.locator DESC LIMIT ?2"
        ))?
        .query_map(params![before, limit], |row| rows::token(row, texts))?
        .collect()
}

pub(super) fn list(
    connection: &Connection,
    texts: &Texts,
    instance: InstanceId,
    query: &TokenQuery,
) -> rusqlite::Result<(Vec<StoredToken>, u64)> {
    let found = machine_rows::by_id(connection, texts, instance, query.machine)?;
    let (Some((number, machine)), Some((_, instance))) =
        (found, instances::by_id(connection, instance)?)
    else {
        return Ok((Vec::new(), 0));
    };
    let mut condition = "t.machine = ?1".to_owned();
    let mut parameters = vec![Value::Integer(number)];
    if !query.include_expired {
        parameters.push(Value::Integer(query.now.as_millis()));
        condition += &format!(" AND t.expires_at > ?{}", parameters.len());
    }
    if !query.include_revoked {
        condition += " AND t.revoked_at IS NULL";
        if let Some(cut_off) = machine.issued_before.max(instance.issued_before) {
            parameters.push(Value::Integer(cut_off.as_millis()));
            condition += &format!(" AND t.created_at >= ?{}", parameters.len());
        }
    }
    condition.push_str(match query.formats {
        TokenFormats::Opaque => " AND t.digest IS NOT NULL",
        TokenFormats::Jwt => " AND t.digest IS NULL",
        TokenFormats::All => "",
    });
    let total = connection
        .prepare_cached(&format!("SELECT count(*) FROM tokens t WHERE {condition}"))?
        .query_row(params_from_iter(&parameters), |row| row.get::<_, i64>(0))?;
    let limit = parameters.len() + 1;
    parameters.push(Value::Integer(query.page.limit.into()));
    parameters.push(Value::Integer(
        i64::try_from(query.page.offset).unwrap_or(i64::MAX),
    ));
    let raw = connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS} FROM tokens t WHERE {condition} ORDER BY t.locator DESC LIMIT ?{limit} OFFSET ?{}",
            limit + 1
        ))?
        .query_map(params_from_iter(&parameters), |row| rows::token(row, texts))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let tokens = raw
        .into_iter()
        .map(|raw| with_state(connection, raw, &machine, &instance))
        .collect::<rusqlite::Result<_>>()?;
    Ok((tokens, total.cast_unsigned()))
}

/// Adds the data that decides whether a token is valid.
fn with_state(
    connection: &Connection,
    raw: RawToken,
    machine: &Arc<MachineRow>,
    instance: &Arc<Instance>,
) -> rusqlite::Result<StoredToken> {
    let signing_key = match raw.proof {
        Proof::Opaque(_) => None,
        Proof::Jwt(kid) => signing_keys::state_of(connection, instance.id, kid)?,
    };
    Ok(StoredToken {
        row: raw.of(machine.id),
        machine: Arc::clone(machine),
        instance: Arc::clone(instance),
        signing_key,
    })
}

/// Returns a token of this machine, with the data that decides whether it is valid.
pub(super) fn stored(
    write: &Write<'_>,
    raw: RawToken,
    machine: &Arc<MachineRow>,
) -> Result<StoredToken, WriteError> {
    let (_, instance) = instances::by_id(write.connection, machine.instance)?
        .ok_or_else(|| StoreError::Corrupt("a machine belongs to no instance".to_owned()))?;
    Ok(with_state(write.connection, raw, machine, &instance)?)
}

/// Finds a token by its whole id for whoever may change it.
fn owned(
    write: &Write<'_>,
    instance: InstanceId,
    owner: Option<MachineId>,
    id: TokenId,
) -> Result<Option<(RawToken, Arc<MachineRow>)>, WriteError> {
    let texts = &write.index.texts;
    let read = |row: &Row<'_>| {
        let (_, machine) = machine_rows::machine(row, TOKEN_WIDTH, texts)?;
        Ok((rows::token(row, texts)?, machine))
    };
    Ok(write
        .connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS}, {} FROM tokens t JOIN machines m ON m.number = t.machine
             JOIN instances i ON i.number = m.instance
             WHERE t.locator = ?1 AND t.rest = ?2 AND i.id = ?3 AND (?4 IS NULL OR m.id = ?4)",
            machine_rows::COLUMNS
        ))?
        .query_row(
            params![
                rows::sql_locator(id.locator()),
                id.rest().cast_signed(),
                instance.as_str(),
                owner.as_ref().map(Id::as_str)
            ],
            read,
        )
        .optional()?)
}

pub(super) fn revoke(
    write: &mut Write<'_>,
    instance: InstanceId,
    owner: Option<MachineId>,
    id: TokenId,
    reason: Option<Arc<str>>,
    change: &NewChange,
) -> Result<RevokeToken, WriteError> {
    let Some((mut raw, machine)) = owned(write, instance, owner, id)? else {
        return Ok(RevokeToken::NotFound);
    };
    if raw.revoked.is_some() {
        return stored(write, raw, &machine).map(RevokeToken::AlreadyRevoked);
    }
    write.execute(
        "UPDATE tokens SET revoked_at = ?3, revocation_reason = ?4, pool_key = NULL, sealed = NULL
         WHERE locator = ?1 AND machine = ?2",
        params![
            rows::sql_locator(id.locator()),
            raw.machine,
            change.at.as_millis(),
            reason.as_deref()
        ],
    )?;
    raw.revoked = Some(Revocation {
        at: change.at,
        reason: reason.clone(),
    });
    write.effect(Effect::PutToken(raw.clone()));
    let token = stored(write, raw, &machine)?;
    let event = token.revoked_event(reason);
    write.append(instance, change, &event)?;
    Ok(RevokeToken::Revoked(token))
}

pub(super) fn update(
    write: &mut Write<'_>,
    instance: InstanceId,
    owner: Option<MachineId>,
    id: TokenId,
    update: TokenUpdate,
    change: &NewChange,
) -> Result<UpdateToken, WriteError> {
    let Some((raw, machine)) = owned(write, instance, owner, id)? else {
        return Ok(UpdateToken::NotFound);
    };
    let number = raw.machine;
    let mut token = stored(write, raw, &machine)?;
    if token.row.format() == TokenFormat::Jwt {
        return Ok(UpdateToken::IsJwt);
    }
    let is_ended = token.row.revoked.is_some() || token.cut_off_at().is_some();
    if is_ended || token.row.is_expired(change.at) {
        return Ok(UpdateToken::NotLive);
    }
    let claims_replaced = update.claims.is_some();
    token.row = token.row.updated(update);
    let row = &token.row;
    write.execute(
        "UPDATE tokens SET claims = ?3, expires_at = ?4, revoked_at = ?5, revocation_reason = ?6, pool_key = NULL, sealed = NULL
         WHERE locator = ?1 AND machine = ?2",
        params![
            rows::sql_locator(id.locator()),
            number,
            row.claims.as_ref().map(Claims::as_str),
            rows::end(row.expires_at),
            row.revoked.as_ref().map(|revoked| revoked.at.as_millis()),
            row.revoked.as_ref().and_then(|revoked| revoked.reason.as_deref())
        ],
    )?;
    let event = token.updated_event(claims_replaced);
    let row = row.clone();
    write.effect(Effect::PutToken(RawToken::from_row(row, number)));
    write.append(instance, change, &event)?;
    Ok(UpdateToken::Updated(token))
}

/// Writes when tokens were last used, in the order of their locators, and how far the clock has come.
pub(super) fn record_uses(
    write: &Write<'_>,
    uses: &[LastUse],
    clock_floor: Timestamp,
) -> Result<(), WriteError> {
    write.execute(
        "INSERT INTO meta (key, value) VALUES ('clock_floor', ?1)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE excluded.value > value",
        [clock_floor.as_millis()],
    )?;
    for last_use in uses {
        write.execute(
            "UPDATE tokens SET last_used_at = ?2 WHERE locator = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
            [rows::sql_locator(last_use.locator), last_use.at.as_millis()],
        )?;
    }
    Ok(())
}

/// Selects the revoked JWTs whose rows must stay at the time `?1`: receivers must be able to learn of a revocation
/// until ten minutes after the JWT's expiry ([`crate::TokenRow::is_kept_for_receivers`]).
const IS_KEPT: &str =
    "(t.digest IS NULL AND t.revoked_at IS NOT NULL AND t.expires_at > ?1 - 600000)";
const _: () = assert!(KEPT_MILLIS == 600_000);

pub(super) fn sweep(
    write: &mut Write<'_>,
    after: Option<Locator>,
    limit: u32,
    dead_before: Timestamp,
    now: Timestamp,
) -> Result<Sweep, WriteError> {
    let looked_at = write
        .connection
        .prepare_cached(&format!(
            "SELECT t.locator, NOT {IS_KEPT} AND (t.expires_at < ?2 OR coalesce(t.revoked_at < ?2, FALSE)
                 OR NOT EXISTS (SELECT 1 FROM machines m WHERE m.number = t.machine))
             FROM tokens t WHERE t.locator > ?3 ORDER BY t.locator LIMIT ?4",
        ))?
        .query_map(
            params![
                now.as_millis(),
                dead_before.as_millis(),
                after.map_or(-1, rows::sql_locator),
                limit
            ],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let next = match looked_at.last() {
        Some((locator, _)) if looked_at.len() >= limit as usize => rows::locator(*locator),
        _ => None,
    };
    let mut deleted = 0;
    for (locator, _) in looked_at.into_iter().filter(|(_, is_dead)| *is_dead) {
        delete(write, locator)?;
        deleted += 1;
    }
    Ok(Sweep { next, deleted })
}

fn delete(write: &mut Write<'_>, locator: i64) -> Result<(), WriteError> {
    write.execute("DELETE FROM tokens WHERE locator = ?1", [locator])?;
    if let Some(locator) = rows::locator(locator) {
        write.effect(Effect::RemoveToken(locator));
    }
    Ok(())
}

/// Counts a machine's tokens, up to `limit`. The database index answers this without reading the rows.
pub(super) fn count(connection: &Connection, machine: i64, limit: u64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM tokens WHERE machine = ?1 LIMIT ?2)")?
        .query_row([machine, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            row.get::<_, i64>(0)
        })
        .map(i64::cast_unsigned)
}

/// Selects the tokens that may be deleted to make room: those of the machine `?2` that are revoked, expired at the time
/// `?1`, or created before the cut-off `?3`.
const MAY_GO: &str =
    "t.machine = ?2 AND (t.revoked_at IS NOT NULL OR t.expires_at <= ?1 OR t.created_at < ?3)";

/// Returns the locators of the oldest `most` tokens of a machine that may be deleted.
pub(super) fn ended(
    connection: &Connection,
    machine: i64,
    cut_off: Option<Timestamp>,
    now: Timestamp,
    most: usize,
) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(&format!(
            "SELECT t.locator FROM tokens t WHERE {MAY_GO} AND NOT {IS_KEPT} ORDER BY t.locator LIMIT ?4"
        ))?
        .query_map(
            params![
                now.as_millis(),
                machine,
                cut_off.map(Timestamp::as_millis),
                i64::try_from(most).unwrap_or(i64::MAX)
            ],
            |row| row.get(0),
        )?
        .collect()
}

/// Deletes those of a machine's tokens that may be deleted, and returns their number. The condition is checked again,
/// although an ended token should stay ended.
pub(super) fn delete_ended(
    write: &mut Write<'_>,
    machine: i64,
    cut_off: Option<Timestamp>,
    now: Timestamp,
    locators: &[i64],
) -> Result<u64, WriteError> {
    let mut deleted = 0;
    for locator in locators {
        let may_go = write
            .connection
            .prepare_cached(&format!(
                "SELECT 1 FROM tokens t WHERE t.locator = ?4 AND {MAY_GO} AND NOT {IS_KEPT}"
            ))?
            .exists(params![
                now.as_millis(),
                machine,
                cut_off.map(Timestamp::as_millis),
                locator
            ])?;
        if may_go {
            delete(write, *locator)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
