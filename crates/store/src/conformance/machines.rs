//! Machines.

use countersign_protocol::change::ChangeKind;

use super::machine_lists::{all, by_age, list};
use super::world::{World, at, change_at, some_change};
use crate::{InsertMachine, MachineUpdate, NewMachine, StoreError};

pub async fn a_new_machine_is_found_with_its_scopes_and_key(world: World) {
    let instance = world.instance().await;
    let (b, c) = (
        world.machine(instance, "b").await,
        world.machine(instance, "c").await,
    );
    let new = NewMachine {
        scopes: vec![c.id, b.id],
        ..world.new_machine(instance, "a")
    };
    let outcome = world
        .store
        .insert_machine(new.clone(), some_change())
        .await
        .unwrap();
    let InsertMachine::Inserted(made) = outcome else {
        panic!("{outcome:?}")
    };
    let a = &made.machine;
    assert_eq!(
        (a.id, a.instance, a.name.as_str(), a.default_token_ttl),
        (new.id, instance, "a", 3600)
    );
    assert_eq!((a.created_at, a.updated_at), (at(0), at(0)));
    assert_eq!(
        a.scopes.iter().collect::<Vec<_>>(),
        [c.id.as_str(), b.id.as_str()]
    );
    assert_eq!(made.scoped, [c, b]);
    assert_eq!(&world.current(a).await, a);
    assert_eq!(
        world
            .store
            .machine_with_scopes(instance, a.id)
            .await
            .unwrap()
            .unwrap(),
        made
    );
    assert!(world.machine_key_of(&new.key.digest).await.is_some());
    assert_eq!(world.changes(instance).await.len(), 4);
}

pub async fn a_machine_with_an_unknown_scope_is_not_made(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let unknown = world.machine_id();
    let new = NewMachine {
        scopes: vec![b.id, unknown],
        ..world.new_machine(instance, "a")
    };
    let outcome = world
        .store
        .insert_machine(new.clone(), some_change())
        .await
        .unwrap();
    assert!(
        matches!(outcome, InsertMachine::ScopeNotFound(id) if id == unknown),
        "{outcome:?}"
    );
    assert!(
        world
            .store
            .machine(instance, new.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(world.machine_key_of(&new.key.digest).await.is_none());
    assert_eq!(world.changes(instance).await.len(), 2);
}

pub async fn a_scope_to_another_instances_machine_is_unknown(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let theirs = world.machine(other, "b").await;
    let new = NewMachine {
        scopes: vec![theirs.id],
        ..world.new_machine(mine, "a")
    };
    let outcome = world
        .store
        .insert_machine(new, some_change())
        .await
        .unwrap();
    assert!(
        matches!(outcome, InsertMachine::ScopeNotFound(id) if id == theirs.id),
        "{outcome:?}"
    );
}

pub async fn a_machine_id_is_used_once(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let a = world.machine(mine, "a").await;
    let new = NewMachine {
        id: a.id,
        ..world.new_machine(other, "b")
    };
    let outcome = world.store.insert_machine(new, some_change()).await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(world.store.machine(other, a.id).await.unwrap().is_none());
    assert_eq!(world.current(&a).await, a);
}

pub async fn a_failed_machine_leaves_no_scope_and_no_change(world: World) {
    let instance = world.instance().await;
    let b = world.new_machine(instance, "b");
    let taken = b.key.clone();
    let b = world.insert(b).await;
    // The key is the last thing to be stored, and it conflicts.
    let new = NewMachine {
        scopes: vec![b.id],
        key: taken,
        ..world.new_machine(instance, "a")
    };
    let outcome = world.store.insert_machine(new.clone(), some_change()).await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert!(
        world
            .store
            .machine(instance, new.id)
            .await
            .unwrap()
            .is_none()
    );
    let again = NewMachine {
        key: world.machine_key(),
        scopes: Vec::new(),
        ..new
    };
    let made = world.insert(again).await;
    assert!(made.scopes.is_empty());
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_machine_of_another_instance_is_not_found(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let theirs = world.machine(other, "b").await;
    // In both orders, so that what one reader keeps in memory does not answer the other.
    assert!(
        world
            .store
            .machine(mine, theirs.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .store
            .machine(other, theirs.id)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        world
            .store
            .machine(mine, theirs.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .store
            .machine_with_scopes(mine, theirs.id)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn an_update_changes_what_is_given_and_moves_the_revision(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let a = world.machine_with(instance, "a", &[&b]).await;
    let update = MachineUpdate {
        name: Some("A new name".to_owned()),
        ..MachineUpdate::default()
    };
    let updated = world
        .store
        .update_machine(instance, a.id, update, change_at(70))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            updated.machine.name.as_str(),
            updated.machine.default_token_ttl
        ),
        ("A new name", 3600)
    );
    assert_eq!(
        (updated.machine.updated_at, updated.machine.created_at),
        (at(70), at(0))
    );
    assert!(updated.machine.revision > a.revision);
    assert_eq!(updated.scoped, [b]);
    assert_eq!(world.current(&a).await, updated.machine);
    let update = MachineUpdate {
        default_token_ttl: Some(60),
        ..MachineUpdate::default()
    };
    world
        .store
        .update_machine(instance, a.id, update, change_at(80))
        .await
        .unwrap()
        .unwrap();
    let now = world.current(&a).await;
    assert_eq!(
        (now.name.as_str(), now.default_token_ttl, now.updated_at),
        ("A new name", 60, at(80))
    );
    assert_eq!(
        list(&world, instance, Some("NEW NAME"), by_age(false), all())
            .await
            .1,
        1
    );
    assert_eq!(world.changes(instance).await.len(), 5);
}

pub async fn an_empty_update_changes_nothing_and_logs_nothing(world: World) {
    let instance = world.instance().await;
    let a = world.machine(instance, "a").await;
    let outcome = world
        .store
        .update_machine(instance, a.id, MachineUpdate::default(), change_at(70))
        .await
        .unwrap();
    assert_eq!(outcome.unwrap().machine, a);
    assert_eq!(world.current(&a).await, a);
    assert_eq!(world.changes(instance).await.len(), 2);
}

fn renamed() -> MachineUpdate {
    MachineUpdate {
        name: Some("renamed".to_owned()),
        ..MachineUpdate::default()
    }
}

pub async fn an_unknown_machine_is_not_updated(world: World) {
    let instance = world.instance().await;
    let unknown = world.machine_id();
    let outcome = world
        .store
        .update_machine(instance, unknown, renamed(), change_at(1))
        .await
        .unwrap();
    assert!(outcome.is_none());
    assert_eq!(world.changes(instance).await.len(), 1);
}

pub async fn a_deleted_machine_is_gone_with_keys_and_scopes(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let new = NewMachine {
        scopes: vec![b.id],
        ..world.new_machine(instance, "a")
    };
    let digest = new.key.digest;
    let a = world.insert(new).await;
    world.current(&a).await;
    world.machine_key_of(&digest).await.unwrap();
    assert!(
        world
            .store
            .delete_machine(instance, a.id, change_at(5))
            .await
            .unwrap()
    );
    assert!(world.store.machine(instance, a.id).await.unwrap().is_none());
    assert!(
        world
            .store
            .machine_with_scopes(instance, a.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(world.machine_key_of(&digest).await.is_none());
    assert_eq!(
        world
            .store
            .reveal_machine_key(instance, a.id, some_change())
            .await
            .unwrap(),
        None
    );
    assert_eq!(world.current(&b).await, b);
    assert_eq!(
        list(&world, instance, None, by_age(false), all()).await.1,
        1
    );
    let changes = world.changes(instance).await;
    assert_eq!(
        (changes.len(), changes[3].kind),
        (4, ChangeKind::MachineDeleted)
    );
}

pub async fn deletion_takes_the_machine_out_of_its_callers(world: World) {
    let instance = world.instance().await;
    let (b, c) = (
        world.machine(instance, "b").await,
        world.machine(instance, "c").await,
    );
    let a = world.machine_with(instance, "a", &[&b, &c]).await;
    world.current(&a).await;
    assert!(
        world
            .store
            .delete_machine(instance, b.id, change_at(90))
            .await
            .unwrap()
    );
    let now = world.current(&a).await;
    assert_eq!(now.scopes.iter().collect::<Vec<_>>(), [c.id.as_str()]);
    assert!(now.revision > a.revision);
    assert_eq!(now.updated_at, at(90));
    assert_eq!(
        world
            .store
            .machine_with_scopes(instance, a.id)
            .await
            .unwrap()
            .unwrap()
            .scoped,
        [c]
    );
    // A machine of the same name is not called by anyone.
    let again = world.machine(instance, "b").await;
    assert!(!world.current(&a).await.scopes.contains(&again.id));
}

pub async fn an_unknown_machine_is_not_deleted(world: World) {
    let instance = world.instance().await;
    let a = world.machine(instance, "a").await;
    assert!(
        !world
            .store
            .delete_machine(instance, world.machine_id(), change_at(1))
            .await
            .unwrap()
    );
    assert!(
        world
            .store
            .delete_machine(instance, a.id, change_at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .delete_machine(instance, a.id, change_at(1))
            .await
            .unwrap()
    );
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_machine_of_another_instance_is_not_changed(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let theirs = world.machine(other, "b").await;
    assert!(
        world
            .store
            .update_machine(mine, theirs.id, renamed(), change_at(1))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        !world
            .store
            .delete_machine(mine, theirs.id, change_at(1))
            .await
            .unwrap()
    );
    assert_eq!(world.current(&theirs).await, theirs);
    assert_eq!(world.changes(mine).await.len(), 1);
}

pub async fn a_machine_id_is_never_used_again(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let a = world.machine(mine, "a").await;
    let token = world.token(&a).await;
    let deleted = world.store.delete_machine(mine, a.id, change_at(1)).await;
    assert!(deleted.unwrap());
    let assert_refused = async |world: &World| {
        for instance in [mine, other] {
            let again = NewMachine {
                id: a.id,
                ..world.new_machine(instance, "b")
            };
            let digest = again.key.digest;
            let outcome = world.store.insert_machine(again, some_change()).await;
            assert!(
                matches!(outcome, Err(StoreError::Conflict(_))),
                "{outcome:?}"
            );
            assert!(world.store.machine(instance, a.id).await.unwrap().is_none());
            assert!(world.machine_key_of(&digest).await.is_none());
        }
        // Its tokens are still there, and must not find another machine in its place.
        assert!(
            world
                .store
                .find_token(token.locator())
                .await
                .unwrap()
                .is_none()
        );
    };
    assert_refused(&world).await;
    let world = world.reopen().await;
    assert_refused(&world).await;
    let swept = world.store.sweep_tokens(None, 100, at(0), at(0)).await;
    assert_eq!(swept.unwrap().deleted, 1);
    assert_refused(&world).await;
    let world = world.reopen().await;
    assert_refused(&world).await;
    assert_eq!(world.changes(mine).await.len(), 3);
    assert_eq!(world.changes(other).await.len(), 1);
}
