//! Making room for a machine that has reached its limit of tokens.

use std::sync::Arc;

use countersign_protocol::ids::TokenId;

use super::token_lists::{everything, list};
use super::world::{World, at, change_at};
use crate::{KEPT_MILLIS, MachineRow, NewToken};

/// Makes room, and returns the number of tokens that are left, counted up to `limit`.
async fn make_room(world: &World, machine: &MachineRow, limit: u64, millis: i64) -> u64 {
    let total = async || list(world, machine, everything()).await.1;
    let before = total().await;
    let room = world
        .store
        .make_room(machine.instance, machine.id, limit, at(millis))
        .await;
    let room = room.unwrap().unwrap();
    assert_eq!(room.deleted, before - total().await);
    room.held
}

/// An opaque token that expires at this time.
async fn expiring(world: &World, machine: &Arc<MachineRow>, millis: i64) -> TokenId {
    let token = NewToken {
        expires_at: Some(at(millis)),
        ..world.new_token(machine)
    };
    world.issue(token).await
}

async fn left(world: &World, machine: &MachineRow) -> Vec<TokenId> {
    let (mut ids, total) = list(world, machine, everything()).await;
    assert_eq!(ids.len() as u64, total);
    ids.reverse();
    ids
}

pub async fn ended_tokens_make_room_and_live_ones_stay(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let endless = NewToken {
        expires_at: None,
        ..world.new_token(&machine)
    };
    let expired = expiring(&world, &machine, 1000).await;
    let endless = world.issue(endless).await;
    let revoked = world.token(&machine).await;
    let live = expiring(&world, &machine, 1001).await;
    world.revoke(instance, revoked).await;
    assert_eq!(make_room(&world, &machine, 4, 1000).await, 2);
    assert_eq!(left(&world, &machine).await, [endless, live]);
    for id in [expired, revoked] {
        assert!(world.find(instance, id).await.is_none());
    }
    // Where all are live nothing goes, and the machine is full.
    assert_eq!(make_room(&world, &machine, 2, 1000).await, 2);
    assert_eq!(left(&world, &machine).await, [endless, live]);
    let world = world.reopen().await;
    assert_eq!(left(&world, &machine).await, [endless, live]);
    assert_eq!(make_room(&world, &machine, 2, 1001).await, 1);
    assert_eq!(left(&world, &machine).await, [endless]);
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn tokens_before_a_cut_off_make_room(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    let other = world.instance().await;
    let theirs = world.machine(other, "c").await;
    for machine in [&a, &a, &b, &theirs] {
        world.token(machine).await;
    }
    let store = &world.store;
    store
        .end_machine_tokens(instance, a.id, change_at(0))
        .await
        .unwrap();
    assert_eq!(make_room(&world, &a, 2, 0).await, 0);
    assert_eq!(make_room(&world, &b, 1, 0).await, 1);
    store
        .end_instance_tokens(instance, change_at(0))
        .await
        .unwrap();
    assert_eq!(make_room(&world, &b, 1, 0).await, 0);
    assert_eq!(make_room(&world, &theirs, 1, 0).await, 1);
}

pub async fn nothing_goes_below_the_limit(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(expiring(&world, &machine, 10).await);
    }
    world.revoke(instance, ids[0]).await;
    assert_eq!(make_room(&world, &machine, 4, 5000).await, 3);
    assert_eq!(left(&world, &machine).await, ids);
    assert_eq!(make_room(&world, &machine, 3, 5000).await, 0);
    assert!(left(&world, &machine).await.is_empty());
}

pub async fn tokens_are_counted_up_to_the_limit(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    assert_eq!(make_room(&world, &machine, 2, 0).await, 0);
    for _ in 0..5 {
        world.token(&machine).await;
    }
    for (limit, count) in [(1, 1), (4, 4), (5, 5), (6, 5), (u64::MAX, 5)] {
        assert_eq!(make_room(&world, &machine, limit, 0).await, count);
    }
    let world = world.reopen().await;
    assert_eq!(make_room(&world, &machine, 10, 0).await, 5);
}

pub async fn jwts_count_like_opaque_tokens(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    for token in [
        world.new_jwt(&machine),
        world.new_token(&machine),
        world.new_jwt(&machine),
        world.new_pooled(&machine, 1, 0),
    ] {
        world.issue(token).await;
    }
    assert_eq!(make_room(&world, &machine, 10, 0).await, 4);
    // And they make room as those do, once they are expired.
    assert_eq!(make_room(&world, &machine, 4, 3_599_999).await, 4);
    assert_eq!(make_room(&world, &machine, 4, 3_600_000).await, 0);
}

pub async fn a_revoked_jwt_makes_no_room_while_receivers_must_know(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let jwt = || NewToken {
        expires_at: Some(at(50_000)),
        ..world.new_jwt(&machine)
    };
    let (revoked, expired) = (world.issue(jwt()).await, world.issue(jwt()).await);
    let opaque = world.token(&machine).await;
    for id in [revoked, opaque] {
        world.revoke(instance, id).await;
    }
    assert_eq!(make_room(&world, &machine, 3, 2000).await, 2);
    assert_eq!(left(&world, &machine).await, [revoked, expired]);
    // A JWT that only expired goes at once.
    assert_eq!(make_room(&world, &machine, 2, 50_000).await, 1);
    assert_eq!(left(&world, &machine).await, [revoked]);
    let end = 50_000 + KEPT_MILLIS;
    assert_eq!(make_room(&world, &machine, 1, end - 1).await, 1);
    assert_eq!(make_room(&world, &machine, 1, end).await, 0);
    assert!(world.find(instance, revoked).await.is_none());
}

pub async fn room_is_made_within_one_machine(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let (a, b) = (
        world.machine(mine, "a").await,
        world.machine(mine, "b").await,
    );
    let id = expiring(&world, &b, 10).await;
    world.token(&a).await;
    assert_eq!(make_room(&world, &a, 1, 5000).await, 1);
    assert!(world.find(mine, id).await.is_some());
    let store = &world.store;
    let room = store.make_room(other, b.id, 0, at(5000)).await;
    assert_eq!(room.unwrap(), None, "it is another instance's machine");
    let room = store.make_room(mine, world.machine_id(), 0, at(5000)).await;
    assert_eq!(room.unwrap(), None);
    assert!(world.find(mine, id).await.is_some());
    store
        .delete_machine(mine, b.id, change_at(1))
        .await
        .unwrap();
    assert_eq!(
        store.make_room(mine, b.id, 1, at(5000)).await.unwrap(),
        None
    );
}

pub async fn the_oldest_ended_tokens_make_room_first(world: World) {
    /// The most that one call deletes.
    const AT_ONCE: usize = 10_000;
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let live = world.token(&machine).await;
    let mut ids = Vec::new();
    while ids.len() < AT_ONCE + 3 {
        let mut tasks = Vec::new();
        for _ in 0..(AT_ONCE + 3 - ids.len()).min(1000) {
            let token = NewToken {
                expires_at: Some(at(10)),
                ..world.new_token(&machine)
            };
            let (store, id) = (Arc::clone(&world.store), token.id);
            let task = tokio::spawn(async move { store.insert_token(token).await });
            tasks.push((id, task));
        }
        for (id, task) in tasks {
            task.await.unwrap().unwrap();
            ids.push(id);
        }
    }
    assert_eq!(make_room(&world, &machine, 5000, 10).await, 4);
    let mut expected = vec![live];
    expected.extend(&ids[AT_ONCE..]);
    assert_eq!(left(&world, &machine).await, expected);
    assert_eq!(make_room(&world, &machine, 4, 10).await, 1);
    assert_eq!(left(&world, &machine).await, [live]);
}
