//! Where the data of these tests lies: in memory. It is the store's only handle, so ids are those of the same test on SQLite.

use countersign_store::OpenStore;
use countersign_store::memory::MemoryStore;

/// Nothing that goes away with this value: the data goes away with the store.
pub(crate) struct Data;

impl Data {
    /// Makes a store that holds nothing, and opens it.
    pub(crate) fn new() -> (Self, OpenStore) {
        (Self, OpenStore::new(MemoryStore::new()))
    }
}
