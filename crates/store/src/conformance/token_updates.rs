//! Changing tokens.

use countersign_protocol::ids::TokenId;

use super::tokens::claims;
use super::world::{World, at, change_at, revocation};
use crate::{MachineRow, NewToken, TokenUpdate, UpdateToken};

async fn update(
    world: &World,
    machine: &MachineRow,
    id: TokenId,
    update: TokenUpdate,
) -> UpdateToken {
    world
        .store
        .update_token(machine.instance, None, id, update, change_at(100))
        .await
        .unwrap()
}

pub async fn an_update_changes_claims_and_expiry(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    let new = TokenUpdate {
        claims: Some(claims("[1]")),
        expires_at: Some(Some(at(9999))),
        revoked: None,
    };
    let outcome = update(&world, &machine, id, new).await;
    assert!(matches!(outcome, UpdateToken::Updated(_)), "{outcome:?}");
    let found = world.find(instance, id).await.unwrap().row;
    assert_eq!(
        (found.claims.as_ref().unwrap().as_str(), found.expires_at),
        ("[1]", Some(at(9999)))
    );
    let new = TokenUpdate {
        expires_at: Some(Some(at(5555))),
        ..TokenUpdate::default()
    };
    update(&world, &machine, id, new).await;
    let found = world.find(instance, id).await.unwrap().row;
    assert_eq!(
        (found.claims.as_ref().unwrap().as_str(), found.expires_at),
        ("[1]", Some(at(5555)))
    );
    assert_eq!(world.changes(instance).await.len(), 4);
}

pub async fn an_update_may_take_claims_and_expiry_away(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world
        .issue(NewToken {
            claims: claims("1"),
            ..world.new_token(&machine)
        })
        .await;
    update(
        &world,
        &machine,
        id,
        TokenUpdate {
            claims: Some(None),
            expires_at: Some(None),
            revoked: None,
        },
    )
    .await;
    let found = world.find(instance, id).await.unwrap().row;
    assert!(found.claims.is_none() && found.expires_at.is_none());
}

pub async fn an_update_may_revoke(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    let new = TokenUpdate {
        claims: Some(claims("2")),
        expires_at: None,
        revoked: Some(revocation()),
    };
    let outcome = update(&world, &machine, id, new).await;
    assert!(matches!(outcome, UpdateToken::Updated(_)), "{outcome:?}");
    let found = world.find(instance, id).await.unwrap().row;
    assert_eq!(found.revoked.as_ref(), Some(&revocation()));
    assert_eq!(found.claims.as_ref().unwrap().as_str(), "2");
}

pub async fn a_dead_token_is_not_updated(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let revoked = world.token(&machine).await;
    world.revoke(instance, revoked).await;
    let expired = world
        .issue(NewToken {
            expires_at: Some(at(100)),
            ..world.new_token(&machine)
        })
        .await;
    for id in [revoked, expired] {
        let new = TokenUpdate {
            expires_at: Some(None),
            ..TokenUpdate::default()
        };
        let outcome = update(&world, &machine, id, new).await;
        assert!(matches!(outcome, UpdateToken::NotLive), "{outcome:?}");
        assert!(
            world
                .find(instance, id)
                .await
                .unwrap()
                .row
                .expires_at
                .is_some()
        );
    }
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_jwt_is_not_updated(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.issue(world.new_jwt(&machine)).await;
    let outcome = update(
        &world,
        &machine,
        id,
        TokenUpdate {
            claims: Some(None),
            ..TokenUpdate::default()
        },
    )
    .await;
    assert!(matches!(outcome, UpdateToken::IsJwt), "{outcome:?}");
}

pub async fn a_token_of_someone_else_is_not_updated(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let (a, b) = (
        world.machine(mine, "a").await,
        world.machine(mine, "b").await,
    );
    let id = world.token(&a).await;
    let new = || TokenUpdate {
        expires_at: Some(None),
        ..TokenUpdate::default()
    };
    let store = &world.store;
    let outcome = store
        .update_token(mine, Some(b.id), id, new(), change_at(1))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::NotFound), "{outcome:?}");
    let outcome = store
        .update_token(other, None, id, new(), change_at(1))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::NotFound), "{outcome:?}");
    let guessed = TokenId::from_parts(id.locator(), id.rest() ^ 1);
    let outcome = store
        .update_token(mine, None, guessed, new(), change_at(1))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::NotFound), "{outcome:?}");
    assert!(world.find(mine, id).await.unwrap().row.expires_at.is_some());
    let outcome = store
        .update_token(mine, Some(a.id), id, new(), change_at(1))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::Updated(_)), "{outcome:?}");
}
