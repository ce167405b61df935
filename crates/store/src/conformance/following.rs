//! Following the change log: where a reader continues, and what wakes it.

use std::sync::Arc;
use std::time::Duration;

use countersign_protocol::change::{Cursor, Log};
use tokio::time::timeout;

use super::world::{World, change_at, listed, some_change};
use crate::{After, Changes, NewMachine, StoreError};

/// Longer than any store takes, so that a case that waits for nothing fails.
const LONG: Duration = Duration::from_secs(30);

pub async fn a_cursor_of_the_log_is_read_on_from(world: World) {
    let instance = world.instance().await;
    for _ in 0..4 {
        world.machine(instance, "a").await;
    }
    let log = Log::Instance(instance);
    let all = world.changes(instance).await;
    let behind = async |world: &World, cursor, limit| {
        let changes = world
            .store
            .list_changes(log, After::Cursor(cursor), limit)
            .await;
        listed(changes.unwrap())
    };
    assert_eq!(behind(&world, Cursor::START, 100).await, all);
    assert_eq!(behind(&world, Cursor::START, 2).await, all[..2]);
    for (place, record) in all.iter().enumerate() {
        assert_eq!(behind(&world, record.cursor(), 100).await, all[place + 1..]);
    }
    assert_eq!(behind(&world, all[0].cursor(), 1).await, all[1..2]);
    let world = world.reopen().await;
    assert_eq!(behind(&world, all[2].cursor(), 100).await, all[3..]);
}

pub async fn a_cursor_that_the_log_does_not_contain_is_told_apart(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    world.machine(mine, "a").await;
    let log = Log::Instance(mine);
    let place = world.changes(mine).await[1].cursor();
    let foreign = world.changes(other).await[0].cursor();
    let authority = world.records(Log::Authority).await[0].cursor();
    let mut other_code = place.code;
    other_code[7] ^= 1;
    let unknown = [
        Cursor {
            code: other_code,
            ..place
        },
        Cursor {
            code: [0; 8],
            ..place
        },
        // A code at another number.
        Cursor {
            sequence: 1,
            ..place
        },
        Cursor {
            sequence: 0,
            ..place
        },
        // Beyond the end.
        Cursor {
            sequence: 3,
            ..place
        },
        Cursor {
            sequence: u64::MAX,
            ..place
        },
        foreign,
        authority,
    ];
    for cursor in unknown {
        let changes = world
            .store
            .list_changes(log, After::Cursor(cursor), 100)
            .await;
        assert_eq!(changes.unwrap(), Changes::UnknownCursor, "{cursor:?}");
    }
    // A number alone names whatever record has it.
    for (sequence, count) in [(0, 2), (1, 1), (2, 0), (3, 0), (u64::MAX, 0)] {
        let changes = world
            .store
            .list_changes(log, After::Sequence(sequence), 100)
            .await;
        assert_eq!(listed(changes.unwrap()).len(), count);
    }
    // A log without records has one place only.
    let empty = Log::Instance(world.instance_id());
    let changes = world
        .store
        .list_changes(empty, After::Cursor(Cursor::START), 100)
        .await;
    assert_eq!(changes.unwrap(), Changes::Listed(Vec::new()));
    let changes = world
        .store
        .list_changes(empty, After::Cursor(place), 100)
        .await;
    assert_eq!(changes.unwrap(), Changes::UnknownCursor);
}

pub async fn the_head_is_the_place_of_the_last_record(world: World) {
    let instance = world.instance().await;
    let unknown = Log::Instance(world.instance_id());
    assert_eq!(world.store.log_head(unknown).await.unwrap(), Cursor::START);
    for _ in 0..3 {
        world.machine(instance, "a").await;
        for log in [Log::Authority, Log::Instance(instance)] {
            let last = world.records(log).await.pop().unwrap().cursor();
            let head = world.store.log_head(log).await.unwrap();
            assert_eq!(head, last);
            let behind = world
                .store
                .list_changes(log, After::Cursor(head), 100)
                .await;
            assert_eq!(behind.unwrap(), Changes::Listed(Vec::new()));
        }
    }
    let log = Log::Instance(instance);
    let head = world.store.log_head(log).await.unwrap();
    assert_eq!(head.sequence, 4);
    let world = world.reopen().await;
    assert_eq!(world.store.log_head(log).await.unwrap(), head);
}

/// How many records all logs hold.
async fn held(world: &World) -> u64 {
    timeout(LONG, world.store.wait_for_changes(0))
        .await
        .unwrap()
        .unwrap()
}

pub async fn nobody_waits_where_there_is_more(world: World) {
    // The record of the initialization.
    assert_eq!(held(&world).await, 1);
    let instances = [world.instance().await, world.instance().await];
    world.machine(instances[0], "a").await;
    assert_eq!(held(&world).await, 4);
    let again = timeout(LONG, world.store.wait_for_changes(3)).await;
    assert_eq!(again.unwrap().unwrap(), 4);
    let world = world.reopen().await;
    assert_eq!(held(&world).await, 4);
}

pub async fn a_waiting_reader_is_woken_and_finds_the_record(world: World) {
    let (instance, other) = (world.instance().await, world.instance().await);
    let mut seen = held(&world).await;
    let mut length = world.changes(instance).await.len();
    for round in 0..20 {
        let (store, before) = (Arc::clone(&world.store), seen);
        let reader = tokio::spawn(async move {
            let held = timeout(LONG, store.wait_for_changes(before))
                .await
                .unwrap()
                .unwrap();
            let changes = store.list_changes(Log::Instance(instance), After::Sequence(0), 100);
            (held, listed(changes.await.unwrap()).len())
        });
        // Half of the time the reader waits already.
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        world.machine(instance, "a").await;
        let (held, found) = reader.await.unwrap();
        assert_eq!(held, seen + 1);
        assert_eq!(found, length + 1);
        (seen, length) = (held, found);
    }
    // Any log wakes, and all who wait.
    let readers = [(); 5].map(|()| {
        let store = Arc::clone(&world.store);
        tokio::spawn(async move { timeout(LONG, store.wait_for_changes(seen)).await })
    });
    world.machine(other, "b").await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap().unwrap(), seen + 1);
    }
}

pub async fn an_acknowledged_record_is_counted_and_listed(world: World) {
    let instance = world.instance().await;
    let begin = held(&world).await;
    let mut tasks = Vec::new();
    for _ in 0..40 {
        let (store, machine) = (Arc::clone(&world.store), world.new_machine(instance, "a"));
        tasks.push(tokio::spawn(async move {
            let id = machine.id.to_string();
            store.insert_machine(machine, some_change()).await.unwrap();
            let held = timeout(LONG, store.wait_for_changes(0))
                .await
                .unwrap()
                .unwrap();
            let changes = store.list_changes(Log::Instance(instance), After::Sequence(0), 100);
            let changes = listed(changes.await.unwrap());
            assert!(changes.iter().any(|change| change.subject == id));
            let head = store.log_head(Log::Instance(instance)).await.unwrap();
            assert!(head.sequence >= changes.len() as u64);
            held
        }));
    }
    let mut counts = Vec::new();
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    counts.sort_unstable();
    // The least of them counts its own record, the next at least two of them, and so on.
    for (own, count) in (1..).zip(&counts) {
        assert!(*count >= begin + own, "{counts:?}");
    }
    assert_eq!(held(&world).await, begin + 40);
}

pub async fn a_refused_operation_wakes_nobody(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let seen = held(&world).await;
    let (store, count) = (&world.store, seen);
    let waiting = {
        let store = Arc::clone(store);
        tokio::spawn(async move { timeout(LONG, store.wait_for_changes(count)).await })
    };
    tokio::task::yield_now().await;
    let taken = NewMachine {
        id: machine.id,
        ..world.new_machine(instance, "b")
    };
    let refused = store.insert_machine(taken, some_change()).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));
    let deleted = store.delete_machine(instance, world.machine_id(), some_change());
    assert!(!deleted.await.unwrap());
    let only = world.first_instance_key(instance).await;
    let refused = store
        .revoke_instance_key(instance, only.id, change_at(1))
        .await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));
    // What writes no record wakes nobody either.
    world.token(&machine).await;
    store
        .record_uses(Vec::new(), machine.created_at)
        .await
        .unwrap();
    store.check().await.unwrap();
    assert!(!waiting.is_finished());
    assert_eq!(held(&world).await, seen);
    world.machine(instance, "c").await;
    assert_eq!(waiting.await.unwrap().unwrap().unwrap(), seen + 1);
}
