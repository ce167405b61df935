//! Runs the conformance suite on the back end in memory, and tests its handles.

use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryStore;
use crate::conformance::BackEnd;
use crate::{Node, Store};

/// A store and the data behind it.
struct InMemory(Option<Arc<MemoryStore>>);

#[async_trait]
impl BackEnd for InMemory {
    fn store(&self) -> Arc<dyn Store> {
        self.0.clone().expect("it is open")
    }

    async fn reopen(&mut self) {
        let store = self.0.take().expect("it is open");
        let store = Arc::try_unwrap(store).expect("nobody else holds the store");
        self.0 = Some(Arc::new(store.handle()));
    }

    async fn second_handle(&self) -> Option<Arc<dyn Store>> {
        let store = self.0.as_ref()?;
        Some(Arc::new(store.handle()))
    }
}

fn back_end() -> Box<dyn BackEnd> {
    Box::new(InMemory(Some(Arc::new(MemoryStore::new()))))
}

crate::mount_conformance!(memory, async { super::super::back_end() });

#[test]
fn a_handle_takes_the_lowest_free_node_number() {
    let first = MemoryStore::new();
    assert_eq!(first.node(), Node::ONLY);
    let handles: Vec<_> = (1..5).map(|_| first.handle()).collect();
    let numbers: Vec<_> = handles.iter().map(|handle| handle.node().get()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    drop(first);
    let again = handles[0].handle();
    assert_eq!(again.node(), Node::ONLY);
    assert_eq!(again.handle().node().get(), 5);
}
