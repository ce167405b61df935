//! Key sets: when they are fetched, by how many, and what happens where that fails.

use std::time::Duration;

use serde_json::json;

use super::support::{
    ISSUER, KID, NOW, TestKey, World, machine_claims, machine_header, machine_jwt, settle,
};
use crate::{Event, MachineIssuer, Reason};

const SECOND_KID: &str = "ins_3GIoQhbUpy0hX7B2cVkuTMinXoD";
const THIRD_KID: &str = "ins_4GIoQhbUpy0hX7B2cVkuTMinXoD";

fn long_lived(kid: &str) -> String {
    let (mut header, mut claims) = (machine_header(), machine_claims());
    header["kid"] = json!(kid);
    claims["exp"] = json!(NOW + 1_000_000);
    TestKey::rsa(kid).sign(&header, &claims)
}

#[tokio::test]
async fn a_crowd_at_the_start_causes_one_fetch() {
    let world = World::new();
    let checks: Vec<_> = (0..50)
        .map(|_| {
            let receiver = world.receiver.clone();
            tokio::spawn(async move { receiver.verify(&machine_jwt()).await.is_ok() })
        })
        .collect();
    for check in checks {
        assert!(check.await.expect("no panic"));
    }
    assert_eq!(world.machine_keys.fetches(), 1);
}

#[tokio::test]
async fn a_set_is_fetched_again_in_the_background_before_it_is_old() {
    let world = World::new();
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    world.clock.pass(269_999);
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    settle().await;
    assert_eq!(world.machine_keys.fetches(), 1);
    world.clock.pass(1);
    // Nobody waits for it: a black hole holds nobody up.
    world.machine_keys.is(None);
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    settle().await;
    assert_eq!(world.machine_keys.fetches(), 2);
}

#[tokio::test]
async fn an_old_set_is_replaced_before_it_is_used() {
    let world = World::new();
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    world
        .machine_keys
        .has_keys(&[TestKey::rsa(SECOND_KID).jwk()]);
    world.clock.pass(300_000);
    assert_eq!(
        world.machine(&long_lived(KID)).await,
        Err(Reason::KeyUnknown)
    );
    assert!(world.machine(&long_lived(SECOND_KID)).await.is_ok());
    assert_eq!(world.machine_keys.fetches(), 2);
}

#[tokio::test]
async fn where_no_new_set_can_be_had_the_last_good_one_goes_on_for_a_day() {
    let world = World::new();
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    world.machine_keys.fails();
    world.clock.pass(24 * 3_600_000 - 1);
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    assert_eq!(world.machine_keys.fetches(), 2);
    // The next attempt is 30 s later, not with each check.
    world.clock.pass(0);
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    assert_eq!(world.machine_keys.fetches(), 2);
    world.clock.pass(1);
    assert_eq!(
        world.machine(&long_lived(KID)).await,
        Err(Reason::KeysUnavailable)
    );
}

#[tokio::test(start_paused = true)]
async fn without_any_set_the_answer_is_503_and_attempts_are_a_second_apart() {
    for content in [
        Some(Err("connection refused".to_owned())),
        Some(Ok(b"<html>".to_vec())),
        Some(Ok(b"{}".to_vec())),
        None,
    ] {
        let world = World::new();
        world.machine_keys.is(content.clone());
        for _ in 0..5 {
            assert_eq!(
                world.machine(&machine_jwt()).await,
                Err(Reason::KeysUnavailable),
                "{content:?}"
            );
        }
        assert_eq!(world.machine_keys.fetches(), 1, "{content:?}");
        world.machine_keys.has_keys(&[TestKey::rsa(KID).jwk()]);
        world.clock.pass(1_000);
        assert!(world.machine(&machine_jwt()).await.is_ok(), "{content:?}");
    }
}

#[tokio::test]
async fn unknown_key_ids_cause_one_fetch_in_thirty_seconds_however_many_they_are() {
    let world = World::new();
    assert!(world.machine(&machine_jwt()).await.is_ok());
    world.clock.pass(30_000);
    for number in 0..300 {
        let kid = format!("ins_{number:027}");
        assert_eq!(
            world.machine(&long_lived(&kid)).await,
            Err(Reason::KeyUnknown)
        );
    }
    assert_eq!(world.machine_keys.fetches(), 2);
    world.clock.pass(29_999);
    assert!(
        world
            .machine(&long_lived("ins_other0000000000000000000000"))
            .await
            .is_err()
    );
    assert_eq!(world.machine_keys.fetches(), 2);
    world.clock.pass(1);
    assert!(
        world
            .machine(&long_lived("ins_other0000000000000000000000"))
            .await
            .is_err()
    );
    assert_eq!(world.machine_keys.fetches(), 3);
}

#[tokio::test]
async fn an_id_that_was_looked_for_in_vain_causes_no_further_fetch_until_the_keys_change() {
    let world = World::new();
    assert!(world.machine(&machine_jwt()).await.is_ok());
    world.clock.pass(30_000);
    assert_eq!(
        world.machine(&long_lived(SECOND_KID)).await,
        Err(Reason::KeyUnknown)
    );
    world.clock.pass(30_000);
    assert_eq!(
        world.machine(&long_lived(SECOND_KID)).await,
        Err(Reason::KeyUnknown)
    );
    assert_eq!(world.machine_keys.fetches(), 2);
    world
        .machine_keys
        .has_keys(&[TestKey::rsa(KID).jwk(), TestKey::rsa(SECOND_KID).jwk()]);
    world.clock.pass(300_000);
    assert!(world.machine(&long_lived(KID)).await.is_ok());
    assert!(world.machine(&long_lived(SECOND_KID)).await.is_ok());
}

#[tokio::test]
async fn a_new_key_is_found_at_once_where_the_last_attempt_is_long_ago() {
    let world = World::new();
    assert!(world.machine(&machine_jwt()).await.is_ok());
    world
        .machine_keys
        .has_keys(&[TestKey::rsa(KID).jwk(), TestKey::rsa(SECOND_KID).jwk()]);
    world.clock.pass(30_000);
    assert!(world.machine(&long_lived(SECOND_KID)).await.is_ok());
}

#[tokio::test]
async fn an_unknown_id_is_503_while_the_issuer_cannot_be_asked() {
    let world = World::new();
    assert!(world.machine(&machine_jwt()).await.is_ok());
    world.machine_keys.fails();
    world.clock.pass(30_000);
    assert_eq!(
        world.machine(&long_lived(SECOND_KID)).await,
        Err(Reason::KeysUnavailable)
    );
    assert_eq!(
        world.machine(&long_lived(SECOND_KID)).await,
        Err(Reason::KeysUnavailable)
    );
    assert!(
        world.machine(&machine_jwt()).await.is_ok(),
        "the known ones go on"
    );
    assert_eq!(world.machine_keys.fetches(), 2);
}

#[tokio::test]
async fn who_began_a_fetch_may_leave_and_it_goes_on() {
    let world = World::new();
    let receiver = world.receiver.clone();
    let first = tokio::spawn(async move { receiver.verify(&machine_jwt()).await.is_ok() });
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.is_err());
    assert!(world.machine(&machine_jwt()).await.is_ok());
    assert_eq!(world.machine_keys.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_fetched_again_delay_nobody() {
    let world = World::new();
    let token = long_lived(KID);
    assert!(world.machine(&token).await.is_ok());
    world.machine_keys.is(None);
    let step = Duration::from_secs(5);
    for _ in 0..200 {
        world.clock.pass(5_000);
        let begun = tokio::time::Instant::now();
        assert!(world.machine(&token).await.is_ok());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::sleep(step).await;
    }
    // It was tried again all the time, and what comes of that counts.
    assert!(world.machine_keys.fetches() > 20);
    world
        .machine_keys
        .has_keys(&[TestKey::rsa(SECOND_KID).jwk()]);
    world.clock.pass(30_000);
    assert!(world.machine(&token).await.is_ok());
    settle().await;
    assert_eq!(world.machine(&token).await, Err(Reason::KeyUnknown));
}

#[tokio::test]
async fn a_set_without_a_usable_key_replaces_none() {
    let empty = [json!({"kty": "oct", "kid": KID, "k": "AAAA"})];
    for keys in [&[][..], &empty] {
        let world = World::new();
        assert!(world.machine(&long_lived(KID)).await.is_ok());
        world.machine_keys.has_keys(keys);
        world.clock.pass(300_000);
        assert!(world.machine(&long_lived(KID)).await.is_ok());
        assert_eq!(world.machine_keys.fetches(), 2);
        let world = World::new();
        world.machine_keys.has_keys(keys);
        assert_eq!(
            world.machine(&machine_jwt()).await,
            Err(Reason::KeysUnavailable)
        );
    }
}

#[tokio::test]
async fn an_observer_that_panics_costs_no_keys() {
    let world = World::with(|builder| {
        builder
            .machine_issuer(MachineIssuer::new(ISSUER).trust_scopes_claim())
            .observer(|event| {
                assert!(!matches!(event, Event::KeysFetched { .. }), "of the test");
            })
    });
    assert!(world.machine(&machine_jwt()).await.is_ok());
}

#[tokio::test]
async fn an_id_that_was_looked_for_in_vain_is_503_once_the_issuer_cannot_be_asked() {
    let world = World::new();
    assert!(world.machine(&machine_jwt()).await.is_ok());
    world.clock.pass(30_000);
    let second = long_lived(SECOND_KID);
    assert_eq!(world.machine(&second).await, Err(Reason::KeyUnknown));
    world.machine_keys.fails();
    world.clock.pass(30_000);
    for kid in [THIRD_KID, SECOND_KID] {
        let decision = world.machine(&long_lived(kid)).await;
        assert_eq!(decision, Err(Reason::KeysUnavailable), "{kid}");
    }
    assert_eq!(world.machine_keys.fetches(), 3);
}

#[tokio::test]
async fn an_id_that_was_looked_for_in_vain_is_looked_for_again_when_the_set_is_due() {
    let world = World::new();
    assert!(world.machine(&machine_jwt()).await.is_ok());
    world.clock.pass(30_000);
    let second = long_lived(SECOND_KID);
    assert_eq!(world.machine(&second).await, Err(Reason::KeyUnknown));
    world
        .machine_keys
        .has_keys(&[TestKey::rsa(KID).jwk(), TestKey::rsa(SECOND_KID).jwk()]);
    world.clock.pass(269_999);
    assert_eq!(world.machine(&second).await, Err(Reason::KeyUnknown));
    // Nobody sends a token of a known key, so this one must have the set fetched.
    world.clock.pass(1);
    assert!(world.machine(&second).await.is_ok());
}
