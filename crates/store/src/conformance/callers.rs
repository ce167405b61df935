//! Finding the caller by the presented key.

use countersign_protocol::ids::Locator;

use super::world::{World, at, change_at};
use crate::{Caller, Digest, Presented, Store};

async fn find(store: &dyn Store, presented: Presented) -> Option<Caller> {
    let caller = store.caller(presented).await.unwrap();
    // Whoever is found can have tokens verified, and nobody else.
    let locator = Locator::new(1).unwrap();
    let verification = store.verification(presented, locator).await.unwrap();
    assert_eq!(caller.is_some(), verification.is_some());
    caller
}

pub async fn an_instance_key_is_found_with_its_instance(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let added = world.added_instance_key(mine).await;
    for id in [mine, other] {
        let mut keys = vec![world.first_instance_key(id).await];
        keys.extend((id == mine).then(|| added.clone()));
        for expected in keys {
            let presented = Presented::Instance(expected.digest);
            let caller = find(&*world.store, presented).await.unwrap();
            assert_eq!(caller.instance(), id);
            let Caller::Instance { instance, key } = caller else {
                panic!("{caller:?}")
            };
            assert_eq!(instance, world.current_instance(id).await);
            assert_eq!((key.id, key.instance), (expected.id, id));
            assert_eq!((key.digest, key.revoked_at), (expected.digest, None));
            // It is no machine key.
            let presented = Presented::Machine(expected.digest);
            assert!(find(&*world.store, presented).await.is_none());
        }
    }
    let unknown = Presented::Instance(world.digest());
    assert!(find(&*world.store, unknown).await.is_none());
}

pub async fn a_revoked_instance_key_finds_nobody(world: World) {
    let instance = world.instance().await;
    let key = world.added_instance_key(instance).await;
    let presented = Presented::Instance(key.digest);
    assert!(find(&*world.store, presented).await.is_some());
    let revoked = world
        .store
        .revoke_instance_key(instance, key.id, change_at(1));
    assert!(revoked.await.unwrap());
    assert!(find(&*world.store, presented).await.is_none());
    let world = world.reopen().await;
    assert!(find(&*world.store, presented).await.is_none());
}

pub async fn a_machine_key_is_found_with_its_machine_and_instance(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    for id in [mine, other] {
        let new = world.new_machine(id, "a");
        let (key_id, digest) = (new.key.id, new.key.digest);
        let row = world.insert(new).await;
        let caller = find(&*world.store, Presented::Machine(digest))
            .await
            .unwrap();
        assert_eq!(caller.instance(), id);
        let Caller::Machine {
            instance,
            machine,
            key,
        } = caller
        else {
            panic!("{caller:?}")
        };
        assert_eq!(instance, world.current_instance(id).await);
        assert_eq!(machine, row);
        assert_eq!((key.id, key.machine, key.instance), (key_id, row.id, id));
        assert_eq!((key.digest, key.expires_at), (digest, None));
        let presented = Presented::Instance(digest);
        assert!(find(&*world.store, presented).await.is_none());
    }
    let unknown = Presented::Machine(Digest {
        version: 1,
        bytes: [1; 32],
    });
    assert!(find(&*world.store, unknown).await.is_none());
}

pub async fn a_caller_is_as_it_is_now(world: World) {
    let id = world.instance().await;
    let b = world.machine(id, "b").await;
    let new = world.new_machine(id, "a");
    let (machine_id, presented) = (new.id, Presented::Machine(new.key.digest));
    let first = world.insert(new).await;
    let administrator = Presented::Instance(world.first_instance_key(id).await.digest);
    find(&*world.store, presented).await.unwrap();
    find(&*world.store, administrator).await.unwrap();
    let store = &world.store;
    let inserted = store.insert_scope(id, machine_id, b.id, 150, change_at(5));
    inserted.await.unwrap();
    store
        .end_machine_tokens(id, machine_id, change_at(6))
        .await
        .unwrap();
    store.end_instance_tokens(id, change_at(7)).await.unwrap();
    let caller = find(&*world.store, presented).await.unwrap();
    let Caller::Machine {
        instance, machine, ..
    } = caller
    else {
        panic!("{caller:?}")
    };
    assert_eq!(machine, world.current(&first).await);
    assert!(machine.scopes.contains(&b.id) && machine.issued_before.is_some());
    assert_eq!(instance, world.current_instance(id).await);
    assert!(instance.issued_before.is_some());
    let caller = find(&*world.store, administrator).await.unwrap();
    let Caller::Instance { instance, .. } = caller else {
        panic!("{caller:?}")
    };
    assert_eq!(instance, world.current_instance(id).await);
}

pub async fn a_key_of_a_deleted_machine_finds_nobody(world: World) {
    let instance = world.instance().await;
    let new = world.new_machine(instance, "a");
    let (id, presented) = (new.id, Presented::Machine(new.key.digest));
    world.insert(new).await;
    assert!(find(&*world.store, presented).await.is_some());
    let deleted = world.store.delete_machine(instance, id, change_at(1));
    assert!(deleted.await.unwrap());
    assert!(find(&*world.store, presented).await.is_none());
    let world = world.reopen().await;
    assert!(find(&*world.store, presented).await.is_none());
}

pub async fn an_expired_machine_key_is_found(world: World) {
    let instance = world.instance().await;
    let new = world.new_machine(instance, "a");
    let (id, presented) = (new.id, Presented::Machine(new.key.digest));
    world.insert(new).await;
    let key = world.machine_key();
    let rotated = world
        .store
        .rotate_machine_key(instance, id, key, at(5), 5, change_at(1));
    assert!(rotated.await.unwrap());
    // The clock goes on.
    world.store.record_uses(Vec::new(), at(9000)).await.unwrap();
    let caller = find(&*world.store, presented).await;
    let Some(Caller::Machine { key, .. }) = caller else {
        panic!("{caller:?}")
    };
    assert_eq!(key.expires_at, Some(at(5)));
    // Until it is deleted.
    world.store.erase_expired_secrets(at(9000)).await.unwrap();
    assert!(find(&*world.store, presented).await.is_none());
}
