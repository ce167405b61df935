//! Lists that nobody waits for.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::super::SqliteStore;
use super::create;
use crate::{StoreError, StoreOptions};

/// Half a minute of work.
const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT max(i) FROM n";

fn number(connection: &Connection, query: &str) -> rusqlite::Result<i64> {
    connection.query_row(query, [], |row| row.get(0))
}

/// Whether there is a place for a list, soon.
async fn has_place(store: &SqliteStore) -> bool {
    let list = store.list(|connection, _| number(connection, "SELECT 1"));
    tokio::time::timeout(Duration::from_secs(7), list)
        .await
        .is_ok_and(|one| one.is_ok())
}

#[tokio::test]
async fn a_list_that_is_given_up_stops_and_leaves_its_place_to_others() {
    let folder = TempDir::new().unwrap();
    let store = create(folder.path(), StoreOptions::default());
    // More than there are places for lists.
    for _ in 0..10 {
        let endless = store.list(|connection, _| number(connection, ENDLESS));
        let given_up = tokio::time::timeout(Duration::from_millis(20), endless);
        assert!(given_up.await.is_err());
    }
    assert!(has_place(&store).await);
}

#[tokio::test]
async fn a_list_ends_when_its_time_is_over() {
    let folder = TempDir::new().unwrap();
    let store = create(folder.path(), StoreOptions::default());
    for _ in 0..10 {
        let ended = store
            .list_within(Duration::from_millis(20), |connection, _| {
                number(connection, ENDLESS)
            })
            .await;
        assert!(matches!(ended, Err(StoreError::Busy(_))), "{ended:?}");
    }
    assert!(has_place(&store).await);
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn few_lists_wait_for_a_place_and_not_for_long() {
    let folder = TempDir::new().unwrap();
    let store = create(folder.path(), StoreOptions::default());
    let mut places = Vec::new();
    for _ in 0..4 {
        places.push(store.shared.readers.list_permit().await.unwrap());
    }
    let mut waiting: Vec<_> = (0..32)
        .map(|_| Box::pin(store.list(|connection, _| number(connection, "SELECT 1"))))
        .collect();
    for list in &mut waiting {
        assert!(poll(list.as_mut()).is_pending());
    }
    // The next is turned away without waiting.
    let mut late = Box::pin(store.list(|connection, _| number(connection, "SELECT 1")));
    let late = poll(late.as_mut());
    assert!(
        matches!(late, Poll::Ready(Err(StoreError::Busy(_)))),
        "{late:?}"
    );
    // And so are those who wait, when a second is over.
    for list in waiting {
        let ended = list.await;
        assert!(
            matches!(ended, Err(StoreError::Busy("too many lists are read"))),
            "{ended:?}"
        );
    }
    drop(places);
    assert!(has_place(&store).await);
}
