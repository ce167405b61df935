//! Tokens in SQLite.

use std::sync::Arc;

use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{Id, InstanceId, Locator, MachineId, TokenId};
use countersign_protocol::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::index::Effect;
use super::jobs::Write;
use super::machines;
use super::rows::{self, TOKEN_COLUMNS, Texts, WriteError};
use crate::changes::NewChange;
use crate::machines::MachineRow;
use crate::tokens::{
    LastUse, Revocation, RevokeToken, StoredToken, Sweep, TokenFormat, TokenFormats, TokenQuery,
    TokenRow, TokenUpdate, UpdateToken,
};

/// One token, of any instance.
pub(super) fn by_locator(
    connection: &Connection,
    texts: &Texts,
    locator: Locator,
) -> rusqlite::Result<Option<Arc<TokenRow>>> {
    connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS} FROM tokens t WHERE t.locator = ?1"
        ))?
        .query_row([rows::sql_locator(locator)], |row| {
            rows::token(row, texts).map(Arc::new)
        })
        .optional()
}

/// Up to `limit` tokens that are not revoked, newest first, below `before`.
pub(super) fn newest(
    connection: &Connection,
    texts: &Texts,
    before: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Arc<TokenRow>>> {
    connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS} FROM tokens t WHERE t.locator < ?1 AND t.revoked_at IS NULL
             ORDER BY t.locator DESC LIMIT ?2"
        ))?
        .query_map(params![before, limit], |row| {
            rows::token(row, texts).map(Arc::new)
        })?
        .collect()
}

pub(super) fn list(
    connection: &Connection,
    texts: &Texts,
    instance: InstanceId,
    query: &TokenQuery,
) -> rusqlite::Result<(Vec<StoredToken>, u64)> {
    let Some(machine) = machines::by_id(connection, texts, instance, query.machine)? else {
        return Ok((Vec::new(), 0));
    };
    let mut condition = "t.machine = ?1".to_owned();
    let mut parameters = vec![Value::Integer(machine.number)];
    if !query.include_expired {
        condition.push_str(" AND t.expires_at > ?2");
        parameters.push(Value::Integer(query.now.as_millis()));
    }
    if !query.include_revoked {
        condition.push_str(" AND t.revoked_at IS NULL");
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
    let tokens = connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS} FROM tokens t WHERE {condition} ORDER BY t.locator DESC LIMIT ?{limit} OFFSET ?{}",
            limit + 1
        ))?
        .query_map(params_from_iter(&parameters), |row| {
            Ok(StoredToken { row: Arc::new(rows::token(row, texts)?), machine: Arc::clone(&machine) })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((tokens, total.cast_unsigned()))
}

/// Finds a token by its whole id for whoever may change it.
fn owned(
    write: &Write<'_>,
    instance: InstanceId,
    owner: Option<MachineId>,
    id: TokenId,
) -> Result<Option<(TokenRow, Arc<MachineRow>)>, WriteError> {
    let texts = &write.index.texts;
    let read = |row: &Row<'_>| {
        Ok((
            rows::token(row, texts)?,
            Arc::new(machines::machine(row, 12, texts)?),
        ))
    };
    let found = write
        .connection
        .prepare_cached(&format!(
            "SELECT {TOKEN_COLUMNS}, {} FROM tokens t JOIN machines m ON m.number = t.machine
             JOIN instances i ON i.number = m.instance
             WHERE t.locator = ?1 AND t.rest = ?2 AND i.id = ?3 AND (?4 IS NULL OR m.id = ?4)",
            machines::COLUMNS
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
        .optional()?;
    if let Some((row, _)) = &found {
        write.index.copy_last_use(row);
    }
    Ok(found)
}

pub(super) fn revoke(
    write: &mut Write<'_>,
    instance: InstanceId,
    owner: Option<MachineId>,
    id: TokenId,
    revocation: Revocation,
    change: &NewChange,
) -> Result<RevokeToken, WriteError> {
    let Some((mut row, machine)) = owned(write, instance, owner, id)? else {
        return Ok(RevokeToken::NotFound);
    };
    if row.revoked.is_some() {
        return Ok(RevokeToken::AlreadyRevoked(StoredToken {
            row: Arc::new(row),
            machine,
        }));
    }
    write.execute(
        "UPDATE tokens SET revoked_at = ?3, revocation_reason = ?4, pool_key = NULL, sealed = NULL
         WHERE locator = ?1 AND machine = ?2",
        params![
            rows::sql_locator(id.locator()),
            machine.number,
            revocation.at.as_millis(),
            revocation.reason.as_deref()
        ],
    )?;
    write.append(machines::instance_number(write, instance)?, change)?;
    row.revoked = Some(Box::new(revocation));
    let row = Arc::new(row);
    write.effect(Effect::PutToken(Arc::clone(&row)));
    Ok(RevokeToken::Revoked(StoredToken { row, machine }))
}

pub(super) fn update(
    write: &mut Write<'_>,
    instance: InstanceId,
    owner: Option<MachineId>,
    id: TokenId,
    update: TokenUpdate,
    at: Timestamp,
    change: &NewChange,
) -> Result<UpdateToken, WriteError> {
    let Some((mut row, machine)) = owned(write, instance, owner, id)? else {
        return Ok(UpdateToken::NotFound);
    };
    if row.format() == TokenFormat::Jwt {
        return Ok(UpdateToken::IsJwt);
    }
    if row.revoked.is_some() || row.is_expired(at) {
        return Ok(UpdateToken::NotLive);
    }
    if let Some(claims) = update.claims {
        row.claims = claims;
    }
    if let Some(expires_at) = update.expires_at {
        row.expires_at = expires_at;
    }
    row.revoked = update.revoked.map(Box::new);
    write.execute(
        "UPDATE tokens SET claims = ?3, expires_at = ?4, revoked_at = ?5, revocation_reason = ?6, pool_key = NULL, sealed = NULL
         WHERE locator = ?1 AND machine = ?2",
        params![
            rows::sql_locator(id.locator()),
            machine.number,
            row.claims.as_ref().map(Claims::as_str),
            rows::end(row.expires_at),
            row.revoked.as_ref().map(|revoked| revoked.at.as_millis()),
            row.revoked.as_ref().and_then(|revoked| revoked.reason.as_deref())
        ],
    )?;
    write.append(machines::instance_number(write, instance)?, change)?;
    let row = Arc::new(row);
    write.effect(Effect::PutToken(Arc::clone(&row)));
    Ok(UpdateToken::Updated(StoredToken { row, machine }))
}

/// Writes when tokens were last used, in the order of their locators, and how far the clock has come.
pub(super) fn record_uses(
    write: &mut Write<'_>,
    uses: &[LastUse],
    clock_floor: Timestamp,
) -> Result<(), WriteError> {
    write.execute(
        "INSERT INTO meta (key, value) VALUES ('clock_floor', ?1)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE excluded.value > value",
        [clock_floor.as_millis()],
    )?;
    for last_use in uses {
        let changed = write.execute(
            "UPDATE tokens SET last_used_at = ?2 WHERE locator = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
            [rows::sql_locator(last_use.locator), last_use.at.as_millis()],
        )?;
        if changed > 0 {
            write.effect(Effect::Touch(*last_use));
        }
    }
    Ok(())
}

/// Erases up to `limit` sealed copies of tokens that are over, and says how many.
pub(super) fn erase_expired(
    write: &Write<'_>,
    now: Timestamp,
    limit: u32,
) -> Result<u64, WriteError> {
    Ok(write.execute(
        "UPDATE tokens SET sealed = NULL, pool_key = NULL WHERE locator IN
             (SELECT locator FROM tokens WHERE sealed IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        params![now.as_millis(), limit],
    )? as u64)
}

pub(super) fn sweep(
    write: &mut Write<'_>,
    after: Option<Locator>,
    limit: u32,
    dead_before: Timestamp,
) -> Result<Sweep, WriteError> {
    let looked_at = write
        .connection
        .prepare_cached(
            "SELECT t.locator, t.expires_at < ?3 OR coalesce(t.revoked_at < ?3, FALSE)
                 OR NOT EXISTS (SELECT 1 FROM machines m WHERE m.number = t.machine)
             FROM tokens t WHERE t.locator > ?1 ORDER BY t.locator LIMIT ?2",
        )?
        .query_map(
            params![
                after.map_or(-1, rows::sql_locator),
                limit,
                dead_before.as_millis()
            ],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let next = match looked_at.last() {
        Some((locator, _)) if looked_at.len() >= limit as usize => {
            Locator::new(locator.cast_unsigned())
        }
        _ => None,
    };
    let mut deleted = 0;
    for (locator, _) in looked_at.into_iter().filter(|(_, is_dead)| *is_dead) {
        write.execute("DELETE FROM tokens WHERE locator = ?1", [locator])?;
        if let Some(locator) = Locator::new(locator.cast_unsigned()) {
            write.effect(Effect::RemoveToken(locator));
        }
        deleted += 1;
    }
    Ok(Sweep { next, deleted })
}
