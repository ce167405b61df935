//! The time since which JWTs name their receivers, and how records show it.

use countersign_protocol::change::Event;
use countersign_protocol::ids::{InstanceId, TokenId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;

use super::world::{World, at};
use crate::{NewInstance, NewToken, RevokeToken};

fn with_claim(jwt_scopes_claim: bool) -> InstanceSettings {
    InstanceSettings {
        jwt_scopes_claim,
        ..InstanceSettings::default()
    }
}

async fn local_since(world: &World, id: InstanceId) -> Option<Timestamp> {
    let instance = world.current_instance(id).await;
    let listed = world.store.list_instances().await.unwrap();
    assert!(listed.contains(&instance));
    instance.local_since
}

/// Switches the claim at this time. The record says the same as the instance.
async fn switch(world: &World, id: InstanceId, is_on: bool, millis: i64) -> Option<Timestamp> {
    let instance = world.set_at(id, with_claim(is_on), millis).await;
    let (_, event) = world.last_event(id).await;
    let Event::InstanceUpdated { local_since, .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!(local_since, instance.local_since);
    assert_eq!(self::local_since(world, id).await, local_since);
    local_since
}

async fn instance(world: &World, is_on: bool) -> InstanceId {
    let new = NewInstance {
        settings: with_claim(is_on),
        created_at: at(7),
        ..world.new_instance()
    };
    world.insert_instance(new).await.id
}

pub async fn the_claim_is_there_since_the_instance_was_created(world: World) {
    let (on, off) = (instance(&world, true).await, instance(&world, false).await);
    assert_eq!(local_since(&world, on).await, Some(at(7)));
    assert_eq!(local_since(&world, off).await, None);
    let world = world.reopen().await;
    assert_eq!(local_since(&world, on).await, Some(at(7)));
    assert_eq!(local_since(&world, off).await, None);
}

pub async fn switching_the_claim_sets_its_time_anew(world: World) {
    for begins_on in [true, false] {
        let id = instance(&world, begins_on).await;
        assert_eq!(switch(&world, id, false, 20).await, None);
        // Later than every JWT of the same millisecond, which may have been signed without the claim.
        let first = switch(&world, id, true, 30).await.unwrap();
        assert!(first >= at(30 + 60_000), "{first}");
        assert_eq!(switch(&world, id, false, 40).await, None);
        let second = switch(&world, id, true, 50).await.unwrap();
        assert!(second > first);
    }
}

pub async fn other_settings_leave_the_time_of_the_claim(world: World) {
    let id = instance(&world, false).await;
    let since = switch(&world, id, true, 30).await;
    assert_eq!(switch(&world, id, true, 60).await, since);
    let other = InstanceSettings {
        max_jwt_ttl: 60,
        token_pooling: false,
        ..with_claim(true)
    };
    world.set_at(id, other, 70).await;
    assert_eq!(local_since(&world, id).await, since);
    let world = world.reopen().await;
    assert_eq!(local_since(&world, id).await, since);
    let off = instance(&world, false).await;
    let other = InstanceSettings {
        max_jwt_ttl: 60,
        ..with_claim(false)
    };
    world.set_at(off, other, 70).await;
    assert_eq!(local_since(&world, off).await, None);
}

/// Whether the record of this token's revocation says that the token names its receivers.
async fn names_receivers(world: &World, instance: InstanceId, id: TokenId) -> bool {
    let outcome = world.revoke(instance, id).await;
    assert!(matches!(outcome, RevokeToken::Revoked(_)), "{outcome:?}");
    let (_, event) = world.last_event(instance).await;
    let Event::TokenRevoked { token, .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!(token.token_id, id);
    token.names_receivers
}

pub async fn a_jwt_from_before_the_claim_names_no_receivers(world: World) {
    let instance = instance(&world, false).await;
    let machine = world.machine(instance, "a").await;
    let issue = async |millis, is_jwt| {
        let token = if is_jwt {
            world.new_jwt(&machine)
        } else {
            world.new_token(&machine)
        };
        let token = NewToken {
            created_at: at(millis),
            ..token
        };
        world.issue(token).await
    };
    let off = [issue(10, true).await, issue(10, true).await];
    let opaque = issue(10, false).await;
    assert!(!names_receivers(&world, instance, off[0]).await);
    assert!(names_receivers(&world, instance, opaque).await);
    let same_millisecond = issue(30, true).await;
    let since = switch(&world, instance, true, 30).await.unwrap();
    assert!(!names_receivers(&world, instance, off[1]).await);
    assert!(!names_receivers(&world, instance, same_millisecond).await);
    let on = NewToken {
        created_at: since,
        ..world.new_jwt(&machine)
    };
    let on = [
        world.issue(on.clone()).await,
        world
            .issue(NewToken {
                id: world.token_id(),
                ..on
            })
            .await,
    ];
    assert!(names_receivers(&world, instance, on[0]).await);
    // Nobody knows any more which JWTs have the claim.
    switch(&world, instance, false, 60).await;
    assert!(!names_receivers(&world, instance, on[1]).await);
}
