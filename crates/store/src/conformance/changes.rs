//! The change log: its numbers, its chain, and reading parts of it.

use std::sync::Arc;

use countersign_protocol::change::{ChangeKind, Event, Log};

use super::world::{World, assert_chained, at, chain, change_at, listed, some_change};
use crate::{After, Change, MachineUpdate, NewChange};

pub async fn changes_are_numbered_without_gaps_for_each_instance(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    for name in ["a", "b", "c"] {
        world.machine(mine, name).await;
        world.machine(other, name).await;
    }
    world.machine(mine, "d").await;
    let numbers = |changes: Vec<Change>| {
        changes
            .iter()
            .map(|change| change.sequence)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(world.changes(mine).await), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(world.changes(other).await), [1, 2, 3, 4]);
    assert!(world.changes(world.instance_id()).await.is_empty());
}

pub async fn every_code_covers_the_record_before(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    world.revoke(instance, id).await;
    world
        .store
        .delete_machine(instance, machine.id, change_at(1))
        .await
        .unwrap();
    let changes = world.changes(instance).await;
    assert_eq!(changes.len(), 4);
    assert_chained(Log::Instance(instance), &changes);
}

pub async fn concurrent_changes_are_chained(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let mut tasks = Vec::new();
    for number in 0..60 {
        let instance = if number % 3 == 0 { other } else { mine };
        let machine = world.new_machine(instance, "m");
        let store = Arc::clone(&world.store);
        tasks.push(tokio::spawn(async move {
            store.insert_machine(machine, some_change()).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for (instance, count) in [(mine, 41), (other, 21)] {
        let changes = world.changes(instance).await;
        assert_eq!(changes.len(), count);
        assert_chained(Log::Instance(instance), &changes);
    }
}

pub async fn changes_are_read_in_parts(world: World) {
    let instance = world.instance().await;
    for _ in 0..6 {
        world.machine(instance, "a").await;
    }
    let log = Log::Instance(instance);
    let list = async |after, limit| {
        let changes = world
            .store
            .list_changes(log, After::Sequence(after), limit)
            .await;
        listed(changes.unwrap())
    };
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let part = list(after, 3).await;
        let Some(last) = part.last() else { break };
        assert!(part.len() <= 3);
        after = last.sequence;
        seen.extend(part);
    }
    assert_eq!(seen.len(), 7);
    assert_chained(log, &seen);
    assert!(list(7, 3).await.is_empty());
    assert!(list(u64::MAX, 3).await.is_empty());
    assert!(list(0, 0).await.is_empty());
}

pub async fn refused_operations_leave_no_record(world: World) {
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
                .insert_machine(taken, some_change())
                .await
                .unwrap_err();
            store
                .update_machine(instance, machine.id, update, change_at(1))
                .await
                .unwrap()
                .unwrap();
            assert!(
                !store
                    .delete_machine(instance, unknown, change_at(1))
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
    assert_chained(Log::Instance(instance), &changes);
    assert_eq!(
        world.current(&machine).await.revision,
        machine.revision + 30
    );
}

pub async fn records_come_back_as_they_were(world: World) {
    let instance = world.instance().await;
    let id = world.token(&world.machine(instance, "a").await).await;
    let new = NewChange {
        actor: "key_abc".to_owned(),
        ..change_at(77)
    };
    world
        .store
        .revoke_token(instance, None, id, Some("ü \"".into()), new.clone())
        .await
        .unwrap();
    let check = async |world: &World| {
        let last = world.changes(instance).await.pop().unwrap();
        assert_eq!((last.at, &last.actor), (at(77), &new.actor));
        assert_eq!(last.kind, ChangeKind::TokenRevoked);
        assert_eq!((last.sequence, last.chain_version), (3, chain().version()));
        let event = last.event().unwrap();
        assert_eq!(
            (&last.subject, &last.detail),
            (&event.subject(), &event.detail())
        );
        assert_eq!(last.subject, id.to_string());
        let Event::TokenRevoked { reason, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(reason.as_deref(), Some("ü \""));
        last
    };
    let before = check(&world).await;
    let world = world.reopen().await;
    assert_eq!(check(&world).await, before);
}

pub async fn instances_and_the_authority_have_logs_of_their_own(world: World) {
    let authority = world.records(Log::Authority).await;
    assert_eq!(authority.len(), 1);
    assert_eq!(authority[0].kind, ChangeKind::AuthorityInitialized);
    let (mine, other) = (world.instance().await, world.instance().await);
    world.machine(mine, "a").await;
    world.machine(other, "b").await;
    world.machine(mine, "c").await;
    assert_eq!(world.records(Log::Authority).await, authority);
    let logs = [
        (Log::Authority, authority),
        (Log::Instance(mine), world.changes(mine).await),
        (Log::Instance(other), world.changes(other).await),
    ];
    let lengths = logs.each_ref().map(|(_, changes)| changes.len());
    assert_eq!(lengths, [1, 3, 2]);
    for (log, changes) in &logs {
        // The code covers the log, too.
        assert_chained(*log, changes);
        let first = &changes[0];
        for (another, _) in logs.iter().filter(|(another, _)| another != log) {
            assert_ne!(chain().link(&[0; 32], *another, first), first.code);
        }
    }
}
