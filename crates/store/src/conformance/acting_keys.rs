//! Changes that are refused because the requesting key has ended.

use countersign_protocol::change::Cause;
use countersign_protocol::settings::InstanceSettings;

use super::world::{World, at, change_at};
use crate::{
    ActingKey, InsertMachine, InsertScope, MachineUpdate, NewChange, NewToken, RevokeToken,
    SigningKeyState, StoreError, TokenUpdate, UpdateToken,
};

/// A change that this key asks for at `millis`.
fn asked_by(key: ActingKey, millis: i64) -> NewChange {
    NewChange {
        key: Some(key),
        ..change_at(millis)
    }
}

pub async fn a_revoked_instance_key_changes_nothing(world: World) {
    let (instance, other) = (world.instance().await, world.instance().await);
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    let (key, spare) = (
        world.added_instance_key(instance).await,
        world.added_instance_key(instance).await,
    );
    let asked = |millis| asked_by(ActingKey::Instance(key.id), millis);
    let store = &world.store;
    let new = world.new_machine(instance, "b");
    store.insert_machine(new, asked(0)).await.unwrap();
    // It belongs to one instance only.
    let foreign = asked_by(ActingKey::Instance(key.id), 0);
    let outcome = store
        .insert_machine(world.new_machine(other, "c"), foreign)
        .await;
    assert!(matches!(outcome, Err(StoreError::InstanceKeyGone)));
    let created = world.new_instance();
    let (created_id, first) = (created.id, world.instance_key(created.id));
    let signing_key = world.first_signing_key(created_id);
    let outcome = store
        .insert_instance(created, first, signing_key, asked(0))
        .await;
    assert!(
        matches!(outcome, Err(StoreError::InstanceKeyGone)),
        "{outcome:?}"
    );
    assert!(store.instance(created_id).await.unwrap().is_none());
    assert!(
        store
            .revoke_instance_key(instance, key.id, change_at(1))
            .await
            .unwrap()
    );

    let new = world.new_machine(instance, "d");
    let machine_key = new.key.digest;
    let fresh = world.instance_key(instance);
    let settings = InstanceSettings {
        secret_reveal: false,
        ..InstanceSettings::default()
    };
    let (callee, published) = (
        world.machine(instance, "e").await,
        world.signing_key(instance),
    );
    let caller = world.machine_with(instance, "f", &[&callee]).await;
    // Now, because only one key may be published at a time.
    let published_by_gone_key = store
        .insert_signing_key(world.signing_key(instance), 16, asked(0))
        .await;
    let kid = published.id;
    store
        .insert_signing_key(published, 16, change_at(1))
        .await
        .unwrap();
    let logged = world.changes(instance).await.len();
    let renamed = MachineUpdate {
        name: Some("g".to_owned()),
        ..MachineUpdate::default()
    };
    let endless = TokenUpdate {
        expires_at: Some(None),
        ..TokenUpdate::default()
    };
    let issued = NewToken {
        change: Some(asked(2)),
        ..world.new_jwt(&machine)
    };
    let (issued_id, fresh_key) = (issued.id, world.machine_key());
    let fresh_digest = fresh_key.digest;
    let refused = [
        store.insert_machine(new.clone(), asked(0)).await.err(),
        store
            .delete_machine(instance, machine.id, asked(2))
            .await
            .err(),
        store
            .update_machine(instance, machine.id, renamed, asked(2))
            .await
            .err(),
        store
            .end_machine_tokens(instance, machine.id, asked(2))
            .await
            .err(),
        store.end_instance_tokens(instance, asked(2)).await.err(),
        store
            .insert_scope(instance, machine.id, callee.id, 150, asked(2))
            .await
            .err(),
        store
            .delete_scope(instance, caller.id, callee.id, asked(2))
            .await
            .err(),
        store
            .rotate_machine_key(instance, machine.id, fresh_key, at(2), 5, asked(2))
            .await
            .err(),
        store
            .activate_signing_key(instance, kid, Cause::Request, asked(2))
            .await
            .err(),
        store
            .delete_signing_key(instance, kid, None, asked(2))
            .await
            .err(),
        store
            .revoke_instance_key(instance, spare.id, asked(2))
            .await
            .err(),
        store
            .update_token(instance, None, id, endless, asked(2))
            .await
            .err(),
        store.insert_token(issued).await.err(),
        store
            .reveal_machine_key(instance, machine.id, asked(0))
            .await
            .err(),
        store
            .insert_instance_key(fresh.clone(), 20, asked(0))
            .await
            .err(),
        published_by_gone_key.err(),
        store
            .update_instance_settings(instance, 1, settings, asked(0))
            .await
            .err(),
        store
            .revoke_token(instance, None, id, None, asked(0))
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
    assert!(world.machine_key_of(&machine_key).await.is_none());
    assert!(world.machine_key_of(&fresh_digest).await.is_none());
    assert!(world.instance_key_of(&fresh.digest).await.is_none());
    assert!(world.instance_key_of(&spare.digest).await.is_some());
    assert!(world.find(instance, issued_id).await.is_none());
    assert_eq!(world.current(&machine).await, machine);
    assert_eq!(world.current(&caller).await, caller);
    let stored = world.find(instance, id).await.unwrap();
    assert!(stored.row.revoked.is_none() && stored.row.expires_at.is_some());
    let keys = store.list_signing_keys(instance).await.unwrap();
    let states: Vec<_> = keys.iter().map(|key| key.state).collect();
    assert_eq!(
        states,
        [SigningKeyState::Active, SigningKeyState::Published]
    );
    assert_eq!(keys[0].last_expires_at, None);
    let now = store.instance(instance).await.unwrap().unwrap();
    assert_eq!((now.revision, now.settings.secret_reveal), (1, true));
}

pub async fn an_instance_key_may_revoke_itself(world: World) {
    let instance = world.instance().await;
    let key = world.added_instance_key(instance).await;
    let asked = |millis| asked_by(ActingKey::Instance(key.id), millis);
    let revoked = world
        .store
        .revoke_instance_key(instance, key.id, asked(1))
        .await;
    assert!(revoked.unwrap());
    assert!(world.instance_key_of(&key.digest).await.is_none());
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_machine_key_that_ended_changes_nothing(world: World) {
    let (instance, other) = (world.instance().await, world.instance().await);
    let new = world.new_machine(instance, "a");
    let key = ActingKey::Machine(new.id, new.key.id);
    let machine = world.insert(new).await;
    let store = &world.store;
    let asked = |millis| asked_by(key, millis);
    let ids = [world.token(&machine).await, world.token(&machine).await];
    let revoke = async |id, millis| {
        store
            .revoke_token(instance, Some(machine.id), id, None, asked(millis))
            .await
    };
    let rotate = async |older| {
        let key = world.machine_key();
        store
            .rotate_machine_key(instance, machine.id, key, at(older), 5, change_at(1))
            .await
            .unwrap()
    };
    assert!(rotate(5000).await);
    // Within the overlap it goes on, and in its own instance only.
    assert!(matches!(
        revoke(ids[0], 4999).await,
        Ok(RevokeToken::Revoked(_))
    ));
    let foreign = asked(0);
    let outcome = store
        .insert_machine(world.new_machine(other, "b"), foreign)
        .await;
    assert!(matches!(outcome, Err(StoreError::MachineKeyGone)));
    let expired = revoke(ids[1], 5000).await;
    assert!(
        matches!(expired, Err(StoreError::MachineKeyGone)),
        "it is expired: {expired:?}"
    );
    assert!(rotate(1).await);
    let gone = revoke(ids[1], 2).await;
    assert!(
        matches!(gone, Err(StoreError::MachineKeyGone)),
        "it is deleted: {gone:?}"
    );
    let update = TokenUpdate {
        expires_at: Some(None),
        ..TokenUpdate::default()
    };
    let updated = store
        .update_token(instance, Some(machine.id), ids[1], update.clone(), asked(2))
        .await;
    assert!(
        matches!(updated, Err(StoreError::MachineKeyGone)),
        "{updated:?}"
    );
    let stored = world.find(instance, ids[1]).await.unwrap();
    assert!(stored.row.revoked.is_none() && stored.row.expires_at.is_some());
    // The key's id alone, of another machine, is no key either.
    let (other_machine, fresh) = (world.machine(instance, "c").await, world.machine_key());
    let fresh_id = fresh.id;
    let rotated = store.rotate_machine_key(instance, machine.id, fresh, at(9000), 5, change_at(2));
    assert!(rotated.await.unwrap());
    let foreign = asked_by(ActingKey::Machine(other_machine.id, fresh_id), 2);
    let updated = store
        .update_token(instance, None, ids[1], update.clone(), foreign)
        .await;
    assert!(
        matches!(updated, Err(StoreError::MachineKeyGone)),
        "{updated:?}"
    );
    // The operator, who asks without a key, still may.
    let updated = store
        .update_token(instance, None, ids[1], update, change_at(2))
        .await;
    assert!(matches!(updated, Ok(UpdateToken::Updated(_))));
}

pub async fn a_gone_key_is_told_only_where_something_would_change(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let (id, unknown) = (world.token(&machine).await, world.machine_id());
    world.revoke(instance, id).await;
    let gone = || asked_by(ActingKey::Instance(world.key_id()), 0);
    let logged = world.changes(instance).await.len();
    let store = &world.store;
    let again = store.revoke_token(instance, None, id, None, gone()).await;
    assert!(
        matches!(again, Ok(RevokeToken::AlreadyRevoked(_))),
        "{again:?}"
    );
    let nothing = MachineUpdate::default();
    let updated = store
        .update_machine(instance, machine.id, nothing, gone())
        .await;
    assert_eq!(updated.unwrap().unwrap().machine, machine);
    let deleted = store.delete_machine(instance, unknown, gone()).await;
    assert!(!deleted.unwrap());
    let scope = store
        .insert_scope(instance, machine.id, unknown, 150, gone())
        .await;
    assert_eq!(scope.unwrap(), InsertScope::ToNotFound);
    let added = store
        .insert_instance_key(world.instance_key(instance), 1, gone())
        .await;
    assert!(!added.unwrap());
    let new = crate::NewMachine {
        scopes: vec![unknown],
        ..world.new_machine(instance, "b")
    };
    let outcome = store.insert_machine(new, gone()).await;
    assert!(
        matches!(outcome, Ok(InsertMachine::ScopeNotFound(_))),
        "{outcome:?}"
    );
    assert_eq!(world.changes(instance).await.len(), logged);
    // Handing an existing token to somebody other than its machine is recorded, so it is a change.
    world.issue(world.new_pooled(&machine, 1, 0)).await;
    let pooled = NewToken {
        change: Some(gone()),
        ..world.new_pooled(&machine, 1, 0)
    };
    let outcome = store.insert_token(pooled).await;
    assert!(
        matches!(outcome, Err(StoreError::InstanceKeyGone)),
        "{outcome:?}"
    );
    assert_eq!(world.changes(instance).await.len(), logged);
}
