//! Keys of instances.

use super::world::{World, at, change_at, some_change};
use crate::{Digest, InstanceKeyRow, StoreError};

pub async fn an_added_instance_key_is_found(world: World) {
    let id = world.instance().await;
    let key = world.instance_key(id);
    assert!(
        world
            .store
            .insert_instance_key(key.clone(), 20, some_change())
            .await
            .unwrap()
    );
    assert_eq!(world.instance_key_of(&key.digest).await.unwrap().id, key.id);
    let listed = world.store.list_instance_keys(id).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[1].id, listed[1].digest), (&key.id, key.digest));
    assert_eq!(world.changes(id).await.len(), 2);
}

pub async fn instance_keys_are_limited_by_the_live_ones(world: World) {
    let id = world.instance().await;
    let second = world.instance_key(id);
    assert!(
        world
            .store
            .insert_instance_key(second.clone(), 2, some_change())
            .await
            .unwrap()
    );
    let third = world.instance_key(id);
    assert!(
        !world
            .store
            .insert_instance_key(third.clone(), 2, some_change())
            .await
            .unwrap()
    );
    assert!(world.instance_key_of(&third.digest).await.is_none());
    assert_eq!(world.changes(id).await.len(), 2);
    assert!(
        world
            .store
            .revoke_instance_key(id, second.id, change_at(1))
            .await
            .unwrap()
    );
    assert!(
        world
            .store
            .insert_instance_key(third, 2, some_change())
            .await
            .unwrap()
    );
}

pub async fn a_revoked_instance_key_is_not_found_and_stays_listed(world: World) {
    let id = world.instance().await;
    let key = world.added_instance_key(id).await;
    assert!(world.instance_key_of(&key.digest).await.is_some());
    assert!(
        world
            .store
            .revoke_instance_key(id, key.id, change_at(7))
            .await
            .unwrap()
    );
    assert!(world.instance_key_of(&key.digest).await.is_none());
    let listed = world.store.list_instance_keys(id).await.unwrap();
    assert_eq!(
        listed.iter().map(|key| key.revoked_at).collect::<Vec<_>>(),
        [None, Some(at(7))]
    );
}

pub async fn an_instance_key_is_revoked_once(world: World) {
    let id = world.instance().await;
    let key = world.added_instance_key(id).await;
    assert!(
        world
            .store
            .revoke_instance_key(id, key.id, change_at(7))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .revoke_instance_key(id, key.id, change_at(8))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .revoke_instance_key(id, world.key_id(), change_at(8))
            .await
            .unwrap()
    );
    assert_eq!(
        world.store.list_instance_keys(id).await.unwrap()[1].revoked_at,
        Some(at(7))
    );
    assert_eq!(world.changes(id).await.len(), 3);
}

pub async fn the_last_live_instance_key_cannot_be_revoked(world: World) {
    let id = world.instance().await;
    let only = world.store.list_instance_keys(id).await.unwrap().remove(0);
    let outcome = world
        .store
        .revoke_instance_key(id, only.id, change_at(1))
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(world.instance_key_of(&only.digest).await.is_some());
    assert_eq!(
        world.store.list_instance_keys(id).await.unwrap()[0].revoked_at,
        None
    );
    assert_eq!(world.changes(id).await.len(), 1);
}

pub async fn an_instance_key_of_another_instance_is_not_revoked(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let key = world.added_instance_key(other).await;
    assert!(
        !world
            .store
            .revoke_instance_key(mine, key.id, change_at(1))
            .await
            .unwrap()
    );
    assert!(world.instance_key_of(&key.digest).await.is_some());
    assert_eq!(world.store.list_instance_keys(mine).await.unwrap().len(), 1);
    assert_eq!(world.changes(mine).await.len(), 1);
}

pub async fn an_instance_key_digest_is_used_once(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let taken = world
        .store
        .list_instance_keys(other)
        .await
        .unwrap()
        .remove(0);
    let key = InstanceKeyRow {
        digest: taken.digest,
        ..world.instance_key(mine)
    };
    let outcome = world
        .store
        .insert_instance_key(key, 20, some_change())
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert_eq!(world.changes(mine).await.len(), 1);
}

pub async fn a_digest_of_another_version_is_not_found(world: World) {
    let id = world.instance().await;
    let key = world.store.list_instance_keys(id).await.unwrap().remove(0);
    assert!(world.instance_key_of(&key.digest).await.is_some());
    let other = Digest {
        version: 2,
        ..key.digest
    };
    assert!(world.instance_key_of(&other).await.is_none());
    let new = world.new_machine(id, "a");
    let digest = new.key.digest;
    world.insert(new).await;
    assert!(world.machine_key_of(&digest).await.is_some());
    assert!(
        world
            .machine_key_of(&Digest {
                version: 2,
                ..digest
            })
            .await
            .is_none()
    );
}
