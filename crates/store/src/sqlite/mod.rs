//! The SQLite back end: one process, one file, one thread that writes.
//!
//! `writer` makes commits durable, in groups. `readers` reads beside it. `index` answers most point reads from memory and is
//! never stale. The other files hold the statements, one for each noun.

mod changes;
mod index;
mod instances;
#[cfg(test)]
mod interleavings;
mod issue;
mod jobs;
mod machine_keys;
mod machine_rows;
mod machines;
mod open;
mod pool;
mod queue;
mod readers;
mod rows;
mod schema;
mod scopes;
mod signing_keys;
mod store;
/// What `queue` is compiled on; `interleavings` has another one.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
}
#[cfg(test)]
mod tests;
mod tokens;
mod warm;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_protocol::ids::{InstanceId, Locator, MachineId};
use countersign_protocol::time::Timestamp;
use rusqlite::Connection;
use tokio::sync::Semaphore;

pub(crate) use open::{owns_file, presence};

use self::index::{Effect, Index, TokenEntry};
use self::jobs::Write;
use self::readers::{Readers, Wanted};
use self::warm::Warmer;
use self::writer::Writer;
use crate::keys::DataKey;
use crate::opening::{OpenError, StoreOptions};
use crate::tokens::{InsertToken, NewToken, ROOM_AT_ONCE, Room};
use crate::{Measure, Result, StoreError};

/// A store in a data folder.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    _warmer: Warmer,
    // Of the others the writer ends first: it moves the log's content to the database file while the folder is still held.
    writer: Writer,
    shared: Arc<Shared>,
    /// Held while tokens are searched to make room: one search at a time, separate from the lists.
    making_room: Semaphore,
}

/// What reads on other threads hold on to.
#[derive(Debug)]
struct Shared {
    readers: Readers,
    index: Arc<Index>,
    _lock: File,
}

impl SqliteStore {
    /// Maximum number of connections that read at the same time.
    const READERS: usize = 32;
    /// How long a list may take: as long as a request.
    const LIST_TIMEOUT: Duration = Duration::from_secs(8);
    /// How many of them are deleted in one operation, so that others get in between.
    const ROOM_PORTION: usize = 250;

    /// Opens the store in `folder`.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used by this process.
    pub(crate) fn open(folder: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let opened = open::open(folder, !options.is_hasty_for_proof)?;
        Self::start(opened, options)
    }

    /// The data keys of the store in `folder`, to be tried before it is opened. No file is changed, whatever state the last
    /// process left them in.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used by this process.
    pub(crate) fn read_data_keys(folder: &Path) -> Result<Vec<DataKey>, OpenError> {
        open::data_keys(folder)
    }

    /// Makes an empty store in `folder`, and the folder. What an earlier attempt left is completed; a store that is there
    /// already is opened.
    ///
    /// # Errors
    /// Where it cannot be made, or something else is there.
    pub(crate) fn create(folder: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let opened = open::create(folder, !options.is_hasty_for_proof)?;
        Self::start(opened, options)
    }

    fn start(opened: open::Opened, options: StoreOptions) -> Result<Self, OpenError> {
        let index = Arc::new(Index::new(options.token_index_bytes));
        fill_directory(&opened.connection, &index)
            .map_err(|error| OpenError::Damaged(error.to_string()))?;
        let readers = Readers::new(&opened.path, Self::READERS);
        let writer = Writer::start(opened.connection, Arc::clone(&index), options.on_fatal)
            .map_err(|error| {
                OpenError::Unreadable(format!("the writer's thread cannot be started: {error}"))
            })?;
        let shared = Arc::new(Shared {
            readers,
            index,
            _lock: opened.lock,
        });
        let warmer = Warmer::start(Arc::clone(&shared)).map_err(|error| {
            OpenError::Unreadable(format!("the index's thread cannot be started: {error}"))
        })?;
        Ok(Self {
            _warmer: warmer,
            writer,
            shared,
            making_room: Semaphore::new(1),
        })
    }

    /// The number of an instance. All instances are in memory.
    fn instance_number(&self, id: &InstanceId) -> Option<i64> {
        self.shared.index.directory.instance_number(id)
    }

    /// Returns the index entry of a token of any instance.
    fn token_entry(&self, locator: Locator) -> Result<Option<TokenEntry>> {
        let Shared { readers, index, .. } = &*self.shared;
        index.token(locator, || {
            readers.read(|connection| tokens::by_locator(connection, &index.texts, locator))
        })
    }

    /// Reads a list from one snapshot, on a thread where that may take its time. It ends when the time is over, or when
    /// nobody waits for it any more.
    async fn list<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &Index) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.list_within(Self::LIST_TIMEOUT, query).await
    }

    async fn list_within<T: Send + 'static>(
        &self,
        limit: Duration,
        query: impl FnOnce(&Connection, &Index) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let read = async {
            let permit = self.shared.readers.list_permit().await?;
            self.read_aside(permit, query).await
        };
        match tokio::time::timeout(limit, read).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Busy("a list took too long")),
        }
    }

    /// Reads on a thread for blocking work, until the query ends or its caller goes away. `permit` is held until the
    /// query ends, so that abandoned queries cannot pile up.
    async fn read_aside<T: Send + 'static>(
        &self,
        permit: impl Send + 'static,
        query: impl FnOnce(&Connection, &Index) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let wanted = Wanted::default();
        let is_over = wanted.is_over();
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            shared
                .readers
                .read_snapshot(is_over, |connection| query(connection, &shared.index))
        });
        read.await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(
                "a list could not be read".to_owned(),
            ))
        })
    }

    async fn insert(&self, token: NewToken) -> Result<InsertToken> {
        let has_record = token.change.is_some();
        let insert = move |write: &mut Write<'_>| issue::insert(write, token);
        if has_record {
            self.writer.write(insert).await
        } else {
            self.writer.write_single(insert).await
        }
    }

    /// Deletes the oldest ended tokens of a machine that holds at least `limit` tokens. The count takes milliseconds.
    /// The search may exceed its time limit if a million tokens have large claims; then no token is deleted.
    async fn delete_ended(
        &self,
        instance: InstanceId,
        machine: MachineId,
        limit: u64,
        now: Timestamp,
    ) -> Result<Option<Room>> {
        let _turn = self.making_room.acquire().await;
        let count = move |connection: &Connection, index: &Index| {
            let found = machine_rows::by_id(connection, &index.texts, instance, machine)?;
            let Some((number, machine)) = found else {
                return Ok(None);
            };
            let instance = index.directory.instance(&instance);
            let cut_off = instance.and_then(|instance| instance.issued_before);
            let held = tokens::count(connection, number, limit)?;
            Ok(Some((number, held, cut_off.max(machine.issued_before))))
        };
        let Some((number, held, cut_off)) = self.read_aside((), count).await? else {
            return Ok(None);
        };
        if held < limit {
            return Ok(Some(Room { held, deleted: 0 }));
        }
        let search = self.read_aside((), move |connection, _| {
            tokens::ended(connection, number, cut_off, now, ROOM_AT_ONCE)
        });
        let Ok(ended) = tokio::time::timeout(Self::LIST_TIMEOUT, search).await else {
            tracing::warn!(machine.id = %machine, "the search for ended tokens took too long");
            return Ok(Some(Room { held, deleted: 0 }));
        };
        let mut deleted = 0;
        for portion in ended?.chunks(Self::ROOM_PORTION) {
            let portion = portion.to_vec();
            deleted += self
                .writer
                .write(move |write| tokens::delete_ended(write, number, cut_off, now, &portion))
                .await?;
        }
        let held = self.read_aside((), move |connection, _| {
            tokens::count(connection, number, limit)
        });
        let held = held.await?;
        Ok(Some(Room { held, deleted }))
    }

    fn own_measures(&self) -> Vec<Measure> {
        let (writer, index) = (self.writer.shared(), &self.shared.index);
        let measure = |name, help, value| Measure { name, help, value };
        vec![
            measure(
                "commits",
                "Durable commits since the start",
                writer.commits.load(Ordering::Relaxed),
            ),
            measure(
                "committed_operations",
                "Operations in all commits; divided by commits it is the batch size",
                writer.committed_operations.load(Ordering::Relaxed),
            ),
            measure(
                "commit_microseconds",
                "Time spent in commits since the start",
                writer.commit_micros.load(Ordering::Relaxed),
            ),
            measure(
                "index_hits",
                "Reads of tokens answered from memory since the start",
                index.hits.load(Ordering::Relaxed),
            ),
            measure(
                "index_misses",
                "Reads of tokens answered from the database since the start",
                index.misses.load(Ordering::Relaxed),
            ),
            measure(
                "indexed_tokens",
                "Tokens in the index in memory",
                index.tokens.len() as u64,
            ),
        ]
    }
}

/// Reads all instances, machines, keys and heads of logs into the index.
fn fill_directory(connection: &Connection, index: &Index) -> rusqlite::Result<()> {
    let mut signing_keys = signing_keys::all(connection)?;
    for (number, instance) in instances::all(connection)? {
        index.apply(Effect::PutInstance(number, instance));
        let keys = signing_keys.remove(&number).unwrap_or_default();
        index.apply(Effect::PutSigningKeys(number, keys));
    }
    for key in instances::all_live_keys(connection)? {
        index.apply(Effect::PutInstanceKey(Arc::new(key)));
    }
    machine_rows::all(connection, &index.texts, |number, machine| {
        index.apply(Effect::PutMachine(number, machine));
    })?;
    machine_keys::all(connection, |key| {
        index.apply(Effect::PutMachineKey(Arc::new(key)));
    })?;
    let mut records = 0;
    for (log, head) in changes::heads(connection)? {
        index.directory.put_head(log, head);
        records += head.sequence;
    }
    index.directory.count_records(records);
    Ok(())
}
