//! The connections that read, apart from the one that writes.
//!
//! Point reads run where they are called: they take microseconds. Lists run on the threads for blocking work, a few at a
//! time, so that they leave connections to the point reads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rows::store_error;
use crate::{Result, StoreError};

/// How many lists are read at a time.
const LISTS: usize = 4;

/// How many more wait for that, each with a request's place among those in flight; and how long.
const WAITING_LISTS: usize = 32;
const LIST_PATIENCE: Duration = Duration::from_secs(1);

/// How many steps of SQLite's machine a list goes on after it is given up: a fraction of a millisecond.
const STEPS: i32 = 10_000;

/// How long a point read waits for a connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a list is given up. Dropped where nobody waits for it any more.
#[derive(Debug, Default)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// To be asked by the list.
    pub(super) fn is_over(&self) -> IsOver {
        IsOver(Arc::clone(&self.0))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The list's end of [`Wanted`].
#[derive(Debug)]
pub(super) struct IsOver(Arc<AtomicBool>);

/// Connections that can only read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    limit: usize,
    pool: Mutex<Pool>,
    returned: Condvar,
    lists: Arc<Semaphore>,
    waiting_lists: Semaphore,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Connection>,
    open: usize,
}

impl Readers {
    /// Prepares a pool for at most `limit` connections; they are opened when they are needed.
    pub(super) fn new(path: &Path, limit: usize) -> Self {
        Self {
            path: path.to_owned(),
            limit: limit.max(LISTS + 1),
            pool: Mutex::default(),
            returned: Condvar::new(),
            lists: Arc::new(Semaphore::new(LISTS)),
            waiting_lists: Semaphore::new(WAITING_LISTS),
        }
    }

    /// Reads in place.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let lease = self.lease()?;
        let connection = lease
            .connection
            .as_ref()
            .expect("a lease holds a connection until it ends");
        query(connection).map_err(|error| store_error(&error))
    }

    /// Reads a list from one snapshot, and stops where it is given up.
    pub(super) fn read_snapshot<T>(
        &self,
        is_over: IsOver,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut lease = self.lease()?;
        let connection = lease
            .connection
            .as_mut()
            .expect("a lease holds a connection until it ends");
        let read = || {
            connection.progress_handler(STEPS, Some(move || is_over.0.load(Ordering::Relaxed)))?;
            let answer = connection
                .transaction()
                .and_then(|transaction| query(&transaction));
            connection.progress_handler(0, None::<fn() -> bool>)?;
            answer
        };
        read().map_err(|error| store_error(&error))
    }

    /// Waits a moment until a list may be read.
    pub(super) async fn list_permit(&self) -> Result<OwnedSemaphorePermit> {
        let lists = Arc::clone(&self.lists);
        if let Ok(permit) = Arc::clone(&lists).try_acquire_owned() {
            return Ok(permit);
        }
        let too_many = StoreError::Busy("too many lists are read");
        let Ok(_place) = self.waiting_lists.try_acquire() else {
            return Err(too_many);
        };
        match tokio::time::timeout(LIST_PATIENCE, lists.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(too_many),
        }
    }

    fn lease(&self) -> Result<Lease<'_>> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(connection) = pool.idle.pop() {
                return Ok(Lease {
                    readers: self,
                    connection: Some(connection),
                });
            }
            if pool.open < self.limit {
                pool.open += 1;
                break;
            }
            // Lists leave connections to the point reads, which take microseconds; this is for the case that a disk hangs.
            let waited;
            (pool, waited) = self
                .returned
                .wait_timeout(pool, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                return Err(StoreError::Unavailable(
                    "all connections are busy".to_owned(),
                ));
            }
        }
        drop(pool);
        // The lease counts the connection down again if it cannot be opened.
        let mut lease = Lease {
            readers: self,
            connection: None,
        };
        lease.connection = Some(open(&self.path).map_err(|error| store_error(&error))?);
        Ok(lease)
    }
}

struct Lease<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut pool = self
            .readers
            .pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match self.connection.take() {
            // After a panic nobody knows what the connection is about.
            Some(connection) if !std::thread::panicking() => pool.idle.push(connection),
            _ => pool.open -= 1,
        }
        drop(pool);
        self.readers.returned.notify_one();
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(std::time::Duration::from_millis(500))?;
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;",
    )?;
    Ok(connection)
}
