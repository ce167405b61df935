//! SQLite under the conformance suite, and what only SQLite does.

mod failing;
mod lists;
mod opening;
mod records;
mod settings;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::SqliteStore;
use crate::conformance::{BackEnd, World};
use crate::{Store, StoreOptions};

/// A store in a folder that goes away with it.
struct InFolder {
    store: Option<Arc<SqliteStore>>,
    folder: TempDir,
    token_index_bytes: u64,
}

impl InFolder {
    fn options(&self) -> StoreOptions {
        StoreOptions {
            token_index_bytes: self.token_index_bytes,
            ..StoreOptions::default()
        }
    }
}

#[async_trait]
impl BackEnd for InFolder {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().expect("it is open")
    }

    async fn reopen(&mut self) {
        let store = self.store.take().expect("it is open");
        Arc::try_unwrap(store).expect("nobody else holds the store");
        self.store = Some(Arc::new(
            SqliteStore::open(self.folder.path(), self.options()).expect("it opens again"),
        ));
    }

    async fn second_handle(&self) -> Option<Arc<dyn Store>> {
        // The folder's lock keeps every other process out.
        None
    }
}

fn back_end(token_index_bytes: u64) -> Box<dyn BackEnd> {
    let folder = TempDir::new().expect("a folder");
    let mut in_folder = InFolder {
        store: None,
        folder,
        token_index_bytes,
    };
    in_folder.store = Some(Arc::new(create(
        in_folder.folder.path(),
        in_folder.options(),
    )));
    Box::new(in_folder)
}

/// A world on a store that the test can reach, too.
async fn world_in(folder: TempDir, options: StoreOptions) -> (Arc<SqliteStore>, World) {
    let store = Arc::new(create(folder.path(), options));
    let back_end = InFolder {
        store: Some(Arc::clone(&store)),
        folder,
        token_index_bytes: 1 << 20,
    };
    (store, World::new(Box::new(back_end)).await)
}

fn create(folder: &Path, options: StoreOptions) -> SqliteStore {
    SqliteStore::create(folder, options).expect("a new store")
}

/// One of the store's measures.
fn measure(store: &dyn Store, name: &str) -> u64 {
    let measures = store.measures();
    let found = measures.iter().find(|measure| measure.name == name);
    found.expect("SQLite measures that").value
}

crate::mount_conformance!(sqlite, async { super::super::back_end(64 << 20) });
// The same with an index that holds next to nothing.
crate::mount_conformance!(sqlite_without_room_for_an_index, async {
    super::super::back_end(300)
});

#[tokio::test]
async fn a_reopened_store_fills_its_index_with_what_is_live() {
    let world = crate::conformance::World::new(back_end(1 << 20)).await;
    let instance = world.instance().await;
    let machine = world.machine(instance, "sender").await;
    let mut ids = Vec::new();
    for _ in 0..1200 {
        ids.push(world.token(&machine).await);
    }
    world.revoke(instance, ids[0]).await;
    let world = world.reopen().await;
    // The thread needs its time; the loop ends by the test runner's limit if it never gets there.
    while measure(&*world.store, "indexed_tokens") < 1199 {
        tokio::task::yield_now().await;
    }
    let misses = measure(&*world.store, "index_misses");
    assert!(world.find(instance, ids[1199]).await.is_some());
    assert!(
        world
            .find(instance, ids[0])
            .await
            .is_some_and(|token| token.row.revoked.is_some())
    );
    // The revoked token was not there before.
    assert_eq!(measure(&*world.store, "index_misses"), misses + 1);
}
