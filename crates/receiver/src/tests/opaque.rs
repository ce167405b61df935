//! Opaque tokens: what counts as an answer, what is remembered, and what a crowd may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{
    ME, NOW, OTHER, SENDER, World, bearer, good_token, id, machine_jwt, ok, opaque, refused, settle,
};
use crate::remote::Reply;
use crate::{Accept, Event, Reason};

#[tokio::test]
async fn a_token_that_the_authority_accepts_is_its_machine() {
    let world = World::new();
    let caller = world.check(&opaque(1), &Accept::any_machine()).await;
    let caller = caller.expect("let in");
    let machine = caller.as_machine().expect("a machine");
    assert_eq!(machine.id(), id(SENDER));
    assert_eq!(machine.token_id(), "mt_f7f0ba8c3b4843ce7d85fcdd5e71853e");
    assert_eq!(machine.scopes().collect::<Vec<_>>(), [id(OTHER), id(ME)]);
    assert_eq!(
        machine.claims::<Value>().expect("JSON"),
        json!({"role": "bot"})
    );
}

#[tokio::test]
async fn a_200_that_does_not_say_all_that_makes_a_token_good_lets_nobody_in() {
    let change = |name: &str, value: Value| {
        let mut token = good_token();
        token[name] = value;
        token
    };
    let without = |name: &str| {
        let mut token = good_token();
        token.as_object_mut().unwrap().remove(name);
        token
    };
    let now = NOW * 1_000;
    let token = good_token();
    let values = [
        "object",
        "id",
        "subject",
        "scopes",
        "claims",
        "revoked",
        "expired",
        "expiration",
    ];
    let values = json!(values.map(|name| &token[name]));
    let table = [
        (
            change("object", json!("token")),
            Reason::AuthorityUnavailable,
        ),
        (without("object"), Reason::AuthorityUnavailable),
        (change("subject", json!(7)), Reason::AuthorityUnavailable),
        (
            change("subject", json!("user_1")),
            Reason::AuthorityUnavailable,
        ),
        (without("subject"), Reason::AuthorityUnavailable),
        (change("revoked", json!(true)), Reason::TokenRefused),
        (
            change("revoked", json!("false")),
            Reason::AuthorityUnavailable,
        ),
        (without("revoked"), Reason::AuthorityUnavailable),
        (change("expired", json!(true)), Reason::TokenExpired),
        (change("expired", Value::Null), Reason::AuthorityUnavailable),
        (without("expired"), Reason::AuthorityUnavailable),
        (change("expiration", json!(now)), Reason::TokenExpired),
        (change("expiration", json!(now - 1)), Reason::TokenExpired),
        (
            change("expiration", json!("never")),
            Reason::AuthorityUnavailable,
        ),
        (without("expiration"), Reason::AuthorityUnavailable),
        (change("scopes", json!([])), Reason::NotForThisMachine),
        (change("scopes", json!([OTHER])), Reason::NotForThisMachine),
        (change("scopes", json!(ME)), Reason::AuthorityUnavailable),
        (without("scopes"), Reason::AuthorityUnavailable),
        (json!({}), Reason::AuthorityUnavailable),
        (json!([good_token()]), Reason::AuthorityUnavailable),
        (values, Reason::AuthorityUnavailable),
    ];
    for (answer, reason) in table {
        let world = World::new();
        world.authority.says(Some(ok(&answer)));
        assert_eq!(world.machine(&opaque(1)).await, Err(reason), "{answer}");
    }
    // The other way round: what may vary does.
    for answer in [
        change("expiration", Value::Null),
        change("expiration", json!(now + 1)),
        change("claims", Value::Null),
        without("claims"),
        change("unheard_of", json!(1)),
        // Clerk's ids are random in all their digits.
        change("id", json!("mt_FFFFBA8C3B4843CE7D85FCDD5E71853E")),
    ] {
        let world = World::new();
        world.authority.says(Some(ok(&answer)));
        assert_eq!(world.machine(&opaque(1)).await, Ok(id(SENDER)), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_ends_in_a_refusal_and_never_in_a_pass() {
    let html = Reply::Ok(b"<html>Welcome</html>".to_vec());
    let table = [
        (
            Some(refused(404, "resource_not_found")),
            Reason::TokenRefused,
            401,
        ),
        (Some(refused(404, "other")), Reason::TokenRefused, 401),
        (Some(refused(400, "bad_request")), Reason::TokenRefused, 401),
        (
            Some(refused(401, "machine_secret_key_invalid")),
            Reason::ReceiverKeyRefused,
            503,
        ),
        (
            Some(refused(403, "authorization_invalid")),
            Reason::ReceiverKeyRefused,
            503,
        ),
        (
            Some(refused(429, "too_many_requests")),
            Reason::AuthorityUnavailable,
            503,
        ),
        (
            Some(refused(500, "internal_clerk_error")),
            Reason::AuthorityUnavailable,
            503,
        ),
        (
            Some(refused(503, "service_unavailable")),
            Reason::AuthorityUnavailable,
            503,
        ),
        (Some(refused(302, "")), Reason::AuthorityUnavailable, 503),
        (Some(html), Reason::AuthorityUnavailable, 503),
        (
            Some(Reply::Ok(Vec::new())),
            Reason::AuthorityUnavailable,
            503,
        ),
        (
            Some(Reply::Nothing("connection refused".to_owned())),
            Reason::AuthorityUnavailable,
            503,
        ),
        (None, Reason::AuthorityUnavailable, 503),
    ];
    for (reply, reason, status) in table {
        let world = World::new();
        world.authority.says(reply.clone());
        let refusal = world
            .receiver
            .check(&bearer(&opaque(1)), &Accept::any_machine())
            .await;
        let refusal = refusal.expect_err("refused");
        assert_eq!(
            (refusal.reason(), refusal.status().as_u16()),
            (reason, status),
            "{reply:?}"
        );
        if reason == Reason::AuthorityUnavailable {
            assert!(refusal.wait().is_some(), "{reply:?}");
        }
        // A fault is not remembered: once it is over, the token is good.
        world.authority.says(Some(ok(&good_token())));
        world.clock.pass(1_000);
        assert_eq!(world.machine(&opaque(1)).await, Ok(id(SENDER)), "{reply:?}");
    }
}

#[tokio::test]
async fn how_long_the_authority_asks_to_wait_is_passed_on() {
    let world = World::new();
    world.authority.says(Some(Reply::Refused {
        status: http::StatusCode::TOO_MANY_REQUESTS,
        code: "too_many_requests".to_owned(),
        retry_after: Some(Duration::from_secs(9)),
    }));
    let refusal = world
        .receiver
        .verify(&opaque(1))
        .await
        .expect_err("refused");
    assert_eq!(refusal.wait(), Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn a_good_answer_is_believed_for_five_seconds_at_most_and_a_revocation_seen_then() {
    let world = World::new();
    for _ in 0..3 {
        assert!(world.machine(&opaque(1)).await.is_ok());
    }
    assert_eq!(world.authority.calls(), 1);
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    world.clock.pass(3_999);
    assert!(
        world.machine(&opaque(1)).await.is_ok(),
        "a fifth of 5 s is the most that is taken off"
    );
    world.clock.pass(1_001);
    assert_eq!(world.machine(&opaque(1)).await, Err(Reason::TokenRefused));
}

#[tokio::test]
async fn an_answer_that_is_far_too_large_counts_once_and_has_no_place() {
    for (length, calls) in [(15_000, 1), (17_000, 2)] {
        let world = World::new();
        let mut token = good_token();
        token["claims"] = json!("x".repeat(length));
        world.authority.says(Some(ok(&token)));
        for _ in 0..2 {
            assert!(world.machine(&opaque(1)).await.is_ok());
        }
        assert_eq!(world.authority.calls(), calls, "{length}");
    }
}

#[tokio::test]
async fn an_old_answer_counts_only_where_that_is_wanted_and_not_for_long() {
    let used = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&used);
    let world = World::with(|builder| {
        builder
            .stale_if_error(Duration::from_secs(60))
            .observer(move |event| {
                if matches!(event, Event::StaleUsed { .. }) {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            })
    });
    let without = World::new();
    for world in [&world, &without] {
        assert!(world.machine(&opaque(1)).await.is_ok());
        world.authority.says(Some(refused(503, "unavailable")));
        world.clock.pass(6_000);
    }
    let down = Err(Reason::AuthorityUnavailable);
    assert_eq!(without.machine(&opaque(1)).await, down);
    assert_eq!(world.machine(&opaque(2)).await, down, "it was never good");
    assert_eq!(used.load(Ordering::SeqCst), 0);
    // Each use is told, and the authority is not asked at each.
    let calls = world.authority.calls();
    for uses in 1..=3 {
        assert_eq!(world.machine(&opaque(1)).await, Ok(id(SENDER)));
        assert_eq!(used.load(Ordering::SeqCst), uses);
    }
    assert_eq!(world.authority.calls(), calls + 1);
    world.clock.pass(1_000);
    assert!(world.machine(&opaque(1)).await.is_ok());
    assert_eq!(world.authority.calls(), calls + 2);
    // Counted from the answer, not from the last use.
    world.clock.pass(53_000);
    assert_eq!(world.machine(&opaque(1)).await, down);
    assert_eq!(used.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn an_old_answer_counts_for_no_token_that_is_over_or_was_refused_since() {
    let world = World::with(|builder| builder.stale_if_error(Duration::from_secs(900)));
    let mut token = good_token();
    token["expiration"] = json!((NOW + 10) * 1_000);
    world.authority.says(Some(ok(&token)));
    assert!(world.machine(&opaque(1)).await.is_ok());
    assert!(world.machine(&opaque(2)).await.is_ok());
    world.clock.pass(6_000);
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    assert!(world.machine(&opaque(2)).await.is_err());
    world.clock.pass(2_000);
    for answer in [
        Reply::Nothing("connection refused".to_owned()),
        refused(500, "internal"),
    ] {
        world.authority.says(Some(answer));
        assert!(world.machine(&opaque(1)).await.is_ok());
        assert!(world.machine(&opaque(2)).await.is_err());
    }
    world
        .authority
        .says(Some(refused(401, "machine_secret_key_invalid")));
    world.clock.pass(1_000);
    assert_eq!(
        world.machine(&opaque(1)).await,
        Err(Reason::ReceiverKeyRefused),
        "the authority answered"
    );
    world.authority.says(Some(refused(503, "unavailable")));
    world.clock.pass(1_000);
    assert_eq!(world.machine(&opaque(1)).await, Err(Reason::TokenExpired));
}

#[tokio::test]
async fn an_old_answer_counts_for_no_token_of_which_anything_else_was_said_since() {
    let change = |name: &str, value: Value| {
        let mut token = good_token();
        token[name] = value;
        ok(&token)
    };
    let mut large = good_token();
    large["scopes"] = json!([OTHER]);
    large["claims"] = json!("x".repeat(20_000));
    for (what, answer) in [
        ("revoked", change("revoked", json!(true))),
        ("expired", change("expired", json!(true))),
        ("over", change("expiration", json!((NOW + 1) * 1_000))),
        ("for another", change("scopes", json!([OTHER]))),
        ("large, for another", ok(&large)),
        ("unknown", refused(404, "resource_not_found")),
        ("another 404", refused(404, "m2m_token_not_found")),
        ("400", refused(400, "bad_request")),
        ("422", refused(422, "form_param_value_invalid")),
    ] {
        let world = World::with(|builder| builder.stale_if_error(Duration::from_secs(900)));
        assert!(world.machine(&opaque(1)).await.is_ok());
        world.clock.pass(6_000);
        world.authority.says(Some(answer));
        assert!(world.machine(&opaque(1)).await.is_err(), "{what}");
        world.clock.pass(6_000);
        world
            .authority
            .says(Some(Reply::Nothing("connection refused".to_owned())));
        assert!(world.machine(&opaque(1)).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn an_authority_that_limits_rates_is_not_away() {
    let world = World::with(|builder| builder.stale_if_error(Duration::from_secs(900)));
    assert!(world.machine(&opaque(1)).await.is_ok());
    world.clock.pass(6_000);
    world
        .authority
        .says(Some(refused(429, "too_many_requests")));
    assert_eq!(
        world.machine(&opaque(1)).await,
        Err(Reason::AuthorityUnavailable)
    );
}

#[tokio::test(start_paused = true)]
async fn a_crowd_does_not_make_the_authority_seem_away() {
    let world = World::with(|builder| builder.stale_if_error(Duration::from_secs(900)));
    for number in 0..1_500 {
        assert!(world.machine(&opaque(number)).await.is_ok());
    }
    world.clock.pass(6_000);
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    world.authority.close();
    let checks: Vec<_> = (0..1_500)
        .map(|number| {
            let receiver = world.receiver.clone();
            tokio::spawn(async move { receiver.verify(&opaque(number)).await.is_ok() })
        })
        .collect();
    settle().await;
    world.authority.gate.add_permits(1_000_000);
    for check in checks {
        assert!(!check.await.unwrap());
    }
}

#[test]
fn an_old_answer_cannot_be_wanted_for_more_than_a_quarter_of_an_hour() {
    let builder = crate::Receiver::builder(id(ME)).stale_if_error(Duration::from_secs(901));
    let error = builder.build().expect_err("too long");
    assert!(error.to_string().contains("15 minutes"), "{error}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_extends_nothing() {
    let world = World::new();
    let mut token = good_token();
    token["expiration"] = json!((NOW + 2) * 1_000);
    world.authority.says(Some(ok(&token)));
    assert!(world.machine(&opaque(1)).await.is_ok());
    world.clock.set_wall((NOW - 3_600) * 1_000);
    world.clock.pass_monotonic(1_999);
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    world.clock.pass_monotonic(1);
    assert!(world.machine(&opaque(1)).await.is_err());
}

#[tokio::test]
async fn each_policy_is_asked_again_of_what_is_remembered() {
    let world = World::with(|builder| {
        builder
            .service("webhook", id(SENDER))
            .service("flow", id(OTHER))
    });
    assert!(
        world
            .check(&opaque(1), &Accept::any_machine())
            .await
            .is_ok()
    );
    let decide = async |accept: Accept| world.check(&opaque(1), &accept).await.map(|_| ());
    assert_eq!(decide(Accept::machine(id(SENDER))).await, Ok(()));
    assert_eq!(decide(Accept::service("webhook")).await, Ok(()));
    assert_eq!(
        decide(Accept::machine(id(OTHER))).await,
        Err(Reason::WrongMachine)
    );
    assert_eq!(
        decide(Accept::service("flow")).await,
        Err(Reason::WrongMachine)
    );
    assert_eq!(decide(Accept::user()).await, Err(Reason::UserRequired));
    assert_eq!(decide(Accept::default()).await, Err(Reason::UserRequired));
    // The wall clock jumps beyond the token's life while the answer is still remembered.
    world.clock.set_wall((NOW + 3_600) * 1_000);
    world.clock.pass_monotonic(1);
    assert_eq!(
        decide(Accept::any_machine()).await,
        Err(Reason::TokenExpired)
    );
    assert_eq!(world.authority.calls(), 1);
}

#[tokio::test]
async fn only_the_authority_s_own_404_is_remembered_and_for_a_second() {
    let world = World::new();
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    for _ in 0..5 {
        assert_eq!(world.machine(&opaque(1)).await, Err(Reason::TokenRefused));
    }
    assert_eq!(world.authority.calls(), 1);
    world.clock.pass(1_000);
    assert!(world.machine(&opaque(1)).await.is_err());
    assert_eq!(world.authority.calls(), 2);
    for reply in [
        refused(404, "other"),
        refused(401, "x"),
        refused(429, "x"),
        refused(500, "x"),
    ] {
        let world = World::new();
        world.authority.says(Some(reply.clone()));
        for calls in 1..4 {
            assert!(world.machine(&opaque(1)).await.is_err());
            assert_eq!(world.authority.calls(), calls, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn junk_does_not_displace_what_is_good() {
    let world = World::new();
    assert!(world.machine(&opaque(0)).await.is_ok());
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    for number in 1..15_000 {
        assert!(world.machine(&opaque(number)).await.is_err());
    }
    let calls = world.authority.calls();
    assert!(world.machine(&opaque(0)).await.is_ok());
    assert_eq!(world.authority.calls(), calls);
}

#[tokio::test]
async fn a_crowd_with_one_token_makes_one_call() {
    let world = World::new();
    world.authority.close();
    let checks: Vec<_> = (0..100)
        .map(|_| {
            let receiver = world.receiver.clone();
            tokio::spawn(async move { receiver.verify(&opaque(1)).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    world.authority.gate.add_permits(1);
    for check in checks {
        assert!(check.await.expect("no panic"));
    }
    assert_eq!(world.authority.calls(), 1);
}

#[tokio::test]
async fn who_began_a_call_may_leave_and_the_others_are_answered() {
    let world = World::new();
    world.authority.close();
    let receiver = world.receiver.clone();
    let first = tokio::spawn(async move { receiver.verify(&opaque(1)).await.is_ok() });
    tokio::task::yield_now().await;
    let receiver = world.receiver.clone();
    let second = tokio::spawn(async move { receiver.verify(&opaque(1)).await.is_ok() });
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.is_err());
    world.authority.gate.add_permits(1);
    assert!(second.await.expect("no panic"));
    assert_eq!(world.authority.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn strangers_are_asked_about_forty_eight_at_a_time_and_those_who_are_known_pass_by() {
    let world = World::new();
    let known: Vec<_> = (0..30).map(opaque).collect();
    for token in &known {
        assert!(world.machine(token).await.is_ok());
    }
    world.clock.pass(5_000);
    world.authority.close();
    let spawn = |token: String| {
        let receiver = world.receiver.clone();
        tokio::spawn(async move {
            receiver
                .verify(&token)
                .await
                .map_err(|it| it.reason())
                .is_ok()
        })
    };
    let before = world.authority.calls();
    let strangers: Vec<_> = (1_000..1_900).map(|number| spawn(opaque(number))).collect();
    settle().await;
    assert_eq!(world.authority.calls() - before, 48);
    let known: Vec<_> = known.into_iter().map(spawn).collect();
    settle().await;
    assert_eq!(world.authority.calls() - before, 64);
    // Enough for the known ones, whose calls end before the strangers' patience.
    world.authority.gate.add_permits(10_000);
    for check in known {
        assert!(check.await.expect("no panic"));
    }
    for check in strangers {
        check.await.expect("no panic");
    }
    assert_eq!(world.authority.most_under_way.load(Ordering::SeqCst), 64);
}

#[tokio::test(start_paused = true)]
async fn more_tokens_than_may_wait_are_refused_at_once() {
    let world = World::new();
    world.authority.says(None);
    let checks: Vec<_> = (0..1_100)
        .map(|number| {
            let receiver = world.receiver.clone();
            tokio::spawn(async move {
                receiver
                    .verify(&opaque(number))
                    .await
                    .map_err(|it| it.reason())
            })
        })
        .collect();
    let mut reasons = Vec::new();
    for check in checks {
        reasons.push(check.await.expect("no panic").expect_err("refused"));
    }
    let count = |wanted| reasons.iter().filter(|reason| **reason == wanted).count();
    assert_eq!(count(Reason::TooManyChecks), 1_100 - 768);
    assert_eq!(count(Reason::AuthorityUnavailable), 768);
}

#[tokio::test]
async fn what_has_no_form_of_a_token_is_refused_without_a_question() {
    let world = World::new();
    for token in ["mt_", "mt_xxx", "mt_0000000000000000000000000000000-"] {
        assert_eq!(
            world.machine(token).await,
            Err(Reason::TokenMalformed),
            "{token}"
        );
    }
    assert_eq!(
        world.machine("ak_0000000000000000000000").await,
        Err(Reason::TokenUnrecognized)
    );
    assert_eq!(world.authority.calls(), 0);
}

#[tokio::test]
async fn without_an_authority_an_opaque_token_cannot_be_checked() {
    let world = World::without_authority(|builder| builder);
    assert_eq!(world.machine(&opaque(1)).await, Err(Reason::NotConfigured));
    assert_eq!(world.user(&opaque(1)).await, Err(Reason::UserRequired));
}

#[tokio::test(start_paused = true)]
async fn strangers_who_wait_leave_places_for_those_who_are_known() {
    let world = World::new();
    let known: Vec<_> = (0..10).map(opaque).collect();
    for token in &known {
        assert!(world.machine(token).await.is_ok());
    }
    world.clock.pass(5_000);
    world.authority.close();
    let check = |token: String| {
        let receiver = world.receiver.clone();
        tokio::spawn(async move {
            let decision = receiver.verify(&token).await;
            decision.map(|_| ()).map_err(|refusal| refusal.reason())
        })
    };
    let strangers: Vec<_> = (1_000..2_100).map(|number| check(opaque(number))).collect();
    settle().await;
    let known: Vec<_> = known.into_iter().map(check).collect();
    settle().await;
    world.authority.gate.add_permits(10_000);
    for check in known {
        assert_eq!(check.await.expect("no panic"), Ok(()));
    }
    let mut refused = 0;
    for check in strangers {
        let decision = check.await.expect("no panic");
        refused += usize::from(decision == Err(Reason::TooManyChecks));
    }
    assert_eq!(refused, 1_100 - 768);
}

#[tokio::test]
async fn a_route_for_users_asks_nobody_about_a_machine_s_token() {
    let world = World::with(|builder| builder);
    for token in [opaque(1), machine_jwt()] {
        assert_eq!(world.user(&token).await, Err(Reason::UserRequired));
        assert!(world.machine(&token).await.is_ok());
        let calls = world.authority.calls();
        world.clock.pass(5_000);
        assert_eq!(world.user(&token).await, Err(Reason::UserRequired));
        assert_eq!(world.authority.calls(), calls);
    }
}
