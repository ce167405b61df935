//! Where the data of these tests lies: in memory. A handle is what a process has of it.

use countersign_store::OpenStore;
use countersign_store::memory::MemoryStore;

/// The data of an authority. It goes away with this value and its handles.
pub(crate) struct Data(MemoryStore);

impl Data {
    /// Makes a store that holds nothing, and opens it.
    pub(crate) fn new() -> (Self, OpenStore) {
        let data = Self(MemoryStore::new());
        let store = data.open();
        (data, store)
    }

    /// Opens the store as a further process.
    pub(crate) fn open(&self) -> OpenStore {
        OpenStore::new(self.0.handle())
    }

    /// The same data, for a further node.
    pub(crate) fn share(&self) -> Self {
        Self(self.0.handle())
    }

    /// Copies the data.
    pub(crate) fn copy(&self) -> Self {
        Self(self.0.copy())
    }
}
