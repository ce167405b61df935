//! Erases the sealed copies of tokens in SQLite. A token without a sealed copy is not in the pool and cannot be reused.

use countersign_protocol::time::Timestamp;
use rusqlite::params;

use super::jobs::Write;
use super::rows::WriteError;

/// Erases the sealed copies of a machine's tokens, which removes them from the pool.
pub(super) fn erase_of_machine(write: &Write<'_>, machine: i64) -> Result<(), WriteError> {
    write.execute(
        "UPDATE tokens SET sealed = NULL, pool_key = NULL WHERE machine = ?1 AND pool_key IS NOT NULL",
        [machine],
    )?;
    Ok(())
}

/// Erases the sealed copies of an instance's tokens, which removes them from the pool.
pub(super) fn erase_of_instance(write: &Write<'_>, instance: i64) -> Result<(), WriteError> {
    write.execute(
        "UPDATE tokens INDEXED BY tokens_sealed SET sealed = NULL, pool_key = NULL
         WHERE sealed IS NOT NULL AND machine IN (SELECT number FROM machines WHERE instance = ?1)",
        [instance],
    )?;
    Ok(())
}

/// Erases up to `limit` sealed copies of expired tokens and returns their number.
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
