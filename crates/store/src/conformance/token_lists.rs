//! Lists of tokens.

use countersign_protocol::ids::TokenId;
use countersign_protocol::page::Page;
use countersign_protocol::token::TokenFormats;

use super::world::{World, at};
use crate::{MachineRow, NewToken, TokenQuery};

pub(super) fn query() -> TokenQuery {
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

pub(super) fn everything() -> TokenQuery {
    TokenQuery {
        include_revoked: true,
        include_expired: true,
        formats: TokenFormats::All,
        ..query()
    }
}

pub(super) async fn list(
    world: &World,
    machine: &MachineRow,
    query: TokenQuery,
) -> (Vec<TokenId>, u64) {
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
