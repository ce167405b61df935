//! Instances, their keys and settings, signing keys, the change log and "who am I", against a real authority.

use std::time::Duration;

use countersign_client::{
    Client, KeyKind, NewToken, NullExpiration, RateLimit, SettingsChange, SigningKeyState,
    TokenFormat, WhoAmI,
};
use serde_json::value::RawValue;

use crate::support::World;

#[tokio::test]
async fn settings_are_read_and_changed_one_by_one() {
    let world = World::start().await;
    let before = world.admin.instance().await.unwrap();
    assert_eq!(
        (before.name.as_str(), before.issuer.as_str()),
        ("test", "https://auth.example.com")
    );
    let limit = RateLimit {
        requests: 1000,
        seconds: 60,
    };
    let change = SettingsChange::new()
        .jwt_scopes_claim(false)
        .null_expiration(NullExpiration::Never)
        .max_jwt_ttl(Duration::from_secs(86_400))
        .secret_reveal(false)
        .token_pooling(false)
        .issuer(Some("https://other.example.com"))
        .rate_limit(Some(limit))
        .machine_rate_limit(Some(limit));
    let changed = world.admin.update_instance(&change).await.unwrap();
    assert_eq!(changed.issuer, "https://other.example.com");
    let settings = &changed.settings;
    assert!(!settings.jwt_scopes_claim && !settings.secret_reveal && !settings.token_pooling);
    assert_eq!(settings.null_expiration, NullExpiration::Never);
    assert_eq!(settings.max_jwt_ttl, 86_400);
    assert_eq!(
        (settings.rate_limit, settings.machine_rate_limit),
        (Some(limit), Some(limit))
    );

    let back = SettingsChange::new().issuer(None).rate_limit(None);
    let back = world.admin.update_instance(&back).await.unwrap();
    assert_eq!(back.issuer, before.issuer);
    assert_eq!(
        (back.settings.rate_limit, back.settings.max_jwt_ttl),
        (None, 86_400)
    );
    assert_eq!(world.admin.instance().await.unwrap(), back);

    let unknown = SettingsChange::new().set("nonsense", 1.into());
    let refused = world.admin.update_instance(&unknown).await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().status(), 422);
}

#[tokio::test]
async fn instance_keys_are_made_listed_and_revoked() {
    let world = World::start().await;
    let created = world
        .admin
        .create_instance_key(KeyKind::Live)
        .await
        .unwrap();
    assert!(created.key.expose().starts_with("sk_live_"));
    let other = Client::new(&world.url, created.key.expose()).unwrap();
    let keys = other.list_instance_keys().await.unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!((keys[1].id, keys[1].revoked_at), (created.id, None));

    other.revoke_instance_key(created.id).await.unwrap();
    let refused = other.instance().await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().code(), "clerk_key_invalid");
    let keys = world.admin.list_instance_keys().await.unwrap();
    assert!(keys[1].revoked_at.is_some());
    let last = world.admin.revoke_instance_key(keys[0].id).await;
    assert_eq!(last.unwrap_err().refusal().unwrap().code(), "conflict");
}

#[tokio::test]
async fn signing_keys_are_rotated_and_deleted() {
    let world = World::start().await;
    let first = world.admin.list_signing_keys().await.unwrap();
    assert_eq!(first[0].state, SigningKeyState::Active);
    let next = world.admin.rotate_signing_key().await.unwrap();
    assert_eq!(next.state, SigningKeyState::Published);
    assert!(next.active_at.unwrap() > next.published_at);
    let now = world.admin.rotate_signing_key_now().await.unwrap();
    assert_eq!((now.kid, now.state), (next.kid, SigningKeyState::Active));
    world.admin.delete_signing_key(first[0].kid).await.unwrap();
    let active = world.admin.delete_signing_key(now.kid).await.unwrap_err();
    assert_eq!(active.refusal().unwrap().code(), "conflict");
    assert_eq!(world.admin.list_signing_keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_learns_whose_key_it_has() {
    let world = World::start().await;
    let receiver = world.machine("receiver", &[]).await;
    let sender = world.machine("sender", &[receiver.machine.id]).await;
    let instance = world.admin.instance().await.unwrap();
    let keys = world.admin.list_instance_keys().await.unwrap();
    let WhoAmI::Instance {
        instance_id,
        key_id,
        name,
        ..
    } = world.admin.whoami().await.unwrap()
    else {
        panic!("an instance key");
    };
    assert_eq!(
        (instance_id, key_id, name.as_str()),
        (instance.id, keys[0].id, "test")
    );
    let WhoAmI::Machine {
        machine_id,
        may_call,
        name,
        ..
    } = world.client_of(&sender).whoami().await.unwrap()
    else {
        panic!("a machine key");
    };
    assert_eq!((machine_id, name.as_str()), (sender.machine.id, "sender"));
    assert_eq!(may_call, [receiver.machine.id]);
}

#[tokio::test]
async fn the_change_log_is_read_in_order() {
    let world = World::start().await;
    let machine = world.machine("billing", &[]).await.machine;
    let changes = world.admin.list_changes(0).await.unwrap();
    let numbers: Vec<_> = changes.iter().map(|change| change.sequence).collect();
    assert_eq!(numbers, [1, 2]);
    let last = &changes[1];
    assert_eq!(
        (last.kind.as_str(), last.subject.as_str()),
        ("machine.created", machine.id.as_str())
    );
    assert_eq!(world.admin.list_changes(1).await.unwrap(), changes[1..]);
    assert!(world.admin.list_changes(2).await.unwrap().is_empty());
    let report = world.admin.verify_changes().await.unwrap();
    assert_eq!((report.verified, report.first_broken), (2, None));
}

#[tokio::test]
async fn claims_given_as_text_keep_their_digits() {
    let world = World::start().await;
    let sender = world.machine("sender", &[]).await;
    let claims = r#"{"n":12345678901234567890123}"#;
    let claims = RawValue::from_string(claims.to_owned()).unwrap();
    let new = NewToken::new().format(TokenFormat::Jwt).claims_text(claims);
    let client = world.client_of(&sender);
    let issued = client
        .send(countersign_client::requests::create_token(&new))
        .await
        .unwrap();
    let kept = issued.claims.unwrap();
    assert_eq!(kept.as_str(), r#"{"n":12345678901234567890123}"#);
}
