//! Inserting, finding and using tokens.

use countersign_protocol::change::Cause;
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::TokenId;
use countersign_protocol::time::Timestamp;

use super::token_lists::{everything, list};
use super::world::{World, at, change_at};
use crate::{
    LastUse, MachineRow, NewToken, Proof, RevokeToken, SigningKeyState, StoreError, TokenQuery,
};

pub(super) fn claims(text: &str) -> Option<Claims> {
    Claims::from_stored(text.to_owned()).unwrap()
}

pub async fn a_new_token_is_found_at_once(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token_id();
    assert!(world.find(instance, id).await.is_none());
    world
        .issue(NewToken {
            id,
            ..world.new_token(&machine)
        })
        .await;
    let found = world.find(instance, id).await.unwrap();
    assert_eq!(
        (found.row.id, &found.machine, found.instance.id),
        (id, &machine, instance)
    );
    assert!(world.find(instance, world.token_id()).await.is_none());
    assert_eq!(world.changes(instance).await.len(), 2);
}

pub async fn a_token_is_not_found_from_another_instance(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let theirs = world.token(&world.machine(other, "b").await).await;
    assert!(world.find(mine, theirs).await.is_none());
    assert!(world.find(other, theirs).await.is_some());
    assert!(world.find(mine, theirs).await.is_none());
}

pub async fn a_token_is_found_in_any_instance(world: World) {
    let (first, second) = (world.instance().await, world.instance().await);
    let find = async |id: TokenId| world.store.find_token(id.locator()).await.unwrap();
    for instance in [first, second] {
        let machine = world.machine(instance, "a").await;
        for token in [world.new_token(&machine), world.new_jwt(&machine)] {
            let id = world.issue(token).await;
            let (found, expected) = (
                find(id).await.unwrap(),
                world.find(instance, id).await.unwrap(),
            );
            assert_eq!((found.row.id, found.row.proof), (id, expected.row.proof));
            assert_eq!(
                (&found.machine, &found.instance),
                (&machine, &expected.instance)
            );
            assert_eq!(found.instance.id, instance);
            assert_eq!(found.signing_key, expected.signing_key);
        }
        let id = world.token(&machine).await;
        let deleted = world
            .store
            .delete_machine(instance, machine.id, change_at(1))
            .await;
        assert!(deleted.unwrap());
        assert!(find(id).await.is_none(), "its machine is gone");
    }
    assert!(find(world.token_id()).await.is_none());
}

pub async fn a_token_shows_the_state_of_its_signing_key(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let next = world.signing_key(instance);
    let (first, second) = (instance.first_signing_key(), next.id);
    let opaque = world.token(&machine).await;
    let old = world.issue(world.new_jwt(&machine)).await;
    let store = &world.store;
    store
        .insert_signing_key(next, 16, change_at(0))
        .await
        .unwrap();
    let new = NewToken {
        proof: Proof::Jwt(second),
        ..world.new_jwt(&machine)
    };
    let new = world.issue(new).await;
    let states = async || {
        let mut states = Vec::new();
        for id in [opaque, old, new] {
            let found = world.find(instance, id).await.unwrap();
            let anywhere = store.find_token(id.locator()).await.unwrap().unwrap();
            assert_eq!(anywhere.signing_key, found.signing_key);
            let query = TokenQuery {
                machine: machine.id,
                ..everything()
            };
            let (listed, _) = store.list_tokens(instance, query).await.unwrap();
            let listed = listed.iter().find(|token| token.row.id == id).unwrap();
            assert_eq!(listed.signing_key, found.signing_key);
            states.push(found.signing_key);
        }
        states
    };
    let (active, published) = (SigningKeyState::Active, SigningKeyState::Published);
    assert_eq!(states().await, [None, Some(active), Some(published)]);
    let activated = store.activate_signing_key(instance, second, Cause::Request, change_at(1));
    assert!(activated.await.unwrap());
    let verify_only = SigningKeyState::VerifyOnly;
    assert_eq!(states().await, [None, Some(verify_only), Some(active)]);
    let deleted = store.delete_signing_key(instance, first, None, change_at(2));
    assert!(deleted.await.unwrap());
    assert_eq!(states().await, [None, None, Some(active)]);
}

pub async fn a_token_locator_is_used_once(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let first = world.token(&machine).await;
    let second = TokenId::from_parts(first.locator(), first.rest() ^ 1);
    let outcome = world
        .store
        .insert_token(NewToken {
            id: second,
            ..world.new_token(&machine)
        })
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Conflict(_))),
        "{outcome:?}"
    );
    assert_eq!(world.find(instance, first).await.unwrap().row.id, first);
}

pub async fn tokens_vanish_with_their_machine(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    assert!(world.find(instance, id).await.is_some());
    world
        .store
        .delete_machine(instance, machine.id, change_at(1))
        .await
        .unwrap();
    assert!(world.find(instance, id).await.is_none());
    assert!(matches!(
        world.revoke(instance, id).await,
        RevokeToken::NotFound
    ));
    assert_eq!(list(&world, &machine, everything()).await.1, 0);
}

pub async fn everything_about_a_token_comes_back(world: World) {
    let instance = world.instance().await;
    let b = world.machine(instance, "b").await;
    let a = world.machine_with(instance, "a", &[&b]).await;
    let text = r#"{"b":1.0,"a":["x y","ü"]}"#;
    let full = NewToken {
        claims: claims(text),
        created_at: at(5),
        ..world.new_token(&a)
    };
    let endless = NewToken {
        expires_at: None,
        ..world.new_token(&b)
    };
    let (proof, endless_id) = (full.proof, endless.id);
    let id = world.issue(full).await;
    world.issue(endless).await;
    let world = world.reopen().await;
    let found = world.find(instance, id).await.unwrap().row;
    assert_eq!(
        (found.id, found.proof, found.scopes.as_str()),
        (id, proof, b.id.as_str())
    );
    assert_eq!(found.claims.as_ref().unwrap().as_str(), text);
    assert_eq!(
        (found.created_at, found.expires_at, &found.revoked),
        (at(5), Some(at(3_600_000)), &None)
    );
    assert_eq!(found.last_used_at, None);
    let endless = world.find(instance, endless_id).await.unwrap().row;
    assert_eq!(
        (
            endless.expires_at,
            endless.claims.is_some(),
            endless.scopes.is_empty()
        ),
        (None, false, true)
    );
}

/// When a machine's tokens were last used, newest token first.
async fn last_uses(world: &World, machine: &MachineRow) -> Vec<Option<Timestamp>> {
    let query = TokenQuery {
        machine: machine.id,
        ..everything()
    };
    let listed = world.store.list_tokens(machine.instance, query).await;
    let (tokens, _) = listed.unwrap();
    tokens.iter().map(|token| token.row.last_used_at).collect()
}

pub async fn last_uses_are_kept_and_never_go_back(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let (first, second) = (world.token(&machine).await, world.token(&machine).await);
    let uses = vec![
        LastUse {
            locator: second.locator(),
            at: at(20),
        },
        LastUse {
            locator: first.locator(),
            at: at(10),
        },
        LastUse {
            locator: world.token_id().locator(),
            at: at(30),
        },
    ];
    world.store.record_uses(uses, at(40)).await.unwrap();
    world
        .store
        .record_uses(
            vec![LastUse {
                locator: second.locator(),
                at: at(15),
            }],
            at(40),
        )
        .await
        .unwrap();
    assert_eq!(
        last_uses(&world, &machine).await,
        [Some(at(20)), Some(at(10))]
    );
    // A change of the token keeps its last use.
    world.revoke(instance, second).await;
    let world = world.reopen().await;
    assert_eq!(
        last_uses(&world, &machine).await,
        [Some(at(20)), Some(at(10))]
    );
    assert_eq!(world.store.clock_floor().await.unwrap(), at(40));
}
