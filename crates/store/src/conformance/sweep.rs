//! Deleting old tokens in sweeps.

use super::token_lists::{everything, list};
use super::world::{World, at, change_at};
use crate::{KEPT_MILLIS, NewToken, RevokeToken};

pub async fn a_sweep_deletes_what_ended_long_enough_ago(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let with_end = |millis| NewToken {
        expires_at: Some(at(millis)),
        ..world.new_token(&machine)
    };
    let long_expired = world.issue(with_end(4999)).await;
    let just_expired = world.issue(with_end(5000)).await;
    let live = world.token(&machine).await;
    let endless = world
        .issue(NewToken {
            expires_at: None,
            ..world.new_token(&machine)
        })
        .await;
    // Revoked at 1000.
    let revoked = world.token(&machine).await;
    world.revoke(instance, revoked).await;
    let sweep = world
        .store
        .sweep_tokens(None, 100, at(1000), at(1000))
        .await
        .unwrap();
    assert_eq!((sweep.next, sweep.deleted), (None, 0));
    let sweep = world
        .store
        .sweep_tokens(None, 100, at(5000), at(5000))
        .await
        .unwrap();
    assert_eq!((sweep.next, sweep.deleted), (None, 2));
    for id in [long_expired, revoked] {
        assert!(world.find(instance, id).await.is_none());
        assert!(matches!(
            world.revoke(instance, id).await,
            RevokeToken::NotFound
        ));
    }
    for id in [just_expired, live, endless] {
        assert!(world.find(instance, id).await.is_some());
    }
    assert_eq!(list(&world, &machine, everything()).await.1, 3);
}

pub async fn a_sweep_deletes_tokens_of_deleted_machines(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    world.token(&a).await;
    let kept = world.token(&b).await;
    world
        .store
        .delete_machine(instance, a.id, change_at(1))
        .await
        .unwrap();
    assert_eq!(
        world
            .store
            .sweep_tokens(None, 100, at(0), at(0))
            .await
            .unwrap()
            .deleted,
        1
    );
    assert_eq!(
        world
            .store
            .sweep_tokens(None, 100, at(0), at(0))
            .await
            .unwrap()
            .deleted,
        0
    );
    assert!(world.find(instance, kept).await.is_some());
}

pub async fn a_sweep_goes_on_where_it_stopped(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    for number in 0..10 {
        let expires_at = Some(at(if number % 2 == 0 { 1 } else { 9000 }));
        world
            .issue(NewToken {
                expires_at,
                ..world.new_token(&machine)
            })
            .await;
    }
    let (mut after, mut deleted, mut rounds) = (None, 0, 0);
    loop {
        let sweep = world
            .store
            .sweep_tokens(after, 3, at(100), at(100))
            .await
            .unwrap();
        assert!(sweep.deleted <= 3);
        deleted += sweep.deleted;
        rounds += 1;
        let Some(next) = sweep.next else { break };
        assert!(after.is_none_or(|after| after < next));
        after = Some(next);
    }
    assert_eq!((deleted, rounds), (5, 4));
    assert_eq!(list(&world, &machine, everything()).await.1, 5);
}

pub async fn a_sweep_keeps_a_revoked_jwt_until_receivers_may_forget_it(world: World) {
    let instance = world.instance().await;
    let (machine, doomed) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    let mut ids = Vec::new();
    for machine in [&machine, &doomed] {
        let jwt = NewToken {
            expires_at: Some(at(50_000)),
            ..world.new_jwt(machine)
        };
        let (revoked, live) = (
            world.issue(jwt.clone()).await,
            NewToken {
                id: world.token_id(),
                ..jwt
            },
        );
        world.revoke(instance, revoked).await;
        ids.push([revoked, world.issue(live).await]);
    }
    let deleted = world
        .store
        .delete_machine(instance, doomed.id, change_at(1));
    assert!(deleted.await.unwrap());
    let sweep = async |dead_before, now| {
        let sweep = world
            .store
            .sweep_tokens(None, 100, at(dead_before), at(now))
            .await;
        sweep.unwrap().deleted
    };
    // The one that is not revoked goes with its machine.
    assert_eq!(sweep(0, 2000).await, 1);
    assert_eq!(sweep(2000, 2000).await, 0);
    // The one that only expired goes when it is dead for long enough.
    assert_eq!(sweep(50_001, 50_001).await, 1);
    assert!(world.find(instance, ids[0][1]).await.is_none());
    let end = 50_000 + KEPT_MILLIS;
    assert_eq!(sweep(end - 1, end - 1).await, 0);
    let kept = world.find(instance, ids[0][0]).await.unwrap();
    assert!(kept.row.revoked.is_some());
    // The row stays, and the token is refused all the same.
    assert!(world.find(instance, ids[1][0]).await.is_none());
    assert_eq!(sweep(0, end).await, 1, "its machine is gone");
    assert_eq!(sweep(end, end).await, 1);
    assert_eq!(list(&world, &machine, everything()).await.1, 0);
}

pub async fn a_sweep_leaves_what_was_cut_off_until_it_expires(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    let ended = world
        .store
        .end_machine_tokens(instance, machine.id, change_at(0));
    ended.await.unwrap();
    let sweep = async |dead_before| {
        let at = at(dead_before);
        world
            .store
            .sweep_tokens(None, 100, at, at)
            .await
            .unwrap()
            .deleted
    };
    assert_eq!(sweep(3_600_000).await, 0);
    assert!(world.find(instance, id).await.is_some());
    assert_eq!(sweep(3_600_001).await, 1);
}
