//! The one thread that writes: it puts waiting operations into one durable commit.
//!
//! For each batch: begin, run the operations, commit (SQLite syncs the log), bring the index up to date, answer. Nothing is
//! answered with success before that. An operation that fails alone is undone alone, by a savepoint. What concerns the
//! file as a whole (no room, a failed write or sync) fails the whole batch; after a failed write or sync the store writes no
//! more, because a second sync may report success for pages that were lost.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use countersign_protocol::change::{Cursor, Log};
use rusqlite::Connection;

use super::index::{Effect, Index};
use super::jobs::{Askers, Ended, Job, Task, Write, answer};
use super::queue::Queue;
use super::rows::WriteError;
use crate::{Result, StoreError};

/// How many operations share a commit at most.
const BATCH: usize = 256;
/// How many operations wait at most; further ones are refused.
const WAITING: usize = 4096;
/// How long a batch waits for clients that the batch before has answered, at most.
const GATHER: Duration = Duration::from_millis(2);
/// How many pages the log may hold before its content is moved to the database file, 32 MiB.
const CHECKPOINT_PAGES: i64 = 8192;
/// After how many commits the length of the log is looked at, which costs as much as a few operations.
const COMMITS_BETWEEN_LOOKS: u32 = 16;
/// The log may grow while a long read holds on to it; beyond this, writing waits for the read, 256 MiB.
const RESTART_PAGES: i64 = 65536;

/// How long an attempt to empty the log waits for those who read.
const EMPTYING: Duration = Duration::from_millis(20);

/// Told once why the store stopped writing.
pub(super) type OnFatal = Box<dyn Fn(&str) + Send + Sync>;

/// What the writer shares with those who ask.
pub(super) struct Shared {
    queue: Queue<Box<dyn Job>>,
    fatal: OnceLock<String>,
    is_full: AtomicBool,
    on_fatal: OnFatal,
    pub(super) commits: AtomicU64,
    pub(super) committed_operations: AtomicU64,
    pub(super) commit_micros: AtomicU64,
}

/// The writer's thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread; it owns the connection.
    pub(super) fn start(
        connection: Connection,
        index: Arc<Index>,
        on_fatal: OnFatal,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Queue::new(BATCH, WAITING),
            fatal: OnceLock::new(),
            is_full: AtomicBool::new(false),
            on_fatal,
            commits: AtomicU64::new(0),
            committed_operations: AtomicU64::new(0),
            commit_micros: AtomicU64::new(0),
        });
        let mut batches = Batches {
            connection,
            index,
            shared: Arc::clone(&shared),
            askers: Askers::default(),
            effects: Vec::new(),
            appended: Vec::new(),
            last_commit: Duration::ZERO,
            empties_log: false,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || batches.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The counters.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Runs an operation of several statements: all of them take effect or none.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T> {
        self.submit(false, operation).await
    }

    /// Runs an operation that changes something by at most one statement, or where what the others changed may stay.
    pub(super) async fn write_single<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T> {
        self.submit(true, operation).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        is_single: bool,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T> {
        let (task, receiver) = Task::new(is_single, operation);
        self.shared.push(Box::new(task))?;
        match receiver.await {
            Ok((result, others)) => {
                drop(others);
                result
            }
            Err(_) => Err(StoreError::Unavailable("the writer ended".to_owned())),
        }
    }

    /// Whether the last commit found no room.
    pub(super) fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported where it happened.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn push(&self, job: Box<dyn Job>) -> Result<()> {
        if let Some(reason) = self.fatal.get() {
            return Err(StoreError::Unavailable(reason.clone()));
        }
        self.queue
            .push(job)
            .map_err(|reason| StoreError::Unavailable(reason.to_owned()))
    }

    fn fail(&self, reason: &str) {
        if self.fatal.set(reason.to_owned()).is_ok() {
            tracing::error!(reason, "the store stops writing");
            (self.on_fatal)(reason);
        }
    }
}

/// Ends the store if the writer's thread panics.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the writer's thread panicked");
        }
        self.0.queue.abandon();
    }
}

struct Batches {
    connection: Connection,
    index: Arc<Index>,
    shared: Arc<Shared>,
    askers: Askers,
    effects: Vec<Effect>,
    appended: Vec<(Log, Cursor)>,
    last_commit: Duration,
    /// Whether the log has copies of secrets that were erased.
    empties_log: bool,
}

impl Batches {
    fn run(&mut self) {
        let guard = PanicGuard(Arc::clone(&self.shared));
        let mut expected = 1;
        let mut commits = 0;
        while let Some(mut jobs) = self.shared.queue.take(expected, self.patience()) {
            expected = jobs.len();
            let outcome = self.batch(&mut jobs);
            // Those who are answered now are likely to ask again, all at once; and where others came meanwhile, like JWTs one
            // by one from the signer, more are on their way. A lone client is never waited for.
            expected = (expected + self.shared.queue.waiting()).min(BATCH);
            let failure = outcome
                .as_ref()
                .err()
                .map(|reason| Arc::from(reason.as_str()));
            answer(jobs, failure.as_ref());
            commits += u32::from(outcome.is_ok());
            if outcome.is_ok() && self.empties_log {
                self.empty_log();
            } else if commits >= COMMITS_BETWEEN_LOOKS {
                commits = 0;
                self.checkpoint("PASSIVE");
            }
        }
        if self.shared.fatal.get().is_none() {
            self.checkpoint("TRUNCATE");
        }
        drop(guard);
    }

    fn patience(&self) -> Duration {
        (self.last_commit * 2).min(GATHER)
    }

    /// Runs a batch; the error is what all of it is answered with.
    fn batch(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), String> {
        if let Some(reason) = self.shared.fatal.get() {
            return Err(reason.clone());
        }
        self.effects.clear();
        self.appended.clear();
        let result = self.transaction(jobs);
        if let Err(error) = result {
            self.effects.clear();
            self.appended.clear();
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                self.shared.fail(&format!("a rollback failed: {error}"));
            }
            return Err(match error {
                WriteError::Full => {
                    self.shared.is_full.store(true, Ordering::Relaxed);
                    tracing::warn!("the disk is full; nothing can be written until there is room");
                    "the disk is full".to_owned()
                }
                WriteError::Fatal(reason) => {
                    self.shared.fail(&reason);
                    reason
                }
                WriteError::Refused(error) => error.to_string(),
            });
        }
        self.shared.is_full.store(false, Ordering::Relaxed);
        for effect in self.effects.drain(..) {
            self.index.apply(effect);
        }
        self.index.appended(&self.appended);
        Ok(())
    }

    fn transaction(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), WriteError> {
        let before = self.connection.total_changes();
        self.askers.clear();
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let mut write = Write {
            connection: &self.connection,
            index: &self.index,
            askers: &mut self.askers,
            effects: &mut self.effects,
            appended: &mut self.appended,
            empties_log: &mut self.empties_log,
            inserting: None,
        };
        for job in &mut *jobs {
            run(job.as_mut(), &mut write)?;
        }
        drop(write);
        #[expect(
            clippy::disallowed_methods,
            reason = "only for the metrics and for how long a batch gathers"
        )]
        let start = Instant::now();
        execute(&self.connection, "COMMIT").map_err(|error| match error {
            // Whatever else a commit may report, it is not known to have failed alone.
            WriteError::Refused(error) => WriteError::Fatal(format!("a commit failed: {error}")),
            error => error,
        })?;
        // Batches that only looked cost no sync and say nothing about how long one takes.
        if self.connection.total_changes() != before {
            self.last_commit = start.elapsed();
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
            self.shared
                .committed_operations
                .fetch_add(jobs.len() as u64, Ordering::Relaxed);
            let micros = u64::try_from(self.last_commit.as_micros()).unwrap_or(u64::MAX);
            self.shared
                .commit_micros
                .fetch_add(micros, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Moves the log's content to the database file where it has become long, or where the store is closed.
    ///
    /// Done here and not by SQLite within a commit, which would keep the answers waiting and pass over a failed sync.
    fn checkpoint(&self, mode: &str) {
        let pragma = |mode: &str| {
            self.connection
                .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
                .query_row([], |row| row.get::<_, i64>(1))
        };
        let result = match mode {
            "PASSIVE" => match pragma("NOOP") {
                Ok(..CHECKPOINT_PAGES) => return,
                Ok(CHECKPOINT_PAGES..RESTART_PAGES) => pragma("PASSIVE"),
                Ok(_) => pragma("RESTART"),
                Err(error) => Err(error),
            },
            mode => pragma(mode),
        };
        self.note_checkpoint(result.map(drop));
    }

    /// Moves the log's content to the database file and cuts the log to nothing: it may hold pages as they were before secrets
    /// on them were erased. While somebody reads an older state that cannot be done, and the next batch tries again.
    fn empty_log(&mut self) {
        let result = self.connection.busy_timeout(EMPTYING).and_then(|()| {
            let is_busy = self
                .connection
                .prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?
                .query_row([], |row| row.get::<_, bool>(0));
            self.connection.busy_timeout(super::open::BUSY)?;
            is_busy
        });
        self.empties_log = !matches!(result, Ok(false));
        self.note_checkpoint(result.map(drop));
    }

    fn note_checkpoint(&self, result: rusqlite::Result<()>) {
        match result.map_err(WriteError::from) {
            Ok(()) => {}
            Err(WriteError::Full) => self.shared.is_full.store(true, Ordering::Relaxed),
            Err(WriteError::Refused(error)) => tracing::warn!(%error, "a checkpoint was put off"),
            Err(WriteError::Fatal(reason)) => self.shared.fail(&reason),
        }
    }
}

/// Runs one operation; one that is refused is undone alone.
fn run(job: &mut dyn Job, write: &mut Write<'_>) -> Result<(), WriteError> {
    let (effects, appended) = (write.effects.len(), write.appended.len());
    let needs_savepoint = !job.is_single();
    if needs_savepoint {
        execute(write.connection, "SAVEPOINT job")?;
    }
    match job.run(write) {
        Ended::Done => {}
        Ended::Refused => {
            // Some errors make SQLite roll back the whole transaction by itself.
            if write.connection.is_autocommit() {
                return Err(WriteError::Refused(StoreError::Unavailable(
                    "a transaction was rolled back".to_owned(),
                )));
            }
            write.effects.truncate(effects);
            write.appended.truncate(appended);
            if needs_savepoint {
                execute(write.connection, "ROLLBACK TO job")?;
            }
        }
        Ended::Full => return Err(WriteError::Full),
        Ended::Fatal(reason) => return Err(WriteError::Fatal(reason)),
    }
    if needs_savepoint {
        execute(write.connection, "RELEASE job")?;
    }
    Ok(())
}

fn execute(connection: &Connection, sql: &str) -> Result<(), WriteError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
