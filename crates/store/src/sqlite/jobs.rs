//! Operations that wait for the writer, and how they are answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::ThreadId;

use countersign_protocol::change::{Cursor, Log};
use countersign_protocol::ids::{InstanceId, KeyId, MachineId};
use rusqlite::{CachedStatement, Connection};
use tokio::sync::oneshot;

use super::index::{Effect, Index, NumberHash};
use super::rows::WriteError;
use crate::{Result, StoreError};

/// The machines and requesting keys that a transaction has found in the database. The map's key names the machine, the
/// instance, their revisions and the requesting key. The value is the machine's number and the key's expiry.
///
/// A batch has many tokens of few machines, and a look-up for each token would be a quarter of the cost of its
/// insertion. An entry is valid until an operation of the transaction changes an instance, a machine or a key; each
/// such operation adds an effect.
pub(super) type Askers = HashMap<Asker, (i64, Option<i64>), NumberHash>;

type Asker = (MachineId, i64, InstanceId, i64, Option<KeyId>);

/// What an operation sees of the writer.
pub(super) struct Write<'a> {
    /// The connection, inside a transaction.
    pub(super) connection: &'a Connection,
    /// For the texts that rows share.
    pub(super) index: &'a Index,
    pub(super) askers: &'a mut Askers,
    pub(super) effects: &'a mut Vec<Effect>,
    /// The positions of the appended records.
    pub(super) appended: &'a mut Vec<(Log, Cursor)>,
    /// Whether the log is to be emptied after the commit, because it has copies of what was erased.
    pub(super) empties_log: &'a mut bool,
    /// The statement that inserts a token, once it was asked for: to look it up for each token costs as much as to bind it.
    pub(super) inserting: Option<CachedStatement<'a>>,
}

impl Write<'_> {
    /// Notes what the index must learn once this is committed.
    pub(super) fn effect(&mut self, effect: Effect) {
        if !effect.is_of_token() {
            self.askers.clear();
        }
        self.effects.push(effect);
    }

    /// Runs one statement and says how many rows it changed.
    pub(super) fn execute(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(parameters)
    }
}

/// How an operation ended, before the commit.
pub(super) enum Ended {
    Done,
    /// Undo this one.
    Refused,
    /// Undo all.
    Full,
    Fatal(String),
}

/// An operation that waits, runs, and is answered.
pub(super) trait Job: Send {
    /// Whether it writes by one statement at most, which SQLite undoes by itself when it fails.
    fn is_single(&self) -> bool;
    /// The thread that asked.
    fn thread(&self) -> ThreadId;
    fn run(&mut self, write: &mut Write<'_>) -> Ended;
    /// Sends the result, or `failure` in its place. Whoever takes the answer sends `others` too.
    fn answer(self: Box<Self>, failure: Option<&str>, others: Answers);
}

/// Answers that wait to be sent; they are sent when this is dropped.
///
/// To wake a task from a foreign thread costs a system call, so the writer wakes one task for each thread that asked, and
/// that one wakes the others at home. Wherever the answers end up, even in a task that was given up, they are sent.
pub(super) struct Answers {
    jobs: Vec<Box<dyn Job>>,
    failure: Option<Arc<str>>,
}

impl Answers {
    const NONE: Self = Self {
        jobs: Vec::new(),
        failure: None,
    };
}

impl Drop for Answers {
    fn drop(&mut self) {
        for job in self.jobs.drain(..) {
            job.answer(self.failure.as_deref(), Self::NONE);
        }
    }
}

/// What a task answers with: its result, and the answers that travel with it.
pub(super) type Answer<T> = (Result<T>, Answers);

/// An operation as a job.
pub(super) struct Task<T, F> {
    operation: Option<F>,
    is_single: bool,
    thread: ThreadId,
    result: Option<Result<T>>,
    sender: oneshot::Sender<Answer<T>>,
}

impl<T, F> Task<T, F> {
    /// Makes a task of the calling thread, and the end where its answer comes out.
    pub(super) fn new(is_single: bool, operation: F) -> (Self, oneshot::Receiver<Answer<T>>) {
        let (sender, receiver) = oneshot::channel();
        let thread = std::thread::current().id();
        (
            Self {
                operation: Some(operation),
                is_single,
                thread,
                result: None,
                sender,
            },
            receiver,
        )
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Write<'_>) -> Result<T, WriteError> + Send,
{
    fn is_single(&self) -> bool {
        self.is_single
    }

    fn thread(&self) -> ThreadId {
        self.thread
    }

    fn run(&mut self, write: &mut Write<'_>) -> Ended {
        let Some(operation) = self.operation.take() else {
            return Ended::Refused;
        };
        match operation(write) {
            Ok(value) => {
                self.result = Some(Ok(value));
                Ended::Done
            }
            Err(WriteError::Refused(error)) => {
                self.result = Some(Err(error));
                Ended::Refused
            }
            Err(WriteError::Full) => Ended::Full,
            Err(WriteError::Fatal(text)) => Ended::Fatal(text),
        }
    }

    fn answer(self: Box<Self>, failure: Option<&str>, others: Answers) {
        let result = match (failure, self.result) {
            (None, Some(result)) => result,
            (failure, _) => Err(StoreError::Unavailable(
                failure.unwrap_or("the operation did not run").to_owned(),
            )),
        };
        // Whoever asked may have gone away; the answers to the others are sent by the drop.
        drop(self.sender.send((result, others)));
    }
}

/// Sends the answers of a batch, one wake-up for each thread that asked.
pub(super) fn answer(jobs: Vec<Box<dyn Job>>, failure: Option<&Arc<str>>) {
    let mut threads: HashMap<ThreadId, Vec<Box<dyn Job>>> = HashMap::new();
    for job in jobs {
        threads.entry(job.thread()).or_default().push(job);
    }
    for mut jobs in threads.into_values() {
        let Some(first) = jobs.pop() else { continue };
        first.answer(
            failure.map(AsRef::as_ref),
            Answers {
                jobs,
                failure: failure.cloned(),
            },
        );
    }
}
