//! Tokens: made, found, listed, revoked, changed, swept.

use std::sync::Arc;

use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{InstanceId, TokenId};

use super::world::{World, assert_chained, at, change, revocation, some_change};
use crate::{
    ChangeKind, Digest, InsertToken, LastUse, MachineRow, NewToken, Page, Revocation, RevokeToken,
    StoreError, TokenFormat, TokenFormats, TokenQuery, TokenUpdate, UpdateToken,
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
        (found.row.id, &found.machine, found.instance()),
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
                .insert_scope(instance, a.id, b.id, at(1), 150, some_change(instance))
                .await
                .unwrap();
            if outcome != crate::InsertScope::Inserted {
                world
                    .store
                    .delete_scope(instance, a.id, b.id, at(1), some_change(instance))
                    .await
                    .unwrap();
            }
        } else {
            let update = crate::MachineUpdate {
                name: None,
                default_token_ttl: Some(60),
            };
            world
                .store
                .update_machine(instance, a.id, update, at(1), some_change(instance))
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
        .delete_machine(instance, machine.id, at(1), some_change(instance))
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

pub async fn tokens_vanish_with_their_machine(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let id = world.token(&machine).await;
    assert!(world.find(instance, id).await.is_some());
    world
        .store
        .delete_machine(instance, machine.id, at(1), some_change(instance))
        .await
        .unwrap();
    assert!(world.find(instance, id).await.is_none());
    assert!(matches!(
        world.revoke(instance, id).await,
        RevokeToken::NotFound
    ));
    assert_eq!(list(&world, &machine, everything()).await.1, 0);
}

/// A machine, and the number of its key.
async fn machine_and_key(world: &World, instance: InstanceId) -> (Arc<MachineRow>, i64) {
    let new = world.new_machine(instance, "a");
    let digest = new.key.digest;
    let machine = world.insert(new).await;
    (machine, number_of(world, &digest).await)
}

async fn number_of(world: &World, digest: &Digest) -> i64 {
    let key = world.store.machine_key_by_digest(digest).await.unwrap();
    key.unwrap().number
}

/// Every kind of token, asked for with this key.
fn asked_for(world: &World, machine: &Arc<MachineRow>, key: i64) -> [NewToken; 3] {
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

async fn rotate(world: &World, machine: &MachineRow, older_end: i64, now: i64) -> i64 {
    let new = world.machine_key();
    let digest = new.digest;
    let is_rotated = world
        .store
        .rotate_machine_key(
            machine.instance,
            machine.id,
            new,
            at(older_end),
            5,
            at(now),
            some_change(machine.instance),
        )
        .await
        .unwrap();
    assert!(is_rotated);
    number_of(world, &digest).await
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
        .delete_machine(instance, machine.id, at(0), some_change(instance))
        .await
        .unwrap();
    assert_key_gone(&world, asked_for(&world, &machine, new)).await;
}

pub async fn a_token_of_a_key_that_is_over_is_refused(world: World) {
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

pub async fn a_machine_key_number_is_never_used_again(world: World) {
    let instance = world.instance().await;
    let (machine, first) = machine_and_key(&world, instance).await;
    let second = rotate(&world, &machine, 0, 0).await;
    let world = world.reopen().await;
    let third = rotate(&world, &machine, 0, 0).await;
    assert!(first < second && second < third, "{first} {second} {third}");
}

pub async fn a_jwt_needs_its_signing_key(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let key = world.signing_key(instance);
    world
        .store
        .insert_signing_key(key.clone(), 16, some_change(instance))
        .await
        .unwrap();
    let jwt = || NewToken {
        signing_key: Some(key.id),
        ..world.new_jwt(&machine)
    };
    let id = world.issue(jwt()).await;
    assert_eq!(
        world.find(instance, id).await.unwrap().row.format(),
        TokenFormat::Jwt
    );
    world
        .store
        .delete_signing_key(instance, key.id, None, some_change(instance))
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
        signing_key: Some(other.first_signing_key()),
        ..world.new_jwt(&machine)
    };
    let outcome = world.store.insert_token(jwt).await.unwrap();
    assert!(matches!(outcome, InsertToken::Changed), "{outcome:?}");
    assert_eq!(
        world.store.list_signing_keys(other).await.unwrap()[0].last_expires_at,
        None
    );
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
    let (digest, endless_id) = (full.digest, endless.id);
    let id = world.issue(full).await;
    world.issue(endless).await;
    let world = world.reopen().await;
    let found = world.find(instance, id).await.unwrap().row;
    assert_eq!(
        (found.id, found.digest, found.scopes.as_str()),
        (id, digest, b.id.as_str())
    );
    assert_eq!(found.claims.as_ref().unwrap().as_str(), text);
    assert_eq!(
        (found.created_at, found.expires_at, &found.revoked),
        (at(5), Some(at(3_600_000)), &None)
    );
    assert_eq!(found.last_used_at(), None);
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

fn query() -> TokenQuery {
    TokenQuery {
        machine: "mch_000000000000000000000000000".parse().unwrap(),
        include_revoked: false,
        include_expired: false,
        formats: TokenFormats::Opaque,
        now: at(0),
        page: Page {
            limit: 100,
            offset: 0,
        },
    }
}

fn everything() -> TokenQuery {
    TokenQuery {
        include_revoked: true,
        include_expired: true,
        formats: TokenFormats::All,
        ..query()
    }
}

async fn list(world: &World, machine: &MachineRow, query: TokenQuery) -> (Vec<TokenId>, u64) {
    let query = TokenQuery {
        machine: machine.id,
        ..query
    };
    let (tokens, total) = world
        .store
        .list_tokens(machine.instance, query)
        .await
        .unwrap();
    assert!(tokens.iter().all(|token| token.machine.id == machine.id));
    (tokens.iter().map(|token| token.row.id).collect(), total)
}

pub async fn tokens_are_listed_newest_first_in_pages(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.token(&a).await);
        world.token(&b).await;
    }
    ids.reverse();
    assert_eq!(list(&world, &a, query()).await, (ids.clone(), 5));
    let mut seen = Vec::new();
    for offset in [0, 2, 4, 6] {
        let (page, total) = list(
            &world,
            &a,
            TokenQuery {
                page: Page { limit: 2, offset },
                ..query()
            },
        )
        .await;
        assert_eq!(total, 5);
        seen.extend(page);
    }
    assert_eq!(seen, ids);
}

pub async fn dead_tokens_are_listed_on_request(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let expired = world
        .issue(NewToken {
            expires_at: Some(at(10)),
            ..world.new_token(&machine)
        })
        .await;
    let revoked = world.token(&machine).await;
    let both = world
        .issue(NewToken {
            expires_at: Some(at(10)),
            ..world.new_token(&machine)
        })
        .await;
    let endless = world
        .issue(NewToken {
            expires_at: None,
            ..world.new_token(&machine)
        })
        .await;
    world.revoke(instance, revoked).await;
    world.revoke(instance, both).await;
    let now = TokenQuery {
        now: at(10),
        ..query()
    };
    assert_eq!(
        list(&world, &machine, now.clone()).await,
        (vec![endless], 1)
    );
    let with_revoked = TokenQuery {
        include_revoked: true,
        ..now.clone()
    };
    assert_eq!(
        list(&world, &machine, with_revoked.clone()).await,
        (vec![endless, revoked], 2)
    );
    let with_expired = TokenQuery {
        include_expired: true,
        ..now
    };
    assert_eq!(
        list(&world, &machine, with_expired).await,
        (vec![endless, expired], 2)
    );
    let with_both = TokenQuery {
        include_expired: true,
        ..with_revoked
    };
    assert_eq!(
        list(&world, &machine, with_both).await,
        (vec![endless, both, revoked, expired], 4)
    );
    // A moment earlier the expired one was live.
    assert_eq!(
        list(
            &world,
            &machine,
            TokenQuery {
                now: at(9),
                ..query()
            }
        )
        .await,
        (vec![endless, expired], 2)
    );
}

pub async fn jwts_are_listed_on_request(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let opaque = world.token(&machine).await;
    let jwt = world.issue(world.new_jwt(&machine)).await;
    let of = |formats| TokenQuery { formats, ..query() };
    assert_eq!(
        list(&world, &machine, of(TokenFormats::Opaque)).await,
        (vec![opaque], 1)
    );
    assert_eq!(
        list(&world, &machine, of(TokenFormats::Jwt)).await,
        (vec![jwt], 1)
    );
    assert_eq!(
        list(&world, &machine, of(TokenFormats::All)).await,
        (vec![jwt, opaque], 2)
    );
}

pub async fn tokens_of_another_instance_are_not_listed(world: World) {
    let (mine, other) = (world.instance().await, world.instance().await);
    let machine = world.machine(other, "b").await;
    world.token(&machine).await;
    let query = TokenQuery {
        machine: machine.id,
        ..everything()
    };
    let (tokens, total) = world.store.list_tokens(mine, query).await.unwrap();
    assert_eq!((tokens.len(), total), (0, 0));
}

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
        assert_eq!(revoked.row.revoked.as_deref(), Some(&revocation("no more")));
        let found = world.find(instance, id).await.unwrap();
        assert_eq!(found.row.revoked.as_deref(), Some(&revocation("no more")));
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
    let second = Revocation {
        at: at(9000),
        reason: None,
    };
    let outcome = world
        .store
        .revoke_token(instance, None, id, second, some_change(instance))
        .await
        .unwrap();
    let RevokeToken::AlreadyRevoked(token) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(token.row.revoked.as_deref(), Some(&revocation("no more")));
    assert_eq!(
        world
            .find(instance, id)
            .await
            .unwrap()
            .row
            .revoked
            .as_deref(),
        Some(&revocation("no more"))
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
            revocation("mine"),
            some_change(instance),
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

async fn update(
    world: &World,
    machine: &MachineRow,
    id: TokenId,
    update: TokenUpdate,
) -> UpdateToken {
    let instance = machine.instance;
    let entry = change(instance, ChangeKind::TokenUpdated, &id.to_string());
    world
        .store
        .update_token(instance, None, id, update, at(100), entry)
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
        revoked: Some(revocation("over")),
    };
    let outcome = update(&world, &machine, id, new).await;
    assert!(matches!(outcome, UpdateToken::Updated(_)), "{outcome:?}");
    let found = world.find(instance, id).await.unwrap().row;
    assert_eq!(found.revoked.as_deref(), Some(&revocation("over")));
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
        .update_token(mine, Some(b.id), id, new(), at(1), some_change(mine))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::NotFound), "{outcome:?}");
    let outcome = store
        .update_token(other, None, id, new(), at(1), some_change(other))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::NotFound), "{outcome:?}");
    let guessed = TokenId::from_parts(id.locator(), id.rest() ^ 1);
    let outcome = store
        .update_token(mine, None, guessed, new(), at(1), some_change(mine))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::NotFound), "{outcome:?}");
    assert!(world.find(mine, id).await.unwrap().row.expires_at.is_some());
    let outcome = store
        .update_token(mine, Some(a.id), id, new(), at(1), some_change(mine))
        .await
        .unwrap();
    assert!(matches!(outcome, UpdateToken::Updated(_)), "{outcome:?}");
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
        world
            .find(instance, first)
            .await
            .unwrap()
            .row
            .last_used_at(),
        Some(at(10))
    );
    assert_eq!(
        world
            .find(instance, second)
            .await
            .unwrap()
            .row
            .last_used_at(),
        Some(at(20))
    );
    // What is only seen in memory outlives a change of the row.
    world.find(instance, first).await.unwrap().row.touch(at(50));
    world.revoke(instance, second).await;
    let world = world.reopen().await;
    assert_eq!(
        world
            .find(instance, first)
            .await
            .unwrap()
            .row
            .last_used_at(),
        Some(at(10))
    );
    let (listed, _) = world
        .store
        .list_tokens(
            instance,
            TokenQuery {
                machine: machine.id,
                ..everything()
            },
        )
        .await
        .unwrap();
    assert_eq!(listed[0].row.last_used_at(), Some(at(20)));
    assert_eq!(world.store.clock_floor().await.unwrap(), at(40));
}

pub async fn a_sweep_deletes_what_was_over_long_enough(world: World) {
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
    let sweep = world.store.sweep_tokens(None, 100, at(1000)).await.unwrap();
    assert_eq!((sweep.next, sweep.deleted), (None, 0));
    let sweep = world.store.sweep_tokens(None, 100, at(5000)).await.unwrap();
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
        .delete_machine(instance, a.id, at(1), some_change(instance))
        .await
        .unwrap();
    assert_eq!(
        world
            .store
            .sweep_tokens(None, 100, at(0))
            .await
            .unwrap()
            .deleted,
        1
    );
    assert_eq!(
        world
            .store
            .sweep_tokens(None, 100, at(0))
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
        let sweep = world.store.sweep_tokens(after, 3, at(100)).await.unwrap();
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

async fn insert_limited(
    world: &World,
    machine: &Arc<MachineRow>,
    max_tokens: u64,
    created_at: i64,
) -> InsertToken {
    let token = NewToken {
        max_tokens,
        created_at: at(created_at),
        expires_at: Some(at(created_at + 50_000)),
        ..world.new_token(machine)
    };
    world.store.insert_token(token).await.unwrap()
}

pub async fn live_tokens_are_limited_and_dead_ones_make_room(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    let first = world
        .issue(NewToken {
            max_tokens: 3,
            ..world.new_token(&a)
        })
        .await;
    for _ in 0..2 {
        assert!(matches!(
            insert_limited(&world, &a, 3, 0).await,
            InsertToken::Inserted
        ));
    }
    assert!(matches!(
        insert_limited(&world, &a, 3, 0).await,
        InsertToken::TooMany
    ));
    assert!(matches!(
        insert_limited(&world, &a, 3, 1).await,
        InsertToken::TooMany
    ));
    assert!(matches!(
        insert_limited(&world, &b, 3, 1).await,
        InsertToken::Inserted
    ));
    // A revoked token makes room, after a while at the latest.
    world.revoke(instance, first).await;
    assert!(matches!(
        insert_limited(&world, &a, 3, 20_000).await,
        InsertToken::Inserted
    ));
    assert!(matches!(
        insert_limited(&world, &a, 3, 20_001).await,
        InsertToken::TooMany
    ));
    // And so do expired ones.
    assert!(matches!(
        insert_limited(&world, &a, 3, 60_000).await,
        InsertToken::Inserted
    ));
    assert!(matches!(
        insert_limited(&world, &a, 3, 60_000).await,
        InsertToken::Inserted
    ));
    assert!(matches!(
        insert_limited(&world, &a, 3, 60_000).await,
        InsertToken::TooMany
    ));
    // The limit is not forgotten with the process.
    let world = world.reopen().await;
    assert!(matches!(
        insert_limited(&world, &a, 3, 60_001).await,
        InsertToken::TooMany
    ));
    assert!(matches!(
        insert_limited(&world, &a, 4, 60_001).await,
        InsertToken::Inserted
    ));
}

pub async fn jwts_count_like_opaque_tokens(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let within = |token| NewToken {
        max_tokens: 3,
        ..token
    };
    for token in [
        world.new_jwt(&machine),
        world.new_token(&machine),
        world.new_jwt(&machine),
    ] {
        world.issue(within(token)).await;
    }
    let world = world.reopen().await;
    for token in [
        world.new_token(&machine),
        world.new_jwt(&machine),
        world.new_pooled(&machine, 1, 0),
    ] {
        let outcome = world.store.insert_token(within(token)).await.unwrap();
        assert!(matches!(outcome, InsertToken::TooMany), "{outcome:?}");
    }
}

pub async fn a_machine_keeps_no_more_tokens_than_it_may_hold(world: World) {
    let instance = world.instance().await;
    let (a, b) = (
        world.machine(instance, "a").await,
        world.machine(instance, "b").await,
    );
    let theirs = world.token(&b).await;
    world.revoke(instance, theirs).await;
    let endless = world
        .issue(NewToken {
            expires_at: None,
            ..world.new_token(&a)
        })
        .await;
    // A loop of tokens that soon expire, of tokens that are revoked, and of JWTs.
    for round in 0..40 {
        let now = round * 60_000;
        let token = if round % 3 == 2 {
            world.new_jwt(&a)
        } else {
            world.new_token(&a)
        };
        let lifetime = if round % 3 == 1 {
            i64::from(u32::MAX)
        } else {
            1000
        };
        let token = NewToken {
            max_tokens: 5,
            created_at: at(now),
            expires_at: Some(at(now + lifetime)),
            ..token
        };
        let id = world.issue(token).await;
        assert!(world.find(instance, id).await.is_some());
        if round % 3 == 1 {
            world.revoke(instance, id).await;
        }
        assert!(list(&world, &a, everything()).await.1 <= 5);
    }
    assert!(world.find(instance, endless).await.is_some());
    assert!(world.find(instance, theirs).await.is_some());
    assert_eq!(list(&world, &b, everything()).await.1, 1);
}

pub async fn nothing_is_deleted_where_a_sweep_made_room(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let limited = |created_at, expires_at| NewToken {
        max_tokens: 3,
        created_at: at(created_at),
        expires_at: Some(at(expires_at)),
        ..world.new_token(&machine)
    };
    let swept = world.issue(limited(0, 1000)).await;
    let kept = world.issue(limited(0, 5000)).await;
    world.issue(limited(0, 90_000)).await;
    let sweep = world.store.sweep_tokens(None, 100, at(2000)).await.unwrap();
    assert_eq!(sweep.deleted, 1);
    world.issue(limited(6000, 90_000)).await;
    assert!(world.find(instance, swept).await.is_none());
    assert!(world.find(instance, kept).await.is_some());
    // Now it is full, and what is over goes.
    world.issue(limited(6000, 90_000)).await;
    assert!(world.find(instance, kept).await.is_none());
}

pub async fn nobody_is_refused_while_room_is_made(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let limited = |now| NewToken {
        max_tokens: 30,
        created_at: at(now),
        expires_at: Some(at(now + 1000)),
        ..world.new_token(&machine)
    };
    for _ in 0..30 {
        world.issue(limited(0)).await;
    }
    let mut tasks = Vec::new();
    for _ in 0..30 {
        let (store, token) = (Arc::clone(&world.store), limited(1000));
        tasks.push(tokio::spawn(async move {
            store.insert_token(token).await.unwrap()
        }));
    }
    for task in tasks {
        let outcome = task.await.unwrap();
        assert!(matches!(outcome, InsertToken::Inserted), "{outcome:?}");
    }
    assert_eq!(list(&world, &machine, everything()).await.1, 30);
}

pub async fn a_lower_limit_teaches_nothing_about_a_higher_one(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    for _ in 0..6 {
        world.token(&machine).await;
    }
    let world = world.reopen().await;
    for limit in [3, 5, 6] {
        let outcome = insert_limited(&world, &machine, limit, 0).await;
        assert!(
            matches!(outcome, InsertToken::TooMany),
            "{limit}: {outcome:?}"
        );
    }
    assert!(matches!(
        insert_limited(&world, &machine, 7, 0).await,
        InsertToken::Inserted
    ));
    assert!(matches!(
        insert_limited(&world, &machine, 7, 0).await,
        InsertToken::TooMany
    ));
}

pub async fn the_limit_holds_under_concurrency(world: World) {
    let instance = world.instance().await;
    let machine = world.machine(instance, "a").await;
    let mut tasks = Vec::new();
    for _ in 0..40 {
        let (store, token) = (
            Arc::clone(&world.store),
            NewToken {
                max_tokens: 25,
                ..world.new_token(&machine)
            },
        );
        tasks.push(tokio::spawn(async move {
            store.insert_token(token).await.unwrap()
        }));
    }
    let mut inserted = 0;
    for task in tasks {
        match task.await.unwrap() {
            InsertToken::Inserted => inserted += 1,
            InsertToken::TooMany => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(inserted, 25);
    assert_eq!(list(&world, &machine, everything()).await.1, 25);
    assert_chained(instance, &world.changes(instance).await);
}
