//! Chooses the store of an authority. Only this module names, opens and locks a back end.
//!
//! The executable makes a [`StoreChoice`] from its settings and passes the opened store to the authority. It never
//! calls an operation of the store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::keys::DataKey;
use crate::opening::{OpenError, Presence, StoreOptions};
use crate::sqlite::{self, SqliteStore};
use crate::{Result, Store};

/// Where an authority keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreChoice {
    /// An embedded SQLite database in a data folder, for one process at a time.
    Folder(PathBuf),
}

impl StoreChoice {
    /// Returns what exists at the location, without opening or changing anything.
    #[must_use]
    pub fn presence(&self) -> Presence {
        match self {
            Self::Folder(folder) => sqlite::presence(folder),
        }
    }

    /// Returns whether a file with this name in a data folder belongs to the store.
    #[must_use]
    pub fn owns_file(&self, name: &str) -> bool {
        match self {
            Self::Folder(_) => sqlite::owns_file(name),
        }
    }

    /// Reads the data keys without changing anything, whatever state the last process left, so that a master key can be
    /// checked first.
    ///
    /// # Errors
    /// If the store does not exist, or this process cannot use it.
    pub fn read_data_keys(&self) -> Result<Vec<DataKey>, OpenError> {
        match self {
            Self::Folder(folder) => SqliteStore::read_data_keys(folder),
        }
    }

    /// Opens the store, and locks it for this process if its back end allows only one process at a time.
    ///
    /// # Errors
    /// If the store does not exist, or this process cannot use it.
    pub fn open(&self, options: StoreOptions) -> Result<OpenStore, OpenError> {
        match self {
            Self::Folder(folder) => SqliteStore::open(folder, options).map(OpenStore::new),
        }
    }

    /// Creates an empty store. Completes an interrupted creation, and opens a store that already exists.
    ///
    /// # Errors
    /// If the store cannot be created, or something else is at its location.
    pub fn create(&self, options: StoreOptions) -> Result<OpenStore, OpenError> {
        match self {
            Self::Folder(folder) => SqliteStore::create(folder, options).map(OpenStore::new),
        }
    }
}

impl From<&Path> for StoreChoice {
    fn from(folder: &Path) -> Self {
        Self::Folder(folder.to_owned())
    }
}

impl fmt::Display for StoreChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(formatter),
        }
    }
}

/// An open store, to be passed to an authority. It has no operations of its own.
#[derive(Clone, Debug)]
pub struct OpenStore(Arc<dyn Store>);

impl OpenStore {
    /// Wraps a store that was not opened through a [`StoreChoice`], as in tests.
    pub fn new(store: impl Store + 'static) -> Self {
        Self(Arc::new(store))
    }

    /// Returns the store, for the authority. An architecture test checks that the executable does not call this.
    #[must_use]
    pub fn into_store(self) -> Arc<dyn Store> {
        self.0
    }
}

impl From<Arc<dyn Store>> for OpenStore {
    fn from(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}
