//! Acknowledged changes are durable and visible to readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use countersign_protocol::change::Log;

use super::world::{World, assert_chained, change_at};
use crate::{InsertScope, MachineUpdate, NewMachine, RevokeToken};

pub async fn everything_is_there_after_reopening(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let new = NewMachine {
        scopes: vec![b.id],
        ..world.new_machine(instance, "a")
    };
    let digest = new.key.digest;
    let a = world.insert(new).await;
    let id = world.token(&a).await;
    let key = world
        .store
        .list_instance_keys(instance)
        .await
        .unwrap()
        .remove(0);
    let before = world.changes(instance).await;
    let world = world.reopen().await;
    assert_eq!(world.store.data_keys().await.unwrap().len(), 3);
    assert_eq!(world.store.list_instances().await.unwrap().len(), 1);
    assert!(world.instance_key_of(&key.digest).await.is_some());
    assert_eq!(world.machine_key_of(&digest).await.unwrap().machine, a.id);
    assert_eq!(world.current(&a).await, a);
    assert_eq!(
        world
            .store
            .machine_with_scopes(instance, a.id)
            .await
            .unwrap()
            .unwrap()
            .scoped,
        [b]
    );
    assert_eq!(world.find(instance, id).await.unwrap().machine, a);
    assert_eq!(
        world.store.list_signing_keys(instance).await.unwrap().len(),
        1
    );
    let after = world.changes(instance).await;
    assert_eq!(after.len(), before.len());
    assert_chained(Log::Instance(instance), &after);
}

pub async fn a_revocation_is_there_after_reopening(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    world.revoke(instance, id).await;
    let world = world.reopen().await;
    assert!(
        world
            .find(instance, id)
            .await
            .unwrap()
            .row
            .revoked
            .is_some()
    );
    assert!(matches!(
        world.revoke(instance, id).await,
        RevokeToken::AlreadyRevoked(_)
    ));
}

pub async fn sequence_and_revision_go_on_after_reopening(world: World) {
    let instance = world.instance().await;
    let a = world.machine(instance, "a").await;
    world
        .store
        .delete_machine(instance, a.id, change_at(1))
        .await
        .unwrap();
    let world = world.reopen().await;
    let b = world.machine(instance, "b").await;
    assert!(world.store.machine(instance, a.id).await.unwrap().is_none());
    let outcome = world
        .store
        .insert_scope(instance, b.id, a.id, 150, change_at(1))
        .await
        .unwrap();
    assert_eq!(outcome, InsertScope::ToNotFound);
    let changes = world.changes(instance).await;
    assert_eq!(changes.len(), 4);
    assert_chained(Log::Instance(instance), &changes);
}

pub async fn readers_never_see_an_older_state_than_was_acknowledged(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let acknowledged = Arc::new(AtomicI64::new(machine.default_token_ttl));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (store, id) = (Arc::clone(&world.store), machine.id);
        let (acknowledged, is_over) = (Arc::clone(&acknowledged), Arc::clone(&is_over));
        readers.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Acquire) {
                let least = acknowledged.load(Ordering::Acquire);
                let seen = store
                    .machine(instance, id)
                    .await
                    .unwrap()
                    .unwrap()
                    .default_token_ttl;
                assert!(
                    seen >= least,
                    "{seen} was read after {least} had been acknowledged"
                );
                tokio::task::yield_now().await;
            }
        }));
    }
    for _ in 0..200 {
        let next = acknowledged.load(Ordering::Acquire) + 1;
        let update = MachineUpdate {
            default_token_ttl: Some(next),
            ..MachineUpdate::default()
        };
        world
            .store
            .update_machine(instance, machine.id, update, change_at(1))
            .await
            .unwrap()
            .unwrap();
        acknowledged.store(next, Ordering::Release);
    }
    is_over.store(true, Ordering::Release);
    for reader in readers {
        reader.await.unwrap();
    }
}

pub async fn many_writers_are_all_acknowledged_and_kept(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let mut tasks = Vec::new();
    for _ in 0..600 {
        let (store, token) = (Arc::clone(&world.store), world.new_token(&machine));
        tasks.push(tokio::spawn(async move {
            let id = token.id;
            store.insert_token(token).await.unwrap();
            // Seen by whoever asked, before anything else happens.
            assert!(store.token(instance, id.locator()).await.unwrap().is_some());
            id
        }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    let world = world.reopen().await;
    for id in ids {
        assert_eq!(world.find(instance, id).await.unwrap().row.id, id);
    }
}
