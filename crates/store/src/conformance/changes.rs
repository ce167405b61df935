//! The change log.

use std::sync::Arc;

use super::world::{World, assert_chained, at, chain, change, revocation, some_change};
use crate::{ChangeKind, MachineUpdate, NewChange};

pub async fn changes_are_numbered_without_gaps_for_each_instance(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    for name in ["a", "b", "c"] {
        world.machine(mine, name).await;
        world.machine(other, name).await;
    }
    world.machine(mine, "d").await;
    let numbers = |changes: Vec<crate::Change>| {
        changes
            .iter()
            .map(|change| change.sequence)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(world.changes(mine).await), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(world.changes(other).await), [1, 2, 3, 4]);
    assert!(world.changes(world.instance_id()).await.is_empty());
}

pub async fn every_code_covers_the_entry_before(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    world.revoke(instance, id).await;
    world
        .store
        .delete_machine(instance, machine.id, at(1), some_change(instance))
        .await
        .unwrap();
    let changes = world.changes(instance).await;
    assert_eq!(changes.len(), 4);
    assert_chained(instance, &changes);
}

pub async fn refused_operations_leave_no_entry(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let mut tasks = Vec::new();
    for number in 0..30 {
        let (store, machine) = (Arc::clone(&world.store), Arc::clone(&machine));
        let unknown = world.machine_id();
        let taken = crate::NewMachine {
            id: machine.id,
            ..world.new_machine(instance, "taken")
        };
        tasks.push(tokio::spawn(async move {
            let update = MachineUpdate {
                name: Some(format!("name {number}")),
                default_token_ttl: None,
            };
            store
                .insert_machine(taken, some_change(instance))
                .await
                .unwrap_err();
            store
                .update_machine(instance, machine.id, update, at(1), some_change(instance))
                .await
                .unwrap()
                .unwrap();
            assert!(
                !store
                    .delete_machine(instance, unknown, at(1), some_change(instance))
                    .await
                    .unwrap()
            );
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let changes = world.changes(instance).await;
    assert_eq!(changes.len(), 32);
    assert_chained(instance, &changes);
    assert_eq!(
        world.current(&machine).await.revision,
        machine.revision + 30
    );
}

pub async fn concurrent_changes_are_chained(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let mut tasks = Vec::new();
    for number in 0..60 {
        let instance = if number % 3 == 0 { other } else { mine };
        let machine = world.new_machine(instance, "m");
        let store = Arc::clone(&world.store);
        tasks.push(tokio::spawn(async move {
            store
                .insert_machine(machine, some_change(instance))
                .await
                .unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for (instance, count) in [(mine, 41), (other, 21)] {
        let changes = world.changes(instance).await;
        assert_eq!(changes.len(), count);
        assert_chained(instance, &changes);
    }
}

pub async fn changes_are_read_in_parts(world: World) {
    let instance = world.instance().await;
    for _ in 0..6 {
        world.machine(instance, "a").await;
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let part = world.store.list_changes(instance, after, 3).await.unwrap();
        let Some(last) = part.last() else { break };
        assert!(part.len() <= 3);
        after = last.sequence;
        seen.extend(part);
    }
    assert_eq!(seen.len(), 7);
    assert_chained(instance, &seen);
    assert!(
        world
            .store
            .list_changes(instance, u64::MAX, 3)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn entries_come_back_as_they_were(world: World) {
    let instance = world.instance().await;
    let id = world.token(&world.machine(instance, "a").await).await;
    let entry = NewChange {
        at: at(77),
        actor: "key_abc".to_owned(),
        detail: r#"{"reason":"ü"}"#.to_owned(),
        ..change(instance, ChangeKind::TokenRevoked, &id.to_string())
    };
    world
        .store
        .revoke_token(instance, None, id, revocation("x"), entry.clone())
        .await
        .unwrap();
    let last = world.changes(instance).await.pop().unwrap();
    assert_eq!(
        (last.at, &last.actor, last.kind),
        (entry.at, &entry.actor, entry.kind)
    );
    assert_eq!(
        (&last.subject, &last.detail, last.chain_version),
        (&entry.subject, &entry.detail, chain().version())
    );
}
