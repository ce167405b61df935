//! The record of each kind of change: exactly one, with everything that a reader of the log needs.

use std::sync::Arc;

use countersign_protocol::change::{Cause, Changed, Event, Log, TokenFacts};
use countersign_protocol::ids::InstanceId;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::token::TokenFormat;
use serde_json::json;

use super::tokens::claims;
use super::world::{World, at, change_at, revocation, some_change};
use crate::{InsertToken, MachineRow, MachineUpdate, NewMachine, NewToken, TokenUpdate};

pub async fn initialization_is_recorded_with_the_authority(world: World) {
    let records = world.records(Log::Authority).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].event(), Some(Event::AuthorityInitialized {}));
    assert_eq!(records[0].subject, "authority");
}

pub async fn each_change_of_an_instance_is_one_record(world: World) {
    let id = world.instance().await;
    let key = world.first_instance_key(id).await;
    let created = Event::InstanceCreated {
        instance_id: id,
        name: "production".to_owned(),
        key_id: key.id,
        kid: id.first_signing_key(),
    };
    assert_eq!(world.last_event(id).await, (1, created));
    let settings = InstanceSettings {
        max_jwt_ttl: 60,
        issuer: Some("https://auth.example.com".to_owned()),
        ..InstanceSettings::default()
    };
    world.set_at(id, settings, 5).await;
    let updated = Event::InstanceUpdated {
        instance_id: id,
        settings: json!({"max_jwt_ttl": 60, "issuer": "https://auth.example.com"}),
        local_since: Some(at(0)),
    };
    assert_eq!(world.last_event(id).await, (2, updated));
    let ended = world.store.end_instance_tokens(id, change_at(9)).await;
    let ended = Event::InstanceTokensEnded {
        instance_id: id,
        issued_before: ended.unwrap().unwrap(),
    };
    assert_eq!(world.last_event(id).await, (3, ended));
    assert_eq!(world.changes(id).await[2].at, at(9));
}

pub async fn each_change_of_an_instance_key_is_one_record(world: World) {
    let id = world.instance().await;
    let key_id = world.added_instance_key(id).await.id;
    let created = Event::InstanceKeyCreated { key_id };
    assert_eq!(world.last_event(id).await, (2, created));
    let store = &world.store;
    let revoked = store.revoke_instance_key(id, key_id, some_change());
    assert!(revoked.await.unwrap());
    let revoked = Event::InstanceKeyRevoked { key_id };
    assert_eq!(world.last_event(id).await, (3, revoked));
}

pub async fn each_change_of_a_signing_key_is_one_record(world: World) {
    let id = world.instance().await;
    let first = id.first_signing_key();
    let store = &world.store;
    let mut before = first;
    let mut count = 1;
    for cause in [Cause::Request, Cause::Schedule] {
        let key = world.signing_key(id);
        let kid = key.id;
        store
            .insert_signing_key(key, 16, some_change())
            .await
            .unwrap();
        let published = Event::SigningKeyPublished { kid };
        assert_eq!(world.last_event(id).await, (count + 1, published));
        let activated = store.activate_signing_key(id, kid, cause, change_at(5));
        assert!(activated.await.unwrap());
        let activated = Event::SigningKeyActivated {
            kid,
            verify_only: Some(before),
            cause,
        };
        assert_eq!(world.last_event(id).await, (count + 2, activated));
        let unused_since = (cause == Cause::Schedule).then(|| at(6));
        let deleted = store.delete_signing_key(id, before, unused_since, change_at(7));
        assert!(deleted.await.unwrap());
        let deleted = Event::SigningKeyDeleted { kid: before, cause };
        assert_eq!(world.last_event(id).await, (count + 3, deleted));
        (before, count) = (kid, count + 3);
    }
}

pub async fn each_change_of_a_machine_is_one_record(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let new = NewMachine {
        scopes: vec![b.id],
        default_token_ttl: 60,
        ..world.new_machine(instance, "a")
    };
    let (machine_id, key_id) = (new.id, new.key.id);
    world.insert(new).await;
    let created = Event::MachineCreated {
        machine_id,
        name: "a".to_owned(),
        default_token_ttl: 60,
        scoped_machines: vec![b.id],
        key_id,
    };
    assert_eq!(world.last_event(instance).await, (3, created));
    let store = &world.store;
    let update = MachineUpdate {
        name: Some("c".to_owned()),
        ..MachineUpdate::default()
    };
    let updated = store.update_machine(instance, machine_id, update, some_change());
    updated.await.unwrap().unwrap();
    let updated = Event::MachineUpdated {
        machine_id,
        name: Changed {
            from: "a".to_owned(),
            to: "c".to_owned(),
        },
        default_token_ttl: Changed { from: 60, to: 60 },
    };
    assert_eq!(world.last_event(instance).await, (4, updated));
    let ended = store.end_machine_tokens(instance, machine_id, change_at(3));
    let ended = Event::MachineTokensEnded {
        machine_id,
        issued_before: ended.await.unwrap().unwrap(),
    };
    assert_eq!(world.last_event(instance).await, (5, ended));
    // One record, although the scopes of a caller change as well.
    let deleted = store.delete_machine(instance, b.id, some_change());
    assert!(deleted.await.unwrap());
    let deleted = Event::MachineDeleted {
        machine_id: b.id,
        name: "b".to_owned(),
    };
    assert_eq!(world.last_event(instance).await, (6, deleted));
}

pub async fn each_change_of_a_machine_key_is_one_record(world: World) {
    let instance = world.instance().await;
    let machine_id = world.machine(instance, "a").await.id;
    let key = world.machine_key();
    let key_id = key.id;
    let store = &world.store;
    let rotated = store.rotate_machine_key(instance, machine_id, key, at(9), 5, change_at(2));
    assert!(rotated.await.unwrap());
    let rotated = Event::MachineKeyRotated {
        machine_id,
        key_id,
        older_expire_at: at(9),
    };
    assert_eq!(world.last_event(instance).await, (3, rotated));
    let shown = store.reveal_machine_key(instance, machine_id, some_change());
    assert_eq!(shown.await.unwrap().unwrap().unwrap().id, key_id);
    let revealed = Event::MachineKeyRevealed { machine_id, key_id };
    assert_eq!(world.last_event(instance).await, (4, revealed));
}

pub async fn each_change_of_a_scope_is_one_record(world: World) {
    let instance = world.instance().await;
    let from = world.machine(instance, "a").await.id;
    let to = world.machine(instance, "b").await.id;
    let store = &world.store;
    let inserted = store.insert_scope(instance, from, to, 150, some_change());
    inserted.await.unwrap();
    let created = Event::ScopeCreated {
        from_machine_id: from,
        to_machine_id: to,
    };
    assert_eq!(world.last_event(instance).await, (4, created));
    let deleted = store.delete_scope(instance, from, to, some_change());
    assert!(deleted.await.unwrap());
    let deleted = Event::ScopeDeleted {
        from_machine_id: from,
        to_machine_id: to,
    };
    assert_eq!(world.last_event(instance).await, (5, deleted));
}

/// A machine that may call another one.
async fn caller(world: &World, instance: InstanceId) -> Arc<MachineRow> {
    let b = world.machine(instance, "b").await;
    world.machine_with(instance, "a", &[&b]).await
}

/// What a record says about this token, which names its receivers.
fn facts(token: &NewToken) -> TokenFacts {
    TokenFacts {
        token_id: token.id,
        subject: token.machine.id,
        receivers: token.scopes.clone(),
        names_receivers: true,
        format: token.proof.format(),
        expires_at: token.expires_at,
    }
}

pub async fn each_change_of_a_token_is_one_record(world: World) {
    let instance = world.instance().await;
    let machine = caller(&world, instance).await;
    let store = &world.store;
    let endless = NewToken {
        expires_at: None,
        scopes: Scopes::none(),
        ..world.new_token(&machine)
    };
    let mut count = 3;
    for new in [world.new_token(&machine), world.new_jwt(&machine), endless] {
        let new = NewToken {
            change: Some(change_at(4)),
            ..new
        };
        let (id, is_opaque) = (new.id, new.proof.format() == TokenFormat::Opaque);
        let mut token = facts(&new);
        world.issue(new).await;
        count += 1;
        let issued = Event::TokenIssued {
            token: token.clone(),
        };
        assert_eq!(world.last_event(instance).await, (count, issued));
        for claims in [Some(claims("[1]")), None]
            .into_iter()
            .filter(|_| is_opaque)
        {
            let claims_replaced = claims.is_some();
            token.expires_at = Some(at(7777));
            let update = TokenUpdate {
                claims,
                expires_at: Some(token.expires_at),
                revoked: None,
            };
            let updated = store.update_token(instance, None, id, update, some_change());
            updated.await.unwrap();
            count += 1;
            let updated = Event::TokenUpdated {
                token: token.clone(),
                claims_replaced,
            };
            assert_eq!(world.last_event(instance).await, (count, updated));
        }
        world.revoke(instance, id).await;
        count += 1;
        let reason = revocation().reason;
        let revoked = Event::TokenRevoked { token, reason };
        assert_eq!(world.last_event(instance).await, (count, revoked));
    }
}

pub async fn an_update_that_revokes_is_recorded_as_a_revocation(world: World) {
    let instance = world.instance().await;
    let new = world.new_token(&caller(&world, instance).await);
    let token = TokenFacts {
        expires_at: None,
        ..facts(&new)
    };
    let id = world.issue(new).await;
    let update = TokenUpdate {
        claims: Some(None),
        expires_at: Some(None),
        revoked: Some(revocation()),
    };
    let updated = world
        .store
        .update_token(instance, None, id, update, some_change());
    updated.await.unwrap();
    let reason = revocation().reason;
    let revoked = Event::TokenRevoked { token, reason };
    assert_eq!(world.last_event(instance).await, (4, revoked));
}

pub async fn an_issue_is_recorded_where_somebody_else_asked(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    for token in [
        world.new_token(&machine),
        world.new_jwt(&machine),
        world.new_pooled(&machine, 1, 0),
    ] {
        world.issue(token).await;
    }
    assert_eq!(world.changes(instance).await.len(), 2);
    let asked = |token| NewToken {
        change: Some(some_change()),
        ..token
    };
    // An existing token that is handed out is recorded, because somebody other than its machine learns it.
    let reused = world
        .store
        .insert_token(asked(world.new_pooled(&machine, 1, 0)));
    let reused = reused.await.unwrap();
    assert!(matches!(reused, InsertToken::Reused { .. }), "{reused:?}");
    assert_eq!(world.changes(instance).await.len(), 3);
    // A refused request is not.
    let refused = asked(world.new_token(&machine));
    world.set(instance, InstanceSettings::default()).await;
    let refused = world.store.insert_token(refused).await.unwrap();
    assert!(matches!(refused, InsertToken::Changed), "{refused:?}");
    assert_eq!(world.changes(instance).await.len(), 4);
    world.issue(asked(world.new_token(&machine))).await;
    assert_eq!(world.changes(instance).await.len(), 5);
}
