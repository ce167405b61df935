//! JWTs of machines and of users: from a good one, each rule is broken once.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::{
    ISSUER, KID, ME, NOW, OTHER, SENDER, TestKey, USER_ISSUER, USER_KID, World, good_token, id,
    machine_claims, machine_header, machine_jwt, ok, opaque, refused, settle, user_claims,
    user_header, user_jwt,
};
use crate::machine_jwt::Presented;
use crate::{Accept, MachineIssuer, Reason, UserIssuer};

fn with(mut value: Value, name: &str, changed: Value) -> Value {
    value[name] = changed;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

fn machine_with(claims: &Value) -> String {
    TestKey::rsa(KID).sign(&machine_header(), claims)
}

fn user_with(claims: &Value) -> String {
    TestKey::rsa(USER_KID).sign(&user_header(), claims)
}

/// A receiver that wants an audience and an application of users.
fn strict_world() -> World {
    World::with(|builder| {
        let users = UserIssuer::new(USER_ISSUER)
            .audience("api")
            .audience("api2")
            .authorized_party("https://app.example.com");
        builder
            .user_issuer(users)
            .machine_issuer(MachineIssuer::new(ISSUER).trust_scopes_claim())
    })
}

#[tokio::test]
async fn a_machine_s_jwt_is_checked_without_a_question_and_keeps_its_claims() {
    let world = World::new();
    let caller = world
        .check(&machine_jwt(), &Accept::service("webhook"))
        .await;
    let caller = caller.expect("let in");
    let machine = caller.as_machine().expect("a machine");
    assert_eq!(machine.id(), id(SENDER));
    assert_eq!(machine.scopes().collect::<Vec<_>>(), [id(ME)]);
    assert_eq!(
        machine.claims::<Value>().expect("JSON"),
        json!({"role": "bot"})
    );
    assert_eq!(
        (world.authority.calls(), world.machine_keys.fetches()),
        (0, 1)
    );
}

#[tokio::test]
async fn each_rule_of_a_machine_s_jwt_refuses_by_itself() {
    let good = machine_claims;
    let key = TestKey::rsa(KID);
    let header = |name, value| key.sign(&with(machine_header(), name, value), &good());
    let claim = |name, value| machine_with(&with(good(), name, value));
    let table = [
        // The header.
        (
            "alg none",
            header("alg", json!("none")),
            Reason::KindNotAllowed,
        ),
        (
            "alg HS256",
            header("alg", json!("HS256")),
            Reason::KindNotAllowed,
        ),
        (
            "alg RS512",
            header("alg", json!("RS512")),
            Reason::KindNotAllowed,
        ),
        (
            "alg a number",
            header("alg", json!(1)),
            Reason::ClaimsMalformed,
        ),
        (
            "no alg",
            key.sign(&without(machine_header(), "alg"), &good()),
            Reason::KindNotAllowed,
        ),
        (
            "typ",
            header("typ", json!("at+jwt")),
            Reason::KindNotAllowed,
        ),
        (
            "typ a number",
            header("typ", json!(1)),
            Reason::ClaimsMalformed,
        ),
        (
            "crit",
            header("crit", json!(["exp"])),
            Reason::KindNotAllowed,
        ),
        ("b64", header("b64", json!(false)), Reason::KindNotAllowed),
        (
            "no kid",
            key.sign(&without(machine_header(), "kid"), &good()),
            Reason::KindNotAllowed,
        ),
        (
            "kid of another form",
            header("kid", json!("../key")),
            Reason::KindNotAllowed,
        ),
        (
            "unknown kid",
            header("kid", json!("ins_9GIoQhbUpy0hX7B2cVkuTMinXoD")),
            Reason::KeyUnknown,
        ),
        (
            "cat a number",
            header("cat", json!(1)),
            Reason::ClaimsMalformed,
        ),
        // Without the category it is no machine's, and no user's issuer knows it.
        (
            "no cat",
            key.sign(&without(machine_header(), "cat"), &good()),
            Reason::IssuerUnknown,
        ),
        (
            "cat of sessions",
            header("cat", json!("cl_B7d4PD111AAA")),
            Reason::IssuerUnknown,
        ),
        (
            "alg twice",
            key.sign_text(
                &format!(
                    r#"{{"alg":"RS256","alg":"RS256","kid":"{KID}","cat":"cl_B7d4PD333AAA"}}"#
                ),
                &good().to_string(),
            ),
            Reason::TokenMalformed,
        ),
        // The signature.
        (
            "another key",
            TestKey::other_rsa(KID).sign(&machine_header(), &good()),
            Reason::SignatureInvalid,
        ),
        (
            "ES256",
            TestKey::p256(KID).sign(&machine_header(), &good()),
            Reason::SignatureInvalid,
        ),
        // The claims.
        (
            "another issuer",
            claim("iss", json!("https://evil.example.com")),
            Reason::IssuerUnknown,
        ),
        (
            "issuer with a slash",
            claim("iss", json!(format!("{ISSUER}/"))),
            Reason::IssuerUnknown,
        ),
        (
            "issuer a list",
            claim("iss", json!([ISSUER])),
            Reason::ClaimsMalformed,
        ),
        (
            "no issuer",
            machine_with(&without(good(), "iss")),
            Reason::IssuerUnknown,
        ),
        (
            "subject a user",
            claim("sub", json!("user_1")),
            Reason::ClaimsMalformed,
        ),
        (
            "no subject",
            machine_with(&without(good(), "sub")),
            Reason::ClaimsMalformed,
        ),
        (
            "jti a number",
            claim("jti", json!(7)),
            Reason::ClaimsMalformed,
        ),
        (
            "jti of another form",
            claim("jti", json!("7")),
            Reason::ClaimsMalformed,
        ),
        (
            "no jti",
            machine_with(&without(good(), "jti")),
            Reason::ClaimsMalformed,
        ),
        (
            "exp a text",
            claim("exp", json!("1800000000")),
            Reason::ClaimsMalformed,
        ),
        (
            "exp null",
            claim("exp", Value::Null),
            Reason::ClaimsMalformed,
        ),
        (
            "no exp",
            machine_with(&without(good(), "exp")),
            Reason::ClaimsMalformed,
        ),
        ("over", claim("exp", json!(NOW - 5)), Reason::TokenExpired),
        (
            "nbf a text",
            claim("nbf", json!("0")),
            Reason::ClaimsMalformed,
        ),
        (
            "nbf in the future",
            claim("nbf", json!(NOW + 11)),
            Reason::TokenNotYetValid,
        ),
        (
            "iat in the future",
            claim("iat", json!(NOW + 11)),
            Reason::TokenNotYetValid,
        ),
        (
            "iat a text",
            claim("iat", json!("0")),
            Reason::ClaimsMalformed,
        ),
        (
            "no iat",
            machine_with(&without(good(), "iat")),
            Reason::ClaimsMalformed,
        ),
        (
            "scopes of others",
            claim("scopes", json!(OTHER)),
            Reason::NotForThisMachine,
        ),
        (
            "no machine in scopes",
            claim("scopes", json!("")),
            Reason::NotForThisMachine,
        ),
        (
            "scopes a list",
            claim("scopes", json!([ME])),
            Reason::ClaimsMalformed,
        ),
        (
            "scopes null",
            claim("scopes", Value::Null),
            Reason::ClaimsMalformed,
        ),
        (
            "scopes of another form",
            claim("scopes", json!("read write")),
            Reason::ClaimsMalformed,
        ),
        (
            "exp twice",
            key.sign_text(
                &machine_header().to_string(),
                &good().to_string().replacen('{', r#"{"exp":9999999999,"#, 1),
            ),
            Reason::ClaimsMalformed,
        ),
        // The form.
        (
            "four segments",
            format!("{}.x", machine_jwt()),
            Reason::TokenUnrecognized,
        ),
        (
            "padding",
            format!("{}=", machine_jwt()),
            Reason::TokenMalformed,
        ),
        (
            "no signature",
            format!("{}.", machine_jwt().rsplit_once('.').unwrap().0),
            Reason::SignatureInvalid,
        ),
    ];
    let world = World::new();
    for (what, token, reason) in table {
        assert_eq!(world.machine(&token).await, Err(reason), "{what}");
        // Refused once more, whatever is remembered.
        assert_eq!(world.machine(&token).await, Err(reason), "{what}, again");
    }
    assert_eq!(world.machine(&machine_jwt()).await, Ok(id(SENDER)));
    assert_eq!(
        world.authority.calls(),
        0,
        "what is refused here is not asked elsewhere"
    );
}

#[tokio::test]
async fn times_have_their_leeway_on_every_hit() {
    let world = World::new();
    let token = machine_with(&with(machine_claims(), "exp", json!(NOW + 60)));
    assert!(world.machine(&token).await.is_ok());
    world.clock.pass(64_999);
    assert!(world.machine(&token).await.is_ok());
    world.clock.pass(1);
    assert_eq!(world.machine(&token).await, Err(Reason::TokenExpired));
    let early = machine_with(&with(machine_claims(), "nbf", json!(NOW + 75)));
    assert!(world.machine(&early).await.is_ok());
}

#[tokio::test]
async fn a_jwt_is_forgotten_with_the_key_that_signed_it() {
    let world = World::new();
    assert!(world.machine(&machine_jwt()).await.is_ok());
    // Met late, so that it is remembered for longer than the keys are.
    world.clock.pass(200_000);
    let token = machine_with(&with(machine_claims(), "n", json!(1)));
    assert!(world.machine(&token).await.is_ok());
    let other = TestKey::other_rsa("ins_3GIoQhbUpy0hX7B2cVkuTMinXoD");
    world.machine_keys.has_keys(&[other.jwk()]);
    // The set is fresh for 300 s; the first check after that fetches.
    world.clock.pass(100_000);
    assert_eq!(world.machine(&token).await, Err(Reason::KeyUnknown));
}

#[tokio::test]
async fn a_jwt_without_scopes_is_asked_about_once_for_its_machine() {
    let world = World::new();
    let token = |number| {
        let claims = with(without(machine_claims(), "scopes"), "n", json!(number));
        machine_with(&claims)
    };
    for number in 0..5 {
        assert_eq!(world.machine(&token(number)).await, Ok(id(SENDER)));
    }
    assert_eq!(world.authority.calls(), 1);
    // What was learnt counts from the question, however often it is used.
    world.clock.pass(5_000);
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    assert_eq!(world.machine(&token(0)).await, Err(Reason::TokenRefused));
    world.authority.says(None);
}

#[tokio::test]
async fn the_answer_about_a_jwt_without_scopes_must_be_about_its_machine_and_name_this_one() {
    let token = machine_with(&without(machine_claims(), "scopes"));
    for (answer, reason) in [
        (
            with(good_token(), "subject", json!(OTHER)),
            Reason::TokenRefused,
        ),
        (
            with(good_token(), "scopes", json!([OTHER])),
            Reason::NotForThisMachine,
        ),
    ] {
        let world = World::new();
        world.authority.says(Some(ok(&answer)));
        assert_eq!(world.machine(&token).await, Err(reason));
    }
    let alone = World::without_authority(|it| it.machine_issuer(MachineIssuer::new(ISSUER)));
    assert_eq!(alone.machine(&token).await, Err(Reason::NotConfigured));
}

#[tokio::test]
async fn a_scopes_claim_that_senders_may_write_themselves_lets_nobody_in_by_default() {
    let world = World::with(|it| it.machine_issuer(MachineIssuer::new(ISSUER)));
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    assert_eq!(
        world.machine(&machine_jwt()).await,
        Err(Reason::TokenRefused)
    );
    let other = with(good_token(), "scopes", json!([OTHER]));
    world.authority.says(Some(ok(&other)));
    let token = |number| machine_with(&with(machine_claims(), "n", json!(number)));
    assert_eq!(
        world.machine(&token(1)).await,
        Err(Reason::NotForThisMachine)
    );
    assert_eq!(world.authority.calls(), 2);
    let words = machine_with(&with(machine_claims(), "scopes", json!("read write")));
    world.authority.says(Some(ok(&good_token())));
    assert_eq!(world.machine(&words).await, Ok(id(SENDER)));
    // What was said of the machine counts for its other tokens, for a few seconds.
    assert_eq!(world.machine(&token(2)).await, Ok(id(SENDER)));
    assert_eq!(world.authority.calls(), 3);
    world.clock.pass(5_000);
    world.authority.says(Some(ok(&other)));
    let again = with(machine_claims(), "n", json!(3));
    assert_eq!(
        world.machine(&machine_with(&again)).await,
        Err(Reason::NotForThisMachine)
    );
    let alone = World::without_authority(|it| it.machine_issuer(MachineIssuer::new(ISSUER)));
    assert_eq!(
        alone.machine(&machine_jwt()).await,
        Err(Reason::NotConfigured)
    );
}

#[tokio::test(start_paused = true)]
async fn a_machine_with_many_jwts_is_asked_about_once_and_shuts_out_no_other() {
    let world = World::with(|it| it.machine_issuer(MachineIssuer::new(ISSUER)));
    let jwt = |number: usize| {
        let id = json!(format!("mt_{number:032x}"));
        machine_with(&with(machine_claims(), "jti", id))
    };
    assert!(world.machine(&opaque(7)).await.is_ok());
    world.clock.pass(5_000);
    world.authority.close();
    let calls = world.authority.calls();
    let check = |token: String| {
        let receiver = world.receiver.clone();
        tokio::spawn(async move { receiver.verify(&token).await.map(|_| ()) })
    };
    let mut answer = good_token();
    answer["id"] = json!(format!("mt_{:032x}", 0));
    world.authority.says(Some(ok(&answer)));
    let checks: Vec<_> = (0..1_100).map(|number| check(jwt(number))).collect();
    settle().await;
    let other = check(opaque(7));
    settle().await;
    assert_eq!(world.authority.calls(), calls + 2);
    world.authority.gate.add_permits(1_000_000);
    assert!(other.await.unwrap().is_ok());
    for check in checks {
        assert!(check.await.unwrap().is_ok());
    }
    assert_eq!(world.authority.calls(), calls + 2);
}

#[tokio::test]
async fn of_two_jwts_of_a_machine_the_refused_one_does_not_decide_about_the_other() {
    let world = World::with(|it| it.machine_issuer(MachineIssuer::new(ISSUER)));
    world.authority.close();
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    let check = |token: String| {
        let receiver = world.receiver.clone();
        tokio::spawn(async move { receiver.verify(&token).await.map(|_| ()) })
    };
    let revoked = check(machine_with(&with(machine_claims(), "n", json!(1))));
    settle().await;
    let good = check(machine_jwt());
    settle().await;
    world.authority.gate.add_permits(1);
    settle().await;
    world.authority.says(Some(ok(&good_token())));
    world.authority.gate.add_permits(1);
    let reason = revoked.await.unwrap().map_err(|refusal| refusal.reason());
    assert_eq!(reason, Err(Reason::TokenRefused));
    assert!(good.await.unwrap().is_ok());
    assert_eq!(world.authority.calls(), 2);
}

#[tokio::test]
async fn jwts_for_other_machines_have_no_place_in_what_is_remembered() {
    let world = World::new();
    let is_remembered = async |token: &str| {
        let inner = &world.receiver.0;
        let machines = inner.machines.as_ref().expect("an issuer");
        let presented = Presented {
            token,
            me: &inner.me,
            authority: None,
        };
        let met = machines.recall(&presented, inner.time.now()).await;
        met.is_some()
    };
    assert_eq!(world.machine(&machine_jwt()).await, Ok(id(SENDER)));
    assert!(is_remembered(&machine_jwt()).await);
    let other = machine_with(&with(machine_claims(), "scopes", json!(OTHER)));
    let asked = machine_with(&without(machine_claims(), "scopes"));
    let answer = with(good_token(), "scopes", json!([OTHER]));
    world.authority.says(Some(ok(&answer)));
    for token in [other, asked] {
        assert_eq!(world.machine(&token).await, Err(Reason::NotForThisMachine));
        assert!(!is_remembered(&token).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_strangers_does_not_shut_out_a_new_jwt_of_a_machine_that_was_vouched_for() {
    let world = World::with(|it| it.machine_issuer(MachineIssuer::new(ISSUER)));
    assert!(world.machine(&machine_jwt()).await.is_ok());
    world.clock.pass(5_000);
    world.authority.close();
    let check = |token: String| {
        let receiver = world.receiver.clone();
        tokio::spawn(async move { receiver.verify(&token).await.is_ok() })
    };
    let strangers: Vec<_> = (0..800).map(|number| check(opaque(number))).collect();
    settle().await;
    let known = check(machine_with(&with(machine_claims(), "n", json!(1))));
    settle().await;
    world.authority.gate.add_permits(10_000);
    assert!(known.await.expect("no panic"));
    drop(strangers);
}

#[tokio::test]
async fn without_an_issuer_a_jwt_goes_to_the_authority_and_a_revocation_is_seen() {
    let world = World::with(|builder| builder);
    for _ in 0..3 {
        assert_eq!(world.machine(&machine_jwt()).await, Ok(id(SENDER)));
    }
    assert_eq!(
        (world.authority.calls(), world.machine_keys.fetches()),
        (1, 0)
    );
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    world.clock.pass(5_000);
    assert_eq!(
        world.machine(&machine_jwt()).await,
        Err(Reason::TokenRefused)
    );
    let alone = World::without_authority(|builder| builder);
    assert_eq!(
        alone.machine(&machine_jwt()).await,
        Err(Reason::NotConfigured)
    );
}

#[tokio::test]
async fn a_user_s_jwt_is_a_user_with_its_session() {
    let world = strict_world();
    let caller = world
        .check(&user_jwt(), &Accept::user())
        .await
        .expect("let in");
    let user = caller.as_user().expect("a user");
    assert_eq!((user.subject(), user.issuer()), ("user_1", USER_ISSUER));
    assert_eq!(user.session_id(), Some("sess_1"));
    assert_eq!(user.claims::<Value>().expect("JSON"), user_claims());
}

#[tokio::test]
async fn users_may_be_signed_for_with_each_allowed_algorithm_and_no_other() {
    for (algorithm, key) in [
        ("RS256", TestKey::rsa(USER_KID)),
        ("ES256", TestKey::p256(USER_KID)),
        ("EdDSA", TestKey::ed25519(USER_KID)),
    ] {
        let world = strict_world();
        world.user_keys.has_keys(&[key.jwk()]);
        for named in ["RS256", "ES256", "EdDSA", "none", "HS256", "PS256"] {
            let token = key.sign(&with(user_header(), "alg", json!(named)), &user_claims());
            let expected = if named == algorithm {
                Ok("user_1".to_owned())
            } else {
                Err(Reason::KindNotAllowed)
            };
            assert_eq!(world.user(&token).await, expected, "{algorithm} as {named}");
        }
    }
}

#[tokio::test]
async fn each_rule_of_a_user_s_jwt_refuses_by_itself() {
    let good = user_claims;
    let key = TestKey::rsa(USER_KID);
    let header = |name, value| key.sign(&with(user_header(), name, value), &good());
    let claim = |name, value| user_with(&with(good(), name, value));
    let table = [
        (
            "cat of machines",
            header("cat", json!("cl_B7d4PD333AAA")),
            Reason::KindNotAllowed,
        ),
        (
            "a machine as subject",
            claim("sub", json!(SENDER)),
            Reason::KindNotAllowed,
        ),
        (
            "what begins like a machine as subject",
            claim("sub", json!("mch_1")),
            Reason::KindNotAllowed,
        ),
        (
            "typ of a logout",
            header("typ", json!("logout+jwt")),
            Reason::KindNotAllowed,
        ),
        ("crit", header("crit", json!(["x"])), Reason::KindNotAllowed),
        (
            "no kid",
            key.sign(&without(user_header(), "kid"), &good()),
            Reason::KindNotAllowed,
        ),
        (
            "kid a number",
            header("kid", json!(1)),
            Reason::ClaimsMalformed,
        ),
        (
            "unknown kid",
            header("kid", json!("other")),
            Reason::KeyUnknown,
        ),
        (
            "long kid",
            header("kid", json!("k".repeat(300))),
            Reason::KeyUnknown,
        ),
        (
            "another key",
            TestKey::other_rsa(USER_KID).sign(&user_header(), &good()),
            Reason::SignatureInvalid,
        ),
        (
            "another issuer",
            claim("iss", json!("https://evil.example.com")),
            Reason::IssuerUnknown,
        ),
        (
            "no issuer",
            user_with(&without(good(), "iss")),
            Reason::ClaimsMalformed,
        ),
        (
            "no subject",
            user_with(&without(good(), "sub")),
            Reason::ClaimsMalformed,
        ),
        (
            "an empty subject",
            claim("sub", json!("")),
            Reason::ClaimsMalformed,
        ),
        (
            "subject a number",
            claim("sub", json!(1)),
            Reason::ClaimsMalformed,
        ),
        (
            "another audience",
            claim("aud", json!("web")),
            Reason::AudienceWrong,
        ),
        (
            "other audiences",
            claim("aud", json!(["web"])),
            Reason::AudienceWrong,
        ),
        (
            "no audience",
            user_with(&without(good(), "aud")),
            Reason::AudienceWrong,
        ),
        (
            "audience a number",
            claim("aud", json!(1)),
            Reason::ClaimsMalformed,
        ),
        (
            "audience mixed",
            claim("aud", json!(["api", 1])),
            Reason::ClaimsMalformed,
        ),
        (
            "another application",
            claim("azp", json!("https://evil.example.com")),
            Reason::PartyNotAllowed,
        ),
        (
            "no application",
            user_with(&without(good(), "azp")),
            Reason::PartyNotAllowed,
        ),
        (
            "no exp",
            user_with(&without(good(), "exp")),
            Reason::ClaimsMalformed,
        ),
        (
            "exp a text",
            claim("exp", json!("9999999999")),
            Reason::ClaimsMalformed,
        ),
        ("over", claim("exp", json!(NOW - 5)), Reason::TokenExpired),
        (
            "nbf in the future",
            claim("nbf", json!(NOW + 11)),
            Reason::TokenNotYetValid,
        ),
        (
            "iat in the future",
            claim("iat", json!(NOW + 11)),
            Reason::TokenNotYetValid,
        ),
        (
            "a pending session",
            claim("sts", json!("pending")),
            Reason::SessionPending,
        ),
        (
            "sid a number",
            claim("sid", json!(1)),
            Reason::ClaimsMalformed,
        ),
        (
            "header no JSON",
            "eA.e30.AAAA".to_owned(),
            Reason::TokenMalformed,
        ),
    ];
    let world = strict_world();
    for (what, token, reason) in table {
        assert_eq!(world.user(&token).await, Err(reason), "{what}");
        assert_eq!(world.user(&token).await, Err(reason), "{what}, again");
    }
    assert_eq!(world.user(&user_jwt()).await.as_deref(), Ok("user_1"));
    for good in [
        claim("aud", json!("api2")),
        user_with(&without(good(), "iat")),
        header("typ", json!("at+jwt")),
        key.sign(&without(user_header(), "typ"), &good()),
        key.sign(&without(user_header(), "cat"), &good()),
        header("jku", json!("https://evil.example.com")),
    ] {
        assert_eq!(world.user(&good).await.as_deref(), Ok("user_1"));
    }
}

#[tokio::test]
async fn where_no_audience_is_configured_a_token_for_another_one_is_refused() {
    let world = World::with(|it| it.user_issuer(UserIssuer::new(USER_ISSUER)));
    for audience in [
        json!("https://other.example.com"),
        json!(["api"]),
        json!([]),
    ] {
        let token = user_with(&with(user_claims(), "aud", audience));
        assert_eq!(world.user(&token).await, Err(Reason::AudienceWrong));
    }
    let session = user_with(&without(user_claims(), "aud"));
    assert_eq!(world.user(&session).await.as_deref(), Ok("user_1"));
    let open = World::with(|it| it.user_issuer(UserIssuer::new(USER_ISSUER).any_audience()));
    for token in [user_jwt(), session] {
        assert_eq!(open.user(&token).await.as_deref(), Ok("user_1"));
    }
    // One that is given counts beside it.
    let users = UserIssuer::new(USER_ISSUER).any_audience().audience("api");
    let strict = World::with(|it| it.user_issuer(users));
    let other = user_with(&with(user_claims(), "aud", json!("web")));
    assert_eq!(strict.user(&other).await, Err(Reason::AudienceWrong));
}

#[tokio::test]
async fn an_access_token_is_accepted_only_where_an_audience_is_configured() {
    for kind in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        let header = with(user_header(), "typ", json!(kind));
        let token = |claims: &Value| TestKey::rsa(USER_KID).sign(&header, claims);
        for users in [
            UserIssuer::new(USER_ISSUER),
            UserIssuer::new(USER_ISSUER).any_audience(),
        ] {
            let world = World::with(|it| it.user_issuer(users));
            for claims in [user_claims(), without(user_claims(), "aud")] {
                let decision = world.user(&token(&claims)).await;
                assert_eq!(decision, Err(Reason::KindNotAllowed), "{kind}");
            }
        }
        let world = World::new();
        assert!(world.user(&token(&user_claims())).await.is_ok(), "{kind}");
        let claims = without(user_claims(), "aud");
        let decision = world.user(&token(&claims)).await;
        assert_eq!(decision, Err(Reason::AudienceWrong), "{kind}");
    }
}

#[tokio::test]
async fn a_user_s_jwt_is_remembered_and_its_end_seen() {
    let world = strict_world();
    assert!(world.user(&user_jwt()).await.is_ok());
    world.clock.pass(64_999);
    assert!(world.user(&user_jwt()).await.is_ok());
    world.clock.pass(1);
    assert_eq!(world.user(&user_jwt()).await, Err(Reason::TokenExpired));
    assert_eq!(world.user_keys.fetches(), 1);
}

#[tokio::test]
async fn a_user_s_jwt_is_forgotten_with_the_key_that_signed_it() {
    let world = World::new();
    let late = user_with(&with(user_claims(), "exp", json!(NOW + 3_600)));
    assert!(world.user(&user_jwt()).await.is_ok());
    world.clock.pass(200_000);
    assert!(world.user(&late).await.is_ok());
    world
        .user_keys
        .has_keys(&[TestKey::other_rsa("other").jwk()]);
    world.clock.pass(100_000);
    assert_eq!(world.user(&late).await, Err(Reason::KeyUnknown));
}

#[tokio::test]
async fn an_issuer_of_both_never_makes_a_user_of_a_machine() {
    let world = World::with(|it| it.user_issuer(UserIssuer::new(ISSUER)));
    assert_eq!(world.user(&machine_jwt()).await, Err(Reason::UserRequired));
    // Nor one of another category, which the issuer might have signed.
    let token = TestKey::rsa(KID).sign(&without(machine_header(), "cat"), &machine_claims());
    assert_eq!(world.user(&token).await, Err(Reason::KindNotAllowed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_changed_character_of_a_jwt_lets_nobody_in(place in 0_usize..2_000, digit in 0_usize..64, is_user: bool) {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = if is_user { user_jwt() } else { machine_jwt() }.into_bytes();
        let place = place % bytes.len();
        prop_assume!(bytes[place] != digits[digit] && bytes[place] != b'.');
        bytes[place] = digits[digit];
        let token = String::from_utf8(bytes).expect("ASCII");
        let accept = Accept::user().or(Accept::any_machine());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let decision = runtime.block_on(async {
            let world = World::new();
            world.check(&token, &accept).await
        });
        prop_assert!(decision.is_err());
    }
}
