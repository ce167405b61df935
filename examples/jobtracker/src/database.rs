//! What the API remembers: users, their applications and résumés, in SQLite.
//!
//! Times are texts (`2026-05-04T09:30:00Z`) of the database's own clock; such texts sort as their times do. All calls share one
//! connection and take microseconds, so they block; the API makes them from a thread that may.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use serde::Serialize;
use thiserror::Error;

use crate::seed;
use crate::status::Status;

/// How long an applier has an application to itself. One that stops in the middle keeps it no longer than this.
const LEASE_MINUTES: u32 = 10;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS users (
        id    TEXT PRIMARY KEY,
        name  TEXT NOT NULL,
        email TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS applications (
        id           TEXT PRIMARY KEY,
        user_id      TEXT NOT NULL REFERENCES users (id),
        company      TEXT NOT NULL,
        position     TEXT NOT NULL,
        status       TEXT NOT NULL,
        queued_at    TEXT NOT NULL,
        submitted_at TEXT,
        taken_until  TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS resumes (
        application_id TEXT PRIMARY KEY REFERENCES applications (id),
        file_name      TEXT NOT NULL,
        content_type   TEXT NOT NULL,
        content        BLOB NOT NULL
    ) STRICT;";

/// The columns of an [`Application`], in the order in which [`application_of`] reads them.
macro_rules! application_columns {
    () => {
        "id, user_id, company, position, status, queued_at, submitted_at"
    };
}

/// A candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// The subject of the user's tokens.
    pub id: String,
    /// First name and surname.
    pub name: String,
    /// Where answers go to.
    pub email: String,
}

/// A candidate's application for a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Application {
    /// `app_…`.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// Where the candidate wants to work.
    pub company: String,
    /// As what.
    pub position: String,
    /// How far it is.
    pub status: Status,
    /// When the candidate asked for it to be sent.
    pub queued_at: String,
    /// When it was sent; `None` for not yet.
    pub submitted_at: Option<String>,
}

/// A file that goes with an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The name to save it under.
    pub file_name: String,
    /// Its media type.
    pub content_type: String,
    /// The file itself.
    pub content: Vec<u8>,
}

/// Why the database does not do what it was asked.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The application cannot go from the one status to the other.
    #[error("an application that is {from} cannot become {to}: {}", .from.allowed())]
    IllegalTransition {
        /// What it is.
        from: Status,
        /// What it was to become.
        to: Status,
    },
    /// SQLite's own error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The database. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Database(Arc<Mutex<Connection>>);

impl Database {
    /// Makes a database with the seeded applications that lives as long as this process.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn in_memory() -> Result<Self, DatabaseError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    /// Opens a file; one that is new gets the seeded applications.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::prepare(Connection::open(path)?)
    }

    fn prepare(mut connection: Connection) -> Result<Self, DatabaseError> {
        connection.execute_batch(SCHEMA)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let count = "SELECT count(*) FROM users";
        if transaction.query_row(count, [], |row| row.get::<_, i64>(0))? == 0 {
            seed::fill(&transaction)?;
        }
        transaction.commit()?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// The user of this id.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn user(&self, id: &str) -> Result<Option<User>, DatabaseError> {
        let query = "SELECT id, name, email FROM users WHERE id = ?1";
        let user = self.connection().query_row(query, [id], |row| {
            Ok(User {
                id: row.get(0)?,
                name: row.get(1)?,
                email: row.get(2)?,
            })
        });
        Ok(user.optional()?)
    }

    /// The application of this id.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn application(&self, id: &str) -> Result<Option<Application>, DatabaseError> {
        Ok(application(&self.connection(), id)?)
    }

    /// The résumé that goes with an application.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn resume(&self, application_id: &str) -> Result<Option<Resume>, DatabaseError> {
        let query =
            "SELECT file_name, content_type, content FROM resumes WHERE application_id = ?1";
        let resume = self.connection().query_row(query, [application_id], |row| {
            Ok(Resume {
                file_name: row.get(0)?,
                content_type: row.get(1)?,
                content: row.get(2)?,
            })
        });
        Ok(resume.optional()?)
    }

    /// Gives the oldest queued application to one applier for ten minutes. It is one statement, so two never get the same.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn take_queued(&self) -> Result<Option<Application>, DatabaseError> {
        let statement = concat!(
            "UPDATE applications
             SET taken_until = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+' || ?1 || ' minutes')
             WHERE id = (
                 SELECT id FROM applications
                 WHERE status = 'queued'
                   AND (taken_until IS NULL OR taken_until < strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
                 ORDER BY queued_at, id
                 LIMIT 1)
             RETURNING ",
            application_columns!()
        );
        let taken = self
            .connection()
            .query_row(statement, [LEASE_MINUTES], application_of);
        Ok(taken.optional()?)
    }

    /// Changes the status of an application. `Ok(None)` where there is none of this id.
    ///
    /// # Errors
    /// [`DatabaseError::IllegalTransition`], or SQLite's own.
    pub fn set_status(&self, id: &str, to: Status) -> Result<Option<Application>, DatabaseError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(before) = application(&transaction, id)? else {
            return Ok(None);
        };
        let from = before.status;
        if !from.may_become(to) {
            return Err(DatabaseError::IllegalTransition { from, to });
        }
        let statement = "
            UPDATE applications
            SET status = ?2,
                submitted_at = CASE WHEN ?2 = 'submitted' THEN strftime('%Y-%m-%dT%H:%M:%SZ', 'now') ELSE submitted_at END
            WHERE id = ?1";
        transaction.execute(statement, params![id, to.as_str()])?;
        let after = application(&transaction, id)?;
        transaction.commit()?;
        Ok(after)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic cut off was rolled back, so what is there is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn application(connection: &Connection, id: &str) -> rusqlite::Result<Option<Application>> {
    let query = concat!(
        "SELECT ",
        application_columns!(),
        " FROM applications WHERE id = ?1"
    );
    connection.query_row(query, [id], application_of).optional()
}

fn application_of(row: &Row<'_>) -> rusqlite::Result<Application> {
    Ok(Application {
        id: row.get(0)?,
        user_id: row.get(1)?,
        company: row.get(2)?,
        position: row.get(3)?,
        status: row.get(4)?,
        queued_at: row.get(5)?,
        submitted_at: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_appliers_never_take_the_same_application() {
        let database = Database::in_memory().unwrap();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let database = database.clone();
                std::thread::spawn(move || database.take_queued().unwrap())
            })
            .collect();
        let mut taken: Vec<_> = threads
            .into_iter()
            .filter_map(|thread| Some(thread.join().unwrap()?.id))
            .collect();
        taken.sort();
        assert_eq!(taken, ["app_1001", "app_1002"]);
    }

    #[test]
    fn an_application_whose_applier_stopped_is_given_to_the_next_one() {
        let database = Database::in_memory().unwrap();
        let first = database.take_queued().unwrap().unwrap();
        database
            .connection()
            .execute(
                "UPDATE applications SET taken_until = '2020-01-01T00:00:00Z' WHERE id = ?1",
                [&first.id],
            )
            .unwrap();
        assert_eq!(database.take_queued().unwrap(), Some(first));
    }

    #[test]
    fn a_file_keeps_what_was_changed_and_is_seeded_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobtracker.sqlite");
        let database = Database::open(&path).unwrap();
        let submitted = database
            .set_status("app_1001", Status::Submitted)
            .unwrap()
            .unwrap();
        assert!(submitted.submitted_at.is_some());
        drop(database);
        let database = Database::open(&path).unwrap();
        assert_eq!(database.application("app_1001").unwrap(), Some(submitted));
    }
}
