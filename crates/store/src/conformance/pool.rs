//! Reuse of tokens.

use std::sync::Arc;

use countersign_protocol::ids::TokenId;

use super::world::{World, at, change_at};
use crate::{InsertToken, NewToken, SealedBytes, TokenUpdate};

/// Asks for a token, and expects one that was there before.
async fn reuse(world: &World, token: NewToken) -> (TokenId, SealedBytes) {
    let refused = token.id;
    let instance = token.machine.instance;
    match world.store.insert_token(token).await.unwrap() {
        InsertToken::Reused { token, sealed } => {
            assert!(world.find(instance, refused).await.is_none());
            (token.row.id, sealed)
        }
        other => panic!("{other:?}"),
    }
}

pub async fn an_equal_request_gets_the_same_token(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let first = world.new_pooled(&machine, 1, 1000);
    let sealed = first.pool.as_ref().unwrap().sealed.clone();
    let id = world.issue(first).await;
    assert_eq!(
        reuse(&world, world.new_pooled(&machine, 1, 1000)).await,
        (id, sealed.clone())
    );
    let world = world.reopen().await;
    assert_eq!(
        reuse(&world, world.new_pooled(&machine, 1, 1000)).await,
        (id, sealed)
    );
    // A token that did not ask for a pool is never handed out.
    world.token(&machine).await;
    assert_eq!(
        reuse(&world, world.new_pooled(&machine, 1, 1000)).await.0,
        id
    );
}

pub async fn the_token_with_most_life_left_is_used_again(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let with_end = |millis, min| NewToken {
        expires_at: Some(at(millis)),
        ..world.new_pooled(&machine, 1, min)
    };
    let short = world.issue(with_end(10_000, 9000)).await;
    let long = world.issue(with_end(30_000, 20_000)).await;
    assert_ne!(short, long);
    assert_eq!(reuse(&world, with_end(20_000, 0)).await.0, long);
}

pub async fn a_token_with_too_little_life_is_not_used_again(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let first = world
        .issue(NewToken {
            expires_at: Some(at(10_000)),
            ..world.new_pooled(&machine, 1, 0)
        })
        .await;
    let later = |created_at, min| NewToken {
        created_at: at(created_at),
        ..world.new_pooled(&machine, 1, min)
    };
    // Exactly enough is enough.
    assert_eq!(reuse(&world, later(4000, 6000)).await.0, first);
    world.issue(later(4000, 6001)).await;
}

pub async fn a_token_with_another_key_is_not_used_again(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    world.issue(world.new_pooled(&machine, 1, 0)).await;
    world.issue(world.new_pooled(&machine, 2, 0)).await;
}

pub async fn another_machines_token_is_not_used_again(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let (a, b) = (
        world.machine(mine, "a").await,
        world.machine(mine, "b").await,
    );
    let c = world.machine(other, "c").await;
    for machine in [a, b, c] {
        world.issue(world.new_pooled(&machine, 1, 0)).await;
    }
}

pub async fn a_revoked_token_is_not_used_again(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.issue(world.new_pooled(&machine, 1, 0)).await;
    world.revoke(instance, id).await;
    let second = world.issue(world.new_pooled(&machine, 1, 0)).await;
    assert_eq!(
        reuse(&world, world.new_pooled(&machine, 1, 0)).await.0,
        second
    );
}

pub async fn an_updated_token_is_not_used_again(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.issue(world.new_pooled(&machine, 1, 0)).await;
    let update = TokenUpdate {
        claims: Some(super::tokens::claims("1")),
        ..TokenUpdate::default()
    };
    world
        .store
        .update_token(instance, None, id, update, change_at(1))
        .await
        .unwrap();
    world.issue(world.new_pooled(&machine, 1, 0)).await;
}

pub async fn an_expired_token_is_not_used_again(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    world
        .issue(NewToken {
            expires_at: Some(at(10)),
            ..world.new_pooled(&machine, 1, 0)
        })
        .await;
    world
        .issue(NewToken {
            created_at: at(10),
            ..world.new_pooled(&machine, 1, 0)
        })
        .await;
}

pub async fn a_token_without_end_is_used_again(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let endless = || NewToken {
        expires_at: None,
        ..world.new_pooled(&machine, 1, i64::MAX)
    };
    let id = world.issue(endless()).await;
    assert_eq!(reuse(&world, endless()).await.0, id);
}

pub async fn a_changed_machine_gets_no_token_from_the_pool(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    world.issue(world.new_pooled(&a, 1, 0)).await;
    world
        .store
        .insert_scope(instance, a.id, b.id, 150, change_at(1))
        .await
        .unwrap();
    let outcome = world
        .store
        .insert_token(world.new_pooled(&a, 1, 0))
        .await
        .unwrap();
    assert!(matches!(outcome, InsertToken::Changed), "{outcome:?}");
}

pub async fn concurrent_equal_requests_converge(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let mut tasks = Vec::new();
    for _ in 0..32 {
        let (store, token) = (
            Arc::clone(&world.store),
            world.new_pooled(&machine, 1, 1000),
        );
        tasks.push(tokio::spawn(async move {
            let id = token.id;
            match store.insert_token(token).await.unwrap() {
                InsertToken::Inserted => (id, true),
                InsertToken::Reused { token, .. } => (token.row.id, false),
                other => panic!("{other:?}"),
            }
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|(_, is_new)| *is_new).count(), 1);
    assert!(answers.iter().all(|(id, _)| *id == answers[0].0));
}

pub async fn expired_sealed_tokens_are_erased(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world
        .issue(NewToken {
            expires_at: Some(at(10)),
            ..world.new_pooled(&machine, 1, 0)
        })
        .await;
    assert_eq!(world.store.erase_expired_secrets(at(9)).await.unwrap(), 0);
    assert_eq!(world.store.erase_expired_secrets(at(10)).await.unwrap(), 1);
    assert_eq!(world.store.erase_expired_secrets(at(10)).await.unwrap(), 0);
    // The token itself is still known, and even a clock that went back does not find it in the pool.
    assert!(world.find(instance, id).await.is_some());
    world.issue(world.new_pooled(&machine, 1, 0)).await;
}

pub async fn a_full_machine_gets_an_equal_token_and_no_other(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let full = |token| NewToken {
        is_full: true,
        ..token
    };
    let insert = async |token| world.store.insert_token(full(token)).await.unwrap();
    for token in [
        world.new_token(&machine),
        world.new_jwt(&machine),
        world.new_pooled(&machine, 1, 0),
    ] {
        let id = token.id;
        assert!(matches!(insert(token).await, InsertToken::Full));
        assert!(world.find(instance, id).await.is_none());
    }
    let first = world.issue(world.new_pooled(&machine, 1, 0)).await;
    match insert(world.new_pooled(&machine, 1, 0)).await {
        InsertToken::Reused { token, .. } => assert_eq!(token.row.id, first),
        other => panic!("{other:?}"),
    }
    let other = insert(world.new_pooled(&machine, 2, 0)).await;
    assert!(matches!(other, InsertToken::Full));
}
