//! The schema: numbered migrations, each applied in one transaction.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as ours: "CSgn".
pub(super) const APPLICATION_ID: i64 = 0x4353_676e;

/// The migrations, the first one first. One that was released is never edited.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_first.sql")];

/// The number of the first migration. Builds from before the first release wrote lower numbers, which cannot be
/// migrated.
pub(super) const OLDEST: usize = 2;

/// The number of the newest migration.
pub(super) const NEWEST: usize = OLDEST + MIGRATIONS.len() - 1;

/// All tables, each with the order of its key.
pub(super) const TABLES: [(&str, &str); 11] = [
    ("meta", "key"),
    ("data_keys", "purpose"),
    ("instances", "number"),
    ("instance_keys", "number"),
    ("signing_keys", "number"),
    ("machines", "number"),
    ("deleted_machines", "id"),
    ("machine_keys", "number"),
    ("scopes", "from_machine"),
    ("tokens", "locator"),
    ("changes", "log"),
];

/// Which migration a database has reached.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map(|version| version as usize)
}

/// Applies the migrations that are missing.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let reached = version(connection)?;
    for (number, sql) in (OLDEST..)
        .zip(MIGRATIONS)
        .filter(|(number, _)| *number > reached)
    {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(number).unwrap_or(i64::MAX),
        )?;
        transaction.commit()?;
    }
    Ok(())
}
