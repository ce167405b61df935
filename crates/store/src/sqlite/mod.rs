//! The SQLite back end: one process, one file, one thread that writes.
//!
//! `writer` makes commits durable, in groups. `readers` reads beside it. `index` answers most point reads from memory and is
//! never stale. The other files hold the statements, one for each noun.

mod changes;
mod held;
mod index;
mod instances;
#[cfg(test)]
mod interleavings;
mod issue;
mod jobs;
mod machine_keys;
mod machines;
mod open;
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

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_protocol::ids::InstanceId;
use countersign_protocol::time::Timestamp;
use rusqlite::Connection;

pub use open::OpenError;

use self::held::CountedUpTo;
use self::index::{Effect, Index};
use self::issue::Attempt;
use self::jobs::Write;
use self::readers::{Readers, Wanted};
use self::warm::Warmer;
use self::writer::Writer;
use crate::keys::DataKey;
use crate::machines::MachineRow;
use crate::tokens::{InsertToken, NewToken};
use crate::{Result, Statistics, StoreError};

/// How a store is opened.
pub struct SqliteOptions {
    /// How much memory the index of tokens may take, in bytes.
    pub token_index_bytes: u64,
    /// How many connections may read at a time.
    pub readers: usize,
    /// Called once with the reason when the disk or the file fails. The process should end, and look at the disk afresh.
    pub on_fatal: Box<dyn Fn(&str) + Send + Sync>,
    /// Acknowledges what a power cut may lose. Only there to show that the tests would notice.
    #[doc(hidden)]
    pub synchronous_normal_for_proof: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            token_index_bytes: 256 << 20,
            readers: 32,
            on_fatal: Box::new(|_| {}),
            synchronous_normal_for_proof: false,
        }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SqliteOptions")
            .field("token_index_bytes", &self.token_index_bytes)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

/// A store in a data folder of its own.
#[derive(Debug)]
pub struct SqliteStore {
    _warmer: Warmer,
    // Of the others the writer ends first: it moves the log's content to the database file while the folder is still held.
    writer: Writer,
    shared: Arc<Shared>,
    /// The machines at their limits, each with its limit.
    searches: Mutex<Searches>,
}

type Searches = HashMap<(i64, u64), Arc<Search>>;

/// The search for a machine's tokens that are over. Locked while room is made.
type Search = tokio::sync::Mutex<Found>;

/// What a search has come to.
#[derive(Debug, Default)]
enum Found {
    /// It goes on, or whoever searched went away.
    #[default]
    Nothing,
    /// There is room.
    Room,
    /// When all tokens were looked at, and few were over.
    Few(Timestamp),
    /// Told to those who waited for it.
    Failed(StoreError),
}

impl Found {
    /// Whether it stands that few of a machine's tokens are over: for ten seconds, and for who began a moment before.
    fn stands(&self, now: Timestamp) -> bool {
        matches!(self, Self::Few(at) if now.millis_since(*at) < 10_000)
    }
}

/// What reads on other threads hold on to.
#[derive(Debug)]
struct Shared {
    readers: Readers,
    index: Arc<Index>,
    _lock: File,
}

impl SqliteStore {
    /// How much memory the index may take for each kind of row other than tokens.
    const OTHER_INDEX_BYTES: u64 = 16 << 20;
    /// How long a list may take: as long as a request.
    const LIST_TIMEOUT: Duration = Duration::from_secs(8);
    /// How many tokens that are over make room at a time: more than writes can wait.
    const ROOM: usize = 10_000;
    /// How many of them are deleted in one operation, so that others get in between.
    const ROOM_PORTION: usize = 250;

    /// Opens the store in `folder`.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used by this process.
    pub fn open(folder: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let opened = open::open(folder, !options.synchronous_normal_for_proof)?;
        Self::start(opened, options)
    }

    /// The data keys of the store in `folder`, to be tried before it is opened. No file is changed, whatever state the last
    /// process left them in.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used by this process.
    pub fn read_data_keys(folder: &Path) -> Result<Vec<DataKey>, OpenError> {
        open::data_keys(folder)
    }

    /// Makes an empty store in `folder`, and the folder. What an earlier attempt left is completed; a store that is there
    /// already is opened.
    ///
    /// # Errors
    /// Where it cannot be made, or something else is there.
    pub fn create(folder: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let opened = open::create(folder, !options.synchronous_normal_for_proof)?;
        Self::start(opened, options)
    }

    fn start(opened: open::Opened, options: SqliteOptions) -> Result<Self, OpenError> {
        let index = Arc::new(Index::new(
            options.token_index_bytes,
            Self::OTHER_INDEX_BYTES,
        ));
        let instances = instances::all(&opened.connection)
            .map_err(|error| OpenError::Damaged(error.to_string()))?;
        for instance in instances {
            index.apply(Effect::PutInstance(Arc::new(instance)));
        }
        let readers = Readers::new(&opened.path, options.readers);
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
            searches: Mutex::default(),
        })
    }

    /// The number of an instance. All instances are in memory.
    fn instance_number(&self, id: &InstanceId) -> Option<i64> {
        self.shared
            .index
            .instance(id)
            .map(|instance| instance.number)
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
        let wanted = Wanted::default();
        let is_over = wanted.is_over();
        let read = async {
            let permit = self.shared.readers.list_permit().await?;
            let shared = Arc::clone(&self.shared);
            let list = tokio::task::spawn_blocking(move || {
                // Held to the end of the query, so that lists which are given up do not become many.
                let _permit = permit;
                shared
                    .readers
                    .read_snapshot(is_over, |connection| query(connection, &shared.index))
            });
            list.await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable(
                    "a list could not be read".to_owned(),
                ))
            })
        };
        match tokio::time::timeout(limit, read).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Busy("a list took too long")),
        }
    }

    fn machine_by_number(&self, number: i64) -> Result<Option<Arc<MachineRow>>> {
        let Shared { readers, index, .. } = &*self.shared;
        index.read_through(&index.machines, &number, || {
            readers.read(|connection| machines::by_number(connection, &index.texts, number))
        })
    }

    async fn attempt_token(&self, token: NewToken) -> Result<Attempt> {
        if token.signing_key.is_some() {
            return self
                .writer
                .write_single(move |write| issue::insert_jwt(write, token))
                .await;
        }
        if token.pool.is_some() {
            return self
                .writer
                .write_single(move |write| issue::insert_pooled(write, token))
                .await;
        }
        self.writer
            .write_single(move |write| issue::insert_plain(write, token))
            .await
    }

    /// Inserts a token; where its machine seems to hold too many, makes room and tries again. Twice, because what there was
    /// without a search may be taken by others who waited.
    async fn insert_within_limit(&self, mut token: NewToken) -> Result<InsertToken> {
        for _ in 0..2 {
            let (refused, since) = match self.attempt_token(token).await? {
                Attempt::Decided(outcome) => return Ok(outcome),
                Attempt::AtLimit(refused, since) => (refused, since),
            };
            self.make_room(&refused, since).await?;
            token = *refused;
        }
        match self.attempt_token(token).await? {
            Attempt::Decided(outcome) => Ok(outcome),
            Attempt::AtLimit(..) => Ok(InsertToken::TooMany),
        }
    }

    /// Counts the tokens of a machine, and where they are too many, deletes the oldest that are over. They are searched for
    /// beside the writer, for that may take a second. Where few were found a short while ago, nothing is done.
    async fn make_room(&self, token: &NewToken, since: CountedUpTo) -> Result<()> {
        let (machine, limit, now) = (token.machine.number, token.max_tokens, token.created_at);
        let search = self.search(machine, limit, now);
        let (mut found, has_waited) = match search.try_lock() {
            Ok(found) => (found, false),
            // Somebody makes room for this machine.
            Err(_) => (search.lock().await, true),
        };
        match &*found {
            Found::Room if has_waited => return Ok(()),
            Found::Failed(error) => return Err(error.clone()),
            other if other.stands(now) => return Ok(()),
            _ => {}
        }
        *found = Found::Nothing;
        match self.search_room(machine, limit, now, since).await {
            Ok(outcome) => {
                *found = outcome;
                Ok(())
            }
            Err(error) => {
                // Whoever comes from now on tries again.
                self.searches().remove(&(machine, limit));
                *found = Found::Failed(error.clone());
                Err(error)
            }
        }
    }

    async fn search_room(
        &self,
        machine: i64,
        limit: u64,
        now: Timestamp,
        since: CountedUpTo,
    ) -> Result<Found> {
        let count = || self.list(move |connection, _| held::count(connection, machine, limit));
        let mut counted = count().await?;
        let mut found = Found::Room;
        // Else others were deleted since.
        if counted >= limit {
            let over = self
                .list(move |connection, _| held::over(connection, machine, now, Self::ROOM))
                .await?;
            for portion in over.chunks(Self::ROOM_PORTION) {
                let portion = portion.to_vec();
                self.writer
                    .write(move |write| held::delete_over(write, machine, now, &portion))
                    .await?;
            }
            if over.len() < Self::ROOM {
                found = Found::Few(now);
            }
            counted = count().await?;
        }
        let correct = move |write: &mut Write<'_>| {
            write.held.correct(machine, counted, since);
            Ok(())
        };
        self.writer.write_single(correct).await?;
        Ok(found)
    }

    /// The search of a machine. Those that nobody needs any more are forgotten.
    fn search(&self, machine: i64, limit: u64, now: Timestamp) -> Arc<Search> {
        let mut searches = self.searches();
        // None is locked to look at it: somebody would take that for one who makes room.
        searches.retain(|_, search| {
            Arc::get_mut(search).is_none_or(|search| search.get_mut().stands(now))
        });
        Arc::clone(searches.entry((machine, limit)).or_default())
    }

    fn searches(&self) -> MutexGuard<'_, Searches> {
        self.searches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_statistics(&self) -> Statistics {
        let writer = self.writer.shared();
        Statistics {
            commits: writer.commits.load(Ordering::Relaxed),
            committed_operations: writer.committed_operations.load(Ordering::Relaxed),
            commit_micros: writer.commit_micros.load(Ordering::Relaxed),
            index_hits: self.shared.index.hits.load(Ordering::Relaxed),
            index_misses: self.shared.index.misses.load(Ordering::Relaxed),
            indexed_tokens: self.shared.index.tokens.len() as u64,
        }
    }
}
