//! The revocation of single tokens.

use countersign_protocol::ids::TokenId;

use countersign_protocol::change::ChangeKind;

use super::world::{World, change_at, revocation, some_change};
use crate::{MachineRow, RevokeToken};

pub async fn a_revoked_token_is_seen_at_once(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    for token in [world.new_token(&machine), world.new_jwt(&machine)] {
        let id = world.issue(token).await;
        assert!(
            world
                .find(instance, id)
                .await
                .unwrap()
                .row
                .revoked
                .is_none()
        );
        let outcome = world.revoke(instance, id).await;
        let RevokeToken::Revoked(revoked) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(revoked.row.revoked.as_ref(), Some(&revocation()));
        let found = world.find(instance, id).await.unwrap();
        assert_eq!(found.row.revoked.as_ref(), Some(&revocation()));
    }
    let changes = world.changes(instance).await;
    assert_eq!(
        (changes.len(), changes[3].kind),
        (4, ChangeKind::TokenRevoked)
    );
}

pub async fn the_first_revocation_is_kept(world: World) {
    let instance = world.instance().await;
    let id = world.token(&world.machine(instance, "a").await).await;
    world.revoke(instance, id).await;
    let outcome = world
        .store
        .revoke_token(instance, None, id, None, change_at(9000))
        .await
        .unwrap();
    let RevokeToken::AlreadyRevoked(token) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(token.row.revoked.as_ref(), Some(&revocation()));
    assert_eq!(
        world.find(instance, id).await.unwrap().row.revoked.as_ref(),
        Some(&revocation())
    );
    assert_eq!(world.changes(instance).await.len(), 3);
}

pub async fn a_token_is_revoked_by_its_whole_id(world: World) {
    let instance = world.instance().await;
    let id = world.token(&world.machine(instance, "a").await).await;
    let guessed = TokenId::from_parts(id.locator(), id.rest() ^ 1);
    assert!(matches!(
        world.revoke(instance, guessed).await,
        RevokeToken::NotFound
    ));
    assert!(
        world
            .find(instance, id)
            .await
            .unwrap()
            .row
            .revoked
            .is_none()
    );
    assert_eq!(world.changes(instance).await.len(), 2);
}

pub async fn a_token_is_revoked_by_its_owner_only(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    let id = world.token(&a).await;
    let revoke = |owner: &MachineRow| {
        world.store.revoke_token(
            instance,
            Some(owner.id),
            id,
            Some("mine".into()),
            some_change(),
        )
    };
    assert!(matches!(revoke(&b).await.unwrap(), RevokeToken::NotFound));
    assert!(
        world
            .find(instance, id)
            .await
            .unwrap()
            .row
            .revoked
            .is_none()
    );
    assert!(matches!(revoke(&a).await.unwrap(), RevokeToken::Revoked(_)));
}

pub async fn a_token_of_another_instance_is_not_revoked(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let id = world.token(&world.machine(other, "b").await).await;
    assert!(matches!(
        world.revoke(mine, id).await,
        RevokeToken::NotFound
    ));
    assert!(world.find(other, id).await.unwrap().row.revoked.is_none());
    assert_eq!(world.changes(mine).await.len(), 1);
    assert_eq!(world.changes(other).await.len(), 2);
}
