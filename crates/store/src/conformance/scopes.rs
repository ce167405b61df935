//! Scopes between machines.

use std::sync::Arc;

use countersign_protocol::change::Log;

use super::world::{World, assert_chained, at, change_at};
use crate::{InsertScope, MachineRow};

fn ids(machine: &MachineRow) -> Vec<String> {
    machine.scopes.iter().map(str::to_owned).collect()
}

pub async fn a_new_scope_is_seen_at_once_and_moves_the_revision(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    let outcome = world
        .store
        .insert_scope(instance, a.id, b.id, 150, change_at(50))
        .await
        .unwrap();
    assert_eq!(outcome, InsertScope::Inserted);
    let now = world.current(&a).await;
    assert!(now.scopes.contains(&b.id));
    assert!(now.revision > a.revision);
    assert_eq!((now.updated_at, now.created_at), (at(50), at(0)));
    let with_scopes = world
        .store
        .machine_with_scopes(instance, a.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(with_scopes.scoped, [Arc::clone(&b)]);
    // One direction only, and the called machine did not change.
    assert_eq!(world.current(&b).await, b);
    assert_eq!(world.changes(instance).await.len(), 4);
}

pub async fn scopes_are_listed_oldest_first(world: World) {
    let instance = world.instance().await;
    let mut others = Vec::new();
    for name in ["b", "c", "d", "e"] {
        others.push(world.machine(instance, name).await);
    }
    let a = world
        .machine_with(instance, "a", &[&others[3], &others[0]])
        .await;
    world
        .store
        .insert_scope(instance, a.id, others[2].id, 150, change_at(1))
        .await
        .unwrap();
    world
        .store
        .delete_scope(instance, a.id, others[3].id, change_at(2))
        .await
        .unwrap();
    world
        .store
        .insert_scope(instance, a.id, others[1].id, 150, change_at(2))
        .await
        .unwrap();
    world
        .store
        .insert_scope(instance, a.id, others[3].id, 150, change_at(2))
        .await
        .unwrap();
    let expected: Vec<_> = [0, 2, 1, 3]
        .map(|place: usize| others[place].id.to_string())
        .to_vec();
    assert_eq!(ids(&*world.current(&a).await), expected);
    let with_scopes = world
        .store
        .machine_with_scopes(instance, a.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        with_scopes
            .scoped
            .iter()
            .map(|machine| machine.id.to_string())
            .collect::<Vec<_>>(),
        expected
    );
}

pub async fn a_scope_exists_once(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let a = world.machine_with(instance, "a", &[&b]).await;
    let outcome = world
        .store
        .insert_scope(instance, a.id, b.id, 150, change_at(1))
        .await
        .unwrap();
    assert_eq!(outcome, InsertScope::Exists);
    assert_eq!(world.current(&a).await, a);
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_scope_needs_both_machines(world: World) {
    let instance = world.instance().await;
    let (a, unknown) = (world.machine(instance, "a").await, world.machine_id());
    let outcome = world
        .store
        .insert_scope(instance, unknown, a.id, 150, change_at(1))
        .await
        .unwrap();
    assert_eq!(outcome, InsertScope::FromNotFound);
    let outcome = world
        .store
        .insert_scope(instance, a.id, unknown, 150, change_at(1))
        .await
        .unwrap();
    assert_eq!(outcome, InsertScope::ToNotFound);
    assert_eq!(world.changes(instance).await.len(), 2);
}

pub async fn a_scope_within_another_instance_is_refused(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let a = world.machine(mine, "a").await;
    let (b, c) = (
        world.machine(other, "b").await,
        world.machine(other, "c").await,
    );
    let insert = |from: &MachineRow, to: &MachineRow| {
        world
            .store
            .insert_scope(mine, from.id, to.id, 150, change_at(1))
    };
    assert_eq!(insert(&a, &b).await.unwrap(), InsertScope::ToNotFound);
    assert_eq!(insert(&b, &a).await.unwrap(), InsertScope::FromNotFound);
    assert_eq!(insert(&b, &c).await.unwrap(), InsertScope::FromNotFound);
    world
        .store
        .insert_scope(other, b.id, c.id, 150, change_at(1))
        .await
        .unwrap();
    assert!(
        !world
            .store
            .delete_scope(mine, b.id, c.id, change_at(2))
            .await
            .unwrap()
    );
    assert!(world.current(&b).await.scopes.contains(&c.id));
    assert_eq!(world.changes(mine).await.len(), 2);
}

pub async fn scopes_are_limited(world: World) {
    let instance = world.instance().await;
    let (b, c) = (
        world.machine(instance, "b").await,
        world.machine(instance, "c").await,
    );
    let a = world.machine_with(instance, "a", &[&b]).await;
    let outcome = world
        .store
        .insert_scope(instance, a.id, c.id, 1, change_at(1))
        .await
        .unwrap();
    assert_eq!(outcome, InsertScope::TooMany);
    let outcome = world
        .store
        .insert_scope(instance, a.id, c.id, 2, change_at(1))
        .await
        .unwrap();
    assert_eq!(outcome, InsertScope::Inserted);
    assert_eq!(world.changes(instance).await.len(), 5);
}

pub async fn a_deleted_scope_is_gone_at_once(world: World) {
    let instance = world.instance().await;
    let (b, c) = (
        world.machine(instance, "b").await,
        world.machine(instance, "c").await,
    );
    let a = world.machine_with(instance, "a", &[&b, &c]).await;
    assert!(
        world
            .store
            .delete_scope(instance, a.id, b.id, change_at(60))
            .await
            .unwrap()
    );
    let now = world.current(&a).await;
    assert_eq!(ids(&now), [c.id.to_string()]);
    assert!(now.revision > a.revision);
    assert_eq!(now.updated_at, at(60));
    assert!(
        !world
            .store
            .delete_scope(instance, a.id, b.id, change_at(61))
            .await
            .unwrap()
    );
    assert_eq!(world.changes(instance).await.len(), 5);
}

pub async fn an_absent_scope_is_not_deleted(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    assert!(
        !world
            .store
            .delete_scope(instance, a.id, b.id, change_at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .delete_scope(instance, a.id, world.machine_id(), change_at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .delete_scope(instance, world.machine_id(), b.id, change_at(1))
            .await
            .unwrap()
    );
    assert_eq!(world.current(&a).await, a);
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn concurrent_scopes_are_all_kept_in_both_places(world: World) {
    let instance = world.instance().await;
    let a = world.machine(instance, "a").await;
    let mut tasks = Vec::new();
    for number in 0..20 {
        let to = world.machine(instance, &format!("to {number}")).await.id;
        let (store, from) = (Arc::clone(&world.store), a.id);
        tasks.push(tokio::spawn(async move {
            store
                .insert_scope(instance, from, to, 15, change_at(1))
                .await
                .unwrap()
        }));
    }
    let mut inserted = 0;
    for task in tasks {
        inserted += usize::from(task.await.unwrap() == InsertScope::Inserted);
    }
    assert_eq!(inserted, 15);
    let now = world
        .store
        .machine_with_scopes(instance, a.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((now.machine.scopes.len(), now.scoped.len()), (15, 15));
    assert_eq!(now.machine.revision, a.revision + 15);
    let changes = world.changes(instance).await;
    assert_eq!(changes.len(), 1 + 21 + 15);
    assert_chained(Log::Instance(instance), &changes);
}
