//! Where the data of these tests lies: in an SQLite database in a temporary folder.

use countersign_store::{OpenStore, StoreChoice, StoreOptions};
use tempfile::TempDir;

/// The data of an authority. It goes away with this value.
pub(crate) struct Data {
    folder: TempDir,
    /// Whether a power cut may lose what was acknowledged. Other tests are about power cuts.
    is_hasty: bool,
}

impl Data {
    /// Makes a store that holds nothing, and opens it.
    pub(crate) fn new() -> (Self, OpenStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreChoice::from(folder.path()).create(StoreOptions::default());
        let data = Self {
            folder,
            is_hasty: false,
        };
        (data, store.unwrap())
    }

    /// Opens the store. Nothing else may have it open.
    pub(crate) fn open(&self) -> OpenStore {
        let options = StoreOptions {
            is_hasty_for_proof: self.is_hasty,
            ..StoreOptions::default()
        };
        StoreChoice::from(self.folder.path()).open(options).unwrap()
    }

    /// Copies the data, for one of many short stories. Nothing may have the store open.
    pub(crate) fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(&self.folder).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        Self {
            folder,
            is_hasty: true,
        }
    }
}
