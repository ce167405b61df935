//! Opening a data folder: one process at a time, only our own files, only files that nobody else can read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::{instances, schema};
use crate::keys::DataKey;
use crate::opening::{OpenError, Presence};

const DATABASE: &str = "countersign.db";
const LOCK: &str = "countersign.lock";
/// How long the connection that writes waits for those that read, where it has to.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// Returns what exists in a data folder.
pub(crate) fn presence(folder: &Path) -> Presence {
    match std::fs::metadata(folder.join(DATABASE)) {
        Err(_) => Presence::Absent,
        Ok(metadata) if metadata.len() == 0 => Presence::Begun,
        Ok(_) => Presence::Present,
    }
}

/// Returns whether a file with this name in a data folder belongs to the store.
pub(crate) fn owns_file(name: &str) -> bool {
    name.starts_with("countersign.")
}

/// A data folder that this process holds.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) lock: File,
}

/// Makes the folder and an empty database where they are missing, and opens it.
pub(super) fn create(folder: &Path, is_durable: bool) -> Result<Opened, OpenError> {
    let unreadable = |path: &Path, error: &std::io::Error| match error.kind() {
        ErrorKind::StorageFull => OpenError::Full,
        _ => OpenError::Unreadable(format!("{} cannot be made: {error}", path.display())),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unreadable(folder, &error))?;
    let lock = lock(folder)?;
    let path = folder.join(DATABASE);
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
    {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(unreadable(&path, &error));
        }
        _ => {}
    }
    finish(path, lock, is_durable, true)
}

/// Opens the folder's database.
pub(super) fn open(folder: &Path, is_durable: bool) -> Result<Opened, OpenError> {
    let (path, lock) = take(folder)?;
    finish(path, lock, is_durable, false)
}

/// Reads the data keys and changes no file: not the database, and not the log that a crash may have left, which an ordinary
/// connection moves to the database when it is closed.
pub(super) fn data_keys(folder: &Path) -> Result<Vec<DataKey>, OpenError> {
    let (path, _lock) = take(folder)?;
    if inspect(&path)? {
        return Err(OpenError::Missing(folder.to_owned()));
    }
    let log = folder.join(format!("{DATABASE}-wal"));
    let read = || {
        let connection = connect(&path)?;
        // Where there is no log, SQLite makes an empty one, and takes it away again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, log.exists())?;
        // The log's index is kept in memory, and not in a file.
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON;")?;
        Ok(connection)
    };
    let connection = read().map_err(|error| meaning(&path, &error))?;
    identify(&connection, &path, false)?;
    instances::data_keys(&connection).map_err(|error| meaning(&path, &error))
}

/// Takes the folder's database for this process.
fn take(folder: &Path) -> Result<(PathBuf, File), OpenError> {
    let path = folder.join(DATABASE);
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::Missing(folder.to_owned())),
        Err(error) => {
            return Err(OpenError::Unreadable(format!(
                "{} cannot be read: {error}",
                path.display()
            )));
        }
    }
    let lock = lock(folder)?;
    Ok((path, lock))
}

/// Takes the folder for this process; the lock ends with the file handle, however the process ends.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| {
            OpenError::Unreadable(format!("{} cannot be opened: {error}", path.display()))
        })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(folder.to_owned())),
        Err(error) => Err(OpenError::Unreadable(format!(
            "{} cannot be locked: {error}",
            path.display()
        ))),
    }
}

fn finish(
    path: PathBuf,
    lock: File,
    is_durable: bool,
    may_create: bool,
) -> Result<Opened, OpenError> {
    let is_empty = inspect(&path)?;
    if is_empty && !may_create {
        return Err(OpenError::Missing(
            path.parent().unwrap_or(&path).to_owned(),
        ));
    }
    let meaning = |error: rusqlite::Error| meaning(&path, &error);
    let mut connection = connect(&path).map_err(meaning)?;
    if !is_empty {
        identify(&connection, &path, may_create)?;
    }
    let mode = configure(&connection, is_durable).map_err(meaning)?;
    if mode != "wal" {
        return Err(OpenError::Unreadable(format!(
            "{} cannot have a write-ahead log on this file system",
            path.display()
        )));
    }
    schema::migrate(&mut connection).map_err(meaning)?;
    probe(&connection).map_err(meaning)?;
    Ok(Opened {
        connection,
        path,
        lock,
    })
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Refuses a database that is not ours, or of a later version.
fn identify(connection: &Connection, path: &Path, may_create: bool) -> Result<(), OpenError> {
    let meaning = |error: rusqlite::Error| meaning(path, &error);
    let id = connection
        .pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0))
        .map_err(meaning)?;
    let found = schema::version(connection).map_err(meaning)?;
    match id {
        schema::APPLICATION_ID if found > schema::NEWEST => Err(OpenError::Newer {
            found,
            known: schema::NEWEST,
        }),
        schema::APPLICATION_ID if found < schema::OLDEST => Err(OpenError::Older(path.to_owned())),
        schema::APPLICATION_ID => Ok(()),
        // Made, but the first migration was never committed.
        0 if found == 0 && is_without_tables(connection).map_err(meaning)? => {
            if may_create {
                return Ok(());
            }
            Err(OpenError::Missing(path.parent().unwrap_or(path).to_owned()))
        }
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

/// Looks at the file before SQLite does. Says whether it is empty.
fn inspect(path: &Path) -> Result<bool, OpenError> {
    let unreadable = |error: std::io::Error| {
        OpenError::Unreadable(format!("{} cannot be read: {error}", path.display()))
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(OpenError::Loose(path.to_owned()));
    }
    if metadata.len() == 0 {
        return Ok(true);
    }
    let mut header = [0; 16];
    match file.read_exact(&mut header) {
        Ok(()) if &header == b"SQLite format 3\0" => Ok(false),
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(unreadable(error)),
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

fn meaning(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => OpenError::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            OpenError::InUse(path.to_owned())
        }
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly,
        ) => OpenError::Unreadable(format!(
            "{} cannot be read or written: {error}",
            path.display()
        )),
        _ => OpenError::Damaged(error.to_string()),
    }
}

fn is_without_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)",
        [],
        |row| row.get(0),
    )
}

/// Sets up the connection that writes, and says which journal it got.
fn configure(connection: &Connection, is_durable: bool) -> rusqlite::Result<String> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(256);
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    connection.execute_batch(
        "PRAGMA mmap_size = 0; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;",
    )?;
    connection.pragma_update(
        None,
        "synchronous",
        if is_durable { "FULL" } else { "NORMAL" },
    )?;
    Ok(mode)
}

/// Reads the schema and the first and the last row of each table: what a broken file is most likely to fail at, in no time.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    for (table, key) in schema::TABLES {
        for direction in ["ASC", "DESC"] {
            let mut statement = connection.prepare(&format!(
                "SELECT * FROM {table} ORDER BY {key} {direction} LIMIT 1"
            ))?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            if let Some(row) = rows.next()? {
                for column in 0..columns {
                    row.get_ref(column)?;
                }
            }
        }
    }
    Ok(())
}
