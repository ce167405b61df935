//! The change log.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;

use super::world::{World, assert_chained, at, chain, change, revocation, some_change};
use crate::{
    ActingKey, ChangeKind, InstanceSettings, MachineUpdate, NewChange, RevokeToken, StoreError,
    UpdateToken,
};

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
        key: None,
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

/// An entry for the log of what this key asked for at `millis`.
fn asked_by(instance: InstanceId, key: ActingKey, millis: i64) -> NewChange {
    NewChange {
        at: at(millis),
        key: Some(key),
        ..some_change(instance)
    }
}

pub async fn a_revoked_instance_key_changes_nothing(world: World) {
    let (instance, other) = (world.instance().await, world.instance().await);
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    let key = world.added_instance_key(instance).await;
    let asked = || asked_by(instance, ActingKey::Instance(key.id.clone()), 0);
    let store = &world.store;
    let new = world.new_machine(instance, "b");
    store.insert_machine(new, asked()).await.unwrap();
    // It belongs to one instance only.
    let foreign = asked_by(other, ActingKey::Instance(key.id.clone()), 0);
    let outcome = store
        .insert_machine(world.new_machine(other, "c"), foreign)
        .await;
    assert!(matches!(outcome, Err(StoreError::InstanceKeyGone)));
    assert!(
        store
            .revoke_instance_key(instance, &key.id, at(1), some_change(instance))
            .await
            .unwrap()
    );
    let logged = world.changes(instance).await.len();

    let new = world.new_machine(instance, "d");
    let machine_key = new.key.digest;
    let fresh = world.instance_key(instance);
    let settings = InstanceSettings {
        secret_reveal: false,
        ..InstanceSettings::default()
    };
    let refused = [
        store.insert_machine(new.clone(), asked()).await.err(),
        store
            .delete_machine(instance, machine.id, at(2), asked())
            .await
            .err(),
        store
            .reveal_machine_key(instance, machine.id, asked())
            .await
            .err(),
        store
            .insert_instance_key(fresh.clone(), 20, asked())
            .await
            .err(),
        store
            .insert_signing_key(world.signing_key(instance), 16, asked())
            .await
            .err(),
        store
            .update_instance_settings(instance, 1, settings, asked())
            .await
            .err(),
        store
            .revoke_token(instance, None, id, revocation("x"), asked())
            .await
            .err(),
    ];
    for outcome in refused {
        assert!(
            matches!(outcome, Some(StoreError::InstanceKeyGone)),
            "{outcome:?}"
        );
    }
    assert_eq!(world.changes(instance).await.len(), logged);
    assert!(store.machine(instance, new.id).await.unwrap().is_none());
    let found = store.machine_key_by_digest(&machine_key).await.unwrap();
    assert!(found.is_none());
    let found = store.instance_key_by_digest(&fresh.digest).await.unwrap();
    assert!(found.is_none());
    let stored = world.find(instance, id).await.unwrap();
    assert!(stored.row.revoked.is_none());
    assert_eq!(store.list_signing_keys(instance).await.unwrap().len(), 1);
    let now = store.instance(instance).await.unwrap().unwrap();
    assert_eq!((now.revision, now.settings.secret_reveal), (1, true));
}

pub async fn an_instance_key_may_revoke_itself(world: World) {
    let instance = world.instance().await;
    let key = world.added_instance_key(instance).await;
    let asked = || asked_by(instance, ActingKey::Instance(key.id.clone()), 0);
    let revoked = world
        .store
        .revoke_instance_key(instance, &key.id, at(1), asked())
        .await;
    assert!(revoked.unwrap());
    let found = world.store.instance_key_by_digest(&key.digest).await;
    assert!(found.unwrap().is_none());
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_machine_key_that_ended_changes_nothing(world: World) {
    let (instance, other) = (world.instance().await, world.instance().await);
    let new = world.new_machine(instance, "a");
    let digest = new.key.digest;
    let machine = world.insert(new).await;
    let store = &world.store;
    let key = store.machine_key_by_digest(&digest).await.unwrap().unwrap();
    let asked = |millis| asked_by(instance, ActingKey::Machine(key.number), millis);
    let ids = [world.token(&machine).await, world.token(&machine).await];
    let revoke = async |id, millis| {
        let (revocation, change) = (revocation("x"), asked(millis));
        store
            .revoke_token(instance, Some(machine.id), id, revocation, change)
            .await
    };
    let rotate = async |older| {
        let key = world.machine_key();
        store
            .rotate_machine_key(
                instance,
                machine.id,
                key,
                at(older),
                5,
                at(1),
                some_change(instance),
            )
            .await
            .unwrap()
    };
    assert!(rotate(5000).await);
    // Within the overlap it goes on, and in its own instance only.
    assert!(matches!(
        revoke(ids[0], 4999).await,
        Ok(RevokeToken::Revoked(_))
    ));
    let foreign = asked_by(other, ActingKey::Machine(key.number), 0);
    let outcome = store
        .insert_machine(world.new_machine(other, "b"), foreign)
        .await;
    assert!(matches!(outcome, Err(StoreError::MachineKeyGone)));
    let over = revoke(ids[1], 5000).await;
    assert!(
        matches!(over, Err(StoreError::MachineKeyGone)),
        "it is over: {over:?}"
    );
    assert!(rotate(1).await);
    let gone = revoke(ids[1], 2).await;
    assert!(
        matches!(gone, Err(StoreError::MachineKeyGone)),
        "it is deleted: {gone:?}"
    );
    let update = crate::TokenUpdate {
        expires_at: Some(None),
        ..crate::TokenUpdate::default()
    };
    let updated = store
        .update_token(
            instance,
            Some(machine.id),
            ids[1],
            update.clone(),
            at(2),
            asked(2),
        )
        .await;
    assert!(
        matches!(updated, Err(StoreError::MachineKeyGone)),
        "{updated:?}"
    );
    let stored = world.find(instance, ids[1]).await.unwrap();
    assert!(stored.row.revoked.is_none() && stored.row.expires_at.is_some());
    // Whoever asks without a key, the operator, still may.
    let updated = store
        .update_token(instance, None, ids[1], update, at(2), some_change(instance))
        .await;
    assert!(matches!(updated, Ok(UpdateToken::Updated(_))));
}
