//! Reasons to refuse a new token.

use std::sync::Arc;

use countersign_protocol::ids::{InstanceId, KeyId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::token::TokenFormat;

use super::world::{World, at, change_at, some_change};
use crate::{InsertToken, MachineRow, NewToken, Proof};

pub async fn a_token_of_a_changed_machine_is_refused(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    for (scopes_differ, is_jwt) in [(true, false), (false, false), (true, true)] {
        let seen = world.current(&a).await;
        let token = if is_jwt {
            world.new_jwt(&seen)
        } else {
            world.new_token(&seen)
        };
        if scopes_differ {
            let outcome = world
                .store
                .insert_scope(instance, a.id, b.id, 150, change_at(1))
                .await
                .unwrap();
            if outcome != crate::InsertScope::Inserted {
                world
                    .store
                    .delete_scope(instance, a.id, b.id, change_at(1))
                    .await
                    .unwrap();
            }
        } else {
            let update = crate::MachineUpdate {
                default_token_ttl: Some(60),
                ..crate::MachineUpdate::default()
            };
            world
                .store
                .update_machine(instance, a.id, update, change_at(1))
                .await
                .unwrap();
        }
        let id = token.id;
        let outcome = world.store.insert_token(token).await.unwrap();
        assert!(matches!(outcome, InsertToken::Changed), "{outcome:?}");
        assert!(world.find(instance, id).await.is_none());
    }
    world.token(&world.current(&a).await).await;
}

pub async fn a_token_of_a_deleted_machine_is_refused(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    world
        .store
        .delete_machine(instance, machine.id, change_at(1))
        .await
        .unwrap();
    for token in [
        world.new_token(&machine),
        world.new_jwt(&machine),
        world.new_pooled(&machine, 1, 0),
    ] {
        let outcome = world.store.insert_token(token).await.unwrap();
        assert!(matches!(outcome, InsertToken::Changed), "{outcome:?}");
    }
}

/// A machine, and the id of its key.
async fn machine_and_key(world: &World, instance: InstanceId) -> (Arc<MachineRow>, KeyId) {
    let new = world.new_machine(instance, "a");
    let key = new.key.id;
    (world.insert(new).await, key)
}

/// Every kind of token, asked for with this key.
fn asked_for(world: &World, machine: &Arc<MachineRow>, key: KeyId) -> [NewToken; 3] {
    [
        world.new_token(machine),
        world.new_jwt(machine),
        world.new_pooled(machine, 1, 0),
    ]
    .map(|token| NewToken {
        key: Some(key),
        ..token
    })
}

async fn rotate(world: &World, machine: &MachineRow, older_end: i64, now: i64) -> KeyId {
    let new = world.machine_key();
    let id = new.id;
    let is_rotated = world
        .store
        .rotate_machine_key(
            machine.instance,
            machine.id,
            new,
            at(older_end),
            5,
            change_at(now),
        )
        .await
        .unwrap();
    assert!(is_rotated);
    id
}

async fn assert_key_gone(world: &World, tokens: [NewToken; 3]) {
    for token in tokens {
        let (instance, id) = (token.machine.instance, token.id);
        let outcome = world.store.insert_token(token).await.unwrap();
        assert!(matches!(outcome, InsertToken::KeyGone), "{outcome:?}");
        assert!(world.find(instance, id).await.is_none());
    }
}

pub async fn a_token_of_a_key_that_is_gone_is_refused(world: World) {
    let instance = world.instance().await;
    let (machine, old) = machine_and_key(&world, instance).await;
    for token in asked_for(&world, &machine, old) {
        world.issue(token).await;
    }
    // Without overlap the old key is deleted. The pool has an equal token, and it is not handed out either.
    let new = rotate(&world, &machine, 0, 0).await;
    assert_key_gone(&world, asked_for(&world, &machine, old)).await;
    for token in asked_for(&world, &machine, new) {
        let is_pooled = token.pool.is_some();
        let outcome = world.store.insert_token(token).await.unwrap();
        assert!(
            matches!(
                (is_pooled, &outcome),
                (true, InsertToken::Reused { .. }) | (false, InsertToken::Inserted)
            ),
            "{outcome:?}"
        );
    }
    world
        .store
        .delete_machine(instance, machine.id, change_at(0))
        .await
        .unwrap();
    assert_key_gone(&world, asked_for(&world, &machine, new)).await;
}

pub async fn a_token_of_an_expired_key_is_refused(world: World) {
    let instance = world.instance().await;
    let (machine, old) = machine_and_key(&world, instance).await;
    rotate(&world, &machine, 5000, 0).await;
    let later = |now| {
        asked_for(&world, &machine, old).map(|token| NewToken {
            created_at: at(now),
            ..token
        })
    };
    for token in later(4999) {
        world.issue(token).await;
    }
    assert_key_gone(&world, later(5000)).await;
}

pub async fn a_key_of_another_machine_issues_nothing(world: World) {
    let instance = world.instance().await;
    let (a, _) = machine_and_key(&world, instance).await;
    let (_, theirs) = machine_and_key(&world, instance).await;
    assert_key_gone(&world, asked_for(&world, &a, theirs)).await;
}

pub async fn a_deleted_machine_key_issues_nothing_after_reopening(world: World) {
    let instance = world.instance().await;
    let (machine, first) = machine_and_key(&world, instance).await;
    let second = rotate(&world, &machine, 0, 0).await;
    let world = world.reopen().await;
    assert_key_gone(&world, asked_for(&world, &machine, first)).await;
    let third = rotate(&world, &machine, 0, 0).await;
    for gone in [first, second] {
        assert_key_gone(&world, asked_for(&world, &machine, gone)).await;
    }
    for token in asked_for(&world, &machine, third) {
        world.issue(token).await;
    }
}

pub async fn a_token_of_changed_settings_is_refused(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    world.issue(world.new_pooled(&machine, 1, 0)).await;
    let tokens = [
        world.new_token(&machine),
        world.new_jwt(&machine),
        world.new_pooled(&machine, 1, 0),
    ];
    world.set(instance, InstanceSettings::default()).await;
    for token in tokens {
        let id = token.id;
        let outcome = world.store.insert_token(token).await.unwrap();
        assert!(matches!(outcome, InsertToken::Changed), "{outcome:?}");
        assert!(world.find(instance, id).await.is_none());
    }
    assert_eq!(
        world.store.list_signing_keys(instance).await.unwrap()[0].last_expires_at,
        None
    );
    world.issue(world.new_jwt(&machine)).await;
}

pub async fn a_jwt_needs_its_signing_key(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let key = world.signing_key(instance);
    world
        .store
        .insert_signing_key(key.clone(), 16, some_change())
        .await
        .unwrap();
    let jwt = || NewToken {
        proof: Proof::Jwt(key.id),
        ..world.new_jwt(&machine)
    };
    let id = world.issue(jwt()).await;
    assert_eq!(
        world.find(instance, id).await.unwrap().row.format(),
        TokenFormat::Jwt
    );
    world
        .store
        .delete_signing_key(instance, key.id, None, some_change())
        .await
        .unwrap();
    let refused = jwt();
    let refused_id = refused.id;
    let outcome = world.store.insert_token(refused).await.unwrap();
    assert!(matches!(outcome, InsertToken::Changed), "{outcome:?}");
    assert!(world.find(instance, refused_id).await.is_none());
    // What was issued before stays.
    assert!(world.find(instance, id).await.is_some());
}

pub async fn a_jwt_of_another_instances_key_is_refused(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let machine = world.machine(mine, "a").await;
    let jwt = NewToken {
        proof: Proof::Jwt(other.first_signing_key()),
        ..world.new_jwt(&machine)
    };
    let outcome = world.store.insert_token(jwt).await.unwrap();
    assert!(matches!(outcome, InsertToken::Changed), "{outcome:?}");
    assert_eq!(
        world.store.list_signing_keys(other).await.unwrap()[0].last_expires_at,
        None
    );
}
