//! The administration API in full, against a real authority.

use std::time::Duration;

use countersign_client::{
    Error, ListMachines, ListTokens, MachineChange, MachineOrder, NewMachine, NewToken,
    TokenChange, TokenFormat,
};
use serde_json::json;

use crate::support::World;

const HOUR: Duration = Duration::from_secs(3600);

fn code(error: &Error) -> &str {
    error.refusal().expect("a refusal").code()
}

#[tokio::test]
async fn machines_are_made_listed_changed_and_deleted() {
    let world = World::start().await;
    let receiver = world.machine("the receiver", &[]).await.machine;
    let new = NewMachine::named("the sender")
        .calling([receiver.id])
        .default_token_ttl(Duration::from_secs(60));
    let sender = world.admin.create_machine(&new).await.unwrap();
    assert!(sender.key.expose().starts_with("ak_"));
    assert_eq!(sender.machine.default_token_ttl, Duration::from_secs(60));
    assert_eq!(sender.machine.scoped_machines[0].id, receiver.id);

    let list = ListMachines::new()
        .matching("send")
        .order_by(MachineOrder::Name)
        .limit(5)
        .offset(0);
    let page = world.admin.list_machines(&list).await.unwrap();
    assert_eq!(page.total_count, 1);
    assert_eq!(page.items, std::slice::from_ref(&sender.machine));

    let change = MachineChange::new()
        .name("another name")
        .default_token_ttl(HOUR);
    let changed = world
        .admin
        .update_machine(sender.machine.id, &change)
        .await
        .unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.default_token_ttl),
        ("another name", HOUR)
    );
    let nothing = MachineChange::new();
    let same = world
        .admin
        .update_machine(changed.id, &nothing)
        .await
        .unwrap();
    assert_eq!(world.admin.machine(changed.id).await.unwrap(), same);

    world.admin.delete_machine(changed.id).await.unwrap();
    let gone = world.admin.machine(changed.id).await.unwrap_err();
    assert_eq!(code(&gone), "resource_not_found");
    assert_eq!(gone.refusal().unwrap().status(), 404);
    assert_eq!(gone.refusal().unwrap().trace_id().map(str::len), Some(32));
}

#[tokio::test]
async fn scopes_decide_whom_new_tokens_are_for() {
    let world = World::start().await;
    let receiver = world.machine("receiver", &[]).await;
    let sender = world.machine("sender", &[]).await;
    let (from, to) = (sender.machine.id, receiver.machine.id);
    let scope = world.admin.create_scope(from, to).await.unwrap();
    assert_eq!((scope.from, scope.to), (from, to));
    let again = world.admin.create_scope(from, to).await.unwrap_err();
    assert_eq!(code(&again), "conflict");

    let issued = world
        .client_of(&sender)
        .create_token(&NewToken::new())
        .await
        .unwrap();
    assert_eq!(issued.token.scopes, [to]);
    let verified = world
        .client_of(&receiver)
        .verify_token(issued.string.expose())
        .await
        .unwrap();
    assert_eq!((verified.subject, verified.id), (from, issued.token.id));

    world.admin.delete_scope(from, to).await.unwrap();
    let issued = world
        .client_of(&sender)
        .create_token(&NewToken::new())
        .await
        .unwrap();
    let refused = world
        .client_of(&receiver)
        .verify_token(issued.string.expose())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(code(&refused), "resource_not_found");
    assert!(!refused.is_temporary());
}

#[tokio::test]
async fn keys_are_shown_and_rotated() {
    let world = World::start().await;
    let sender = world.machine("sender", &[]).await;
    let id = sender.machine.id;
    let shown = world.admin.machine_key(id).await.unwrap();
    assert_eq!(shown.expose(), sender.key.expose());
    let rotated = world
        .admin
        .rotate_machine_key(id, Duration::ZERO)
        .await
        .unwrap();
    assert_ne!(rotated.expose(), sender.key.expose());
    let old = world
        .client_of(&sender)
        .create_token(&NewToken::new())
        .await
        .unwrap_err();
    assert_eq!(code(&old), "machine_secret_key_invalid");
    let new = countersign_client::Client::new(&world.url, rotated.expose()).unwrap();
    new.create_token(&NewToken::new()).await.unwrap();
}

#[tokio::test]
async fn tokens_are_made_as_they_are_asked_for() {
    let world = World::start().await;
    let sender = world.machine("sender", &[]).await;
    let client = world.client_of(&sender);

    let new = NewToken::new()
        .lifetime(Duration::from_millis(90_500))
        .claims(json!({ "role": "bot" }));
    let opaque = client.create_token(&new).await.unwrap();
    assert!(opaque.string.expose().starts_with("mt_"));
    assert_eq!(opaque.token.claims, Some(json!({ "role": "bot" })));
    let life = opaque
        .token
        .expires_at
        .unwrap()
        .duration_since(opaque.token.created_at);
    let life = life.unwrap();
    assert_eq!(life, Duration::from_millis(90_500));
    let left = opaque.time_left.unwrap();
    assert!(left <= life && left > Duration::from_secs(85), "{left:?}");

    let pooled = NewToken::new().reuse(Duration::from_secs(600));
    let first = client.create_token(&pooled).await.unwrap();
    let second = client.create_token(&pooled).await.unwrap();
    assert_eq!(first.string, second.string);

    let jwt = NewToken::new().format(TokenFormat::Jwt).lifetime(HOUR);
    let jwt = client.create_token(&jwt).await.unwrap();
    assert_eq!(jwt.string.expose().split('.').count(), 3);
    let keys = world.admin.jwks().await.unwrap();
    assert!(
        keys.iter()
            .all(|key| key.alg == "RS256" && key.kid.starts_with("ins_"))
    );
}

#[tokio::test]
async fn a_list_goes_over_all_pages() {
    let world = World::start().await;
    let sender = world.machine("sender", &[]).await;
    let client = world.client_of(&sender);
    let mut made = Vec::new();
    for _ in 0..205 {
        made.push(
            client
                .create_token(&NewToken::new())
                .await
                .unwrap()
                .token
                .id,
        );
    }
    made.reverse();
    let mut list = world.admin.list_tokens(ListTokens::of(sender.machine.id));
    let mut listed = Vec::new();
    while let Some(token) = list.next().await.unwrap() {
        listed.push(token.id);
        if listed.len() == 100 {
            // It moves the others to later places.
            client.create_token(&NewToken::new()).await.unwrap();
        }
    }
    assert_eq!(listed, made);
    assert_eq!(list.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_list_leaves_out_what_was_not_asked_for() {
    let world = World::start().await;
    let sender = world.machine("sender", &[]).await;
    let (id, client) = (sender.machine.id, world.client_of(&sender));
    let live = client
        .create_token(&NewToken::new())
        .await
        .unwrap()
        .token
        .id;
    let revoked = client
        .create_token(&NewToken::new())
        .await
        .unwrap()
        .token
        .id;
    client
        .revoke_token(revoked, Some("a reason"))
        .await
        .unwrap();
    let short = NewToken::new().lifetime(Duration::from_millis(1));
    let expired = client.create_token(&short).await.unwrap().token.id;
    let jwt = NewToken::new().format(TokenFormat::Jwt);
    let jwt = client.create_token(&jwt).await.unwrap().token.id;
    for (list, wanted) in [
        (ListTokens::of(id), vec![live]),
        (ListTokens::of(id).with_revoked(), vec![revoked, live]),
        (ListTokens::of(id).with_expired(), vec![expired, live]),
        (ListTokens::of(id).jwts(), vec![jwt]),
        (ListTokens::of(id).all_formats(), vec![jwt, live]),
    ] {
        let page = client.tokens_page(&list, 10, 0).await.unwrap();
        let listed: Vec<_> = page.items.iter().map(|token| token.id).collect();
        assert_eq!(listed, wanted, "{list:?}");
        assert_eq!(page.total_count, wanted.len() as u64);
    }
}

#[tokio::test]
async fn a_token_is_changed_and_revoked() {
    let world = World::start().await;
    let receiver = world.machine("receiver", &[]).await;
    let sender = world.machine("sender", &[receiver.machine.id]).await;
    let client = world.client_of(&sender);
    let issued = client.create_token(&NewToken::new()).await.unwrap();
    let change = TokenChange::new()
        .claims(json!(["new"]))
        .time_left(HOUR * 5);
    let changed = client.update_token(issued.token.id, &change).await.unwrap();
    assert_eq!(changed.claims, Some(json!(["new"])));
    assert!(changed.expires_at > issued.token.expires_at);

    let revoked = client
        .revoke_token(issued.token.id, Some("leaked"))
        .await
        .unwrap();
    assert!(revoked.is_revoked);
    let again = client.revoke_token(issued.token.id, None).await.unwrap();
    assert_eq!(again.revocation_reason.as_deref(), Some("leaked"));
    let refused = world
        .client_of(&receiver)
        .verify_token(issued.string.expose())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.refusal().unwrap().reason(), Some("revoked"));
}
