//! Instances and their settings.

use std::sync::Arc;

use countersign_protocol::settings::InstanceSettings;

use super::world::{World, at, change_at, some_change};
use crate::{InsertToken, InstanceKeyRow, NewInstance, StoreError, UpdateSettings};

pub async fn a_new_instance_is_found_at_once_with_its_keys(world: World) {
    let new = world.new_instance();
    let key = world.instance_key(new.id);
    let signing_key = world.first_signing_key(new.id);
    let made = world
        .store
        .insert_instance(new.clone(), key.clone(), signing_key.clone(), some_change())
        .await
        .unwrap();
    let found = world.store.instance(new.id).await.unwrap().unwrap();
    assert_eq!(
        (found.id, &found.name, &found.settings, found.created_at),
        (new.id, &new.name, &new.settings, at(0))
    );
    assert_eq!(found, made);
    assert_eq!(
        (found.revision, found.issued_before, found.is_default),
        (1, None, false)
    );
    let by_digest = world.instance_key_of(&key.digest).await.unwrap();
    assert_eq!(
        (&by_digest.id, by_digest.instance, by_digest.created_at),
        (&key.id, new.id, at(0))
    );
    let signing_keys = world.store.list_signing_keys(new.id).await.unwrap();
    assert_eq!(signing_keys.len(), 1);
    assert_eq!(
        (signing_keys[0].id, &signing_keys[0].sealed),
        (signing_key.id, &signing_key.sealed)
    );
    assert_eq!(world.changes(new.id).await.len(), 1);
    assert!(
        world
            .store
            .instance(world.instance_id())
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn instances_are_listed_oldest_first(world: World) {
    let ids = [
        world.instance().await,
        world.instance().await,
        world.instance().await,
    ];
    let listed = world.store.list_instances().await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|instance| instance.id)
            .collect::<Vec<_>>(),
        ids
    );
}

pub async fn an_instance_id_is_used_once(world: World) {
    let id = world.instance().await;
    let new = NewInstance {
        id,
        ..world.new_instance()
    };
    let outcome = world
        .store
        .insert_instance(
            new,
            world.instance_key(id),
            world.signing_key(id),
            some_change(),
        )
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert_eq!(world.changes(id).await.len(), 1);
}

pub async fn there_is_one_default_instance_at_most(world: World) {
    let new = || NewInstance {
        is_default: true,
        ..world.new_instance()
    };
    let insert = async |new: NewInstance| {
        let (key, signing_key) = (world.instance_key(new.id), world.first_signing_key(new.id));
        world
            .store
            .insert_instance(new, key, signing_key, some_change())
            .await
    };
    world.instance().await;
    let first = insert(new()).await.unwrap();
    assert!(first.is_default);
    let second = new();
    let id = second.id;
    let outcome = insert(second).await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(world.store.instance(id).await.unwrap().is_none());
    assert!(world.changes(id).await.is_empty());
    world.instance().await;
    let world = world.reopen().await;
    let listed = world.store.list_instances().await.unwrap();
    let defaults: Vec<_> = listed.iter().map(|instance| instance.is_default).collect();
    assert_eq!(defaults, [false, true, false]);
}

pub async fn a_failed_insertion_leaves_nothing_of_the_instance(world: World) {
    let first = world.instance().await;
    let taken = world
        .store
        .list_instance_keys(first)
        .await
        .unwrap()
        .remove(0);
    let new = world.new_instance();
    let key = InstanceKeyRow {
        digest: taken.digest,
        ..world.instance_key(new.id)
    };
    let outcome = world
        .store
        .insert_instance(
            new.clone(),
            key.clone(),
            world.first_signing_key(new.id),
            some_change(),
        )
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(world.store.instance(new.id).await.unwrap().is_none());
    assert_eq!(world.store.list_instances().await.unwrap().len(), 1);
    assert!(
        world
            .store
            .list_instance_keys(new.id)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        world
            .store
            .list_signing_keys(new.id)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(world.changes(new.id).await.is_empty());
    assert_eq!(
        world.instance_key_of(&key.digest).await.unwrap().instance,
        first
    );
}

pub async fn new_settings_replace_the_old_ones(world: World) {
    let id = world.instance().await;
    let settings = InstanceSettings {
        max_jwt_ttl: 86_400,
        issuer: Some("https://auth.example.com".to_owned()),
        ..InstanceSettings::default()
    };
    let before = world.store.instance(id).await.unwrap().unwrap();
    let after = world.set(id, settings.clone()).await;
    assert_eq!(after.settings, settings);
    assert!(after.revision > before.revision);
    assert_eq!(
        world.store.instance(id).await.unwrap().unwrap().settings,
        settings
    );
    assert_eq!(
        world.store.list_instances().await.unwrap()[0].settings,
        settings
    );
    assert_eq!(world.changes(id).await.len(), 2);
}

pub async fn settings_that_changed_meanwhile_are_not_replaced(world: World) {
    let id = world.instance().await;
    let seen = world.store.instance(id).await.unwrap().unwrap();
    let first = world.set(id, without_reveal()).await;
    let attempt = |revision| {
        world
            .store
            .update_instance_settings(id, revision, without_pooling(), some_change())
    };
    let outcome = attempt(seen.revision).await.unwrap();
    assert!(matches!(outcome, UpdateSettings::Changed), "{outcome:?}");
    let stored = world.store.instance(id).await.unwrap().unwrap();
    assert_eq!(stored.settings, without_reveal());
    assert_eq!(world.changes(id).await.len(), 2);
    let outcome = attempt(first.revision).await.unwrap();
    assert!(matches!(outcome, UpdateSettings::Updated(_)), "{outcome:?}");
    // Revisions go on after a start.
    let world = world.reopen().await;
    let stored = world.store.instance(id).await.unwrap().unwrap();
    assert_eq!(stored.settings, without_pooling());
    assert!(stored.revision > first.revision);
}

pub async fn concurrent_changes_of_settings_follow_one_another(world: World) {
    let id = world.instance().await;
    let seen = world.store.instance(id).await.unwrap().unwrap();
    let mut tasks = Vec::new();
    for max_jwt_ttl in 1..=8 {
        let (store, revision) = (Arc::clone(&world.store), seen.revision);
        let settings = InstanceSettings {
            max_jwt_ttl,
            ..InstanceSettings::default()
        };
        tasks.push(tokio::spawn(async move {
            store
                .update_instance_settings(id, revision, settings, some_change())
                .await
                .unwrap()
        }));
    }
    let mut updated = 0;
    for task in tasks {
        updated += usize::from(matches!(task.await.unwrap(), UpdateSettings::Updated(_)));
    }
    assert_eq!(updated, 1);
    assert_eq!(world.changes(id).await.len(), 2);
}

pub async fn settings_of_an_unknown_instance_are_not_changed(world: World) {
    let unknown = world.instance_id();
    let outcome = world
        .store
        .update_instance_settings(unknown, 1, InstanceSettings::default(), some_change())
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateSettings::NotFound), "{outcome:?}");
    assert!(world.changes(unknown).await.is_empty());
}

fn without_reveal() -> InstanceSettings {
    InstanceSettings {
        secret_reveal: false,
        ..InstanceSettings::default()
    }
}

fn without_pooling() -> InstanceSettings {
    InstanceSettings {
        token_pooling: false,
        ..InstanceSettings::default()
    }
}

pub async fn turning_reveal_off_erases_sealed_keys_of_this_instance_only(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let (a, b) = (
        world.machine(mine, "a").await,
        world.machine(other, "b").await,
    );
    world.set(mine, without_reveal()).await;
    // On again: what was erased stays away.
    world.set(mine, InstanceSettings::default()).await;
    assert_eq!(
        world
            .store
            .reveal_machine_key(mine, a.id, some_change())
            .await
            .unwrap(),
        Some(None)
    );
    assert!(matches!(
        world
            .store
            .reveal_machine_key(other, b.id, some_change())
            .await
            .unwrap(),
        Some(Some(_))
    ));
}

pub async fn turning_pooling_off_erases_sealed_tokens_of_this_instance_only(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let (a, b) = (
        world.machine(mine, "a").await,
        world.machine(other, "b").await,
    );
    world.issue(world.new_pooled(&a, 1, 0)).await;
    world.issue(world.new_pooled(&b, 1, 0)).await;
    world.set(mine, without_pooling()).await;
    world.set(mine, InstanceSettings::default()).await;
    world.issue(world.new_pooled(&a, 1, 0)).await;
    let outcome = world
        .store
        .insert_token(world.new_pooled(&b, 1, 0))
        .await
        .unwrap();
    assert!(matches!(outcome, InsertToken::Reused { .. }), "{outcome:?}");
}

pub async fn no_sealed_key_is_kept_where_reveal_is_off(world: World) {
    let instance = world.instance().await;
    world.set(instance, without_reveal()).await;
    let machine = world.machine(instance, "a").await;
    assert_eq!(
        world
            .store
            .reveal_machine_key(instance, machine.id, some_change())
            .await
            .unwrap(),
        Some(None)
    );
    let (key, later) = (world.machine_key(), at(1000));
    world
        .store
        .rotate_machine_key(instance, machine.id, key, later, 5, change_at(1))
        .await
        .unwrap();
    assert_eq!(
        world
            .store
            .reveal_machine_key(instance, machine.id, some_change())
            .await
            .unwrap(),
        Some(None)
    );
}

pub async fn no_token_is_pooled_where_pooling_is_off(world: World) {
    let instance = world.instance().await;
    world.set(instance, without_pooling()).await;
    let machine = world.machine(instance, "a").await;
    world.issue(world.new_pooled(&machine, 1, 0)).await;
    world.issue(world.new_pooled(&machine, 1, 0)).await;
    world.set(instance, InstanceSettings::default()).await;
    world.issue(world.new_pooled(&machine, 1, 0)).await;
}
