//! Keys of machines.

use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::time::Timestamp;

use super::world::{World, at, change_at, some_change};
use crate::{Digest, NewMachine, NewMachineKey, SealedKey, StoreError};
use countersign_protocol::change::ChangeKind;

pub async fn a_machine_key_is_found_by_its_digest(world: World) {
    let instance = world.instance().await;
    let new = world.new_machine(instance, "a");
    let (id, digest) = (new.id, new.key.digest);
    assert!(world.machine_key_of(&digest).await.is_none());
    world.insert(new).await;
    let found = world.machine_key_of(&digest).await.unwrap();
    assert_eq!(
        (found.instance, found.machine, found.digest),
        (instance, id, digest)
    );
    assert_eq!((found.created_at, found.expires_at), (at(0), None));
}

pub async fn a_machine_key_digest_is_used_once(world: World) {
    let instance = world.instance().await;
    let first = world.new_machine(instance, "a");
    let digest = first.key.digest;
    let first = world.insert(first).await;
    let key = NewMachineKey {
        digest,
        ..world.machine_key()
    };
    let second = NewMachine {
        key: key.clone(),
        ..world.new_machine(instance, "b")
    };
    let second_id = second.id;
    let outcome = world.store.insert_machine(second, some_change()).await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(
        world
            .store
            .machine(instance, second_id)
            .await
            .unwrap()
            .is_none()
    );
    let outcome = world
        .store
        .rotate_machine_key(instance, first.id, key, at(9), 5, change_at(1))
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    let found = world.machine_key_of(&digest).await.unwrap();
    assert_eq!((found.machine, found.expires_at), (first.id, None));
    assert_eq!(world.changes(instance).await.len(), 2);
}

pub async fn a_machine_key_id_names_one_key_of_a_machine(world: World) {
    let (instance, id, first) = machine(&world).await;
    let taken = world.machine_key_of(&first).await.unwrap().id;
    let key = NewMachineKey {
        id: taken,
        ..world.machine_key()
    };
    let digest = key.digest;
    let rotated = world
        .store
        .rotate_machine_key(instance, id, key, at(9), 5, change_at(1))
        .await;
    assert!(
        matches!(rotated, Err(StoreError::Conflict(_))),
        "{rotated:?}"
    );
    assert_eq!(end(&world, &digest).await, None);
    assert_eq!(end(&world, &first).await, Some(None));
    assert_eq!(world.changes(instance).await.len(), 2);
}

async fn rotate(
    world: &World,
    instance: InstanceId,
    machine: MachineId,
    older: i64,
    now: i64,
    max: usize,
) -> Digest {
    let key = world.machine_key();
    let digest = key.digest;
    assert!(
        world
            .store
            .rotate_machine_key(instance, machine, key, at(older), max, change_at(now))
            .await
            .unwrap()
    );
    digest
}

/// When the key ends: outer `None` for no such key.
async fn end(world: &World, digest: &Digest) -> Option<Option<Timestamp>> {
    world.machine_key_of(digest).await.map(|key| key.expires_at)
}

async fn machine(world: &World) -> (InstanceId, MachineId, Digest) {
    let instance = world.instance().await;
    let new = world.new_machine(instance, "a");
    let digest = new.key.digest;
    (instance, world.insert(new).await.id, digest)
}

pub async fn rotation_limits_the_life_of_older_keys(world: World) {
    let (instance, id, first) = machine(&world).await;
    assert_eq!(end(&world, &first).await, Some(None));
    let second = rotate(&world, instance, id, 5000, 1000, 5).await;
    assert_eq!(end(&world, &first).await, Some(Some(at(5000))));
    assert_eq!(end(&world, &second).await, Some(None));
    let third = rotate(&world, instance, id, 4000, 2000, 5).await;
    assert_eq!(end(&world, &first).await, Some(Some(at(4000))));
    assert_eq!(end(&world, &second).await, Some(Some(at(4000))));
    assert_eq!(end(&world, &third).await, Some(None));
    assert_eq!(world.changes(instance).await.len(), 4);
}

pub async fn rotation_never_lengthens_a_life(world: World) {
    let (instance, id, first) = machine(&world).await;
    let second = rotate(&world, instance, id, 5000, 1000, 5).await;
    rotate(&world, instance, id, 9000, 2000, 5).await;
    assert_eq!(end(&world, &first).await, Some(Some(at(5000))));
    assert_eq!(end(&world, &second).await, Some(Some(at(9000))));
}

pub async fn rotation_with_no_overlap_deletes_the_older_keys(world: World) {
    let (instance, id, first) = machine(&world).await;
    let second = rotate(&world, instance, id, 1000, 1000, 5).await;
    assert_eq!(end(&world, &first).await, None);
    assert_eq!(end(&world, &second).await, Some(None));
}

pub async fn rotation_drops_the_oldest_keys_beyond_the_limit(world: World) {
    let (instance, id, first) = machine(&world).await;
    let second = rotate(&world, instance, id, 9000, 1000, 3).await;
    let third = rotate(&world, instance, id, 9000, 1000, 3).await;
    let fourth = rotate(&world, instance, id, 9000, 1000, 3).await;
    assert_eq!(end(&world, &first).await, None);
    assert_eq!(end(&world, &second).await, Some(Some(at(9000))));
    assert_eq!(end(&world, &third).await, Some(Some(at(9000))));
    assert_eq!(end(&world, &fourth).await, Some(None));
}

pub async fn rotation_of_another_instances_machine_is_refused(world: World) {
    let (instance, id, first) = machine(&world).await;
    let other = world.instance().await;
    let key = world.machine_key();
    let digest = key.digest;
    assert!(
        !world
            .store
            .rotate_machine_key(other, id, key, at(1), 5, change_at(1))
            .await
            .unwrap()
    );
    assert_eq!(end(&world, &digest).await, None);
    assert_eq!(end(&world, &first).await, Some(None));
    assert_eq!(world.changes(other).await.len(), 1);
    let unknown = world.machine_id();
    let key = world.machine_key();
    assert!(
        !world
            .store
            .rotate_machine_key(instance, unknown, key, at(1), 5, change_at(1))
            .await
            .unwrap()
    );
}

pub async fn reveal_shows_the_newest_key_and_is_logged(world: World) {
    let (instance, id, _) = machine(&world).await;
    let key = world.machine_key();
    let (key_id, digest, sealed) = (key.id, key.digest, key.sealed.clone());
    world
        .store
        .rotate_machine_key(instance, id, key, at(9000), 5, change_at(1))
        .await
        .unwrap();
    assert_eq!(
        world
            .store
            .reveal_machine_key(instance, id, some_change())
            .await
            .unwrap(),
        Some(sealed.map(|sealed| SealedKey {
            id: key_id,
            digest,
            sealed,
            expires_at: None
        }))
    );
    let changes = world.changes(instance).await;
    assert_eq!(changes.len(), 4);
    assert_eq!(
        (changes[3].kind, changes[3].subject.as_str()),
        (ChangeKind::MachineKeyRevealed, id.as_str())
    );
}

pub async fn reveal_of_a_key_without_a_sealed_copy_is_not_logged(world: World) {
    let instance = world.instance().await;
    let key = NewMachineKey {
        sealed: None,
        ..world.machine_key()
    };
    let machine = world
        .insert(NewMachine {
            key,
            ..world.new_machine(instance, "a")
        })
        .await;
    assert_eq!(
        world
            .store
            .reveal_machine_key(instance, machine.id, some_change())
            .await
            .unwrap(),
        Some(None)
    );
    assert_eq!(world.changes(instance).await.len(), 2);
}

pub async fn reveal_of_another_instances_machine_finds_nothing(world: World) {
    let (_, id, _) = machine(&world).await;
    let other = world.instance().await;
    assert_eq!(
        world
            .store
            .reveal_machine_key(other, id, some_change())
            .await
            .unwrap(),
        None
    );
    assert_eq!(world.changes(other).await.len(), 1);
}

pub async fn expired_machine_keys_are_deleted(world: World) {
    let (instance, id, first) = machine(&world).await;
    let second = rotate(&world, instance, id, 5000, 1000, 5).await;
    assert_eq!(end(&world, &first).await, Some(Some(at(5000))));
    assert_eq!(
        world.store.erase_expired_secrets(at(4999)).await.unwrap(),
        0
    );
    assert_eq!(end(&world, &first).await, Some(Some(at(5000))));
    assert_eq!(
        world.store.erase_expired_secrets(at(5000)).await.unwrap(),
        1
    );
    assert_eq!(end(&world, &first).await, None);
    assert_eq!(end(&world, &second).await, Some(None));
}
