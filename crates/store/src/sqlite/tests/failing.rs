//! What happens when the disk does not do as it should.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::super::SqliteStore;
use super::super::jobs::Write;
use super::super::rows::WriteError;
use super::{measure, world_in};
use crate::conformance::{World, at, some_change};
use crate::machines::MachineUpdate;
use crate::tokens::{InsertToken, NewToken};
use crate::{Store, StoreError, StoreOptions};
use tempfile::TempDir;

async fn world(options: StoreOptions) -> (Arc<SqliteStore>, World) {
    world_in(TempDir::new().unwrap(), options).await
}

/// Keeps the writer busy until something is sent, so that operations gather behind it.
async fn hold(store: &Arc<SqliteStore>) -> (JoinHandle<()>, Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let store = Arc::clone(store);
    let operation = move |_: &mut Write<'_>| {
        started.send(()).expect("the test waits for the writer");
        wait.recv().expect("the test lets the writer go");
        Ok(())
    };
    let holder = tokio::spawn(async move { store.writer.write_single(operation).await.unwrap() });
    // From here on no operation can join the batch of the one that holds the writer.
    has_started.await.expect("the writer runs");
    (holder, go)
}

/// Lets the database have so many more pages than it has.
async fn set_room(store: &SqliteStore, pages: i64) {
    store
        .writer
        .write_single(move |write| {
            let used: i64 = write
                .connection
                .pragma_query_value(None, "page_count", |row| row.get(0))?;
            write.connection.pragma_update_and_check(
                None,
                "max_page_count",
                used + pages,
                |_| Ok(()),
            )?;
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_writes_only_and_only_while_it_is_full() {
    let fatal = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fatal);
    let on_fatal = Box::new(move |_: &str| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (store, world) = world(StoreOptions {
        on_fatal,
        ..StoreOptions::default()
    })
    .await;
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let first = world.token(&machine).await;
    set_room(&store, 3).await;
    let mut kept = vec![first];
    let refused = loop {
        let token = world.new_token(&machine);
        let id = token.id;
        match store.insert_token(token).await {
            Ok(_) => kept.push(id),
            Err(StoreError::Unavailable(text)) => {
                assert!(text.contains("full"), "{text}");
                break id;
            }
            Err(other) => panic!("{other:?}"),
        }
        assert!(kept.len() < 10_000, "the disk never became full");
    };
    // Reads go on, and nothing that was refused is there.
    assert!(world.find(instance, first).await.is_some());
    assert!(world.find(instance, refused).await.is_none());
    assert!(matches!(
        store.check().await,
        Ok(()) | Err(StoreError::Unavailable(_))
    ));
    let machine_refused = store
        .insert_machine(
            world.new_machine(instance, &"b".repeat(9000)),
            some_change(),
        )
        .await;
    assert!(
        matches!(machine_refused, Err(StoreError::Unavailable(_))),
        "{machine_refused:?}"
    );
    // Room is back.
    set_room(&store, 1000).await;
    store.check().await.unwrap();
    let late = world.token(&machine).await;
    world.machine(instance, "b").await;
    kept.push(late);
    assert_eq!(world.changes(instance).await.len(), 3);
    assert_eq!(fatal.load(Ordering::Relaxed), 0);
    drop(store);
    let world = world.reopen().await;
    for id in kept {
        assert!(world.find(instance, id).await.is_some());
    }
    assert!(world.find(instance, refused).await.is_none());
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written_any_more_and_reads_go_on() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&reasons);
    let on_fatal = Box::new(move |reason: &str| heard.lock().unwrap().push(reason.to_owned()));
    let (store, world) = world(StoreOptions {
        on_fatal,
        ..StoreOptions::default()
    })
    .await;
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let first = world.token(&machine).await;
    let failed = store
        .writer
        .write::<()>(|write| {
            write.execute("DELETE FROM tokens", [])?;
            let code = rusqlite::ffi::SQLITE_IOERR_FSYNC;
            Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into())
        })
        .await;
    assert!(
        matches!(failed, Err(StoreError::Unavailable(_))),
        "{failed:?}"
    );
    assert_eq!(reasons.lock().unwrap().len(), 1);
    let refused = store.insert_token(world.new_token(&machine)).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(matches!(
        store.check().await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(world.find(instance, first).await.is_some());
    assert_eq!(reasons.lock().unwrap().len(), 1, "it is told once");
}

#[tokio::test]
async fn a_panic_in_the_writer_ends_the_store_and_leaves_nobody_waiting() {
    let fatal = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fatal);
    let on_fatal = Box::new(move |_: &str| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (store, world) = world(StoreOptions {
        on_fatal,
        ..StoreOptions::default()
    })
    .await;
    let instance = world.instance().await;
    let panicked = store.writer.write::<()>(|_| panic!("on purpose")).await;
    assert!(
        matches!(panicked, Err(StoreError::Unavailable(_))),
        "{panicked:?}"
    );
    let refused = store
        .insert_machine(world.new_machine(instance, "a"), some_change())
        .await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    assert_eq!(fatal.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn one_failing_operation_does_not_take_its_batch_along() {
    let (store, world) = world(StoreOptions::default()).await;
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    // The first operation holds the writer until all others wait, so that they share a batch.
    let (holder, go) = hold(&store).await;
    let mut tasks = Vec::new();
    for number in 0..20 {
        let store = Arc::clone(&store);
        let token = world.new_token(&machine);
        tasks.push(tokio::spawn(async move {
            let id = token.id;
            if number % 4 == 0 {
                let failed = store
                    .writer
                    .write::<()>(move |write| {
                        write.execute("UPDATE machines SET name = 'undone'", [])?;
                        Err(WriteError::Refused(StoreError::Conflict(
                            "on purpose".to_owned(),
                        )))
                    })
                    .await;
                assert!(matches!(failed, Err(StoreError::Conflict(_))), "{failed:?}");
                return None;
            }
            store.insert_token(token).await.unwrap();
            Some(id)
        }));
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let before = measure(&*store, "commits");
    go.send(()).unwrap();
    holder.await.unwrap();
    for task in tasks {
        if let Some(id) = task.await.unwrap() {
            assert!(world.find(instance, id).await.is_some());
        }
    }
    assert_eq!(
        measure(&*store, "commits"),
        before + 1,
        "they share a commit"
    );
    assert_eq!(world.current(&machine).await, machine);
    let world = {
        drop(store);
        world.reopen().await
    };
    assert_eq!(world.current(&machine).await, machine);
}

#[tokio::test]
async fn a_token_is_refused_behind_a_change_in_the_same_batch() {
    let (store, world) = world(StoreOptions::default()).await;
    let instance = world.instance().await;
    let new = world.new_machine(instance, "a");
    let key = new.key.id;
    let machine = world.insert(new).await;
    let token = || NewToken {
        key: Some(key),
        ..world.new_token(&machine)
    };
    let issue = |token| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.insert_token(token).await.unwrap() })
    };
    let (rotated, new_key) = (Arc::clone(&store), world.machine_key());
    let (updated, id) = (Arc::clone(&store), machine.id);
    let rotation = async move {
        let change = some_change();
        rotated
            .rotate_machine_key(instance, id, new_key, at(0), 5, change)
            .await
            .unwrap()
    };
    let update = async move {
        let update = MachineUpdate {
            default_token_ttl: Some(7),
            ..MachineUpdate::default()
        };
        updated
            .update_machine(instance, id, update, some_change())
            .await
            .unwrap()
    };

    // The tasks run, and so their operations wait, in the order in which they are spawned.
    let (holder, go) = hold(&store).await;
    let before = measure(&*store, "commits");
    let by_key = issue(token());
    let rotation = tokio::spawn(rotation);
    let by_gone_key = issue(token());
    let by_operator = issue(world.new_token(&machine));
    let update = tokio::spawn(update);
    let of_old_machine = issue(world.new_token(&machine));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    holder.await.unwrap();
    assert!(rotation.await.unwrap() && update.await.unwrap().is_some());
    assert!(matches!(by_key.await.unwrap(), InsertToken::Inserted));
    assert!(matches!(by_gone_key.await.unwrap(), InsertToken::KeyGone));
    assert!(matches!(by_operator.await.unwrap(), InsertToken::Inserted));
    assert!(matches!(
        of_old_machine.await.unwrap(),
        InsertToken::Changed
    ));
    assert_eq!(measure(&*store, "commits"), before + 1);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_does_not_keep_the_others_waiting() {
    let (store, world) = world(StoreOptions::default()).await;
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let (holder, go) = hold(&store).await;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let (store, token) = (Arc::clone(&store), world.new_token(&machine));
        tasks.push(tokio::spawn(async move {
            store.insert_token(token).await.unwrap()
        }));
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    // The one whose answer carries the others' is among them.
    let given_up = tasks.split_off(12);
    given_up.iter().for_each(tokio::task::JoinHandle::abort);
    go.send(()).unwrap();
    holder.await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
}
