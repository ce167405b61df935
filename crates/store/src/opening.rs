//! Defines the options for opening a store, and the errors.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Options for opening a store.
pub struct StoreOptions {
    /// Maximum memory of the token index, in bytes.
    pub token_index_bytes: u64,
    /// Called once, with the reason, when the disk or the data fails. The process should end, so that the next start
    /// reads the disk again.
    pub on_fatal: Box<dyn Fn(&str) + Send + Sync>,
    /// Acknowledges writes that a power cut may lose. Exists only to prove that the tests detect this.
    #[doc(hidden)]
    pub is_hasty_for_proof: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            token_index_bytes: 256 << 20,
            on_fatal: Box::new(|_| {}),
            is_hasty_for_proof: false,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StoreOptions")
            .field("token_index_bytes", &self.token_index_bytes)
            .finish_non_exhaustive()
    }
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no database in this folder.
    #[error("there is no authority in {}", .0.display())]
    Missing(PathBuf),
    /// Another process has the folder open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file is not a database of Countersign.
    #[error("{} is not a database of Countersign", .0.display())]
    Foreign(PathBuf),
    /// A later version wrote the database.
    #[error(
        "the database was written by a later version (its schema is {found}, this program knows up to {known})"
    )]
    Newer {
        /// Schema version of the database.
        found: usize,
        /// Newest schema version that this program supports.
        known: usize,
    },
    /// A build from before the first release wrote the database.
    #[error("{} was written by a build before the first release, which this version cannot read", .0.display())]
    Older(PathBuf),
    /// The file is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A folder or file cannot be created or opened.
    #[error("{0}")]
    Unreadable(String),
    /// Users other than its owner can read or write the file.
    #[error("{} can be used by others than its owner", .0.display())]
    Loose(PathBuf),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
}

/// What exists at the location of a [`crate::StoreChoice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No database of Countersign.
    Absent,
    /// A database whose creation was interrupted.
    Begun,
    /// Something that may be a database.
    Present,
}
