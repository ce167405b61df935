//! Signing keys of JWTs.

use std::sync::Arc;

use countersign_protocol::change::Cause;

use super::world::{World, at, change_at, some_change};
use crate::{InsertSigningKey, NewToken, SigningKeyRow, SigningKeyState, StoreError};

pub async fn a_published_key_is_listed_and_not_active(world: World) {
    let id = world.instance().await;
    let key = world.signing_key(id);
    world
        .store
        .insert_signing_key(key.clone(), 16, some_change())
        .await
        .unwrap();
    let listed = world.store.list_signing_keys(id).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (listed[1].id, listed[1].state, &listed[1].sealed),
        (key.id, SigningKeyState::Published, &key.sealed)
    );
    assert_eq!(
        (
            listed[1].active_at,
            listed[1].retired_at,
            listed[1].last_expires_at
        ),
        (None, None, None)
    );
    assert_eq!(world.changes(id).await.len(), 2);
}

pub async fn one_signing_key_is_published_at_a_time(world: World) {
    let (id, other) = (world.instance().await, world.instance().await);
    let tasks = [(); 20].map(|()| {
        let (store, key) = (Arc::clone(&world.store), world.signing_key(id));
        tokio::spawn(async move { store.insert_signing_key(key, 16, some_change()).await })
    });
    let mut inserted = 0;
    for task in tasks {
        match task.await.unwrap().unwrap() {
            InsertSigningKey::Inserted => inserted += 1,
            outcome => assert_eq!(outcome, InsertSigningKey::NextWaits),
        }
    }
    assert_eq!(inserted, 1);
    assert_eq!(world.store.list_signing_keys(id).await.unwrap().len(), 2);
    assert_eq!(world.changes(id).await.len(), 2);
    let theirs = world.signing_key(other);
    let outcome = world
        .store
        .insert_signing_key(theirs, 16, some_change())
        .await;
    assert_eq!(outcome.unwrap(), InsertSigningKey::Inserted);
}

pub async fn signing_keys_are_limited(world: World) {
    let (id, other) = (world.instance().await, world.instance().await);
    for expected in [InsertSigningKey::Inserted, InsertSigningKey::TooMany] {
        let key = world.signing_key(id);
        let kid = key.id;
        let outcome = world.store.insert_signing_key(key, 2, some_change()).await;
        assert_eq!(outcome.unwrap(), expected);
        let activated = world
            .store
            .activate_signing_key(id, kid, Cause::Request, change_at(5))
            .await;
        assert_eq!(activated.unwrap(), expected == InsertSigningKey::Inserted);
    }
    assert_eq!(world.store.list_signing_keys(id).await.unwrap().len(), 2);
    assert_eq!(world.changes(id).await.len(), 3);
    let theirs = world.signing_key(other);
    let outcome = world
        .store
        .insert_signing_key(theirs, 2, some_change())
        .await;
    assert_eq!(outcome.unwrap(), InsertSigningKey::Inserted);
}

pub async fn activation_makes_the_active_key_verify_only(world: World) {
    let id = world.instance().await;
    let key = world.signing_key(id);
    world
        .store
        .insert_signing_key(key.clone(), 16, some_change())
        .await
        .unwrap();
    assert!(
        world
            .store
            .activate_signing_key(id, key.id, Cause::Request, change_at(5))
            .await
            .unwrap()
    );
    let listed = world.store.list_signing_keys(id).await.unwrap();
    assert_eq!(
        (listed[0].state, listed[0].retired_at),
        (SigningKeyState::VerifyOnly, Some(at(5)))
    );
    assert_eq!(
        (listed[1].state, listed[1].active_at),
        (SigningKeyState::Active, Some(at(5)))
    );
    assert_eq!(world.changes(id).await.len(), 3);
}

pub async fn only_a_published_key_is_activated(world: World) {
    let id = world.instance().await;
    let active = id.first_signing_key();
    assert!(
        !world
            .store
            .activate_signing_key(id, active, Cause::Request, change_at(5))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .activate_signing_key(id, world.signing_key_id(), Cause::Request, change_at(5))
            .await
            .unwrap()
    );
    let key = world.signing_key(id);
    world
        .store
        .insert_signing_key(key.clone(), 16, some_change())
        .await
        .unwrap();
    assert!(
        world
            .store
            .activate_signing_key(id, key.id, Cause::Request, change_at(5))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .activate_signing_key(id, active, Cause::Request, change_at(6))
            .await
            .unwrap()
    );
    assert_eq!(
        world.store.list_signing_keys(id).await.unwrap()[1].state,
        SigningKeyState::Active
    );
    assert_eq!(world.changes(id).await.len(), 3);
}

pub async fn the_active_key_is_not_deleted(world: World) {
    let id = world.instance().await;
    assert!(
        !world
            .store
            .delete_signing_key(id, id.first_signing_key(), None, some_change())
            .await
            .unwrap()
    );
    let key = world.signing_key(id);
    world
        .store
        .insert_signing_key(key.clone(), 16, some_change())
        .await
        .unwrap();
    assert!(
        world
            .store
            .delete_signing_key(id, key.id, None, some_change())
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .delete_signing_key(id, key.id, None, some_change())
            .await
            .unwrap()
    );
    assert_eq!(world.store.list_signing_keys(id).await.unwrap().len(), 1);
    assert_eq!(world.changes(id).await.len(), 3);
}

pub async fn a_key_counts_as_unused_behind_its_last_jwt_only(world: World) {
    let id = world.instance().await;
    let (first, key) = (id.first_signing_key(), world.signing_key(id));
    let next = key.id;
    let delete = async |kid, since| {
        world
            .store
            .delete_signing_key(id, kid, Some(at(since)), some_change())
            .await
            .unwrap()
    };
    world
        .store
        .insert_signing_key(key, 16, some_change())
        .await
        .unwrap();
    assert!(!delete(next, 100).await, "it is only published");
    world
        .store
        .activate_signing_key(id, next, Cause::Request, change_at(5))
        .await
        .unwrap();
    assert!(!delete(first, 5).await, "it was replaced only now");
    // A JWT of the older key arrives after somebody has found that there is none.
    let machine = world.machine(id, "a").await;
    let late = NewToken {
        expires_at: Some(at(9000)),
        ..world.new_jwt(&machine)
    };
    world.issue(late).await;
    assert!(!delete(first, 6).await);
    assert!(!delete(first, 9000).await);
    assert!(!delete(next, 9001).await, "it is the active one");
    assert!(delete(first, 9001).await);
    assert_eq!(world.store.list_signing_keys(id).await.unwrap().len(), 1);
    assert_eq!(world.changes(id).await.len(), 5);
}

pub async fn a_signing_key_id_is_used_once(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let key = SigningKeyRow {
        id: other.first_signing_key(),
        ..world.signing_key(mine)
    };
    let outcome = world.store.insert_signing_key(key, 16, some_change()).await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert_eq!(world.changes(mine).await.len(), 1);
}

pub async fn a_signing_key_of_another_instance_is_left_alone(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let key = world.signing_key(other);
    world
        .store
        .insert_signing_key(key.clone(), 16, some_change())
        .await
        .unwrap();
    assert!(
        !world
            .store
            .activate_signing_key(mine, key.id, Cause::Request, change_at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .delete_signing_key(mine, key.id, None, some_change())
            .await
            .unwrap()
    );
    assert_eq!(world.store.list_signing_keys(mine).await.unwrap().len(), 1);
    let theirs = world.store.list_signing_keys(other).await.unwrap();
    assert_eq!(theirs[1].state, SigningKeyState::Published);
    assert_eq!(world.changes(mine).await.len(), 1);
}

pub async fn a_jwt_moves_the_last_expiry_of_its_key_forwards_only(world: World) {
    let id = world.instance().await;
    let machine = world.machine(id, "a").await;
    world
        .issue(NewToken {
            expires_at: Some(at(9000)),
            ..world.new_jwt(&machine)
        })
        .await;
    world
        .issue(NewToken {
            expires_at: Some(at(8000)),
            ..world.new_jwt(&machine)
        })
        .await;
    world.token(&machine).await;
    assert_eq!(
        world.store.list_signing_keys(id).await.unwrap()[0].last_expires_at,
        Some(at(9000))
    );
}
